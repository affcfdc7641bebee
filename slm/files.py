"""Files: written aside and renamed when whole; JSON, CSV and Markdown tables."""

import contextlib
import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

_LONGEST_FIELD = 10_000_000  # characters of a CSV field; a longer one is a quote that was never closed


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


def write_text(path: Path, text: str) -> None:
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def write_json_lines(path: Path, rows: Iterable[Any]) -> None:
    with written_aside(path) as aside, open(aside, "w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_json(path: Path) -> Any:
    """
    Raises:
      ValueError: the file is empty, torn or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
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
        except json.JSONDecodeError:
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
