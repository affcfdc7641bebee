"""Texts labelled good or poor: by the user, or bootstrapped from reference text and text that the rules dropped.

A classifier reads an excerpt of a document; two documents with the same excerpt count as one, so that no held-out
text was trained on. Hashes decide what is drawn, held out and used for early stopping: a rerun repeats them.
"""

import dataclasses
import hashlib
import heapq
from collections.abc import Iterator
from pathlib import Path

from slm.corpus.readers import json_objects
from slm.corpus.sources import find, read
from slm.text.normalize import normalize

LENGTH = 2000  # characters of an excerpt
LEAST = 20  # documents of a class


def excerpt(text: str) -> str:
    """The first characters of the normalised text.

    Not its end as well: the seam between the two would show that a document is long.
    """
    return normalize(text[:2 * LENGTH])[:LENGTH]  # normalisation seldom removes half of the text


@dataclasses.dataclass(frozen=True)
class Example:
    """An excerpt and its label."""
    text: str
    good: bool
    source: str
    digest: bytes

    def fraction(self, use: int) -> float:
        """A number in [0, 1) that depends on the text and the use only."""
        return int.from_bytes(self.digest[8 * use:8 * use + 8], "big") / 2**64


HOLDING_OUT, STOPPING = 1, 2  # the uses; the first bytes of the digest decide what is drawn


def labelled(patterns: str, most: int) -> list[Example]:
    """At most `most` examples a class of JSON Lines with `text` and `label`, 1 for good and 0 for poor."""
    draws = {True: _Draw(most), False: _Draw(most)}
    for path in find(patterns):
        for location, text, good, source in _read_labels(path):
            draws[good].add(text, good, source, location)
    return _together(draws, patterns)


def bootstrapped(reference: str, poor: str, most: int) -> list[Example]:
    """At most `most` examples a class: documents of the `reference` files are good, those of the `poor` files poor."""
    draws = {True: _Draw(most), False: _Draw(most)}
    for good, patterns in ((True, reference), (False, poor)):
        for path in find(patterns):
            for document in read(path):
                draws[good].add(document.text, good, document.source, document.location)
    return _together(draws, f"{reference} and {poor}")


def _together(draws: dict[bool, "_Draw"], patterns: str) -> list[Example]:
    """Both classes, without the texts that are in both."""
    good, poor = ({example.digest: example for example in draws[label].examples()} for label in (True, False))
    both = good.keys() & poor.keys()
    examples = [example for side in (good, poor) for digest, example in side.items() if digest not in both]
    counts = {"good": len(good) - len(both), "poor": len(poor) - len(both)}
    if min(counts.values()) < LEAST:
        raise ValueError(f"{patterns} hold {counts['good']} good and {counts['poor']} poor documents ({len(both)} more "
                         f"are in both), but at least {LEAST} of each are needed: give more, or both classes")
    return sorted(examples, key=lambda example: example.digest)


class _Draw:
    """The texts with the smallest hashes, each once: a sample of a big corpus in one pass."""

    def __init__(self, most: int):
        self._most = most
        self._heap: list[tuple[int, Example]] = []  # the largest hash first
        self._inside: set[int] = set()

    def add(self, text: str, good: bool, source: str, location: str) -> None:
        try:
            text = excerpt(text)
        except ValueError as error:
            raise ValueError(f"{location}: {error}") from None
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
    for location, row in json_objects(path):
        label = row.get("label")
        if not isinstance(row.get("text"), str):
            raise ValueError(f"{location} has no string 'text': labels are JSON Lines with 'text' and 'label'")
        if type(label) is not int or label not in (0, 1):
            raise ValueError(f"{location} has a label of type {type(label).__name__} that is neither the number 1 "
                             "(good) nor 0 (poor): write one of them")
        yield location, row["text"], label == 1, str(row.get("source") or path.name.split(".")[0])
