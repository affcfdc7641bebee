"""The interface of tokenizers, and the loader of both kinds: our own (Unigram over morphemes) and imported ones."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Protocol

from slm.text.hugging_face_tokenizer import HuggingFaceTokenizer
from slm.text.morphology import Morphology
from slm.text.special_tokens import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_FILE,
    CONTROL_SYMBOLS,
    DICTIONARY_FILE,
    END_OF_DOCUMENT,
    END_OF_TURN,
    HUGGING_FACE_FILE,
    MODEL_FILE,
    ROLES,
    SAFE_CHAT_TEMPLATE,
    SETTINGS_FILE,
    WHITE_SPACE_SYMBOLS,
)
from slm.text.unigram_tokenizer import UnigramTokenizer

__all__ = ["CHAT_TEMPLATE", "CHAT_TEMPLATE_FILE", "CONTROL_SYMBOLS", "DICTIONARY_FILE", "END_OF_DOCUMENT",
           "END_OF_TURN", "HUGGING_FACE_FILE", "MODEL_FILE", "ROLES", "SAFE_CHAT_TEMPLATE", "SETTINGS_FILE",
           "WHITE_SPACE_SYMBOLS", "HuggingFaceTokenizer", "Tokenizer", "UnigramTokenizer", "load_tokenizer"]


class Tokenizer(Protocol):
    """Text → ids, and back."""

    @property
    def fingerprint(self) -> str:
        """A hash of everything that decides the ids; token streams and checkpoints carry it."""

    @property
    def morphology(self) -> Morphology | None:
        """MeCab with the tokenizer's dictionary; None for a tokenizer that does without."""

    def __len__(self) -> int:
        """The size of the vocabulary: the largest id plus 1."""

    @property
    def end_of_document(self) -> int:
        """The id that ends every document, and so comes before every document but the first."""

    def special(self, symbol: str) -> int:
        """The id of a control symbol; `END_OF_DOCUMENT` stands for the tokenizer's own, however that is spelled.

        Raises:
          KeyError: the vocabulary has no such control symbol.
        """

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, normalised first, without special tokens; control symbols spelled out in it are plain text."""

    def encode_morphemes(self, morphemes: Iterable[str]) -> list[int]:
        """Ids of a normalised text that is already segmented."""

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens are left out."""

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries for `ids`: bytes as <0xE3>, a space as ▁, an unused id as an empty string."""

    def borders(self, text: str) -> set[int]:
        """Positions where morphemes of a normalised text begin or end; every position without MeCab."""

    def scores(self) -> list[float]:
        """The log probabilities of the pieces under the Unigram model.

        Raises:
          ValueError: the tokenizer is not a Unigram model of ours.
        """

    @property
    def unknown(self) -> int:
        """The id of the unknown piece.

        Raises:
          ValueError: the vocabulary has none.
        """

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for one byte of a character that has no piece."""

    def is_special(self, index: int) -> bool:
        """Whether the id stands for no text: a control symbol, the unknown piece, or an unused id."""


def load_tokenizer(folder: Path, mecab_free: bool = False) -> Tokenizer:
    """Reads a tokenizer's folder.

    Args:
      mecab_free: applies the pieces to unsegmented text, without MeCab; a few words get other ids.

    Raises:
      FileNotFoundError: not a tokenizer.
      ValueError: MeCab, its dictionaries or the normaliser differ from those it was made with.
    """
    folder = Path(folder)
    if (folder / HUGGING_FACE_FILE).exists():
        return HuggingFaceTokenizer.load(folder)
    return UnigramTokenizer.load(folder, mecab_free)
