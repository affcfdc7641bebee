"""A text as the rules of `filters` and the search for near duplicates see it."""

import functools
import hashlib
import re
from collections.abc import Iterable

import numpy as np

from slm.text.morphology import Morphology

_SENTENCE = re.compile(r"[^。!?\n]*[。!?]+[」』)]*|[^。!?\n]+")
_JAPANESE_STOP = re.compile(r"(?<=[ぁ-ヿ一-鿿)])\.(?=\s|[^0-9A-Za-z.]|$)")


class SegmentedText:
    """A text with what several rules share, computed once: lines, sentences, morphemes and their hashes."""

    def __init__(self, text: str, morphology: Morphology, warnings: Iterable[str] = ()):
        self.text, self.warnings, self._morphology = text, warnings, morphology

    @functools.cached_property
    def letters(self) -> int:
        """The number of characters that are not white space."""
        return len(self.text) - sum(map(self.text.count, " \n\t\u3000"))

    @functools.cached_property
    def lines(self) -> list[str]:
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @functools.cached_property
    def sentences(self) -> list[str]:
        stopped = _JAPANESE_STOP.sub("。", self.text) if "." in self.text else self.text
        return [stripped for sentence in _SENTENCE.findall(stopped) if (stripped := sentence.strip())]

    @functools.cached_property
    def tagged(self) -> tuple[list[str], list[str]]:
        """Morphemes and their part-of-speech ids, as `Morphology.tag` returns them."""
        return self._morphology.tag(self.text)

    @functools.cached_property
    def morphemes(self) -> list[str]:
        return self.tagged[0]

    @functools.cached_property
    def hashes(self) -> np.ndarray:
        """uint64 [morphemes], the same in every process."""
        return np.fromiter(map(_hash, self.morphemes), np.uint64, len(self.morphemes))

    def ngrams(self, n: int) -> np.ndarray:
        """uint64 [max(0, morphemes − n + 1)], a hash of every n adjacent morphemes."""
        count = max(0, len(self.hashes) - n + 1)
        total = np.zeros(count, np.uint64)
        for i in range(n):
            total = total * np.uint64(0x100000001B3) + self.hashes[i:i + count]
        return total ^ (total >> np.uint64(29))  # a product's low bits depend little on its factors' high bits


@functools.lru_cache(maxsize=500_000)
def _hash(morpheme: str) -> int:
    return int.from_bytes(hashlib.blake2b(morpheme.encode(), digest_size=8).digest(), "little")
