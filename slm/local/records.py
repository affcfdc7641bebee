"""Records, one text each, from a folder, a CSV or JSON Lines."""

import csv
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from slm.corpus import readers
from slm.files import literal_folder, long_csv_fields, text_lines
from slm.text.normalize import normalize

LONGEST_RECORD = 1_000_000  # bytes
TEXT_COLUMN = "text"  # unless a config names another


@dataclasses.dataclass(frozen=True)
class Record:
    """One text; `location` names its file and row in messages."""
    id: str
    location: str
    text: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode()).hexdigest()[:16]


class Files(NamedTuple):
    """What a source names: files of records, each with the name that its records' ids begin with, and all else."""
    records: list[tuple[Path, str]]
    passed_over: list[Path]


def find_files(source: str) -> Files:
    """The files of records that a source names, in order.

    Args:
      source: a folder of .txt files, at any depth and in any case; a .csv, .jsonl or .txt file; or a glob of such.

    Raises:
      ValueError, FileNotFoundError: no source, no such file, or one of no known format.
    """
    path, sources = Path(source), "a folder of .txt files, a GLOB, a .csv or a .jsonl file"
    if not source:
        raise ValueError(f"no records are named: give {sources} as --config.records=…")
    if path.is_file():
        if path.suffix.lower() not in _READERS:
            raise ValueError(f"{path} is of no known format: name it .csv, .jsonl, .json or .txt")
        return Files([(path, path.name)], [])
    if path.is_dir():
        root, paths, suffixes = path, list(_walk(path)), {".txt"}
    elif re.search(r"[*?\[]", source):
        folder, pattern = literal_folder(source)
        root, suffixes = Path(folder), {*_READERS}
        paths = list(root.glob(pattern))
    else:
        raise FileNotFoundError(f"{path} is missing: give {sources}")
    taken = {path for path in paths if path.suffix.lower() in suffixes and path.is_file()}
    return Files([(path, path.relative_to(root).as_posix()) for path in sorted(taken)], sorted({*paths} - taken))


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder, and links to folders, which are not followed."""
    def refuse(error: OSError) -> None:
        raise error
    for parent, folders, names in os.walk(folder, onerror=refuse):
        yield from (Path(parent, name) for name in names)
        yield from (path for name in folders if (path := Path(parent, name)).is_symlink())


def read_records(source: str, text_column: str, id_column: str) -> Iterator[Record]:
    """The records, one at a time, always in the same order.

    The id of a text is its path below the folder or glob. That of a row is in `id_column`, or its number, behind the
    path of its table if the source is a glob.

    Args:
      source: as `find_files` takes it.

    Raises:
      ValueError, FileNotFoundError: a record that is empty, longer than 1 MB or not UTF-8, no records, or a setting for
        tables with files of text; the message names the file and the row.
    """
    files = find_files(source)
    is_text = [path.suffix.lower() == ".txt" for path, _ in files.records]
    if all(is_text) and is_text and (text_column != TEXT_COLUMN or id_column):
        raise ValueError(f"text_column={text_column!r} and id_column={id_column!r} are settings of tables, and "
                         f"{source} has files of text only: leave them out")
    empty = True
    for path, name in files.records:
        prefix = "" if Path(source).is_file() else f"{name}:"
        for record in _READERS[path.suffix.lower()](path, text_column, id_column):
            empty = False
            if path.suffix.lower() == ".txt":
                record = dataclasses.replace(record, id=name)
            elif not id_column:
                record = dataclasses.replace(record, id=prefix + record.id)
            _validate(record)
            yield record
    if empty:
        raise ValueError(f"{source} has no records: a folder holds .txt files, a table one row per record"
                         + (f"; it has {len(files.passed_over)} other files" if files.passed_over else ""))


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


def _read_text(path: Path, text_column: str, id_column: str) -> Iterator[Record]:
    if path.stat().st_size > LONGEST_RECORD:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, more than {LONGEST_RECORD:,}: split it")
    yield Record(path.name, str(path), "".join(text_lines(path)))


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


_READERS = {".txt": _read_text, ".csv": _read_csv, ".jsonl": _read_json_lines, ".ndjson": _read_json_lines,
            ".json": _read_json_lines}
