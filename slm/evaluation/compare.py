"""Leaderboards side by side, and whether the difference of two runs is more than chance."""

import dataclasses
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from slm import files, workdir
from slm.evaluation import answer_store, leaderboard, statistics
from slm.files import markdown_table
from slm.tasks.kinds import KINDS


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """The evaluations that are compared."""
    job: str = "compare"
    variant: str = "leaderboards"
    runs: str = ""  # WORKDIR,WORKDIR[,…] of evaluations; each is compared with the first
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self):
        if len(self.runs.split(",")) < 2:
            raise ValueError(f"runs={self.runs!r}: name at least two evaluations, WORKDIR,WORKDIR")


@dataclasses.dataclass
class _Answers:
    """What a run answered to a task, by item: gold and documents, and the answers of each seed, folds joined."""
    gold: dict[str, Any] = dataclasses.field(default_factory=dict)
    documents: dict[str, str] = dataclasses.field(default_factory=dict)
    seeds: dict[str, dict[str, Any]] = dataclasses.field(default_factory=lambda: defaultdict(dict))


def run(config: CompareConfig, workdir: Path) -> dict:
    """Prints the leaderboards and the paired comparisons; returns {run: {task: {difference, low, high, p, p_holm}}}."""
    folders = [Path(name) for name in config.runs.split(",")]
    results, reports = {}, {}
    for folder in folders:
        results[str(folder)], reports[str(folder)] = _read(folder)
    tasks = list(dict.fromkeys(task for result in results.values() for task in result))
    rows = []
    for task in tasks:
        headline = next(report[task]["headline"] for report in reports.values() if task in report)
        rows.append([task, headline, *(_cell(result[task], reports[name][task]) if task in result else "–"
                                       for name, result in results.items())])
    text = markdown_table(["task", "headline", *results], rows, numbers=False)
    first = folders[0]
    comparisons = {}
    for other in folders[1:]:
        comparisons[str(other)] = _paired(first, other, reports[str(first)], config)
        text += f"\n{first} − {other}, on the same rows:\n\n" + markdown_table(
            ["task", "difference [95%]", "p", "p (Holm)"],
            [[task, leaderboard.cell({**row, "value": row["difference"]}), leaderboard.p_value(row["p"]),
              leaderboard.p_value(row["p_holm"])] for task, row in comparisons[str(other)].items()], numbers=False)
    files.write_text(workdir / "leaderboard.md", text)
    print(text)
    return comparisons


def _read(folder: Path) -> tuple[dict, dict]:
    """(result.json, the tasks of report.json) of an evaluation."""
    result = workdir.read_result(folder)
    if result is None:
        raise FileNotFoundError(f"{folder / workdir.RESULT_FILE} is missing: name the workdir of a finished evaluation")
    if not (folder / "report.json").exists():
        raise ValueError(f"{folder} has no answers to compare (report.json is missing): name evaluations of a "
                         "benchmark; those of configs/evaluate.py:text measure bits per byte only")
    return result, files.read_json(folder / "report.json")["tasks"]


def _cell(line: dict, report: dict) -> str:
    """A run's part of a task's row: headline, second metric, baseline, and how they came about."""
    names = dict.fromkeys((report["headline"], report["second"]))
    values = " / ".join(leaderboard.cell(line["metrics"].get(name)) for name in names)
    baseline = line["baseline"].get(report["headline"])
    beside = "no baseline" if baseline is None else f"baseline {baseline:.3f}"
    return f"{values}; {beside}; {line['protocol']}, {line['readout']}, {line['seeds']} seeds, {line['unread']} unread"


def _paired(first: Path, second: Path, reports: dict, config: CompareConfig) -> dict[str, dict]:
    comparisons = {}
    answers, others = _answers(first), _answers(second)
    for task in answers:
        if task not in others:
            continue
        one, other = answers[task], others[task]
        items = [item for item in one.gold if item in other.gold]
        changed = next((item for item in items if one.gold[item] != other.gold[item]
                        or one.documents[item] != other.documents[item]), None)
        if changed:
            raise ValueError(f"{changed} of {task} is another row in {first} than in {second}: compare evaluations of "
                             "the same file")
        if not items:
            raise ValueError(f"{first} and {second} have no row of {task} in common: compare those of the same rows")
        difference, p = statistics.paired(
            reports[task]["headline"], [one.gold[item] for item in items],
            [[seed[item] for item in items] for seed in one.seeds.values()],
            [[seed[item] for item in items] for seed in other.seeds.values()],
            [one.documents[item] for item in items], config.resamples, config.seed)
        comparisons[task] = {"rows": len(items), "difference": difference.value, "low": difference.low,
                             "high": difference.high, "p": p}
    adjusted = statistics.holm({task: row["p"] for task, row in comparisons.items()})
    return {task: {name: None if isinstance(value, float) and math.isnan(value) else value
                   for name, value in {**row, "p_holm": adjusted[task]}.items()} for task, row in comparisons.items()}


def _answers(folder: Path) -> dict[str, _Answers]:
    by_task: dict[str, _Answers] = defaultdict(_Answers)
    for task, seed, rows in answer_store.read_all(folder):
        answers = by_task[task]
        for row in rows:
            item = row["item"]
            gold, answer = KINDS[row["kind"]].compared(item, row["gold"], row["value"])
            answers.gold[item], answers.documents[item] = gold, row["document"]
            answers.seeds[seed][item] = answer
    return by_task
