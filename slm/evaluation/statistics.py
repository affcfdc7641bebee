"""Is it more than chance: intervals and paired comparisons over resampled documents, and Holm's correction.

The bootstrap of Efron and Tibshirani (1993). Rows of one document are not independent, so whole documents are drawn
(the cluster bootstrap; Field and Welsh 2007). With several seeds of a training the statistic is the mean over them: an
interval then speaks of other documents, not of other seeds.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np

from slm.scoring.metrics import COUNTS, KAPPAS, ROWS, confusion_cells, f1_of_counts, kappa_of_counts

_LEVEL = 0.95
_BLOCK = 4_000_000  # drawn documents held at once


@dataclasses.dataclass(frozen=True)
class Interval:
    """A value and its 95% interval, whose ends are NaN where it cannot be known: all rows are of one document."""
    value: float
    low: float
    high: float


def interval(metric: str, gold: Sequence, predictions: Sequence[Sequence], clusters: Sequence[str],
             resamples: int = 2000, seed: int = 0) -> Interval:
    """The percentile interval of a metric.

    It does not leave the range of what was observed: where every row is right it is [1, 1].

    Args:
      gold: [rows].
      predictions: [seeds][rows].
      clusters: [rows], the document each row is about.
    """
    value, draws = _statistics(metric, gold, [predictions], clusters, resamples, seed)[0]
    return _percentiles(value, draws)


def paired(metric: str, gold: Sequence, first: Sequence[Sequence], second: Sequence[Sequence], clusters: Sequence[str],
           resamples: int = 2000, seed: int = 0) -> tuple[Interval, float]:
    """The difference first − second on the same documents, and its two-sided p-value.

    The p-value is that of the bootstrap shifted to the null hypothesis (Berg-Kirkpatrick et al. 2012): how often a
    resample's difference is as far from the observed one as that is from 0, and one more of each (Davison and Hinkley
    1997), so at least 1 / (resamples + 1).

    Args:
      first, second: [seeds][rows]; the number of seeds may differ.
    """
    one, other = _statistics(metric, gold, [first, second], clusters, resamples, seed)
    value, draws = one[0] - other[0], one[1] - other[1]
    between = _percentiles(value, draws)
    if math.isnan(between.low):
        return between, math.nan
    draws = draws[np.isfinite(draws)]
    as_far = np.count_nonzero(np.abs(draws - value) >= abs(value) - 1e-9)  # ties are common, and not exact
    return between, (1 + as_far) / (1 + len(draws))


def holm(p_values: Mapping[str, float]) -> dict[str, float]:
    """P-values adjusted for several tests, in the order given (Holm 1979). NaN stays, and does not count as a test."""
    tests = sorted((p, name) for name, p in p_values.items() if not math.isnan(p))
    wrong = [name for p, name in tests if not 0 <= p <= 1]
    if wrong:
        raise ValueError(f"the p-value of {wrong[0]} is {p_values[wrong[0]]}: give numbers from 0 to 1")
    adjusted, largest = {}, 0.0
    for index, (p, name) in enumerate(tests):
        largest = max(largest, min(1.0, (len(tests) - index) * p))
        adjusted[name] = largest
    return {name: adjusted.get(name, math.nan) for name in p_values}


def _statistics(metric, gold, models, clusters, resamples, seed) -> list[tuple[float, np.ndarray]]:
    """Of each model: the metric, a mean over its seeds, and the same of each resample. NaN where it is undefined."""
    if metric not in (*ROWS, *COUNTS, *KAPPAS):
        raise ValueError(f"there is no metric {metric}: choose one of {', '.join((*ROWS, *COUNTS, *KAPPAS))}")
    if len(clusters) != len(gold):
        raise ValueError(f"{len(clusters)} documents for {len(gold)} rows: give the document of each row")
    if not all(len(predictions) for predictions in models):
        raise ValueError("a model has no predictions: give a list of them for each seed, [predicted] for one seed")
    code = {name: index for index, name in enumerate(dict.fromkeys(clusters))}
    document = np.array([code[name] for name in clusters])
    shapes, features = [], []
    for predictions in models:
        for predicted in predictions:
            rows = _features(metric, gold, predicted)
            shapes.append(rows.shape[1:])
            features.append(rows.reshape(len(gold), -1))
    ends = np.cumsum([part.shape[1] for part in features])[:-1]
    table = np.concatenate(features, axis=1)
    by_document = np.zeros((len(code), table.shape[1]))
    np.add.at(by_document, document, table)
    sums = np.concatenate([by_document.sum(0, keepdims=True), *_resampled(by_document, resamples, seed)])
    values = [_value(metric, part.reshape(-1, *shape)) for part, shape in zip(np.split(sums, ends, axis=1), shapes)]
    statistics, first = [], 0
    for predictions in models:
        mean = np.mean(values[first:first + len(predictions)], axis=0)
        statistics.append((float(mean[0]), mean[1:] if len(by_document) > 1 else mean[1:] * math.nan))
        first += len(predictions)
    return statistics


def _features(metric, gold, predicted) -> np.ndarray:
    """[rows, …], what the metric is made of when added up over rows."""
    if metric in KAPPAS:
        return confusion_cells(gold, predicted)
    if metric in COUNTS:
        return COUNTS[metric](gold, predicted)
    return np.stack([ROWS[metric](gold, predicted), np.ones(len(gold))], axis=1)


def _value(metric, sums: np.ndarray) -> np.ndarray:
    """Features added up, [resamples, …] → [resamples]. The labels, so their distances, are those of all rows."""
    if metric in KAPPAS:
        return kappa_of_counts(sums, KAPPAS[metric])
    if metric in COUNTS:
        return f1_of_counts(sums)
    return sums[:, 0] / sums[:, 1]


def _resampled(by_document: np.ndarray, resamples: int, seed: int):
    """Sums over documents drawn with replacement, in blocks of resamples. The draws depend on the seed and the number
    of documents only."""
    rng, documents = np.random.default_rng(seed), len(by_document)
    block = max(1, _BLOCK // documents)
    for start in range(0, resamples, block):
        count = min(block, resamples - start)
        drawn = rng.integers(documents, size=(count, documents)) + documents * np.arange(count)[:, None]
        times = np.bincount(drawn.ravel(), minlength=count * documents).reshape(count, documents)
        yield times @ by_document


def _percentiles(value: float, draws: np.ndarray) -> Interval:
    defined = draws[np.isfinite(draws)]
    if not len(defined):
        return Interval(value, math.nan, math.nan)
    low, high = np.quantile(defined, [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return Interval(value, float(low), float(high))
