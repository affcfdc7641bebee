"""Texts with a label, good or poor: named by the user, or bootstrapped from reference text and what the rules dropped.

A classifier reads an excerpt of a document; two documents with the same excerpt count as one, so that no held-out
text was trained on. What is drawn, held out and used for early stopping follows from hashes: a rerun does the same.
"""

import dataclasses
import gzip
import hashlib
import heapq
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

from slm.corpus.sources import find, read
from slm.text.normalize import normalize

LENGTH = 2000  # characters of an excerpt
LEAST = 20  # documents of a class; fewer teach nothing and measure nothing


def excerpt(text: str) -> str:
    """What a classifier reads: the first characters of the normalised text.

    Not its end: the seam in the middle would tell that a document is long.
    """
    return normalize(text[:2 * LENGTH])[:LENGTH]  # twice: what normalisation leaves out seldom needs more


@dataclasses.dataclass(frozen=True)
class Example:
    """An excerpt and its label."""
    text: str
    good: bool
    source: str
    digest: bytes

    def place(self, use: int) -> float:
        """A number in [0, 1) that follows from the text, another one for each use."""
        return int.from_bytes(self.digest[8 * use:8 * use + 8], "big") / 2**64


HOLDING_OUT, STOPPING = 1, 2  # the uses; the first bytes decided what was drawn


def labelled(patterns: str, most: int) -> list[Example]:
    """At most `most` examples a class of JSON Lines with `text` and `label`, 1 for good and 0 for poor."""
    draws = {True: _Draw(most), False: _Draw(most)}
    for path in find(patterns.split(",")):
        for place, text, good, source in _read_labels(path):
            draws[good].add(text, good, source, place)
    return _together(draws, patterns)


def bootstrapped(reference: str, poor: str, most: int) -> list[Example]:
    """At most `most` examples a class: documents of the `reference` files are good, those of the `poor` files poor."""
    draws = {True: _Draw(most), False: _Draw(most)}
    for good, patterns in ((True, reference), (False, poor)):
        for path in find(patterns.split(",")):
            for document in read(path):
                draws[good].add(document.text, good, document.source, f"{path}, {document.id}")
    return _together(draws, f"{reference} and {poor}")


def _together(draws: dict[bool, "_Draw"], place: str) -> list[Example]:
    """Both classes, without the texts that are in both: they are no example of either."""
    good, poor = ({example.digest: example for example in draws[label].examples()} for label in (True, False))
    both = good.keys() & poor.keys()
    examples = [example for side in (good, poor) for digest, example in side.items() if digest not in both]
    counts = {"good": len(good) - len(both), "poor": len(poor) - len(both)}
    if min(counts.values()) < LEAST:
        raise ValueError(f"{place}: found {counts['good']} good and {counts['poor']} poor documents ({len(both)} more "
                         f"are in both), at least {LEAST} of each are needed: give more, or both classes")
    return sorted(examples, key=lambda example: example.digest)


class _Draw:
    """The texts with the smallest hashes, each once: a sample that needs no second pass over a big corpus."""

    def __init__(self, most: int):
        self._most = most
        self._heap: list[tuple[int, Example]] = []  # the largest hash first
        self._inside: set[int] = set()

    def add(self, text: str, good: bool, source: str, place: str) -> None:
        try:
            text = excerpt(text)
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from None
        digest = hashlib.sha256(text.encode()).digest()
        number = int.from_bytes(digest, "big")
        if not text.strip() or number in self._inside:
            return
        if len(self._heap) == self._most:
            if number > -self._heap[0][0]:
                return
            self._inside.remove(-heapq.heappop(self._heap)[0])
        self._inside.add(number)
        heapq.heappush(self._heap, (-number, Example(text, good, source, digest)))

    def examples(self) -> list[Example]:
        return [example for _, example in self._heap]


def _read_labels(path: Path) -> Iterator[tuple[str, str, bool, str]]:
    number = 0
    try:
        with (gzip.open if path.name.lower().endswith(".gz") else open)(path, "rb") as file:
            for number, line in enumerate(file, 1):
                yield _parse(line, f"{path}, line {number}", path)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} ends or breaks after line {number} ({error}): it was cut short or is not what its "
                         "name says; copy it again") from None


def _parse(line: bytes, place: str, path: Path) -> tuple[str, str, bool, str]:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{place} is not JSON in UTF-8 ({error}): labels are JSON Lines, an object with 'text' and "
                         "'label' a line") from None
    if not isinstance(row, dict) or not isinstance(row.get("text"), str):
        raise ValueError(f"{place} is no object with a string 'text': labels are JSON Lines, an object with 'text' "
                         "and 'label' a line")
    label = row.get("label")
    if type(label) is not int or label not in (0, 1):
        raise ValueError(f"{place} has the label {label!r}: give the number 1 (good) or 0 (poor)")
    return place, row["text"], label == 1, str(row.get("source") or path.name.split(".")[0])
