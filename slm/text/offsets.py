"""Where tokens stand in the text as written."""

import bisect
import itertools

from slm.text.normalize import aligned
from slm.text.tokenizer import Tokenizer


def encode_with_spans(tokenizer: Tokenizer, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Ids of a text, and (start, end) of each in characters of the text before normalisation.

    A token that is a part of what one written character becomes (㎎ → mg) has that character's span.

    Raises:
      ValueError: the tokenizer's pieces do not spell the text.
    """
    pairs = aligned(text)
    written = list(itertools.accumulate((len(part) for part, _ in pairs), initial=0))
    becomes = list(itertools.accumulate((len(part.encode()) for _, part in pairs), initial=0))  # in bytes
    ids = tokenizer.encode(text)
    sizes = [1 if tokenizer.is_byte(index) else len(piece.encode()) - 2 * piece.count("▁")  # a space is ▁, three bytes
             for index, piece in zip(ids, tokenizer.pieces(ids))]
    ends = list(itertools.accumulate(sizes, initial=0))
    if ends[-1] != becomes[-1]:
        raise ValueError(f"the tokenizer's pieces have {ends[-1]} bytes where the normalised text has {becomes[-1]}: "
                         "tagging needs a tokenizer whose pieces spell the text, as ours do")
    spans = [(written[bisect.bisect_right(becomes, start) - 1], written[bisect.bisect_left(becomes, end)])
             for start, end in itertools.pairwise(ends)]
    return ids, spans
