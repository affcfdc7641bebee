"""The registry of benchmarks: one line each. Evaluation, fine-tuning and the harness ask it; no other list exists."""

import dataclasses
from collections.abc import Collection, Sequence
from typing import Any

from slm.sample import tasks as sample
from slm.tasks.benchmark import Benchmark, Protocol, Provenance
from slm.tasks.igakuqa import IgakuQA
from slm.tasks.j_clinicalbench import JClinicalBench
from slm.tasks.jmed_llm import JmedLlm
from slm.tasks.tables import Tables
from slm.tasks.task import Item, Task


class Sample(Benchmark):
    """Three tasks drawn from the project's own tables, for the demo, tests and notebooks."""
    name = "sample"

    def tasks(self, settings: None, provenance: Provenance, folds: Collection[int]) -> dict[str, Task]:
        return dict(sample.tasks())

    def training(self, settings: None, task: Task, provenance: Provenance, fold: int | None = None) -> Sequence[Item]:
        return sample.training()[task.name].items

    def training_tasks(self, settings: None, name: str, protocol: Protocol, fold: int | None, seed: int) -> list[Task]:
        return list(sample.training(seed).values())


REGISTRY: dict[str, Benchmark] = {benchmark.name: benchmark for benchmark in (
    JmedLlm(), JClinicalBench(), IgakuQA(), Sample(), Tables())}

# A dataclass with the settings of each benchmark, under its name, for the configs of jobs to inherit.
Settings = dataclasses.make_dataclass(
    "Settings", [(name, benchmark.settings_type, benchmark.settings_default)
                 for name, benchmark in REGISTRY.items() if benchmark.settings_type], frozen=True)


def settings_of(config: Any, benchmark: str) -> Any:
    """The settings of a benchmark in a config that inherits `Settings`; None where it has none."""
    return getattr(config, benchmark, None)
