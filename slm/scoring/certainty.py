"""How sure a text is of a finding, by cues in its clause: ConText (Harkema et al. 2009) for Japanese.

Japanese denies and doubts at the end of a clause, so the nearest cue after the finding counts, then the nearest before
it. `data/certainty_cues.tsv` has a cue a line: the side of the finding on which it stands, its label (`end`: the clause
ends), and a regular expression. Of two cues at one character the upper line counts: 否定できない before 否定.
"""

import csv
import functools
import re
import unicodedata
from pathlib import Path

LABELS = ("positive", "suspicious", "negative", "general")

_CUES = Path(__file__).parent / "data" / "certainty_cues.tsv"
_REACH = 100  # characters on either side
_SENTENCE_END = re.compile(r"[。!?\n]|\.(?![0-9])")


def label(text: str, start: int, end: int) -> str | None:
    """The label of the finding at [start, end) of a text, one of LABELS; None: there is no cue."""
    after = _SENTENCE_END.split(_plain(text[end:end + _REACH]), maxsplit=1)[0]
    before = _SENTENCE_END.split(_plain(text[max(0, start - _REACH):start]))[-1]
    following, preceding = _labels("after", after), _labels("before", before)
    nearest = (*following[:1], *preceding[-1:])
    return next((name for name in nearest if name in LABELS), None)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text)


def _labels(side: str, text: str) -> list[str]:
    """Of the cues in a text, in their order."""
    pattern, labels = _cues(side)
    return [labels[match.lastgroup or ""] for match in pattern.finditer(text)]


@functools.cache
def _cues(side: str) -> tuple[re.Pattern[str], dict[str, str]]:
    """(what matches any cue of a side, {name of the group that matched: label})."""
    with open(_CUES, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["side"] == side]
    return (re.compile("|".join(f"(?P<cue_{index}>{row['cue']})" for index, row in enumerate(rows))),
            {f"cue_{index}": row["label"] for index, row in enumerate(rows)})
