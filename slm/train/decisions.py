"""How a model with label heads decides: temperatures, biases and medians, chosen on held-out items."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from slm.data import labelled
from slm.data.labelled import LabelledText, tag_classes
from slm.inference.labeller import Decision, Labeller, decode_spans
from slm.scoring import calibration
from slm.scoring.metrics import kappa
from slm.train.held_out import HeldOut

_TEMPERATURES = np.exp(np.linspace(np.log(0.25), np.log(8), 61))
_POWERS = (0.0, 0.25, 0.5, 1.0)  # a label's share is divided by its frequency to this power: kappa rewards rare labels
_OUTSIDE = (-2.0, -1.5, -1.0, -0.5, 0.0, 0.5, 1.0)  # added to the log-probability of "outside"
_FEWEST = 100  # held-out answers that a bias is chosen on; of fewer a better score is chance
_FEWEST_OF_TEMPERATURE = 30


def choose(labeller: Labeller, scored: Mapping[str, HeldOut]) -> tuple[dict[str, Decision], dict[str, dict[str, Any]]]:
    """({group: its decision}, {group: {rows, ece before and after, temperature}}).

    A temperature minimises the log loss (Guo et al. 2017); then the bias, and of labels in order the median, that score
    best, where there are enough answers to tell.
    """
    decisions: dict[str, Decision] = {}
    report: dict[str, dict[str, Any]] = {}
    texts: dict[str, list[LabelledText]] = {}
    ordinal: dict[str, bool] = {}
    for held_out in scored.values():
        for text in labelled.labelled(held_out.task, list(labeller.groups.values())):
            for name in (*text.labels, *text.spans):
                texts.setdefault(name, []).append(text)
                ordinal[name] = held_out.task.metrics[0] == "linear_kappa"
    different = list(dict.fromkeys(text.text for of_group in texts.values() for text in of_group))
    readings = dict(zip(different, labeller.read(different)))
    for name, of_group in texts.items():
        if labeller.groups[name].kind == "classify":
            logits = np.stack([labeller.log_shares(name, readings[text.text].text) for text in of_group])
            gold = np.array([labeller.groups[name].labels.index(text.labels[name]) for text in of_group])
            temperature = _temperature(logits, gold)
            decision = _classify(_cooled(logits, temperature), gold, temperature, ordinal[name])
        else:
            parts = [(index, window, labeller.log_shares(name, logits)) for index, text in enumerate(of_group)
                     for window, logits in readings[text.text].windows]
            logits = np.concatenate([shares[1:] for _, _, shares in parts])
            gold = np.concatenate([tag_classes(labeller.groups[name], window, of_group[index].spans[name])[1:]
                                   for index, window, _ in parts]).astype(int)
            temperature = _temperature(logits, gold)
            decision = _tag(labeller, name, of_group, parts, temperature)
        decisions[name] = decision
        report[name] = {"answers": len(gold), "temperature": temperature, "ece_before": _ece(logits, gold),
                        "ece": _ece(_cooled(logits, temperature), gold)}
    return decisions, report


def _classify(log_shares: np.ndarray, gold: np.ndarray, temperature: float, ordinal: bool) -> Decision:
    frequency = np.bincount(gold, minlength=log_shares.shape[1]) / len(gold)
    plain = Decision(temperature, (), ordinal)
    if len(gold) < _FEWEST:
        return plain

    def score(decision: Decision) -> float:
        return kappa(gold.tolist(), decision.choose(log_shares).tolist(), "linear" if ordinal else "none")
    options = [dataclasses.replace(plain, bias=tuple((-power * np.log(np.maximum(frequency, 1e-3))).tolist()),
                                   median=median)
               for power in _POWERS for median in ((True, False) if ordinal else (False,))]
    return max(options, key=score)  # the first of equals: the plainest


def _tag(labeller: Labeller, name: str, texts: Sequence[LabelledText], parts: Sequence[tuple], temperature: float
         ) -> Decision:
    group = labeller.groups[name]
    gold = [{(span.start, span.end, span.kind) for span in text.spans[name]} for text in texts]
    if sum(map(len, gold)) < _FEWEST:
        return Decision(temperature)

    def score(decision: Decision) -> float:
        found: list[set] = [set() for _ in texts]
        for index, window, log_shares in parts:
            cooled = _cooled(log_shares, temperature)
            found[index] |= {span[:3] for span in decode_spans(group, decision, window, cooled)}
        right = sum(len(wanted & of_text) for wanted, of_text in zip(gold, found))
        return 2 * right / max(sum(map(len, gold)) + sum(map(len, found)), 1)
    options = [Decision(temperature, (outside, *[0.0] * (group.classes - 1)))
               for outside in sorted(_OUTSIDE, key=abs)]
    return max(options, key=score)


def _temperature(logits: np.ndarray, gold: np.ndarray) -> float:
    rows = np.arange(len(gold))
    if len(rows) < _FEWEST_OF_TEMPERATURE:
        return 1.0
    return float(min(_TEMPERATURES, key=lambda t: -_cooled(logits, t)[rows, gold].mean()))


def _cooled(log_shares: np.ndarray, temperature: float) -> np.ndarray:
    scaled = log_shares / temperature
    return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)


def _ece(log_shares: np.ndarray, gold: np.ndarray) -> float:
    """Of the likeliest class."""
    return calibration.ece(np.exp(log_shares.max(-1)).tolist(), (log_shares.argmax(-1) == gold).tolist())
