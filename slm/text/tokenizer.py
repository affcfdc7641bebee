"""Morphemes → Unigram pieces → ids, and back.

Text is normalised, cut into morphemes by MeCab, and each morpheme is encoded on its own, so that no piece
crosses a morpheme. A term of the user dictionary that is not a piece is cut by ipadic first: 糖尿病性網膜症
becomes 糖尿病|性|網膜症, never 糖尿|病性網|膜症. `decode(encode(text)) == normalize(text)` for every string.
The free mode leaves MeCab out, for machines without it; some of its pieces cross a boundary.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from slm.text import normalize as normalization
from slm.text.morphology import Morphology
from slm.text.normalize import normalize

MODEL_FILE, SETTINGS_FILE, DICTIONARY_FILE = "tokenizer.model", "tokenizer.json", "user.dic"
HUGGING_FACE_FILE = "hugging_face_tokenizer.json"  # of a tokenizer that was taken in with a model of others

# Reserved from the first day: a document's end; roles and the end of a turn; room for what comes later.
END_OF_DOCUMENT = "</s>"
ROLES = ("<|system|>", "<|user|>", "<|assistant|>")
END_OF_TURN = "<|end|>"
CONTROL_SYMBOLS = (*ROLES, END_OF_TURN, *(f"<|reserved_{i}|>" for i in range(12)))
WHITE_SPACE_SYMBOLS = ("\n", "\t")

# What text/chat.py writes, for runtimes that read Jinja templates (Hugging Face, llama.cpp).
CHAT_TEMPLATE_FILE = "chat_template.jinja"
CHAT_TEMPLATE = ("</s>{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}<|end|>{% endfor %}"
                 "{% if add_generation_prompt %}<|assistant|>{% endif %}")

_CACHE_ENTRIES = 1_000_000


class Tokenizer:
    """A SentencePiece model over the morphemes of one MeCab dictionary.

    Attributes:
      fingerprint: hash of normaliser, MeCab, dictionaries and model; shards and checkpoints carry it.
      morphology: None in the free mode.
    """

    def __init__(self, model: bytes, morphology: Morphology | None, fingerprint: str):
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._cache: dict[str, tuple[int, ...]] = {}
        self.morphology = morphology
        self.fingerprint = fingerprint
        self._ipadic = Morphology() if morphology and morphology.has_user_dictionary else None

    @classmethod
    def load(cls, folder: Path, free: bool = False) -> "Tokenizer":
        """Reads what `save` wrote; refuses where MeCab or ipadic here would cut the text elsewhere."""
        folder = Path(folder)
        if (folder / HUGGING_FACE_FILE).exists():
            from slm.text.hugging_face_tokenizer import ForeignTokenizer  # which needs this module
            return ForeignTokenizer.load(folder)
        try:
            settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
            model = (folder / MODEL_FILE).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder} is not a tokenizer: {error.filename} is missing; make one with "
                                    "python -m slm.main --config=configs/tokenizer.py") from None
        morphology = None
        if not free:
            dictionary = folder / DICTIONARY_FILE
            morphology = Morphology(dictionary if settings["user_dictionary"] else None)
            _refuse_change(folder, "MeCab and its dictionaries", settings["morphology"], morphology.fingerprint)
            _refuse_change(folder, "the normaliser", settings["normalizer"], normalization.VERSION)
        return cls(model, morphology, settings["fingerprint"])

    def __len__(self) -> int:
        """The size of the vocabulary."""
        return self._pieces.vocab_size()

    @property
    def end_of_document(self) -> int:
        return self.special(END_OF_DOCUMENT)

    def special(self, symbol: str) -> int:
        """The id of a control symbol."""
        index = self._pieces.piece_to_id(symbol)
        if not self._pieces.is_control(index):
            raise KeyError(f"{symbol!r} is not a control symbol of this tokenizer")
        return index

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without special tokens; control symbols spelled out in it are plain text."""
        text = normalize(text)
        return self.encode_morphemes(self.morphology.split(text)) if self.morphology else self._pieces.encode(text)

    def encode_morphemes(self, morphemes: Iterable[str]) -> list[int]:
        """Ids of a normalised text that is already cut, as segmented shards hold it."""
        cache, ids = self._cache, []
        for morpheme in morphemes:
            known = cache.get(morpheme)
            if known is None:
                known = self._encode_morpheme(morpheme)
                if len(cache) < _CACHE_ENTRIES:
                    cache[morpheme] = known
            ids += known
        return ids

    def _encode_morpheme(self, morpheme: str) -> tuple[int, ...]:
        ids = self._pieces.encode(morpheme)
        if len(ids) > 1 and self._ipadic:
            parts = self._ipadic.split(morpheme)
            if len(parts) > 1:
                ids = [index for part in parts for index in self._pieces.encode(part)]
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens leave nothing behind."""
        return self._pieces.decode([int(index) for index in ids])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries for `ids`; bytes as <0xE3>, a space as ▁."""
        return [self._pieces.id_to_piece(int(index)) for index in ids]

    def borders(self, text: str) -> set[int]:
        """Where morphemes of a normalised text begin or end, by either dictionary; in the free mode, anywhere."""
        if not self.morphology:
            return set(range(len(text) + 1))
        cuts = [own.split(text) for own in (self.morphology, self._ipadic) if own]
        return {0}.union(*(itertools.accumulate(map(len, morphemes)) for morphemes in cuts))

    def scores(self) -> list[float]:
        """The vocabulary's log probabilities under the Unigram model."""
        return [self._pieces.get_score(index) for index in range(len(self))]

    @property
    def unknown(self) -> int:
        """The id of the unknown piece; bytes take its place here, a runtime without them needs it."""
        return self._pieces.unk_id()

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for one byte of a character that has no piece."""
        return self._pieces.is_byte(index)

    def is_special(self, index: int) -> bool:
        """Whether the id stands for no text: a control symbol, or the unknown piece."""
        return self._pieces.is_control(index) or self._pieces.is_unknown(index)


def save(folder: Path, model: bytes, user_dictionary: Path | None) -> str:
    """Writes a tokenizer's files into `folder`, dictionary included; returns its fingerprint."""
    morphology = Morphology(user_dictionary)
    settings = {"normalizer": normalization.VERSION, "morphology": morphology.fingerprint,
                "user_dictionary": user_dictionary is not None}
    settings["fingerprint"] = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model)
    if user_dictionary:
        (folder / DICTIONARY_FILE).write_bytes(user_dictionary.read_bytes())
    (folder / CHAT_TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return settings["fingerprint"]


def _refuse_change(folder: Path, what: str, made_with: object, here: object) -> None:
    if made_with != here:
        raise ValueError(f"{folder} was made with {what} at {made_with}, here it is {here}: install the versions "
                         "its run recorded in config.json, or train the tokenizer again")
