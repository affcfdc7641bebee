"""Records, one text each, from a folder, a CSV or JSON Lines."""

import csv
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from slm.corpus import readers
from slm.files import literal_folder, long_csv_fields, text_lines
from slm.text.normalize import normalize

LONGEST_RECORD = 1_000_000  # bytes


@dataclasses.dataclass(frozen=True)
class Record:
    """One text; `location` names its file and row in messages."""
    id: str
    location: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def read_records(source: str, text_column: str, id_column: str) -> Iterator[Record]:
    """The records, one at a time, always in the same order.

    Args:
      source: a folder of .txt files, a glob, a .csv or a .jsonl file.

    Raises:
      ValueError, FileNotFoundError: a record that is empty, longer than 1 MB or not UTF-8, or no records; the message
        names the file and the row.
    """
    records = _read(source, text_column, id_column)
    first = next(records, None)
    if first is None:
        raise ValueError(f"{source} has no records: a folder holds .txt files, a table one row per record")
    for record in itertools.chain([first], records):
        _validate(record)
        yield record


def _read(source: str, text_column: str, id_column: str) -> Iterator[Record]:
    path, sources = Path(source), "a folder of .txt files, a GLOB, a .csv or a .jsonl file"
    if not source:
        raise ValueError(f"no records are named: give {sources} as --config.records=…")
    if path.is_dir():
        return _read_texts(path, "*.txt")
    if path.is_file():
        match path.suffix.lower():
            case ".csv":
                return _read_csv(path, text_column, id_column)
            case ".jsonl" | ".ndjson" | ".json":
                return _read_json_lines(path, text_column, id_column)
            case ".txt":
                return _read_texts(path.parent, path.name)
        raise ValueError(f"{path} is of no known format: name it .csv, .jsonl or .txt")
    if not re.search(r"[*?\[]", source):
        raise FileNotFoundError(f"{path} is missing: give {sources}")
    folder, pattern = literal_folder(source)
    return _read_texts(Path(folder), pattern)


def _validate(record: Record) -> None:
    try:
        size = len(record.text.encode())
        record.id.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{record.location} is not UTF-8: convert the file, for example with iconv -f CP932 -t UTF-8"
                         ) from None
    if size > LONGEST_RECORD:
        raise ValueError(f"{record.location} has {size:,} bytes, more than {LONGEST_RECORD:,}: split it")
    if not record.id.strip():
        raise ValueError(f"{record.location} has no id: fill it in, or leave id_column empty to number the rows")
    if not normalize(record.text).strip():
        raise ValueError(f"{record.location} is empty: remove it, or write its text")


def _read_texts(folder: Path, pattern: str) -> Iterator[Record]:
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            if path.stat().st_size > LONGEST_RECORD:
                raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {LONGEST_RECORD:,}: split it")
            yield Record(path.relative_to(folder).as_posix(), str(path), "".join(text_lines(path)))


def _read_csv(path: Path, text_column: str, id_column: str) -> Iterator[Record]:
    with long_csv_fields():
        reader, number = csv.reader(text_lines(path), strict=True), 0
        try:
            header = next(reader, [])
            text, id = (_column(path, header, name) for name in (text_column, id_column))
            for row in reader:
                if not row:  # an empty line
                    continue
                number += 1
                location = f"{path}, row {number}"
                if len(row) != len(header):
                    raise ValueError(f"{location} (line {reader.line_num}) has {len(row)} fields, the header has "
                                     f"{len(header)}: quote fields that hold commas")
                yield Record(row[id] if id_column else str(number), location, row[text])
        except csv.Error as error:
            raise ValueError(f"{path}, row {number + 1} (line {reader.line_num}) cannot be read as CSV ({error}): a "
                             "quote may not be closed") from None


def _column(path: Path, header: list[str], name: str) -> int:
    if name and header.count(name) != 1:
        raise ValueError(f"{path} has {header.count(name)} columns {name!r} among the {len(header)} of its first line: "
                         "set text_column and id_column to names in it")  # not quoted, for it may be a record
    return header.index(name) if name else -1


def _read_json_lines(path: Path, text_column: str, id_column: str) -> Iterator[Record]:
    for number, (location, row) in enumerate(readers.json_objects(path), 1):
        text, id = row.get(text_column), row.get(id_column) if id_column else number
        if not isinstance(text, str):
            raise ValueError(f"{location} has no text in {text_column!r} among its {len(row)} fields: set "
                             "text_column to the one that holds the record")
        if type(id) not in (str, int):
            raise ValueError(f"{location} has no text or integer in {id_column!r} among its {len(row)} "
                             "fields: set id_column to the one that names the record")
        yield Record(str(id), location, text)
