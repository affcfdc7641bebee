"""The report of a curation, gathered from datatrove's statistics of its tasks."""

from collections import defaultdict
from pathlib import Path

from slm.corpus.steps import CHARACTERS, SEPARATOR
from slm.files import read_json, read_whole_json_lines

_EXAMPLES, _EXCERPT = 5, 120  # of each reason; characters
_HITS = 100  # contaminated documents listed
Counts = dict[tuple[str, ...], list[int]]  # label → documents, characters


def gather(stages: Path, dropped: Path, excerpts: bool) -> dict:
    """Documents and characters in and out, by step, source and reason.

    Args:
      stages: datatrove's logging folders.
      dropped: the folder of documents that `steps.Dropped` wrote.
      excerpts: whether the report may quote them.
    """
    steps = _steps(stages / "curate") + _steps(stages / "write")
    counts: Counts = defaultdict(lambda: [0, 0])
    for step in steps:
        for label, pair in step["counts"].items():
            if label[0] != "in" or step["step"] == "read":
                counts[label] = [total + more for total, more in zip(counts[label], pair)]
    by_source: dict[str, dict] = defaultdict(lambda: {
        "documents_in": 0, "characters_in": 0, "documents_out": 0, "characters_out": 0, "dropped": {}})
    reasons: dict[str, list[int]] = defaultdict(lambda: [0, 0])
    for (event, *rest), (documents, characters) in counts.items():
        if event in ("in", "out"):
            by_source[rest[0]][f"documents_{event}"] += documents
            by_source[rest[0]][f"characters_{event}"] += characters
        elif event == "drop":
            reason, source = rest
            reasons[reason] = [reasons[reason][0] + documents, reasons[reason][1] + characters]
            by_source[source]["dropped"][reason] = documents

    def of(event: str) -> dict[str, int]:
        return {label[1]: documents for label, (documents, _) in counts.items() if label[0] == event}

    def total(column: str) -> int:
        return sum(source[column] for source in by_source.values())
    return {
        **{column: total(column) for column in ("documents_in", "documents_out", "characters_in", "characters_out")},
        "bytes_out": counts[("bytes",)][0],
        "dropped": {reason: pair[0] for reason, pair in sorted(reasons.items(), key=lambda item: -item[1][0])},
        "dropped_characters": {reason: pair[1] for reason, pair in reasons.items()},
        "masked": of("masked"), "contaminated": of("benchmark"), "by_source": dict(sorted(by_source.items())),
        "licenses": of("license"), "dropped_templates": of("template"),
        "steps": [_summary(step) for step in steps], **_examples(dropped, excerpts),
    }


def _steps(folder: Path) -> list[dict]:
    """The steps of a stage, with their counts and seconds over all tasks."""
    steps: list[dict] = []
    for path in sorted((folder / "stats").glob("*.json")):
        for index, stats in enumerate(read_json(path)):
            if index == len(steps):
                steps.append({"step": stats["name"].split(": ", 1)[1], "counts": defaultdict(lambda: [0, 0]),
                              "seconds": 0.0})
            steps[index]["seconds"] += _total(stats["time_stats"])
            for label, value in stats["stats"].items():
                *parts, last = label.split(SEPARATOR)
                column = int(last == CHARACTERS)
                steps[index]["counts"][tuple(parts if column else [*parts, last])][column] += _total(value)
    return steps


def _total(value: dict | float) -> float:
    """datatrove writes a plain number where all updates were 1."""
    return value["total"] if isinstance(value, dict) else value


def _summary(step: dict) -> dict:
    """Documents and characters into and out of a step; only seconds for a step that does not count."""
    counts, seconds = step["counts"], round(step["seconds"], 2)
    if not any(label[0] == "in" for label in counts):
        return {"step": step["step"], "seconds": seconds}
    documents, characters = (sum(pair[i] for label, pair in counts.items() if label[0] == "in") for i in (0, 1))
    lost = [sum(pair[i] for label, pair in counts.items() if label[0] == "drop") for i in (0, 1)]
    return {"step": step["step"], "documents_in": documents, "characters_in": characters,
            "documents_out": documents - lost[0], "characters_out": characters - lost[1], "seconds": seconds}


def _examples(dropped: Path, excerpts: bool) -> dict:
    """The first few dropped documents of each reason, and where those are that held an item of a benchmark.

    Not their ids, which a hospital may make of names.
    """
    examples: dict[str, list[str]] = defaultdict(list)
    hits: list[dict] = []
    for path in sorted(dropped.glob("*.jsonl")):
        for number, row in enumerate(read_whole_json_lines(path), 1):
            if excerpts and len(examples[row["reason"]]) < _EXAMPLES:
                examples[row["reason"]].append(" ".join(row["text"][:_EXCERPT].split()))
            if row["benchmark"] and len(hits) < _HITS:
                hits.append({"dropped": f"{dropped.name}/{path.name}, line {number}", "source": row["source"],
                             "benchmark": row["benchmark"]})
    return {"examples": dict(examples), "contaminated_documents": hits}


def reconciles(report: dict) -> bool:
    """Whether every document is accounted for: documents in = documents out + all drops, in total and by source."""
    parts = [report, *report["by_source"].values()]
    return all(part["documents_in"] == part["documents_out"] + sum(part["dropped"].values()) for part in parts)
