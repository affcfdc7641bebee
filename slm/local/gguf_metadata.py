"""The first metadata values of a GGUF file; the gguf package takes seconds to read them all."""

import struct
from pathlib import Path
from typing import BinaryIO, NamedTuple

FINGERPRINT = "slm.tokenizer"  # key of our own files: the fingerprint of the model's tokenizer
_STRING = 8  # value type
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # {value type: bytes}


class GgufMetadata(NamedTuple):
    context_length: int
    tokenizer: str | None  # its fingerprint, in our own files


def read_gguf_metadata(path: Path) -> GgufMetadata:
    """
    Raises:
      ValueError: not a GGUF file, or one that is cut short.
    """
    context_length, fingerprint = 0, None
    with open(path, "rb") as file:
        try:
            if file.read(4) == b"GGUF":
                _number(file, "I"), _number(file, "Q")  # version, number of tensors
                for _ in range(_number(file, "Q")):
                    key, value_type = file.read(_number(file, "Q")).decode(), _number(file, "I")
                    if value_type != _STRING and value_type not in _SIZES:  # an array: the vocabulary has begun
                        break
                    value = file.read(_number(file, "Q") if value_type == _STRING else _SIZES[value_type])
                    if key.endswith(".context_length"):
                        context_length = int.from_bytes(value, "little")
                    elif key == FINGERPRINT:
                        fingerprint = value.decode()
        except (struct.error, UnicodeDecodeError, OverflowError, MemoryError):
            pass
    if not context_length:
        raise ValueError(f"{path} is not a GGUF file with a context length, or is cut short: export it again with "
                         "python -m slm.main --config=configs/export.py:gguf")
    return GgufMetadata(context_length, fingerprint)


def _number(file: BinaryIO, layout: str) -> int:
    return struct.unpack(f"<{layout}", file.read(struct.calcsize(layout)))[0]
