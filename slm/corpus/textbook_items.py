"""The file of written items, which a killed run leaves readable."""

import itertools
import json
import os
from pathlib import Path


class Items:
    """`items.jsonl`: one line an item, appended and flushed; a line that a kill left incomplete is truncated.

    Attributes:
      offsets: key of an item → offset of its line, in bytes.
    """

    def __init__(self, path: Path):
        self.offsets: dict[str, int] = {}
        self._file = open(path, "a+b")  # noqa: SIM115  # closed by __exit__
        self._file.seek(0)
        start = 0
        for number in itertools.count(1):
            line = self._file.readline()
            if not line:
                break
            try:
                key = json.loads(line)["key"] if line.endswith(b"\n") else None
            except (ValueError, KeyError, TypeError):
                key = None
            if key is not None:
                self.offsets[key] = start
            elif self._file.read(1):
                raise ValueError(f"{path}, line {number} is not an item, and not the last line: remove it (sed -i "
                                 f"{number}d), and the run writes it again")
            else:
                self._file.truncate(start)
                break
            start += len(line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._file.close()

    def append(self, record: dict) -> None:
        offset = self._file.seek(0, os.SEEK_END)
        self._file.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        self.offsets[record["key"]] = offset

    def read(self, key: str) -> dict:
        self._file.seek(self.offsets[key])
        return json.loads(self._file.readline())
