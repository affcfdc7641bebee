"""What the pipeline did, gathered from datatrove's statistics of its tasks."""

import json
from collections import defaultdict
from pathlib import Path

_EXAMPLES, _EXCERPT = 5, 120  # of each reason; characters
_HITS = 100  # contaminated documents named


def gather(stages: Path, dropped: Path) -> dict:
    """Documents and characters in and out, by step, source and reason, with examples.

    Args:
      stages: datatrove's logging folders.
      dropped: the documents that `Dropped` kept.
    """
    steps = _steps(stages / "curate") + _steps(stages / "write")
    total = defaultdict(lambda: [0, 0])
    for step in steps:
        for label, (documents, characters) in step["counts"].items():
            if label.startswith(("drop|", "out|", "masked|", "benchmark|", "split|")) or step["step"] == "read":
                total[label][0] += documents
                total[label][1] += characters
    labels = [(label.split("|"), *counts) for label, counts in total.items()]
    by_source: dict[str, dict] = defaultdict(lambda: {
        "documents_in": 0, "characters_in": 0, "documents_out": 0, "characters_out": 0, "dropped": {}})
    reasons, characters_dropped = defaultdict(int), defaultdict(int)
    for (kind, name, *rest), documents, characters in labels:
        if kind in ("in", "out"):
            by_source[name][f"documents_{kind}"] += documents
            by_source[name][f"characters_{kind}"] += characters
        elif kind == "drop":
            reasons[name] += documents
            characters_dropped[name] += characters
            by_source[rest[0]]["dropped"][name] = by_source[rest[0]]["dropped"].get(name, 0) + documents
    licenses = defaultdict(int)
    for (kind, *rest), documents, _ in labels:
        if kind == "split":
            licenses[rest[1]] += documents
    return {
        "documents_in": sum(source["documents_in"] for source in by_source.values()),
        "documents_out": sum(source["documents_out"] for source in by_source.values()),
        "characters_in": sum(source["characters_in"] for source in by_source.values()),
        "characters_out": sum(source["characters_out"] for source in by_source.values()),
        "bytes_out": sum(value for (kind, *_), _, value in labels if kind == "split"),
        "dropped": dict(sorted(reasons.items(), key=lambda pair: -pair[1])),
        "dropped_characters": dict(characters_dropped),
        "masked": {name: value for (kind, name, *_), _, value in labels if kind == "masked"},
        "contaminated": {name: documents for (kind, name, *_), documents, _ in labels if kind == "benchmark"},
        "by_source": dict(sorted(by_source.items())), "licenses": dict(licenses),
        "steps": [_summary(step) for step in steps], **_examples(dropped),
    }


def _steps(folder: Path) -> list[dict]:
    """The steps of a stage: label → (documents, total) over all tasks, and seconds."""
    steps: list[dict] = []
    for path in sorted((folder / "stats").glob("*.json")):
        for index, stats in enumerate(json.loads(path.read_text(encoding="utf-8"))):
            if index == len(steps):
                steps.append({"step": stats["name"].split(": ", 1)[1], "counts": defaultdict(lambda: [0, 0]),
                              "seconds": 0.0})
            seconds = stats["time_stats"]
            steps[index]["seconds"] += seconds["total"] if isinstance(seconds, dict) else seconds
            for label, value in stats["stats"].items():
                # datatrove writes a plain number where every update was 1, and leaves out a count of one.
                total = value["total"] if isinstance(value, dict) else value
                count = value.get("n", 1) if isinstance(value, dict) else value
                steps[index]["counts"][label][0] += count
                steps[index]["counts"][label][1] += total
    return steps


def _summary(step: dict) -> dict:
    """What went into a step and out of it; steps that only change text or write drop nothing."""
    counts = step["counts"]
    if not any(label.startswith("in|") for label in counts):
        return {"step": step["step"], "seconds": round(step["seconds"], 2)}
    documents, characters = (sum(pair[i] for label, pair in counts.items() if label.startswith("in|")) for i in (0, 1))
    lost = [sum(pair[i] for label, pair in counts.items() if label.startswith("drop|")) for i in (0, 1)]
    return {"step": step["step"], "documents_in": documents, "characters_in": characters,
            "documents_out": documents - lost[0], "characters_out": characters - lost[1],
            "seconds": round(step["seconds"], 2)}


def _examples(dropped: Path) -> dict:
    """The first few dropped documents of each reason, and which held a benchmark's item."""
    examples, hits = defaultdict(list), []
    for path in sorted(dropped.glob("*.jsonl")):
        with open(path, encoding="utf-8") as file:
            for row in map(json.loads, file):
                if len(examples[row["reason"]]) < _EXAMPLES:
                    examples[row["reason"]].append(" ".join(row["text"][:_EXCERPT].split()))
                if row["benchmark"] and len(hits) < _HITS:
                    hits.append({"id": row["id"], "source": row["source"], "benchmark": row["benchmark"]})
    return {"examples": dict(examples), "contaminated_documents": hits}


def reconciles(report: dict) -> bool:
    """Whether every document is accounted for: in = out + every drop, in all and by source."""
    parts = [report, *report["by_source"].values()]
    return all(part["documents_in"] == part["documents_out"] + sum(part["dropped"].values()) for part in parts)
