"""The leaderboard: a task's line with intervals, baseline and majority; tables of one run and of two compared."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from slm.evaluation import published, statistics
from slm.evaluation.answer_modes import Answer
from slm.evaluation.metrics import METRICS
from slm.files import markdown_table
from slm.tasks import igakuqa
from slm.tasks.task import Task

OF_KIND = {"choice": ("kappa", "linear_kappa", "accuracy"), "exam": ("accuracy",),
           "extraction": ("exact_f1", "partial_f1_reference", "partial_f1")}
Line = dict[str, Any]


def line(task: Task, given: Sequence[Sequence[Answer]], protocol: str, readout: str, truncated: int,
         baseline: Sequence | None, majority: Sequence, resamples: int, seed: int) -> tuple[Line, Line]:
    """(what `result.json` holds of a task, what `report.json` does besides).

    Args:
      given: [seeds][rows]; the metrics are means over the seeds.
      baseline, majority: [rows], answers to compare with; no baseline under P0.
    """
    gold = _scored(task, [item.answer for item in task.items])
    clusters = [item.document or item.id for item in task.items]
    answers = [_scored(task, [answer.value for answer in own]) for own in given]
    metrics = {name: statistics.interval(name, gold, answers, clusters, resamples, seed) for name in OF_KIND[task.kind]}
    below = _scored(task, baseline) if baseline is not None else None

    def values(found: Sequence | None) -> dict[str, float | None]:
        return {} if found is None else {name: _finite(METRICS[name](gold, found)) for name in OF_KIND[task.kind]}

    headline = task.metrics[0]
    own = {"protocol": protocol, "readout": readout, "n": len(gold), "seeds": len(given),
           "unread": sum(answer.unread for own in given for answer in own), "truncated": truncated,
           "metrics": {name: _numbers(interval) for name, interval in metrics.items()},
           "baseline": values(below), "majority": values(_scored(task, majority))}
    report: Line = {"headline": headline, "second": task.metrics[1], "license": task.license,
                    "by_seed": [_finite(METRICS[headline](gold, one)) for one in answers]}
    if below is not None:
        difference, p = statistics.paired(headline, gold, answers, [below], clusters, resamples, seed)
        report["against_baseline"] = {**_numbers(difference), "p": _finite(p)}
    return own, report


def _scored(task: Task, values: Sequence) -> list:
    """Answers as the metrics compare them: letters, lists of entities, or of an examination whether each is right."""
    if task.kind == "exam":
        return [int(value is item.answer or igakuqa.is_right(item.id, value, item.answer))
                for item, value in zip(task.items, values)]
    if task.kind == "choice":
        return [value if isinstance(value, str) else value[0] for value in values]
    return [list(value) for value in values]


def _numbers(interval: statistics.Interval) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in dataclasses.asdict(interval).items()}


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def correct(reports: Mapping[str, Line]) -> None:
    """Adds to each comparison with the baseline its p-value corrected for there being several (Holm)."""
    found = {name: own["against_baseline"] for name, own in reports.items() if "against_baseline" in own}
    adjusted = statistics.holm({name: math.nan if own["p"] is None else own["p"] for name, own in found.items()})
    for name, own in found.items():
        own["p_holm"] = _finite(adjusted[name])


def markdown(name: str, lines: Mapping[str, Line], reports: Mapping[str, Line], published: bool) -> str:
    """The leaderboard of one run."""
    rows = []
    for task, own in lines.items():
        report = reports[task]
        first, second = report["headline"], report["second"]
        against = report.get("against_baseline", {})
        rows.append([task, own["protocol"], own["readout"], f"{own['n']} × {own['seeds']}", first,
                     cell(own["metrics"][first]), cell(own["metrics"].get(second)),
                     _pair(own["baseline"], first, second), _pair(own["majority"], first, second),
                     p_value(against.get("p_holm")), str(own["unread"]), str(own["truncated"])])
    text = f"## {name}\n\n" + markdown_table(
        ["task", "protocol", "answer mode", "rows × seeds", "headline", "value [95%]", "second [95%]", "baseline",
         "majority", "p against baseline (Holm)", "unread", "cut"], rows)
    if any(own["protocol"].startswith("P0") for own in lines.values()):
        text += "\nP0: nothing of the benchmark was seen in training: no baseline; the majority is the test's own.\n"
    return text + (_published(lines) if published else "")


def _published(lines: Mapping[str, Line]) -> str:
    found = published.rows()
    tasks = [task for task in lines if task in next(iter(found.values()))]
    rows = [[model, published.PROTOCOL, *(f"{_of_published(own[task]):.2f}" for task in tasks)]
            for model, own in found.items()]
    table = markdown_table(["model", "protocol", *tasks], rows)
    return f"\nPublished, zero-shot; kappa, or exact F1 of extraction:\n\n{table}"


def _of_published(own: Mapping[str, float]) -> float:
    return next(own[name] for name in ("kappa", "linear_kappa", "exact_f1") if name in own)


def cell(own: Mapping[str, float | None] | None) -> str:
    if not own or own["value"] is None:
        return "–"
    ends = "" if own["low"] is None else f" [{own['low']:.3f}, {own['high']:.3f}]"
    return f"{own['value']:.3f}{ends}"


def _pair(own: Mapping[str, float | None], first: str, second: str) -> str:
    return " / ".join("–" if own.get(name) is None else f"{own[name]:.3f}" for name in dict.fromkeys((first, second)))


def p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
