"""Metrics of choices and of extracted entities, matching JMED-LLM, plus a corrected partial F1; F1 of tagged spans."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np

from slm.text.spans import Span

Weights = Literal["none", "linear"]


def kappa(gold: Sequence[str], predicted: Sequence[str], weights: Weights = "none") -> float:
    """Cohen's kappa (Cohen 1960), with linear weights Cohen 1968.

    Labels are ordered by their text, and two neighbours among those that occur are 1 apart: "None" comes after "F".

    Returns:
      At most 1; 0 is chance. NaN where the gold and the predicted labels are all one and the same.
    """
    first, second, size = _codes(gold, predicted)
    return float(kappa_of_counts(np.bincount(first * size + second, minlength=size**2).reshape(size, size), weights))


def confusion_cells(gold: Sequence[str], predicted: Sequence[str]) -> np.ndarray:
    """[rows, labels, labels]: one-hot, 1 at each row's (gold, predicted). Its sum is the confusion matrix."""
    first, second, size = _codes(gold, predicted)
    return np.eye(size**2)[first * size + second].reshape(-1, size, size)


def kappa_of_counts(counts: np.ndarray, weights: Weights) -> np.ndarray:
    """Confusion matrices [..., labels, labels] → kappas [...]."""
    index = np.arange(counts.shape[-1])
    distance = np.abs(index[:, None] - index)
    if weights == "none":
        distance = np.minimum(distance, 1)
    observed = (counts * distance).sum((-2, -1))
    by_chance = ((counts.sum(-1) @ distance) * counts.sum(-2)).sum(-1)
    with np.errstate(invalid="ignore"):
        return 1 - counts.sum((-2, -1)) * observed / by_chance


def _codes(gold, predicted) -> tuple[np.ndarray, np.ndarray, int]:
    _check(gold, predicted)
    code = {label: index for index, label in enumerate(sorted({*gold, *predicted}))}
    return np.array([code[label] for label in gold]), np.array([code[label] for label in predicted]), len(code)


def right_rows(gold: Sequence, predicted: Sequence) -> np.ndarray:
    """[rows], 1 where the answer equals the gold one."""
    _check(gold, predicted)
    return np.array([float(one == other) for one, other in zip(gold, predicted)])


def exact_f1_rows(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence]) -> np.ndarray:
    """[rows], F1 of the two sets of entities, not normalised. A row without entities (the reference fails there)
    counts 1 if none are predicted, else 0."""
    def score(right: set, predicted: set) -> float:
        return _f1(len(right & predicted), len(right), len(right & predicted), len(predicted))
    return _rows(gold, predicted, score)


def partial_f1_reference_rows(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence]) -> np.ndarray:
    """[rows], what JMED-LLM calls partial F1 and its published scores hold; not an F1, up to 2.

    It asks whether an entity is in the other set where it should ask whether it is in one of the other set's strings.
    So one right entity makes all of the row's count as found: 2 · gold / (gold + predicted), else 0.
    """
    def score(right: set, predicted: set) -> float:
        count = len(right) if right & predicted or not right else 0
        return _f1(count, len(right), count, len(predicted))
    return _rows(gold, predicted, score)


def partial_f1_rows(gold: Sequence[Sequence[str]], predicted: Sequence[Sequence]) -> np.ndarray:
    """[rows], F1 where one entity finds another if either is a part of it.

    Recall is over the gold entities, precision over the predicted ones, both as sets. Empty strings, which are a part
    of everything, are dropped.
    """
    def related(one, others: set) -> bool:
        return isinstance(one, str) and any(isinstance(other, str) and (one in other or other in one)
                                            for other in others)

    def score(right: set, predicted: set) -> float:
        right, predicted = right - {""}, predicted - {""}
        return _f1(sum(related(entity, predicted) for entity in right), len(right),
                   sum(related(entity, right) for entity in predicted), len(predicted))
    return _rows(gold, predicted, score)


def span_counts(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]]) -> np.ndarray:
    """[rows, (right, gold, predicted)], numbers of spans; one is right if its start and end are, whatever its label."""
    def positions(rows):
        return [[span[:2] for span in spans] for spans in rows]
    return label_counts(positions(gold), positions(predicted))


def label_counts(gold: Sequence[Sequence[Any]], predicted: Sequence[Sequence[Any]]) -> np.ndarray:
    """[rows, (right, gold, predicted)], numbers of spans; one is right if its start, end and label are."""
    _check(gold, predicted)
    pairs = [(set(one), set(other)) for one, other in zip(gold, predicted)]
    return np.array([(len(one & other), len(one), len(other)) for one, other in pairs], float)


def f1_of_counts(counts: np.ndarray) -> np.ndarray:
    """Counts added up over rows, [..., (right, gold, predicted)] → micro-averaged F1 [...]; NaN where there are no
    spans."""
    with np.errstate(invalid="ignore"):
        return 2 * counts[..., 0] / (counts[..., 1] + counts[..., 2])


def _rows(gold, predicted, score: Callable[[set, set], float]) -> np.ndarray:
    _check(gold, predicted)
    return np.array([score(set(right), set(entities)) for right, entities in zip(gold, predicted)], float)


def _f1(recalled: int, gold: int, precise: int, predicted: int) -> float:
    if not gold:
        return float(not predicted)
    recall, precision = recalled / gold, precise / predicted if predicted else 0.0
    return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _check(gold, predicted) -> None:
    if len(gold) != len(predicted) or not len(gold):
        raise ValueError(f"{len(predicted)} predicted answers, {len(gold)} gold ones: give as many, and at least one")


# Metrics that are a mean over the rows, by row.
ROWS: Mapping[str, Callable[[Sequence, Sequence], np.ndarray]] = {
    "accuracy": right_rows, "exact_f1": exact_f1_rows, "partial_f1": partial_f1_rows,
    "partial_f1_reference": partial_f1_reference_rows}

# Micro-averaged F1s, by row what is counted.
COUNTS: Mapping[str, Callable[[Sequence, Sequence], np.ndarray]] = {
    "label_f1": label_counts, "span_f1": span_counts}

KAPPAS: Mapping[str, Weights] = {"kappa": "none", "linear_kappa": "linear"}


def accuracy(gold: Sequence, predicted: Sequence) -> float:
    return float(right_rows(gold, predicted).mean())


def _mean(rows):
    return lambda gold, predicted: float(rows(gold, predicted).mean())


def _micro_f1(counts):
    return lambda gold, predicted: float(f1_of_counts(counts(gold, predicted).sum(0)))


METRICS: Mapping[str, Callable[[Sequence, Sequence], float]] = {
    "kappa": kappa, "linear_kappa": lambda gold, predicted: kappa(gold, predicted, "linear"),
    **{name: _mean(rows) for name, rows in ROWS.items()},
    **{name: _micro_f1(counts) for name, counts in COUNTS.items()}}
