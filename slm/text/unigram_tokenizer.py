"""Morphemes → Unigram pieces → ids, and back.

Text is normalised and segmented into morphemes by MeCab, and each morpheme is encoded on its own, so that no piece
crosses a morpheme. A term of the user dictionary that is not a piece is segmented by ipadic first: 糖尿病性網膜症
becomes 糖尿病|性|網膜症, never 糖尿|病性網|膜症. `decode(encode(text)) == normalize(text)` for every string.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import sentencepiece

from slm import files
from slm.text import normalize as normalization
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.special_tokens import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_FILE,
    DICTIONARY_FILE,
    END_OF_DOCUMENT,
    MODEL_FILE,
    SETTINGS_FILE,
)

_CACHE_ENTRIES = 1_000_000


class UnigramTokenizer:
    """A `Tokenizer`: a SentencePiece model over the morphemes of one MeCab dictionary.

    Attributes:
      fingerprint: hash of normaliser, MeCab, dictionaries and model.
      morphology: None in the MeCab-free mode, where some pieces cross a morpheme.
    """

    def __init__(self, model: bytes, morphology: Morphology | None, fingerprint: str):
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
        self._cache: dict[str, tuple[int, ...]] = {}
        self.morphology = morphology
        self.fingerprint = fingerprint
        self._ipadic = Morphology() if morphology and morphology.has_user_dictionary else None

    @classmethod
    def load(cls, folder: Path, mecab_free: bool = False) -> "UnigramTokenizer":
        """Reads what `save` wrote; raises where MeCab or ipadic on this machine would segment differently."""
        try:
            settings = files.read_json(folder / SETTINGS_FILE)
            model = (folder / MODEL_FILE).read_bytes()
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder} is not a tokenizer: {error.filename} is missing; make one with "
                                    "python -m slm.main --config=configs/tokenizer.py") from None
        morphology = None
        if not mecab_free:
            morphology = Morphology(folder / DICTIONARY_FILE if settings["user_dictionary"] else None)
            _refuse_change(folder, "MeCab and its dictionaries", settings["morphology"], morphology.fingerprint)
            _refuse_change(folder, "the normaliser", settings["normalizer"], normalization.VERSION)
        return cls(model, morphology, settings["fingerprint"])

    def __len__(self) -> int:
        return self._pieces.vocab_size()

    @property
    def end_of_document(self) -> int:
        return self.special(END_OF_DOCUMENT)

    def special(self, symbol: str) -> int:
        index = self._pieces.piece_to_id(symbol)
        if not self._pieces.is_control(index):
            raise KeyError(f"{symbol!r} is not a control symbol of this tokenizer")
        return index

    def encode(self, text: str) -> list[int]:
        text = normalize(text)
        return self.encode_morphemes(self.morphology.split(text)) if self.morphology else self._pieces.encode(text)

    def encode_morphemes(self, morphemes: Iterable[str]) -> list[int]:
        cache = self._cache
        ids: list[int] = []
        for morpheme in morphemes:
            cached = cache.get(morpheme)
            if cached is None:
                cached = self._encode_morpheme(morpheme)
                if len(cache) < _CACHE_ENTRIES:
                    cache[morpheme] = cached
            ids += cached
        return ids

    def _encode_morpheme(self, morpheme: str) -> tuple[int, ...]:
        ids = self._pieces.encode(morpheme)
        if len(ids) > 1 and self._ipadic:
            parts = self._ipadic.split(morpheme)
            if len(parts) > 1:
                ids = [index for part in parts for index in self._pieces.encode(part)]
        return tuple(ids)

    def decode(self, ids: Sequence[int]) -> str:
        return self._pieces.decode([int(index) for index in ids])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        return [self._pieces.id_to_piece(int(index)) for index in ids]

    def borders(self, text: str) -> set[int]:
        """By either dictionary."""
        if not self.morphology:
            return set(range(len(text) + 1))
        segmented = [morphology.split(text) for morphology in (self.morphology, self._ipadic) if morphology]
        return {0}.union(*(itertools.accumulate(map(len, morphemes)) for morphemes in segmented))

    def scores(self) -> list[float]:
        return [self._pieces.get_score(index) for index in range(len(self))]

    @property
    def unknown(self) -> int:
        """Never produced, because of byte fallback; a runtime without it needs the id."""
        return self._pieces.unk_id()

    def is_byte(self, index: int) -> bool:
        return self._pieces.is_byte(index)

    def is_special(self, index: int) -> bool:
        return self._pieces.is_control(index) or self._pieces.is_unknown(index)


def save(folder: Path, model: bytes, user_dictionary: Path | None) -> str:
    """Writes a tokenizer's files into `folder`, dictionary included; returns its fingerprint."""
    settings = {"normalizer": normalization.VERSION, "morphology": Morphology(user_dictionary).fingerprint,
                "user_dictionary": user_dictionary is not None}
    fingerprint = hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + model).hexdigest()[:16]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MODEL_FILE).write_bytes(model)
    if user_dictionary:
        (folder / DICTIONARY_FILE).write_bytes(user_dictionary.read_bytes())
    (folder / CHAT_TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
    files.write_json(folder / SETTINGS_FILE, settings | {"fingerprint": fingerprint})
    return fingerprint


def _refuse_change(folder: Path, part: str, saved: object, current: object) -> None:
    if saved != current:
        raise ValueError(f"{folder} was made with {part} at {saved}, but this machine has {current}: install the "
                         "versions its run recorded in config.json, or train the tokenizer again")
