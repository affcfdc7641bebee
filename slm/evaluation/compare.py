"""Leaderboards side by side, and whether the difference of two runs is more than chance."""

import dataclasses
import json
import math
import re
from collections import defaultdict
from pathlib import Path

from slm.evaluation import leaderboard, statistics
from slm.evaluation.evaluate import ANSWERS
from slm.files import markdown_table
from slm.tasks import igakuqa


@dataclasses.dataclass(frozen=True)
class CompareConfig:
    """The evaluations that are laid side by side."""
    job: str = "compare"
    variant: str = "leaderboards"
    runs: str = ""  # WORKDIR,WORKDIR[,…] of evaluations; each is compared with the first
    resamples: int = 2000
    seed: int = 0

    def __post_init__(self):
        if len(self.runs.split(",")) < 2:
            raise ValueError(f"runs={self.runs!r}: name at least two evaluations, WORKDIR,WORKDIR")


@dataclasses.dataclass(frozen=True)
class _Given:
    """What a run answered to a task: gold, answers of each seed and document, by item."""
    gold: dict[str, object]
    documents: dict[str, str]
    seeds: list[dict[str, object]]


def run(config: CompareConfig, workdir: Path) -> dict:
    """Prints the leaderboards and the paired comparisons; returns {run: {task: {difference, low, high, p, p_holm}}}."""
    folders = [Path(own) for own in config.runs.split(",")]
    results = {str(folder): _read(folder / "result.json") for folder in folders}
    reports = {str(folder): _read(folder / "report.json")["tasks"] for folder in folders}
    tasks = list(dict.fromkeys(task for own in results.values() for task in own))
    rows = []
    for task in tasks:
        headline = next(own[task]["headline"] for own in reports.values() if task in own)
        rows.append([task, headline, *(_cell(own[task], reports[name][task]) if task in own else "–"
                                       for name, own in results.items())])
    text = markdown_table(["task", "headline", *results], rows)
    first = folders[0]
    found = {}
    for other in folders[1:]:
        found[str(other)] = _paired(first, other, reports[str(first)], config)
        text += f"\n{first} − {other}, on the same rows:\n\n" + markdown_table(
            ["task", "difference [95%]", "p", "p (Holm)"],
            [[task, leaderboard.cell({**own, "value": own["difference"]}), leaderboard.p_value(own["p"]),
              leaderboard.p_value(own["p_holm"])] for task, own in found[str(other)].items()])
    (workdir / "leaderboard.md").write_text(text, encoding="utf-8")
    print(text)
    return found


def _cell(line: dict, report: dict) -> str:
    """A run's part of a task's row: headline, second metric, baseline, and how they came about."""
    names = dict.fromkeys((report["headline"], report["second"]))
    values = " / ".join(leaderboard.cell(line["metrics"].get(name)) for name in names)
    baseline = line["baseline"].get(report["headline"])
    beside = "no baseline" if baseline is None else f"baseline {baseline:.3f}"
    asked = f"{line['protocol']}, {line['readout']}, {line['seeds']} seeds, {line['unread']} unread"
    return f"{values}; {beside}; {asked}"


def _paired(first: Path, second: Path, reports: dict, config: CompareConfig) -> dict[str, dict]:
    found = {}
    one, other = _answers(first), _answers(second)
    for task in one:
        if task not in other:
            continue
        items = [item for item in one[task].gold if item in other[task].gold]
        odd = next((item for item in items if one[task].gold[item] != other[task].gold[item]
                    or one[task].documents[item] != other[task].documents[item]), None)
        if odd:
            raise ValueError(f"{odd} of {task} is another row in {first} than in {second}: compare those of one file")
        if not items:
            raise ValueError(f"{first} and {second} have no row of {task} in common: compare those of the same rows")
        difference, p = statistics.paired(
            reports[task]["headline"], [one[task].gold[item] for item in items],
            [[seed[item] for item in items] for seed in one[task].seeds],
            [[seed[item] for item in items] for seed in other[task].seeds],
            [one[task].documents[item] for item in items], config.resamples, config.seed)
        found[task] = {"rows": len(items), "difference": difference.value, "low": difference.low,
                       "high": difference.high, "p": p}
    adjusted = statistics.holm({task: own["p"] for task, own in found.items()})
    return {task: {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in
                   {**own, "p_holm": adjusted[task]}.items()} for task, own in found.items()}


def _answers(folder: Path) -> dict[str, _Given]:
    """{task: what was answered}; the folds of a seed are put together."""
    found: dict[str, _Given] = {}
    seeds: dict[str, dict[str, dict]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted((folder / ANSWERS).glob("*.jsonl")):
        task, seed = re.fullmatch(r"(.*)-seed-(\d+)(?:-fold-\d+)?\.jsonl", path.name).groups()
        own = found.setdefault(task, _Given({}, {}, []))
        for line in path.read_text(encoding="utf-8").splitlines()[1:]:
            row = json.loads(line)
            gold, value = row["gold"], row["value"]
            if row["kind"] == "exam":
                gold, value = 1, int(igakuqa.is_right(row["item"], value, tuple(gold)))
            elif row["kind"] == "choice":
                gold = gold[0]
            own.gold[row["item"]], own.documents[row["item"]] = gold, row["document"]
            seeds[task][seed][row["item"]] = value
    return {task: dataclasses.replace(own, seeds=list(seeds[task].values())) for task, own in found.items()}


def _read(path: Path) -> dict:
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: name the workdir of an evaluation that is done")
    return json.loads(path.read_text(encoding="utf-8"))
