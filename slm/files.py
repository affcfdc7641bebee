"""Files: written aside and renamed when whole; text in a hospital's encodings; JSON, CSV and Markdown tables."""

import bz2
import codecs
import contextlib
import csv
import functools
import glob
import gzip
import io
import json
import os
import re
import shutil
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

LONGEST_LINE = 16_000_000  # characters of a line of text
BROKEN = (EOFError, OSError, zlib.error)  # raised by a compressed file that is truncated or garbled
_BUFFER = 1 << 20  # bytes read at a time
_LONGEST_FIELD = 10_000_000  # characters of a CSV field; a longer one is a quote that was never closed
# Python's CP932 also decodes most broken UTF-8: kana then begin with these kanji, which hardly occur otherwise; and it
# maps the four bytes that CP932 leaves unused to the other characters.
_NOT_CP932 = re.compile("[縺繧繝\x80\uf8f0-\uf8f3]")


@contextlib.contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """Yields a path to write to; it becomes `path` only if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.{os.getpid()}.writing")
    try:
        yield aside
        with open(aside, "rb") as file:
            os.fsync(file.fileno())  # else a power cut may leave the name without the content
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def remove_torn(folder: Path) -> None:
    """Removes what killed processes left half-written below a folder."""
    for path in [*folder.rglob("*.writing")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def open_compressed(path: Path) -> io.BufferedIOBase:
    """The bytes of a file, uncompressed if its name ends in .gz, .bz2 or .zst.

    Raises:
      EOFError: a compressed file without bytes; reading a broken one raises one of `BROKEN`.
    """
    suffix = path.suffix.lower()
    if suffix in (".gz", ".bz2", ".zst") and not path.stat().st_size:
        raise EOFError("it has no bytes")  # which the libraries accept
    if suffix == ".gz":
        return gzip.open(path, "rb")
    if suffix == ".bz2":
        return bz2.open(path, "rb")
    if suffix == ".zst":
        import pyarrow  # late: for this format only
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _BUFFER)
    return open(path, "rb")


def reason(error: Exception) -> str:
    """What is wrong with a compressed file, without the bytes of it that the message may quote."""
    return re.sub(r" \(b['\"].*", "", str(error), flags=re.DOTALL)


def text_lines(path: Path, longest: int = LONGEST_LINE) -> Iterator[str]:
    """The lines of a text file, plain or .gz, each with its end; memory holds one of them.

    A byte order mark decides the encoding, otherwise strict UTF-8, then strict CP932. A line on stderr reports any
    other than UTF-8.

    Raises:
      ValueError: another encoding, a file cut short, or a line of more than `longest` characters.
    """
    number = 0
    try:
        with gzip.open(path) if path.suffix.lower() == ".gz" else open(path, "rb") as file:
            encoding = _encoding(file, path)
            file.seek(0)
            with io.TextIOWrapper(file, encoding, newline="") as text:
                while line := text.readline(longest + 1):
                    number += 1
                    if len(line) > longest:
                        raise ValueError(f"{path}, line {number} is longer than {longest:,} characters: a table or "
                                         "list holds one row a line; split it, or give another file")
                    yield line
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not {error.encoding} after line {number}, as its byte order mark says: save it "
                         "again as UTF-8") from None
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} breaks off after line {number} ({reason(error)}): download it again") from None


def _encoding(file: io.BufferedIOBase, path: Path) -> str:
    head = file.read(3)
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        _report_encoding(path, "UTF-16")
        return "utf-16"
    if head == codecs.BOM_UTF8:
        return "utf-8-sig"
    failure = _first_failure(file, path, "utf-8")
    if not failure:
        return "utf-8"
    if _first_failure(file, path, "cp932"):
        raise ValueError(f"{path}, line {failure[0]} is neither UTF-8 (byte 0x{failure[1]:02X}) nor CP932: convert it "
                         "with iconv, or download it again")
    if not _first_failure(file, path, "euc_jp"):
        raise ValueError(f"{path} may be EUC-JP as well as CP932 (line {failure[0]}): convert it with iconv -t UTF-8")
    _report_encoding(path, "CP932")
    return "cp932"


def _first_failure(file: io.BufferedIOBase, path: Path, encoding: str) -> tuple[int, int] | None:
    """Line and byte where a file is not in an encoding."""
    decoder, lines = codecs.getincrementaldecoder(encoding)(), 0
    file.seek(0)
    try:
        for chunk in iter(functools.partial(file.read, _BUFFER), b""):
            if b"\0" in chunk:
                raise ValueError(f"{path} holds NUL bytes, so it is neither UTF-8 nor CP932 text: save UTF-16 with its "
                                 "byte order mark, name a workbook .xlsx, a compressed file .gz")
            if b"\x1b$" in chunk:
                raise ValueError(f"{path} is ISO-2022-JP: convert it with iconv -f ISO-2022-JP -t UTF-8")
            if _NOT_CP932.search(decoder.decode(chunk)) and encoding == "cp932":
                return lines + 1, 0
            lines += chunk.count(b"\n")
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        return lines + error.object.count(b"\n", 0, error.start) + 1, error.object[error.start]
    return None


@functools.cache  # once a file
def _report_encoding(path: Path, encoding: str) -> None:
    print(f"{path} is not UTF-8: it is read as {encoding}", file=sys.stderr, flush=True)


def literal_folder(pattern: str) -> tuple[str, str]:
    """The longest leading part of a path or glob that exists as it is written, and the rest: `data[2024]`, `*.csv`."""
    parts = Path(pattern).parts
    size = next((size for size in range(len(parts), 0, -1) if os.path.exists(os.path.join(*parts[:size]))), 0)
    return os.path.join("", *parts[:size]), os.path.join("", *parts[size:])


def matches(pattern: str) -> list[str]:
    """The paths that a glob matches, sorted; parts of it that exist are not patterns.

    Raises:
      ValueError: a link below `**` leads back to a folder above it.
    """
    folder, rest = literal_folder(pattern)
    if "**" in Path(rest).parts:
        _refuse_loops(folder or ".")
    if not rest:
        return [folder] if folder else []
    return sorted(glob.glob(os.path.join(glob.escape(folder), rest), recursive=True))


def _refuse_loops(folder: str) -> None:
    waiting = [(folder, frozenset({os.path.realpath(folder)}))]
    while waiting:
        path, above = waiting.pop()
        with contextlib.suppress(OSError), os.scandir(path) as entries:
            for entry in filter(os.DirEntry.is_dir, entries):
                real = os.path.realpath(entry.path)
                if real in above:
                    raise ValueError(f"{entry.path} leads back to {real} by a link, so a pattern with ** has no end: "
                                     "remove the link, or name the folders")
                waiting.append((entry.path, above | {real}))


def copy_folder(source: Path, target: Path) -> None:
    """Copies the files below a folder; who may read the copies is for the umask to say, not for the originals."""
    for path in source.rglob("*"):
        if path.is_file():
            copy = target / path.relative_to(source)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)


def read_json(path: Path) -> Any:
    """
    Raises:
      ValueError: the file is empty, torn or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits, 100,000 brackets
        raise ValueError(f"{path} is not JSON ({error}): it may have been cut short; restore it, or make it again"
                         ) from None


def read_whole_json_lines(path: Path) -> list[dict]:
    """The lines of a JSON Lines file up to the first one that is torn; none where there is no file.

    A process may still be writing, or may have been killed while it wrote.
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            rows.append(json.loads(line))
        except (ValueError, RecursionError):
            break
    return rows


@contextlib.contextmanager
def long_csv_fields() -> Iterator[int]:
    """Raises the csv module's limit on a field, which holds for the whole process; yields the limit in characters."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield _LONGEST_FIELD
    finally:
        csv.field_size_limit(before)


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[str]], numbers: bool = True) -> str:
    """A Markdown table, one line a row.

    Args:
      numbers: whether the columns after the first are aligned right.
    """
    rule = ["---", *["---:" if numbers else "---"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, rule, *rows))
