"""The leaderboard: a task's line with intervals, baseline and majority, and its table."""

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from slm.evaluation import statistics
from slm.files import markdown_table
from slm.scoring.answer_modes import Answer
from slm.scoring.metrics import METRICS
from slm.tasks.kinds import KINDS
from slm.tasks.task import Task
from slm.text.spans import Span

Line = dict[str, Any]


def line(task: Task, by_seed: Sequence[Sequence[Answer]], protocol: str, mode: str, truncated: int,
         baseline: Sequence | None, majority: Sequence, resamples: int, seed: int) -> tuple[Line, Line]:
    """(what `result.json` holds of a task, what `report.json` does besides).

    Args:
      by_seed: answers [seeds][rows]; the metrics are means over the seeds.
      baseline, majority: [rows], answers to compare with; no baseline under P0.
    """
    names = KINDS[task.kind].metrics
    gold = compared(task, [answer.value for answer in by_seed[0]])[0]
    predictions = [compared(task, [answer.value for answer in answers])[1] for answers in by_seed]
    clusters = [item.document or item.id for item in task.items]
    metrics = {name: statistics.interval(name, gold, predictions, clusters, resamples, seed) for name in names}

    def values(answers: Sequence | None) -> dict[str, float | None]:
        if answers is None:
            return {}
        return {name: _finite(METRICS[name](gold, compared(task, answers)[1])) for name in names}

    headline = task.metrics[0]
    result = {"protocol": protocol, "readout": mode, "n": len(gold), "seeds": len(by_seed),
              "unread": sum(answer.unread for answers in by_seed for answer in answers), "truncated": truncated,
              "metrics": {name: _numbers(interval) for name, interval in metrics.items()},
              "baseline": values(baseline), "majority": values(majority)}
    report: Line = {"headline": headline, "second": task.metrics[1], "license": task.license,
                    "by_seed": [_finite(METRICS[headline](gold, predicted)) for predicted in predictions]}
    if baseline is not None:
        difference, p = statistics.paired(
            headline, gold, predictions, [compared(task, baseline)[1]], clusters, resamples, seed)
        report["against_baseline"] = {**_numbers(difference), "p": _finite(p)}
    if task.kind == "tagging":
        beside = {name: compared(task, answers)[1] for name, answers in (("baseline", baseline), ("majority", majority))
                  if answers is not None}
        report["by_label"] = {label: {
            "entities": sum(span.kind == label for spans in gold for span in spans),
            **_numbers(statistics.interval("label_f1", _only(label, gold), [_only(label, rows) for rows in predictions],
                                           clusters, resamples, seed)),
            **{name: _finite(METRICS["label_f1"](_only(label, gold), _only(label, rows)))
               for name, rows in beside.items()}} for label in sorted({span.kind for spans in gold for span in spans})}
    return result, report


def _only(label: str, rows: Sequence[Sequence[Span]]) -> list[list[Span]]:
    return [[span for span in spans if span.kind == label] for spans in rows]


def compared(task: Task, answers: Sequence) -> tuple[list, list]:
    """(gold, answers) of the task's rows as the metrics take them."""
    compare = KINDS[task.kind].compared
    pairs = [compare(item.id, item.answer, answer) for item, answer in zip(task.items, answers)]
    return [gold for gold, _ in pairs], [answer for _, answer in pairs]


def _numbers(interval: statistics.Interval) -> dict[str, float | None]:
    return {key: _finite(value) for key, value in dataclasses.asdict(interval).items()}


def _finite(value: float) -> float | None:
    return None if math.isnan(value) else value


def correct(reports: Mapping[str, Line]) -> None:
    """Adds to each comparison with the baseline its p-value corrected for there being several (Holm)."""
    against = {name: report["against_baseline"] for name, report in reports.items() if "against_baseline" in report}
    adjusted = statistics.holm({name: math.nan if one["p"] is None else one["p"] for name, one in against.items()})
    for name, comparison in against.items():
        comparison["p_holm"] = _finite(adjusted[name])


def markdown(model: str, templates: Collection[str], lines: Mapping[str, Line], reports: Mapping[str, Line],
             published: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    """The leaderboard of one run, with published scores {model: {task: {metric: value}}} below it."""
    rows = []
    for task, result in lines.items():
        report = reports[task]
        first, second = report["headline"], report["second"]
        rows.append([task, result["protocol"], result["readout"], f"{result['n']} × {result['seeds']}", first,
                     cell(result["metrics"][first]), cell(result["metrics"].get(second)),
                     _pair(result["baseline"], first, second), _pair(result["majority"], first, second),
                     p_value(report.get("against_baseline", {}).get("p_holm")), str(result["unread"]),
                     str(result["truncated"])])
    text = f"## {model}\n\nPrompts in: {', '.join(sorted(templates))}.\n\n" + markdown_table(
        ["task", "protocol", "answer mode", "rows × seeds", "headline", "value [95%]", "second [95%]", "baseline",
         "majority", "p against baseline (Holm)", "unread", "truncated"], rows, numbers=False)
    if any(result["protocol"].startswith("P0") for result in lines.values()):
        text += "\nP0: the model has seen nothing of the benchmark: no baseline, and the majority is the test's own.\n"
    return text + (_published(lines, published) if published else "")


def _published(lines: Mapping[str, Line], published: Mapping[str, Mapping[str, Mapping[str, float]]]) -> str:
    tasks = [task for task in lines if task in next(iter(published.values()))]
    rows = [[model, "P0, published", *(f"{_headline(scores[task]):.2f}" for task in tasks)]
            for model, scores in published.items()]
    table = markdown_table(["model", "protocol", *tasks], rows, numbers=False)
    return f"\nPublished, zero-shot; kappa, or exact F1 of extraction:\n\n{table}"


def _headline(scores: Mapping[str, float]) -> float:
    return next(scores[name] for name in ("kappa", "linear_kappa", "exact_f1") if name in scores)


def cell(value: Mapping[str, float | None] | None) -> str:
    if not value or value["value"] is None:
        return "–"
    ends = "" if value["low"] is None else f" [{value['low']:.3f}, {value['high']:.3f}]"
    return f"{value['value']:.3f}{ends}"


def _pair(values: Mapping[str, float | None], first: str, second: str) -> str:
    return " / ".join("–" if values.get(name) is None else f"{values[name]:.3f}"
                      for name in dict.fromkeys((first, second)))


def p_value(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"
