"""Answers that can only be read one way: a letter of the item, or a list of spans of the question.

A constraint walks over bytes, so it does not matter how the tokenizer cuts an answer. Spans come in any order, each
once, begin and end with a morpheme, and none begins inside another.
"""

import bisect
import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from slm.text.normalize import normalize
from slm.text.tokenizer import Tokenizer

_LONGEST_SPAN = 180  # bytes
_NEVER = set(b"'\n")  # in a span


class Constraint(Protocol):
    """Which answers are valid, token by token."""

    def allowed(self) -> np.ndarray:
        """The ids that may come next; none: the answer is complete."""

    def advance(self, token: int) -> None:
        """Takes one of them."""


class Pieces:
    """The vocabulary as bytes: which pieces a text begins with."""

    def __init__(self, tokenizer: Tokenizer):
        self.borders = tokenizer.borders
        self._ids: dict[bytes, int] = {}
        for index, piece in enumerate(tokenizer.pieces(range(len(tokenizer)))):
            if tokenizer.is_byte(index):
                self._ids.setdefault(bytes([int(piece[3:5], 16)]), index)
            elif not tokenizer.is_special(index):
                self._ids[piece.replace("▁", " ").encode()] = index
        self._longest = max(map(len, self._ids))

    @functools.lru_cache(maxsize=100_000)  # noqa: B019, one object a model
    def starting(self, text: bytes) -> tuple[tuple[int, int], ...]:
        """(id, bytes) of each piece that `text` begins with."""
        return tuple((self._ids[text[:size]], size) for size in range(1, min(len(text), self._longest) + 1)
                     if text[:size] in self._ids)

    @property
    def longest(self) -> int:
        return self._longest


class OneOf:
    """One of some texts, none of which begins another."""

    def __init__(self, pieces: Pieces, texts: Sequence[str]):
        self._pieces, self._left = pieces, [text.encode() for text in texts]

    def allowed(self) -> np.ndarray:
        return np.array(sorted({index for text in self._left for index, _ in self._pieces.starting(text)}), np.int32)

    def advance(self, token: int) -> None:
        self._left = [text[size:] for text in self._left for index, size in self._pieces.starting(text)
                      if index == token]


@dataclasses.dataclass(frozen=True)
class _Span:
    """What was written may be the text from `start` to `end`."""
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class _Signs:
    """The signs around spans, of which `rest` is still to be written."""
    rest: bytes
    after: _Span | None  # the span that they end
    more: bool  # whether another span follows


class SpanList:
    """A Python list of spans of a text."""

    def __init__(self, pieces: Pieces, text: str):
        self._pieces = pieces
        # Character by character, so that a span of what the model reads is also one of the text as it is written.
        parts = [normalize(character).encode() for character in text]
        self._raw, self._bytes = text, b"".join(parts)
        self._starts = list(itertools.accumulate(map(len, parts), initial=0))  # of each character, in bytes
        seen = b"".join(parts).decode()
        places = list(itertools.accumulate((len(character.encode()) for character in seen), initial=0))
        # A span ends before what it may not hold, if that stands inside a morpheme.
        never = {place for place, character in enumerate(seen) if ord(character) in _NEVER}
        self._borders = {places[border] for border in pieces.borders(seen) | never}
        self._readings: list[_Span | _Signs] = [_Signs(b"['", None, True), _Signs(b"[]", None, False)]
        self._found: list[_Span] = []

    def allowed(self) -> np.ndarray:
        return np.array(sorted({index for own in self._readings for index, _ in self._steps(own)}), np.int32)

    def advance(self, token: int) -> None:
        moved = [_moved(own, size) for own in self._readings for index, size in self._steps(own) if index == token]
        ended = [own for own in moved if isinstance(own, _Signs) and not own.rest]
        self._readings = [follow for own in moved if own not in ended for follow in self._ways(own)]
        if ended:  # the same signs in each, after the same text: they may differ in where it is
            spans = [own.after for own in ended if own.after]
            if spans:
                self._found.append(min(spans, key=lambda span: span.start))
            if ended[0].more:
                self._readings += [_Span(start, start) for start in sorted(self._borders - {len(self._bytes)})
                                   if not any(span.start <= start < span.end for span in self._found)]

    def spans(self) -> list[str]:
        """The spans so far, as the text has them, whatever normalisation made of it."""
        return [self._raw[bisect.bisect_right(self._starts, own.start) - 1:bisect.bisect_left(self._starts, own.end)]
                for own in self._found]

    def _steps(self, own: _Span | _Signs) -> Iterator[tuple[int, int]]:
        """(id, bytes) of the pieces that may come next."""
        if isinstance(own, _Signs):
            yield from self._pieces.starting(own.rest)
        elif own.end - own.start < _LONGEST_SPAN or own.end not in self._borders:
            for index, size in self._pieces.starting(self._bytes[own.end:own.end + self._pieces.longest]):
                if not _NEVER & set(self._bytes[own.end:own.end + size]):
                    yield index, size

    def _ways(self, own: _Span | _Signs) -> Iterator[_Span | _Signs]:
        yield own
        if isinstance(own, _Span):
            written = self._bytes[own.start:own.end]
            new = written and all(self._bytes[span.start:span.end] != written for span in self._found)
            if new and own.end in self._borders:
                yield _Signs(b"', '", own, True)
                yield _Signs(b"']", own, False)


def _moved(own: _Span | _Signs, size: int) -> _Span | _Signs:
    if isinstance(own, _Span):
        return _Span(own.start, own.end + size)
    return dataclasses.replace(own, rest=own.rest[size:])
