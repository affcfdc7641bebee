"""Tokenizers of others: a `tokenizer.json` of Hugging Face, used as if it were ours.

Text is normalised as all text here is; what the tokenizer does to it then is its own affair, so that `decode(encode(
text))` is often, but not always, `normalize(text)`. A symbol that is spelled out in a text is never read as one.
A document begins with the end of the one before, as all do here, and not with a bos of theirs.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from slm.text import normalize as normalization
from slm.text.normalize import normalize
from slm.text.tokenizer import END_OF_DOCUMENT, END_OF_TURN, HUGGING_FACE_FILE, ROLES

SETTINGS_FILE = "foreign_settings.json"
CHAT_SYMBOLS = (*ROLES, END_OF_TURN)

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_SPACE = "▁"


class ForeignTokenizer:
    """The interface of `Tokenizer` over the package `tokenizers`.

    Attributes:
      fingerprint: hash of its file, its end of document and our normaliser; checkpoints carry it.
      morphology: None.
    """
    morphology = None

    def __init__(self, file: str, end_of_document: int, fingerprint: str):
        """
        Args:
          file: the text of a tokenizer.json.

        Raises:
          RuntimeError: without the package.
          ValueError: the package cannot read it.
        """
        self._own, self.fingerprint, self.end_of_document = parse(file), fingerprint, end_of_document
        self._own.encode_special_tokens = True  # spelled out in a text, they are text
        about = json.loads(file)
        added = self._own.get_added_tokens_decoder()
        names = {index: name for name, index in self._own.get_vocab(with_added_tokens=True).items()}
        model = about["model"]
        self._unknown = model["unk_id"] if "unk_id" in model else self._own.token_to_id(model.get("unk_token") or "")
        self._symbols = {token.content: index for index, token in added.items() if token.special}
        special = {*self._symbols.values(), end_of_document, self._unknown}
        self._size = max(names) + 1
        self._special = {index for index in range(self._size) if index in special or index not in names}
        self._over_bytes = _has_bytes(about.get("decoder"))
        texts = {index: _spelled(name) for index, name in names.items() if index not in added
                 } if self._over_bytes else {}
        self._pieces = [texts.get(index, names.get(index, "")) for index in range(self._size)]
        self._bytes = {index for index, piece in (texts.items() if self._over_bytes else names.items())
                       if _BYTE.fullmatch(piece) and (model.get("byte_fallback") or piece != names[index])}
        # A Unigram, unlike most BPEs, also finds in a text the pieces that are none.
        silent = self._special if self._over_bytes else self._special | self._bytes
        self._silent = {index: names[index] for index in silent & set(names)}

    @classmethod
    def load(cls, folder: Path) -> "ForeignTokenizer":
        """Reads what `save` wrote.

        Raises:
          ValueError: the normaliser has changed since, or a file is not what `save` wrote.
        """
        file = (folder / HUGGING_FACE_FILE).read_text(encoding="utf-8")
        settings = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))
        if settings["normalizer"] != normalization.VERSION:
            raise ValueError(f"{folder} was taken in with the normaliser at {settings['normalizer']}, here it is "
                             f"{normalization.VERSION}: take the model in again with --config=configs/"
                             "import_hugging_face.py")
        try:
            return cls(file, settings["end_of_document"], fingerprint(file, settings))
        except ValueError as error:
            raise ValueError(f"{folder / HUGGING_FACE_FILE}: {error}") from None

    def __len__(self) -> int:
        """The size of the vocabulary: the largest id, and one."""
        return self._size

    def special(self, symbol: str) -> int:
        """The id of a control symbol; that of our end of document is theirs, however it is spelled."""
        if symbol == END_OF_DOCUMENT:
            return self.end_of_document
        if symbol not in self._symbols:
            mend = ("; without one it cannot talk: take the model in again with --config.chat_symbols=true"
                    if symbol in CHAT_SYMBOLS else "")
            raise KeyError(f"{symbol!r} is not a control symbol of this tokenizer{mend}")
        return self._symbols[symbol]

    def encode(self, text: str) -> list[int]:
        """Ids of `text`, without special tokens; control symbols spelled out in it are plain text."""
        return self._encode(normalize(text))

    def encode_morphemes(self, morphemes: Iterable[str]) -> list[int]:
        """Ids of a normalised text that is already cut; it is joined again, for a tokenizer that cuts by itself."""
        return self._encode("".join(morphemes))

    def _encode(self, text: str) -> list[int]:
        found = self._own.encode(text, add_special_tokens=False)
        if self._silent.keys().isdisjoint(found.ids):
            return found.ids
        ids: list[int] = []
        for index, (start, stop) in zip(found.ids, found.offsets):
            spelled = index in self._silent and text[start:stop] == self._silent[index]
            ids += self._characters(text[start:stop]) if spelled else [index]
        return ids

    def _characters(self, text: str) -> list[int]:
        """Ids of the characters of a symbol, each for itself."""
        ids: list[int] = []
        for character in text:
            known = None if self._over_bytes else self._own.token_to_id(character.replace(" ", _SPACE))
            parts = [known] if known is not None else [self._own.token_to_id(f"<0x{byte:02X}>")
                                                       for byte in character.encode()]
            ids += parts if None not in parts else self._own.encode(character, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """Text of `ids`; special tokens, and ids that are none, leave nothing behind."""
        return self._own.decode([int(index) for index in ids if int(index) not in self._special])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """The vocabulary's entries for `ids`; bytes as <0xE3>, of a part of characters one after another, a space as ▁.

        An id that the vocabulary leaves out is an empty piece.
        """
        return [self._pieces[int(index)] if int(index) < self._size else "" for index in ids]

    def borders(self, text: str) -> set[int]:
        """Where morphemes of a normalised text begin or end: anywhere, without MeCab."""
        return set(range(len(text) + 1))

    def scores(self) -> list[float]:
        raise ValueError("a tokenizer that was taken in from Hugging Face has no log probabilities of its pieces: what "
                         "needs them, such as an export, takes models with a tokenizer of ours alone")

    @property
    def unknown(self) -> int:
        """The id of the unknown piece.

        Raises:
          ValueError: a tokenizer over bytes has none.
        """
        if self._unknown is None:
            raise ValueError("this tokenizer, taken in from Hugging Face, reads every byte and has no unknown piece")
        return self._unknown

    def is_byte(self, index: int) -> bool:
        """Whether the id stands for one byte of a character that has no piece."""
        return index in self._bytes

    def is_special(self, index: int) -> bool:
        """Whether the id stands for no text: a control symbol, the unknown piece, or none at all."""
        return index in self._special or index >= self._size


def parse(file: str):
    """A `tokenizers.Tokenizer` that neither cuts nor pads.

    Raises:
      RuntimeError: without the package.
      ValueError: the package cannot read it.
    """
    try:
        import tokenizers
    except ImportError:
        raise RuntimeError("a tokenizer of Hugging Face needs the package tokenizers: pip install 'slm[export]'"
                           ) from None
    try:
        own = tokenizers.Tokenizer.from_str(file)
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"no tokenizer.json that the package tokenizers {tokenizers.__version__} reads ({error})"
                         ) from None
    own.no_truncation()
    own.no_padding()
    return own


def save(folder: Path, file: str, end_of_document: int) -> None:
    """Writes a tokenizer into a new folder, for `Tokenizer.load`."""
    folder.mkdir(parents=True)
    (folder / HUGGING_FACE_FILE).write_text(file, encoding="utf-8")
    settings = {"normalizer": normalization.VERSION, "end_of_document": end_of_document}
    (folder / SETTINGS_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def fingerprint(file: str, settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + file.encode()).hexdigest()[:16]


def _has_bytes(decoder: dict | None) -> bool:
    """Whether the pieces spell bytes as GPT-2's do."""
    parts = (decoder or {}).get("decoders", [decoder or {}])
    return any(part.get("type") == "ByteLevel" for part in parts)


@functools.cache
def _bytes_of() -> dict[str, int]:
    """GPT-2's letters for bytes: themselves where they can be seen, others from U+0100 on."""
    seen = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in seen]
    return {chr(byte): byte for byte in seen} | {chr(256 + place): byte for place, byte in enumerate(hidden)}


def _spelled(piece: str) -> str:
    """A piece of GPT-2's letters as text; where it is no whole text, as bytes."""
    letters = _bytes_of()
    if not all(letter in letters for letter in piece):
        return piece
    data = bytes(letters[letter] for letter in piece)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _SPACE
    return "".join(f"<0x{byte:02X}>" for byte in data) if _SPACE in text else text.replace(" ", _SPACE)
