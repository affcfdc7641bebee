"""What a benchmark is to evaluation and fine-tuning, and what a model has seen of the benchmarks."""

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from slm.tasks.task import Item, Task

Protocol = Literal["P0", "P1", "P2", "CV"]


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What a model has seen of the benchmarks in training; every checkpoint carries it.

    Attributes:
      protocol: under which training rows were taken (see tasks/jmed_llm.py).
      seen: {benchmark: names of its tasks or years}.
      unchecked: training text was not compared with the benchmark's documents.
      held_out: share of documents that all of the model's trainings held out.
    """
    protocol: Protocol = "P0"
    seen: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    unchecked: bool = False
    held_out: float = 1.0

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"seen": {name: sorted(parts) for name, parts in sorted(self.seen.items())}}

    @classmethod
    def of_checkpoint(cls, about: Mapping[str, Any]) -> "Provenance":
        """Of what a checkpoint records; a pretraining has seen no benchmark that it knows of."""
        if "learned" in about:  # as it was written before 2026-11-27
            record = about["learned"]
            seen = {name: tuple(record[name]) for name in ("jmed_llm", "igakuqa") if record[name]}
            return cls(record["protocol"], seen, record["unchecked"], record["held_out"])
        record = about.get("provenance", {})
        return cls(**record | {"seen": {name: tuple(parts) for name, parts in record.get("seen", {}).items()}})

    def seen_of(self, benchmark: str) -> tuple[str, ...]:
        return self.seen.get(benchmark, ())


class Benchmark:
    """A benchmark; `slm/benchmarks.py` has the registry. Methods without a body here are optional.

    `settings` is the config field that is named like the benchmark, or None.

    Attributes:
      settings_type: of that field in every config that inherits `benchmarks.Settings`; None: it has none there.
      settings_default: its default.
      has_protocols: what may be learned from it depends on the protocol.
      has_folds: it can be cross-validated; `fold_of` then says which fold scores an item.
    """
    name: str
    settings_type: Any = None
    settings_default: Any = None
    has_protocols = False
    has_folds = False

    def tasks(self, settings: Any, provenance: Provenance, folds: Collection[int]) -> dict[str, Task]:
        """The tasks with the rows that are scored.

        Args:
          folds: of a cross-validation, those that the candidate's models cover.

        Raises:
          ValueError: the model has seen what would be scored.
        """
        raise NotImplementedError

    def training(self, settings: Any, task: Task, provenance: Provenance, fold: int | None = None) -> Sequence[Item]:
        """Rows that the baselines of a task learn from under the model's protocol; none: there is no baseline."""
        return ()

    def training_tasks(self, settings: Any, name: str, protocol: Protocol, fold: int | None, seed: int) -> list[Task]:
        """What a set of fine-tuning named `name` may learn from: a task, a year, or all."""
        raise ValueError(f"{self.name} has no rows to learn from: leave sets.{name} out")

    def protocol(self, provenance: Provenance) -> str:
        """How the leaderboard names what was seen before the rows were scored."""
        return "own test rows"

    def fold_of(self, item: Item) -> int:
        raise NotImplementedError

    def of_fold(self, items: Sequence[Item], fold: int | None) -> list[Item]:
        """The items that a model of a fold is asked; None: a model of no cross-validation."""
        return [item for item in items if fold is None or not self.has_folds or self.fold_of(item) == fold]

    def report(self, settings: Any, answers: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """(what `report.json` holds besides, Markdown) of the answers by item; both may be empty."""
        return {}, ""

    def published(self) -> dict[str, dict[str, dict[str, float]]]:
        """{model: {task: {metric: value}}} of published scores."""
        return {}

    def prepare(self, settings: Any) -> None:
        """Downloads what is missing, before several processes read it."""
