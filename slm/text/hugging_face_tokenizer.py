"""Imported tokenizers: a `tokenizer.json` of Hugging Face behind the interface of `Tokenizer`.

Text is normalised by us first; the imported tokenizer may normalise further, so that `decode(encode(text))` is often,
but not always, `normalize(text)`. A symbol that is spelled out in a text is never read as a symbol. A document begins
with the end of the document before it, as everywhere in slm, not with the imported bos token.
"""

import functools
import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from slm import files
from slm.text import normalize as normalization
from slm.text.normalize import normalize
from slm.text.special_tokens import END_OF_DOCUMENT, END_OF_TURN, HUGGING_FACE_FILE, ROLES

SETTINGS_FILE = "foreign_settings.json"
CHAT_SYMBOLS = (*ROLES, END_OF_TURN)

_BYTE = re.compile("<0x([0-9A-F]{2})>")
_SPACE = "▁"


class HuggingFaceTokenizer:
    """A `Tokenizer` over the package `tokenizers`.

    Attributes:
      fingerprint: hash of its file, its end of document and our normaliser.
    """
    morphology = None

    def __init__(self, content: str, end_of_document: int, fingerprint: str):
        """
        Args:
          content: of a tokenizer.json.

        Raises:
          RuntimeError: the package `tokenizers` is not installed.
          ValueError: the package cannot read the content.
        """
        self._tokenizer, self.fingerprint, self.end_of_document = parse(content), fingerprint, end_of_document
        self._tokenizer.encode_special_tokens = True  # spelled out in a text, they are text
        definition = json.loads(content)
        model = definition["model"]
        added = self._tokenizer.get_added_tokens_decoder()
        names = {index: name for name, index in self._tokenizer.get_vocab(with_added_tokens=True).items()}
        self._unknown = (model["unk_id"] if "unk_id" in model
                         else self._tokenizer.token_to_id(model.get("unk_token") or ""))
        self._symbols = {token.content: index for index, token in added.items() if token.special}
        special = {*self._symbols.values(), end_of_document, self._unknown}
        self._size = max(names) + 1
        self._special = {index for index in range(self._size) if index in special or index not in names}
        self._byte_level = _is_byte_level(definition.get("decoder"))
        texts = {index: _gpt2_text(name) for index, name in names.items() if index not in added
                 } if self._byte_level else {}
        self._pieces = [texts.get(index, names.get(index, "")) for index in range(self._size)]
        self._bytes = {index for index, piece in (texts.items() if self._byte_level else names.items())
                       if _BYTE.fullmatch(piece) and (model.get("byte_fallback") or piece != names[index])}
        # A Unigram model, unlike most BPE models, also matches its special pieces in plain text.
        silent = self._special if self._byte_level else self._special | self._bytes
        self._silent = {index: names[index] for index in silent & set(names)}

    @classmethod
    def load(cls, folder: Path) -> "HuggingFaceTokenizer":
        """Reads what `save` wrote.

        Raises:
          ValueError: the normaliser has changed since, or a file is not what `save` wrote.
        """
        content = (folder / HUGGING_FACE_FILE).read_text(encoding="utf-8")
        settings = files.read_json(folder / SETTINGS_FILE)
        if settings["normalizer"] != normalization.VERSION:
            raise ValueError(f"{folder} was imported with the normaliser at {settings['normalizer']}, now it is "
                             f"{normalization.VERSION}: import the model again with --config=configs/"
                             "import_hugging_face.py")
        try:
            return cls(content, settings["end_of_document"], fingerprint(content, settings))
        except ValueError as error:
            raise ValueError(f"{folder / HUGGING_FACE_FILE}: {error}") from None

    def __len__(self) -> int:
        return self._size

    def special(self, symbol: str) -> int:
        if symbol == END_OF_DOCUMENT:
            return self.end_of_document
        if symbol not in self._symbols:
            fix = ("; a model needs it to chat: import the model again with --config.chat_symbols=true"
                   if symbol in CHAT_SYMBOLS else "")
            raise KeyError(f"{symbol!r} is not a control symbol of this tokenizer{fix}")
        return self._symbols[symbol]

    def encode(self, text: str) -> list[int]:
        return self._encode(normalize(text))

    def encode_morphemes(self, morphemes: Iterable[str]) -> list[int]:
        """The morphemes are joined again: an imported tokenizer segments by itself."""
        return self._encode("".join(morphemes))

    def _encode(self, text: str) -> list[int]:
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        if self._silent.keys().isdisjoint(encoding.ids):
            return encoding.ids
        ids: list[int] = []
        for index, (start, stop) in zip(encoding.ids, encoding.offsets):
            spelled_out = index in self._silent and text[start:stop] == self._silent[index]
            ids += self._encode_characters(text[start:stop]) if spelled_out else [index]
        return ids

    def _encode_characters(self, text: str) -> list[int]:
        ids: list[int] = []
        for character in text:
            piece = None if self._byte_level else self._tokenizer.token_to_id(character.replace(" ", _SPACE))
            parts = [piece] if piece is not None else [self._tokenizer.token_to_id(f"<0x{byte:02X}>")
                                                       for byte in character.encode()]
            ids += parts if None not in parts else self._tokenizer.encode(character, add_special_tokens=False).ids
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        return self._tokenizer.decode([int(index) for index in ids if int(index) not in self._special])

    def pieces(self, ids: Iterable[int]) -> list[str]:
        """A piece that holds a part of a character is spelled as its bytes, one after another."""
        return [self._pieces[int(index)] if int(index) < self._size else "" for index in ids]

    def borders(self, text: str) -> set[int]:
        return set(range(len(text) + 1))

    def scores(self) -> list[float]:
        raise ValueError("a tokenizer that was imported from Hugging Face has no log probabilities of its pieces: a "
                         "job that needs them, such as an export, takes models with a tokenizer of slm only")

    @property
    def unknown(self) -> int:
        if self._unknown is None:
            raise ValueError("this tokenizer, imported from Hugging Face, encodes every byte and has no unknown piece")
        return self._unknown

    def is_byte(self, index: int) -> bool:
        return index in self._bytes

    def is_special(self, index: int) -> bool:
        return index in self._special or index >= self._size


