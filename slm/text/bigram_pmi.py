"""How strongly neighbouring words of a language attract each other: pointwise mutual information of bigrams.

A word is a part of speech; function words count each on its own.
"""

import dataclasses
from collections.abc import Iterable

import numpy as np

from slm.text.morphology import Morphology

# ipadic's particles, auxiliaries, dependent and suffix verbs, symbols, dependent adjectives.
_FUNCTION_WORDS = {str(tag) for tag in (5, 6, 7, 8, 9, 10, *range(13, 26), 32, 33)}


@dataclasses.dataclass(frozen=True, eq=False)
class BigramPMI:
    """
    Attributes:
      ids: part of speech, or part of speech and function word → row.
      pmi: float32 [words, words], nats, clipped to ±3; about 0 where both words are rare.
    """
    ids: dict[str, int]
    pmi: np.ndarray

    @classmethod
    def learn(cls, texts: Iterable[str], morphology: Morphology) -> "BigramPMI":
        rows = [_words(*morphology.tag(text)) for text in texts]
        ids = {word: index for index, word in enumerate(sorted({word for row in rows for word in row}))}
        counts = np.zeros((len(ids), len(ids)))
        for row in rows:
            indices = [ids[word] for word in row]
            np.add.at(counts, (indices[:-1], indices[1:]), 1)
        expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
        return cls(ids, np.clip(np.log((counts + 0.1) / (expected + 0.1)), -3, 3).astype(np.float32))

    def of(self, morphemes: list[str], tags: list[str]) -> np.ndarray:
        """float32 [pairs]: the PMI of each two neighbours that are both known."""
        row = [self.ids.get(word, -1) for word in _words(morphemes, tags)]
        left, right = np.array(row[:-1], np.int64), np.array(row[1:], np.int64)
        return self.pmi[left, right][(left >= 0) & (right >= 0)]


def _words(morphemes: list[str], tags: list[str]) -> list[str]:
    return ["^", *(tag + morpheme.strip(" ") if tag in _FUNCTION_WORDS else tag
                   for morpheme, tag in zip(morphemes, tags))]
