"""JMED-LLM (sociocom/JMED-LLM): eight tasks, and the protocols of what may be trained on before they are scored.

Every test row is also in `datasets/all`, so a protocol says what was trained on:
P0  nothing of it.
P1  `all` without the test rows: comparable with others, but documents of the test repeat under other rows.
P2  `all` without every document that a test row shares or nearly repeats, over all tasks together.
CV  five folds of `all`, grouped by document: each row is scored by the model that has not seen its document.
"""

import dataclasses
import functools
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

from slm.tasks import download, published, split, tables
from slm.tasks.benchmark import Benchmark, Protocol, Provenance
from slm.tasks.task import Item, Task, Tasks

FOLDS = 5


@dataclasses.dataclass(frozen=True)
class JmedLlmConfig:
    """data_dir: a checkout of the benchmark's repository; empty: it is downloaded."""
    data_dir: str = ""


@dataclasses.dataclass(frozen=True)
class _Source:
    """What a task is made of: its kind and headline, the sets of `datasets/all` it was drawn from, and their tags."""
    kind: Literal["choice", "extraction"]
    headline: str
    sets: tuple[str, ...]
    license: str
    tags: tuple[str, ...] = ()  # empty: all


SOURCES = {
    "jmmlu_med": _Source("choice", "kappa", ("JMMLU-Med",), "CC BY-SA 4.0"),
    "crade": _Source("choice", "linear_kappa", ("CRADE",), "CC BY 4.0"),
    "rrtnm": _Source("choice", "kappa", ("RRTNM",), "CC BY 4.0"),
    "smdis": _Source("choice", "kappa", ("SMDIS",), "CC BY 4.0"),
    "jcsts": _Source("choice", "linear_kappa", ("JCSTS",), "CC BY-NC-SA 4.0"),
    "mrner_disease": _Source("extraction", "exact_f1", ("CRNER", "RRNER"), "CC BY 4.0", ("d",)),
    "mrner_medicine": _Source("extraction", "exact_f1", ("CRNER", "RRNER"), "CC BY 4.0", ("m-key", "m-val")),
    "nrner": _Source("extraction", "exact_f1", ("NRNER",), "CC BY-NC-SA 4.0"),
}


def folder(config: JmedLlmConfig) -> Path:
    """The checkout that the config names, or a downloaded one."""
    return Path(config.data_dir) if config.data_dir else download.jmed_llm(Path("runs", "products"))


def test(data_dir: Path) -> Tasks:
    """The eight tasks with their 100 test rows each."""
    return {name: _task(name, _read(data_dir, f"{name}.csv", source.kind)) for name, source in SOURCES.items()}


@functools.cache  # the search for leaks takes seconds, and is asked for by training, baselines and held-out rows
def training(data_dir: Path, name: str, protocol: Protocol, fold: int | None = None) -> Task:
    """A task with the rows that a protocol allows to train on; of CV, those outside `fold`.

    Under P2 and CV, rows that hold a scored document of another task or fold are left out as well.
    """
    refuse_unknown(name)
    rows = _all(data_dir, name)
    if protocol == "P1":
        return _task(name, tuple(item for item, assignment in rows if assignment.split != "test"))
    items = [item for item, assignment in rows
             if (assignment.fold != fold if protocol == "CV" else assignment.joint)]
    leaks = {name for name, _, _ in split.leaks(((item.id, item.question) for item in items),
                                                  scored_questions(data_dir, protocol, fold))}
    return _task(name, tuple(item for item in items if item.id not in leaks))


def fold(data_dir: Path, name: str, number: int | None = None) -> Task:
    """A task with the rows of `all` that fold `number` scores (None: of all folds)."""
    refuse_unknown(name)
    return _task(name, tuple(item for item, assignment in _all(data_dir, name) if number in (None, assignment.fold)))


def fold_of(item: Item) -> int:
    return split.fold(item.document, FOLDS)


def refuse_unknown(name: str) -> None:
    if name not in SOURCES:
        raise ValueError(f"JMED-LLM has no task {name!r}: its tasks are {', '.join(SOURCES)}")


@functools.cache
def scored_questions(data_dir: Path, protocol: Protocol, number: int | None = None) -> dict[str, list[str]]:
    """What is scored under a protocol, by task: the test rows, or of CV the rows of a fold."""
    tasks = {name: fold(data_dir, name, number) for name in SOURCES} if protocol == "CV" else test(data_dir)
    return {name: [item.question for item in task.items] for name, task in tasks.items()}


def _task(name: str, items: tuple[Item, ...]) -> Task:
    source = SOURCES[name]
    return tables.task(name, source.kind, items, source.headline, source.license)


def _all(data_dir: Path, name: str) -> list[tuple[Item, split.Assignment]]:
    source = SOURCES[name]
    rows = [(item, assignment) for part in source.sets
            for item, assignment in zip(_read(data_dir, f"all/{part}.csv", source.kind), _assignments(data_dir)[part])]
    return [(item, assignment) for item, assignment in rows if not source.tags or item.tag in source.tags]


@functools.cache
def _read(data_dir: Path, file: str, kind: str) -> tuple[Item, ...]:
    path = data_dir / "datasets" / file
    if file == "all/JCSTS.csv" and not path.exists():
        path = download.jcsts(Path("runs", "products"), data_dir / "datasets" / "jcsts.csv")
    return tables.read(path, kind, split.document)


@functools.cache
def _assignments(data_dir: Path) -> dict[str, list[split.Assignment]]:
    kinds = {part: source.kind for source in SOURCES.values() for part in source.sets}
    return split.assign({part: [item.question for item in _read(data_dir, f"all/{part}.csv", kind)]
                         for part, kind in kinds.items()}, scored_questions(data_dir, "P2"))


class JmedLlm(Benchmark):
    """The eight tasks as a benchmark; a cross-validation is scored on all rows of the tasks it was trained on."""
    name, settings_type, settings_default = "jmed_llm", JmedLlmConfig, JmedLlmConfig()
    has_protocols = has_folds = True

    def tasks(self, settings: JmedLlmConfig, provenance: Provenance, folds: Collection[int]) -> dict[str, Task]:
        if provenance.protocol != "CV":
            return dict(test(folder(settings)))
        tasks = {name: fold(folder(settings), name) for name in provenance.seen_of(self.name)}
        return {name: dataclasses.replace(task, items=tuple(item for item in task.items if fold_of(item) in folds))
                for name, task in tasks.items()}

    def training(self, settings: JmedLlmConfig, task: Task, provenance: Provenance,
                 fold: int | None = None) -> Sequence[Item]:
        if provenance.protocol == "P0":
            return ()
        return training(folder(settings), task.name, provenance.protocol, fold).items

    def training_tasks(self, settings: JmedLlmConfig, name: str, protocol: Protocol, fold: int | None,
                       seed: int) -> list[Task]:
        return [training(folder(settings), name, protocol, fold)]

    def protocol(self, provenance: Provenance) -> str:
        return provenance.protocol + " (training text unchecked)" * provenance.unchecked

    def fold_of(self, item: Item) -> int:
        return fold_of(item)

    def published(self) -> dict[str, dict[str, dict[str, float]]]:
        return published.rows()

    def prepare(self, settings: JmedLlmConfig) -> None:
        folder(settings)