def parse(content: str) -> Any:
    """A `tokenizers.Tokenizer` without truncation and padding.

    Raises:
      RuntimeError: the package `tokenizers` is not installed.
      ValueError: the package cannot read the content.
    """
    try:
        import tokenizers
    except ImportError:
        raise RuntimeError("a tokenizer of Hugging Face needs the package tokenizers: pip install 'slm[export]'"
                           ) from None
    try:
        tokenizer = tokenizers.Tokenizer.from_str(content)
    except Exception as error:  # the package raises nothing narrower
        raise ValueError(f"not a tokenizer.json that the package tokenizers {tokenizers.__version__} can read ({error})"
                         ) from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def save(folder: Path, content: str, end_of_document: int) -> None:
    """Writes a tokenizer into a new folder, for `load_tokenizer`."""
    folder.mkdir(parents=True)
    (folder / HUGGING_FACE_FILE).write_text(content, encoding="utf-8")
    files.write_json(folder / SETTINGS_FILE, {"normalizer": normalization.VERSION, "end_of_document": end_of_document})


def fingerprint(content: str, settings: dict) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode() + content.encode()).hexdigest()[:16]


def _is_byte_level(decoder: dict | None) -> bool:
    """Whether the pieces spell bytes with GPT-2's letters."""
    parts = (decoder or {}).get("decoders", [decoder or {}])
    return any(part.get("type") == "ByteLevel" for part in parts)


@functools.cache
def _gpt2_bytes() -> dict[str, int]:
    """GPT-2's letters for bytes: printable ones stand for themselves, the others are letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def _gpt2_text(piece: str) -> str:
    """The text of a piece in GPT-2's letters; its bytes where these are not whole characters."""
    letters = _gpt2_bytes()
    if not all(letter in letters for letter in piece):
        return piece
    data = bytes(letters[letter] for letter in piece)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = _SPACE
    return "".join(f"<0x{byte:02X}>" for byte in data) if _SPACE in text else text.replace(" ", _SPACE)
