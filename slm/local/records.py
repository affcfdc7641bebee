"""Records, one text each, from a folder, a CSV or JSON Lines."""

import csv
import dataclasses
import hashlib
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

from slm.corpus import readers
from slm.text.normalize import normalize

LONGEST_RECORD = 1_000_000  # bytes
_LONGEST_FIELD = 10_000_000  # characters of a CSV field; a longer one is a quote that nobody closed


@dataclasses.dataclass(frozen=True)
class Record:
    """One text; `place` names its file and row in messages."""
    id: str
    place: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


def read_records(named: str, text_column: str, id_column: str) -> Iterator[Record]:
    """The records, one at a time, always in the same order.

    Raises:
      ValueError, FileNotFoundError: a record that is empty, longer than 1 MB or not UTF-8, no records; the message
        names the file and the row.
    """
    place, kinds = Path(named), "a folder of .txt files, a GLOB, a .csv or a .jsonl file"
    kind = place.suffix.lower()
    if not named:
        raise ValueError(f"there are no records: give {kinds} as --config.records=…")
    if place.is_dir():
        found = _read_texts(place, "*.txt")
    elif place.is_file() and kind in (".csv", ".jsonl", ".ndjson", ".txt"):
        found = (_read_csv(place, text_column, id_column) if kind == ".csv" else _read_texts(place.parent, place.name)
                 if kind == ".txt" else _read_json_lines(place, text_column, id_column))
    elif place.is_file():
        raise ValueError(f"{place}: cannot tell its kind; name it .csv, .jsonl or .txt")
    elif re.search(r"[*?\[]", named):
        fixed = list(itertools.takewhile(lambda part: not re.search(r"[*?\[]", part), place.parts))
        found = _read_texts(Path(*fixed), str(Path(*place.parts[len(fixed):])))
    else:
        raise FileNotFoundError(f"{place} is missing: give {kinds}")
    empty = True
    for record in found:
        _refuse_odd(record)
        empty = False
        yield record
    if empty:
        raise ValueError(f"{place} has no records: a folder holds .txt files, a table a row for each")


def _refuse_odd(record: Record) -> None:
    try:
        size = len(record.text.encode())
        record.id.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{record.place} is not UTF-8: convert the file, for example with iconv -f CP932 -t UTF-8"
                         ) from None
    if size > LONGEST_RECORD:
        raise ValueError(f"{record.place} has {size:,} bytes, more than the {LONGEST_RECORD:,} of a record: split it")
    if not record.id.strip():
        raise ValueError(f"{record.place} has no id: fill it in, or leave id_column empty to number the rows")
    if not normalize(record.text).strip():
        raise ValueError(f"{record.place} is empty: remove it, or write its text")


def _read_texts(folder: Path, pattern: str) -> Iterator[Record]:
    for path in sorted(folder.glob(pattern)):
        if path.is_file():
            if path.stat().st_size > LONGEST_RECORD:
                raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than the {LONGEST_RECORD:,} of a "
                                 "record: split it")
            yield Record(path.relative_to(folder).as_posix(), str(path),
                         path.read_bytes().decode("utf-8-sig", "surrogateescape"))


def _read_csv(path: Path, text_column: str, id_column: str) -> Iterator[Record]:
    # Bytes that are no UTF-8 come as lone surrogates, so that their row can be named.
    with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader, number = csv.reader(file, strict=True), 0
        before = csv.field_size_limit(_LONGEST_FIELD)  # of the whole process
        try:
            header = next(reader, [])
            text, id = (_column(path, header, name) for name in (text_column, id_column))
            for row in reader:
                if not row:  # an empty line
                    continue
                number += 1
                place = f"{path}, row {number}"
                if len(row) != len(header):
                    raise ValueError(f"{place} (line {reader.line_num}) has {len(row)} fields, the header {len(header)}"
                                     ": quote fields that hold commas")
                yield Record(row[id] if id_column else str(number), place, row[text])
        except csv.Error as error:
            raise ValueError(f"{path}, row {number + 1} (line {reader.line_num}) cannot be read as CSV ({error}): a "
                             "quote may not be closed") from None
        finally:
            csv.field_size_limit(before)


def _column(path: Path, header: list[str], name: str) -> int:
    if name and header.count(name) != 1:
        raise ValueError(f"{path} has {header.count(name)} columns {name!r} among the {len(header)} of its first line: "
                         "set text_column and id_column to names that stand there")  # which may be a record, untold
    return header.index(name) if name else -1


def _read_json_lines(path: Path, text_column: str, id_column: str) -> Iterator[Record]:
    for number, (place, row) in enumerate(readers.json_objects(path), 1):
        text, id = row.get(text_column), row.get(id_column) if id_column else number
        if not isinstance(text, str):
            raise ValueError(f"{place} has no text in {text_column!r}, its keys are {', '.join(row)}: set "
                             "text_column to the one that holds the record")
        if type(id) not in (str, int):
            raise ValueError(f"{place} has no text or whole number in {id_column!r}, its keys are "
                             f"{', '.join(row)}: set id_column to the one that names the record")
        yield Record(str(id), place, text)
