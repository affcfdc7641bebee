"""Held-out items that a fine-tuning asks while it trains, beside the baseline on the same rows."""

import dataclasses
import functools
import importlib.util
from collections.abc import Mapping, Sequence
from typing import Any

from slm.data import sets
from slm.data.sets import Entry
from slm.scoring import answer_modes, baselines, metrics
from slm.scoring.models import Model
from slm.tasks.kinds import KINDS
from slm.tasks.task import Item, Task, spread

Scores = dict[str, dict[str, Any]]
_SLOW = 10  # extraction by tokens is asked of so many times fewer items: each answer is written token by token


@dataclasses.dataclass(frozen=True)
class HeldOut:
    """The held-out items of a task.

    Attributes:
      task: with all of them.
      asked: those that are asked on the way.
      known: what the baseline learns from; empty: there is none.
    """
    task: Task
    asked: Sequence[Item]
    known: Sequence[Item] = ()

    @functools.cached_property
    def baseline(self) -> float | None:
        """The baseline's score, computed when it is first asked for: a minute for thousands of rows.

        That of a choice needs scikit-learn; where it is missing there is none.
        """
        if not self.known or (self.task.kind == "choice" and not importlib.util.find_spec("sklearn")):
            return None
        return self.score(baselines.baseline(self.task, self.known, self.asked))

    def score(self, values: Sequence[Any]) -> float:
        """The task's headline metric of answers to the asked items."""
        kind = KINDS[self.task.kind]
        gold, answers = zip(*(kind.compared(item.id, item.answer, value) for item, value in zip(self.asked, values)))
        return float(metrics.METRICS[self.task.metrics[0]](gold, answers))


def of(train: Sequence[Entry], held_out: Sequence[Entry], limit: int, by_tokens: bool) -> dict[str, HeldOut]:
    """{task: its held-out items}; `limit` of each are asked (0: all).

    Args:
      by_tokens: the model writes its answers.
    """
    learned, scored = sets.tasks_of(train), {}
    for name, task in sets.tasks_of(held_out).items():
        few = -(-limit // _SLOW) if by_tokens and task.kind == "extraction" else limit
        scored[name] = HeldOut(task, spread(task.items, few), learned[name].items if name in learned else ())
    return scored


def ask(model: Model, scored: Mapping[str, HeldOut]) -> Scores:
    """{task: {metric, value, baseline, rows}}."""
    scores: Scores = {}
    for name, held_out in scored.items():
        answers = answer_modes.answers(model, held_out.task, held_out.asked, answer_modes.default(model, held_out.task))
        scores[name] = {"metric": held_out.task.metrics[0], "value": held_out.score([a.value for a in answers]),
                        "baseline": held_out.baseline, "rows": len(held_out.asked)}
    return scores
