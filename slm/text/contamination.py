"""The search for benchmark items in text by their character 13-grams, whatever their punctuation and line breaks.

Only letters and digits count, and the labels of a list (a. b. …, 1. 2. …) do not. A text is contaminated if it shares a
run with a benchmark: 8 adjacent 13-grams that occur in some item and are not a stock phrase (次のうち正しいのはどれか),
or a quarter of the 13-grams of a shorter item.
"""

import functools
import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from slm.text.normalize import normalize

N = 13
_RUN = 8  # adjacent 13-grams that are not stock phrases: 20 characters
_SHARE, _LEAST = 0.25, 2  # of the 13-grams of an item that has fewer
_STOCK = 5  # a 13-gram in this many different sentences is a stock phrase
_LABEL = re.compile(r"(?:^|(?<=\s))\(?[a-eA-E1-5ア-オ]\s?[).:、\s]\s*", re.MULTILINE)
_SENTENCE = re.compile(r"[^。\n]+")
_PRIME = np.uint64(0x9E3779B97F4A7C15)


class Index:
    """The sorted 13-grams of benchmarks."""

    def __init__(self, names: list[str], grams: np.ndarray, benchmarks: np.ndarray, needs: np.ndarray):
        """Args:
          names: of the benchmarks.
          grams: uint64 [G], ascending.
          benchmarks: uint8 [G], the index in `names` of a benchmark that holds the 13-gram.
          needs: uint8 [G], the length of a run with this 13-gram that is contamination; 0 for a stock phrase.
        """
        self.names, self._grams, self._benchmarks, self._needs = names, grams, benchmarks, needs

    @classmethod
    def build(cls, items: Iterable[tuple[str, str]]) -> "Index":
        """An index of (benchmark, text) pairs.

        Raises:
          ValueError: more than 255 benchmarks.
        """
        names: list[str] = []
        texts: dict[str, int] = {}
        sentences: dict[str, None] = {}
        for name, text in items:
            if name not in names:
                names.append(name)
            text = normalize(text)
            texts.setdefault(text, names.index(name))
            sentences |= dict.fromkeys(_SENTENCE.findall(text))
        if len(names) > 255:
            raise ValueError(f"{len(names)} benchmarks are named, but an index holds 255: name fewer")
        of_sentences = [np.unique(_grams(sentence)) for sentence in sentences]
        distinct, counts = np.unique(_concatenate(of_sentences), return_counts=True)
        stock = distinct[counts >= _STOCK]
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for text, benchmark in texts.items():
            item_grams = np.unique(_grams(text))
            specific = ~_isin(item_grams, stock)
            # A share of the 13-grams of a short item is enough, a long one needs a run.
            need = min(_RUN, max(min(_LEAST, int(specific.sum())), int(np.ceil(_SHARE * specific.sum()))))
            parts.append((item_grams, np.where(specific, need, 0).astype(np.uint8),
                          np.full(len(item_grams), benchmark, np.uint8)))
        grams, needs, owners = (_concatenate([part[column] for part in parts]) for column in range(3))
        order = np.lexsort((needs, grams))
        grams, needs, owners = grams[order], needs[order], owners[order]
        first = np.r_[True, grams[1:] != grams[:-1]] if len(grams) else np.zeros(0, bool)
        return cls(names, grams[first], owners[first], needs[first])

    def save(self, path: Path) -> None:
        np.savez(path, names=np.array(self.names, dtype=np.str_), grams=self._grams, benchmarks=self._benchmarks,
                 needs=self._needs)

    @classmethod
    def load(cls, path: Path) -> "Index":
        with np.load(path) as arrays:
            return cls(arrays["names"].tolist(), arrays["grams"], arrays["benchmarks"], arrays["needs"])

    def find(self, text: str) -> str | None:
        """The benchmark of an item that `text` (normalised) holds, or None."""
        grams = _grams(text)
        if not len(grams) or not len(self._grams):
            return None
        indices = np.minimum(np.searchsorted(self._grams, grams), len(self._grams) - 1)
        known = self._grams[indices] == grams
        if not known.any():
            return None
        needs = np.where(known, self._needs[indices], 0)
        # Runs of known 13-grams; a stock phrase continues a run, but does not count.
        edges = np.flatnonzero(np.diff(np.r_[False, known, False].astype(np.int8)))
        for start, stop in edges.reshape(-1, 2):
            specific = needs[start:stop][needs[start:stop] > 0]
            if len(specific) and len(specific) >= specific.min():
                owners = self._benchmarks[indices[start:stop]][needs[start:stop] > 0]
                return self.names[np.bincount(owners).argmax()]
        return None


def _grams(text: str) -> np.ndarray:
    """uint64 [letters and digits − 12], a hash of every 13 adjacent letters and digits."""
    points = np.frombuffer(_LABEL.sub("", text).lower().encode("utf-32-le"), np.uint32)
    points = points[_letters()[np.minimum(points, 0xFFFF)]].astype(np.uint64)
    count = max(0, len(points) - N + 1)
    total = np.zeros(count, np.uint64)
    for i in range(N):
        total = total * _PRIME + points[i:i + count]
    return total ^ (total >> np.uint64(31))


@functools.cache
def _letters() -> np.ndarray:
    """bool [65536]: letters and digits; the last entry is for all characters beyond the basic plane, mostly kanji."""
    table = np.fromiter((chr(point).isalnum() for point in range(0x10000)), bool, 0x10000)
    table[-1] = True
    return table


def _isin(values: np.ndarray, ordered: np.ndarray) -> np.ndarray:
    if not len(ordered):
        return np.zeros(len(values), bool)
    return ordered[np.minimum(np.searchsorted(ordered, values), len(ordered) - 1)] == values


def _concatenate(arrays: list[np.ndarray]) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, np.uint64)
