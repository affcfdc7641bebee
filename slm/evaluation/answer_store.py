"""Answers on disk: a file for each task, seed and fold, under `answers/` of an evaluation's workdir.

The first line says which model answered which rows and how many prompts were truncated; then a line an answer. No
question is written down.
"""

import dataclasses
import hashlib
import json
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from slm import files
from slm.scoring.answer_modes import Answer
from slm.tasks.task import Item, Task

FOLDER = "answers"


def path(workdir: Path, task: str, seed: int, fold: int | None) -> Path:
    return workdir / FOLDER / f"{task}-seed-{seed}{'' if fold is None else f'-fold-{fold}'}.jsonl"


def identity(model: str, task: Task, items: Sequence[Item]) -> str:
    """Tells apart other models, rows, prompts and gold answers."""
    content = json.dumps([[item.id, task.prompt(item), item.answer] for item in items])
    return f"{model} {hashlib.sha256(content.encode()).hexdigest()[:16]}"


def asked_at(file: Path, identity: str) -> str | None:
    """When this model was asked these rows; None: the file holds no such answers."""
    if not file.exists():
        return None
    with open(file, encoding="utf-8") as lines:
        first = json.loads(lines.readline())
    return first.get("time", "an unknown time") if first.get("asked") == identity else None


def write(file: Path, identity: str, task: Task, items: Sequence[Item], answers: Sequence[Answer],
          truncated: int, template: str) -> None:
    rows: list[dict[str, Any]] = [{"asked": identity, "truncated": truncated, "template": template,
                                   "time": time.strftime("%Y-%m-%d %H:%M")}]
    for item, answer in zip(items, answers):
        document = hashlib.sha256(item.document.encode("utf-8", "replace")).hexdigest()[:16]
        rows.append({**dataclasses.asdict(answer), "kind": task.kind, "gold": item.answer, "tag": item.tag,
                     "document": document})
    # What a model writes may hold half a character: escaped, it stays readable.
    files.write_text(file, "".join(json.dumps(row) + "\n" for row in rows))


def read(file: Path) -> tuple[dict[str, Answer], int, str]:
    """({item: answer}, prompts truncated, the chat template they were asked in)."""
    first, *rows = read_rows(file)
    names = [field.name for field in dataclasses.fields(Answer)]
    return {row["item"]: Answer(**{name: row[name] for name in names}) for row in rows}, first["truncated"], (
        first.get("template", "unknown"))


def read_rows(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def read_all(workdir: Path) -> Iterator[tuple[str, str, list[dict[str, Any]]]]:
    """(task, seed, rows of answers) of each file, folds apart."""
    for file in sorted((workdir / FOLDER).glob("*.jsonl")):
        match = re.fullmatch(r"(.*)-seed-(\d+)(?:-fold-\d+)?\.jsonl", file.name)
        if match:
            yield match[1], match[2], read_rows(file)[1:]


def remove_others(workdir: Path, files: Sequence[Path]) -> None:
    """Removes answers of models and tasks that are no longer asked for."""
    for file in {*(workdir / FOLDER).glob("*.jsonl")} - {*files}:
        file.unlink()
