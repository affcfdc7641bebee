"""Calibration: how a model's probabilities agree with how often it is right."""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slm import figures
from slm.scoring import answer_modes
from slm.scoring.answer_modes import Answer
from slm.tasks.task import Task


@dataclasses.dataclass(frozen=True)
class Bin:
    """Answers whose confidence lies in (low, high]; the first bin holds 0 too."""
    low: float
    high: float
    count: int
    confidence: float  # mean; NaN in an empty bin, like the accuracy
    accuracy: float


def brier(probabilities: Sequence[Sequence[float]], right: Sequence[int]) -> float:
    """Mean over items of Σ (p − [option is right])² over their options (Brier 1950): 0 is best, 2 worst.

    Args:
      probabilities: [items][options], each item's adding up to 1; the number of options may differ.
      right: [items], the index of the right option.
    """
    if len(probabilities) != len(right) or not len(right):
        raise ValueError(f"probabilities of {len(probabilities)} items, right options of {len(right)}: give both for "
                         "each, at least one")
    scores = []
    for item, (options, index) in enumerate(zip(probabilities, right)):
        shares = np.asarray(options, float)
        if not (np.all(shares >= 0) and abs(shares.sum() - 1) < 1e-3):
            raise ValueError(f"the probabilities of item {item} are {shares}: they must be at least 0 and add up to 1")
        if not 0 <= index < len(options):
            raise ValueError(f"the right option of item {item} is {index}, it has {len(options)}: count from 0")
        scores.append(np.square(shares - (np.arange(len(shares)) == index)).sum())
    return float(np.mean(scores))


def reliability(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> list[Bin]:
    """Answers in `bins` bins of equal width.

    Args:
      confidence: [items], the probability of the chosen option.
      correct: [items], whether it was the right one.
    """
    confidences, outcomes = np.asarray(confidence, float), np.asarray(correct, float)
    if len(confidences) != len(outcomes) or not len(outcomes):
        raise ValueError(f"the confidence of {len(confidences)} items, the outcome of {len(outcomes)}: give both for "
                         "each, at least one")
    outside = ~((confidences >= 0) & (confidences <= 1 + 1e-6))  # softmax in float32 may round up
    if outside.any():
        item = int(np.argmax(outside))
        raise ValueError(f"the confidence of item {item} is {confidences[item]}: give probabilities from 0 to 1")
    edges = np.linspace(0, 1, bins + 1)
    bin_of_item = np.searchsorted(edges[1:-1], confidences)
    result = []
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = bin_of_item == index
        means = (confidences[inside].mean(), outcomes[inside].mean()) if inside.any() else (math.nan, math.nan)
        result.append(Bin(float(low), float(high), int(inside.sum()), *map(float, means)))
    return result


def ece(confidence: Sequence[float], correct: Sequence[bool], bins: int = 10) -> float:
    """Expected calibration error: |accuracy − mean confidence| of each bin, weighted by its count (Naeini et al. 2015;
    Guo et al. 2017). At most 1; 0 is best. Biased upward for small samples."""
    filled = [bin for bin in reliability(confidence, correct, bins) if bin.count]
    return sum(bin.count * abs(bin.accuracy - bin.confidence) for bin in filled) / sum(bin.count for bin in filled)


def figure(bins: Sequence[Bin], path: Path, title: str) -> None:
    """The reliability diagram, as `path`.png and `path`.svg."""
    canvas = figures.blank(4.2, 4.2)
    axes = canvas.add_subplot()
    plot(axes, bins)
    axes.set_title(title, fontsize=10)
    axes.set_xlabel("Probability of the chosen option", fontsize=9)
    axes.set_ylabel("Share", fontsize=9)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    figures.save(canvas, path)


def plot(axes: Any, bins: Sequence[Bin]) -> None:
    """Draws accuracy over confidence into matplotlib axes, above each bin's share of the answers."""
    filled, total = [bin for bin in bins if bin.count], sum(bin.count for bin in bins)
    axes.bar([bin.low for bin in filled], [bin.count / total for bin in filled],
             [bin.high - bin.low for bin in filled], align="edge", color="#dddddd", edgecolor="white",
             label="share of the answers")
    axes.plot([0, 1], [0, 1], "--", color=figures.GREY, linewidth=1, label="perfect calibration")
    axes.plot([bin.confidence for bin in filled], [bin.accuracy for bin in filled], "o-", color=figures.COLOURS[0],
              markersize=5, markeredgecolor="white", label="accuracy")
    axes.set(xlim=(0, 1), ylim=(0, 1))
    figures.plain(axes)


def report(task: Task, by_seed: Sequence[Sequence[Answer]], path: Path) -> dict:
    """{calibration: {ece, brier, figure}} of the letters' probabilities, over all seeds; empty where there are none.

    Items that want several letters are left out.
    """
    pairs = [(answer, item) for answers in by_seed for answer, item in zip(answers, task.items)
             if answer.log_likelihoods and len(item.answer) == 1 and item.answer[0] in answer.log_likelihoods]
    if not pairs:
        return {}
    options = [answer_modes.probabilities(answer) for answer, _ in pairs]
    right = [list(answer.log_likelihoods or ()).index(item.answer[0]) for answer, item in pairs]
    confidence = [max(of_item) for of_item in options]
    correct = [of_item.index(max(of_item)) == index for of_item, index in zip(options, right)]
    figure(reliability(confidence, correct), path, task.name)
    return {"calibration": {"ece": ece(confidence, correct), "brier": brier(options, right), "figure": f"{path}.png"}}
