"""Where tokens and spans of a normalised text stand in the text as written."""

import bisect
import itertools

from slm.text.normalize import aligned
from slm.text.tokenizer import Tokenizer


class Alignment:
    """A text as written beside its normalised form, whose offsets are bytes of UTF-8.

    Attributes:
      normalized: what the text becomes.
    """

    def __init__(self, text: str):
        pairs = aligned(text)
        self.text = text
        self.normalized = "".join(part for _, part in pairs).encode()
        self._written = list(itertools.accumulate((len(part) for part, _ in pairs), initial=0))
        self._becomes = list(itertools.accumulate((len(part.encode()) for _, part in pairs), initial=0))

    def written(self, start: int, end: int) -> tuple[int, int]:
        """The characters of the text as written that normalised bytes come from: whole ones, and ½ with its digits."""
        return (self._written[bisect.bisect_right(self._becomes, start) - 1],
                self._written[bisect.bisect_left(self._becomes, end)])


def encode_with_spans(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text, and (start, end) of each in characters of the text before normalisation.

    A token that is a part of what one written character becomes (㎎ → mg) has that character's span.

    Raises:
      ValueError: the tokenizer's pieces do not spell the text.
    """
    alignment, ids = Alignment(text), tokenizer.encode(text)
    sizes = [1 if tokenizer.is_byte(index) else len(piece.encode()) - 2 * piece.count("▁")  # a space is ▁, three bytes
             for index, piece in zip(ids, tokenizer.pieces(ids))]
    ends = list(itertools.accumulate(sizes, initial=0))
    if ends[-1] != len(alignment.normalized):
        raise ValueError(f"the tokenizer's pieces have {ends[-1]} bytes where the normalised text has "
                         f"{len(alignment.normalized)}: label heads need a tokenizer whose pieces spell the text")
    return ids, [alignment.written(start, end) for start, end in itertools.pairwise(ends)]
