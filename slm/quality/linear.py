"""The linear classifier: the sigmoid of the mean weight of a text's hashed character n-grams.

scikit-learn fits it; scoring needs only numpy, which hashes the code points of many texts at once: 250 MB/s a core, or
13 to 17 with normalisation, against 1.9 of scikit-learn's HashingVectorizer, which loops in Python. A mean, not a sum,
does not grow with the length of a text, which says nothing of its quality.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slm.quality.labels import Example

FILE = "linear.npz"
_SIZES = 3  # n-grams of 1, 2 and 3 characters
_BITS = 18  # of a hash, so 262,144 weights; with 16 ROC AUC fell by up to 0.02, with 20 it rose by up to 0.01
# Shares of n-grams are multiplied by this, so that gradients have the size the optimiser expects.
_SCALE = 30.0
_TEXTS = 64  # hashed together: numpy's calls cost little, and the arrays stay in the cache


def fit(folder: Path, examples: Sequence[Example], seed: int) -> None:
    """Fits logistic regression, with equal weights of both classes, by 20 passes of averaged SGD."""
    from sklearn.linear_model import SGDClassifier  # late: scoring does not need it
    model = SGDClassifier(loss="log_loss", alpha=1e-5, max_iter=20, tol=None, average=True, class_weight="balanced",
                          random_state=seed)
    model.fit(_counts([example.text for example in examples]), np.array([example.good for example in examples]))
    np.savez(folder / FILE, weights=np.float32(model.coef_[0] * _SCALE), bias=np.float64(model.intercept_[0]))


def read(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """The function that scores excerpts, none of them empty."""
    with np.load(folder / FILE) as file:
        weights, bias = file["weights"], file["bias"]

    def score(texts: list[str]) -> np.ndarray:
        means = [_means(texts[start:start + _TEXTS], weights) for start in range(0, len(texts), _TEXTS)]
        return 1 / (1 + np.exp(-bias - np.concatenate(means)))
    return score


def _means(texts: Sequence[str], weights: np.ndarray) -> np.ndarray:
    """The mean weight of each text's n-grams."""
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    starts = ends - lengths
    totals = np.zeros(len(texts))
    numbers = np.zeros(len(texts))
    for size, hashes in enumerate(_hashes("".join(texts)), 1):
        values = weights[hashes]
        for back in range(1, size):  # n-grams that run into the next text
            values[np.maximum(ends - back, starts)] = 0
        totals += np.add.reduceat(values, starts, dtype=np.float64)
        numbers += np.maximum(lengths - size + 1, 0)
    return totals / numbers


def _counts(texts: Sequence[str]):
    """Scaled shares of n-grams, a sparse matrix [texts, hashes]: 8 bytes for each distinct n-gram of each text."""
    from scipy import sparse
    columns, values = [], []
    for text in texts:
        hashes = [of_size[:max(len(text) - size + 1, 0)] for size, of_size in enumerate(_hashes(text), 1)]
        distinct, counts = np.unique(np.concatenate(hashes), return_counts=True)
        columns.append(distinct.astype(np.int32))
        values.append(np.float32(counts * (_SCALE / counts.sum())))
    ends = np.cumsum([0, *map(len, columns)])
    return sparse.csr_matrix((np.concatenate(values), np.concatenate(columns), ends), (len(texts), 1 << _BITS))


def _hashes(text: str) -> list[np.ndarray]:
    """For each size the hash of the n-gram that begins at each character; past the end of the text come zeros."""
    codes = np.frombuffer((text + "\0" * (_SIZES - 1)).encode("utf-32-le"), np.uint32)
    hashes, state = [], np.zeros(len(text), np.uint32)
    for offset in range(_SIZES):
        state = state * np.uint32(0x01000193) ^ codes[offset:offset + len(text)]  # FNV-1
        mixed = state * np.uint32(0x9E3779B1)
        mixed = (mixed ^ mixed >> np.uint32(15)) * np.uint32(0x85EBCA6B)
        hashes.append(mixed >> np.uint32(32 - _BITS))
    return hashes
