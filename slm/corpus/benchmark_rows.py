"""The rows of benchmark files (CSV, JSON Lines), to search a corpus for them."""

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm.corpus.readers import json_objects
from slm.corpus.sources import find
from slm.files import long_csv_fields, text_lines


def rows(patterns: str) -> Iterator[tuple[str, str]]:
    """(benchmark, text) of each row of the files; a benchmark is named by its folder and file.

    Raises:
      FileNotFoundError: nothing matches a pattern.
      ValueError: a file of another format, or one that cannot be read; the message names it.
    """
    for path in find(patterns):
        name = f"{path.parent.name}/{path.name}"
        texts = 0
        try:
            for row in _read(path):
                if text := "\n".join(row):
                    texts += 1
                    yield name, text
        except (csv.Error, RecursionError) as error:
            raise ValueError(f"{path} is not a benchmark file ({error}): close the quotation marks of CSV, and give "
                             "JSON of fewer levels") from None
        if not texts:
            raise ValueError(f"{path} holds no text, so there is nothing to search for: leave it out")


def _read(path: Path) -> Iterator[list[str]]:
    suffix = path.suffix.lower()
    if suffix == ".csv":
        with long_csv_fields():
            yield from [list(_texts(row)) for row in csv.DictReader(text_lines(path))]
    elif suffix in (".jsonl", ".json"):
        for _, row in json_objects(path, skip_blank=True):
            yield list(_texts(row))
    else:
        raise ValueError(f"{path} has no known format: a benchmark is a .csv, .json or .jsonl file")


def _texts(value: Any) -> Iterator[str]:
    """Every string inside, in order, but single letters, which are answers."""
    if isinstance(value, str):
        if len(value) > 1:
            yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
