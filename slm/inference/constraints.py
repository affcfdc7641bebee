"""Constrained answers: one of several texts, or a list of spans of the question.

A constraint walks over bytes, so it does not matter how the tokenizer splits an answer. Spans come in any order, each
at most once; they begin and end at morpheme borders, and none begins inside another.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np

from slm.text.offsets import Alignment
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
    """The vocabulary as bytes, to look up the pieces that a text begins with."""

    def __init__(self, tokenizer: Tokenizer):
        self.borders = tokenizer.borders
        self._ids: dict[bytes, int] = {}
        for index, piece in enumerate(tokenizer.pieces(range(len(tokenizer)))):
            if tokenizer.is_byte(index):
                self._ids.setdefault(bytes([int(piece[3:5], 16)]), index)
            elif not tokenizer.is_special(index):
                self._ids[piece.replace("▁", " ").encode()] = index
        self.longest = max(map(len, self._ids))

    @functools.lru_cache(maxsize=100_000)  # noqa: B019, one object per model
    def starting(self, text: bytes) -> tuple[tuple[int, int], ...]:
        """(id, bytes) of each piece that `text` begins with."""
        return tuple((self._ids[text[:size]], size) for size in range(1, min(len(text), self.longest) + 1)
                     if text[:size] in self._ids)


class OneOf:
    """One of several texts, none of which is a prefix of another."""

    def __init__(self, pieces: Pieces, texts: Sequence[str]):
        self._pieces, self._left = pieces, [text.encode() for text in texts]

    def allowed(self) -> np.ndarray:
        return np.array(sorted({index for text in self._left for index, _ in self._pieces.starting(text)}), np.int32)

    def advance(self, token: int) -> None:
        self._left = [text[size:] for text in self._left for index, size in self._pieces.starting(text)
                      if index == token]


@dataclasses.dataclass(frozen=True)
class _Span:
    """The answer so far may end with the text from `start` to `end`."""
    start: int
    end: int


@dataclasses.dataclass(frozen=True)
class _Delimiter:
    """The characters around spans, of which `rest` is still to be written."""
    rest: bytes
    after: _Span | None  # the span that they end
    more: bool  # whether another span follows


_State = _Span | _Delimiter


class SpanList:
    """A Python list of spans of a text."""

    def __init__(self, pieces: Pieces, text: str):
        self._pieces = pieces
        # Each span of the normalised text is mapped back to the parts of the text as written that it comes from.
        self._alignment = Alignment(text)
        self._bytes = self._alignment.normalized
        normalized = self._bytes.decode()
        offsets = list(itertools.accumulate((len(character.encode()) for character in normalized), initial=0))
        # A span also ends before a character that it may not hold, even inside a morpheme.
        never = {index for index, character in enumerate(normalized) if ord(character) in _NEVER}
        self._borders = {offsets[border] for border in pieces.borders(normalized) | never}
        self._states: list[_State] = [_Delimiter(b"['", None, True), _Delimiter(b"[]", None, False)]
        self._complete: list[_Span] = []

    def allowed(self) -> np.ndarray:
        return np.array(sorted({index for state in self._states for index, _ in self._steps(state)}), np.int32)

    def advance(self, token: int) -> None:
        moved = [_moved(state, size) for state in self._states for index, size in self._steps(state) if index == token]
        ended = [state for state in moved if isinstance(state, _Delimiter) and not state.rest]
        self._states = [successor for state in moved if state not in ended for successor in self._successors(state)]
        if ended:  # the same delimiter after the same text, which may occur at several offsets
            spans = [delimiter.after for delimiter in ended if delimiter.after]
            if spans:
                self._complete.append(min(spans, key=lambda span: span.start))
            if ended[0].more:
                self._states += [_Span(start, start) for start in sorted(self._borders - {len(self._bytes)})
                                 if not any(span.start <= start < span.end for span in self._complete)]

    def spans(self) -> list[str]:
        """The complete spans, as in the text before normalisation."""
        return [self._alignment.text[slice(*self._alignment.written(span.start, span.end))] for span in self._complete]

    def _steps(self, state: _State) -> Iterator[tuple[int, int]]:
        """(id, bytes) of the pieces that may come next."""
        if isinstance(state, _Delimiter):
            yield from self._pieces.starting(state.rest)
        elif state.end - state.start < _LONGEST_SPAN or state.end not in self._borders:
            for index, size in self._pieces.starting(self._bytes[state.end:state.end + self._pieces.longest]):
                if not _NEVER & set(self._bytes[state.end:state.end + size]):
                    yield index, size

    def _successors(self, state: _State) -> Iterator[_State]:
        """The state itself, and the delimiters that may follow a complete span."""
        yield state
        if isinstance(state, _Span):
            written = self._bytes[state.start:state.end]
            new = written and all(self._bytes[span.start:span.end] != written for span in self._complete)
            if new and state.end in self._borders:
                yield _Delimiter(b"', '", state, True)
                yield _Delimiter(b"']", state, False)


def _moved(state: _State, size: int) -> _State:
    if isinstance(state, _Span):
        return _Span(state.start, state.end + size)
    return dataclasses.replace(state, rest=state.rest[size:])
