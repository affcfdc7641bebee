"""How an answer is taken from a model.

free         what it writes, read as the benchmark reads it
constrained  what it writes where only valid letters are allowed
likelihood   the letters by their log-likelihood as the answer's beginning: the fair one for a base model
spans        a list in which only spans of the question are allowed
"""

import dataclasses
import itertools
import math
from collections.abc import Sequence
from typing import Any, Literal

from slm.evaluation.models import Checkpoint, Model
from slm.inference.constraints import OneOf, Pieces, SpanList
from slm.tasks import igakuqa, reading, tables
from slm.tasks.task import Item, Task

AnswerMode = Literal["free", "constrained", "likelihood", "spans"]
KINDS: dict[str, tuple[AnswerMode, ...]] = {
    "choice": ("likelihood", "constrained", "free"), "extraction": ("spans", "free"),
    "exam": ("likelihood", "constrained", "free")}
_MOST_TOKENS = {"choice": 16, "extraction": 192, "exam": 16}  # of an answer


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered to an item.

    Attributes:
      raw: what it wrote; of the likelihood, the letter.
      value: a letter or letters, or a list of entities.
      log_likelihoods: of the item's letters, in nats.
    """
    item: str
    raw: str
    value: Any
    unread: bool = False
    log_likelihoods: dict[str, float] | None = None


def answers(model: Model, task: Task, items: Sequence[Item], readout: AnswerMode) -> list[Answer]:
    """The model's answer to each item.

    Raises:
      ValueError: a readout that the task's kind does not have, or the model cannot do.
    """
    if readout not in KINDS[task.kind]:
        raise ValueError(f"the task {task.name} is of kind {task.kind} and has no readout {readout!r}: choose one of "
                         f"{', '.join(KINDS[task.kind])}")
    if readout in ("constrained", "spans") and not isinstance(model, Checkpoint):
        raise ValueError(f"{model.name} cannot be held to valid answers while it writes, as the readout {readout!r} "
                         f"does: set --config.{task.kind}=free")
    past = next((item for item in items if task.kind == "choice" and max(task.letters(item)) > "F"), None)
    if readout == "free" and past:
        raise ValueError(f"{past.id} has the option {max(task.letters(past))}, and free generation is read as JMED-LLM "
                         "does, by the letters A to F: choose --config.choice=likelihood")
    ask = {"free": _free, "likelihood": _likelihood, "constrained": _constrained, "spans": _spans}[readout]
    written = [item for item in items if task.kind == "exam" and not item.options]  # the answer is a number
    chosen = [item for item in items if item not in written]
    found = {answer.item: answer for answer in [*_free(model, task, written), *ask(model, task, chosen)]}
    return [found[item.id] for item in items]


def _free(model: Model, task: Task, items: Sequence[Item]) -> list[Answer]:
    written = model.generate([task.prompt(item) for item in items], _MOST_TOKENS[task.kind])
    return [_read(task, item, raw) for item, raw in zip(items, written)]


def _read(task: Task, item: Item, raw: str) -> Answer:
    if task.kind == "extraction":
        entities, unread = reading.read_list(raw)
        return Answer(item.id, raw, entities, unread)
    if task.kind == "choice":
        letter = reading.read_letter(raw)
        return Answer(item.id, raw, letter, letter == reading.NONE)
    value = igakuqa.read_answer(raw)
    letters = {letter for letter, _ in item.options}
    return Answer(item.id, raw, value, bool(letters) and not set(value.split(",")) <= letters)


def _likelihood(model: Model, task: Task, items: Sequence[Item]) -> list[Answer]:
    scores = model.log_likelihoods([(task.prompt(item), task.letters(item)) for item in items])
    found = []
    for item, own in zip(items, scores):
        by_letter = dict(zip(task.letters(item), own))
        if any(map(math.isnan, own)):  # the server tells of other beginnings only
            found.append(Answer(item.id, "", reading.NONE, unread=True))
            continue
        best = sorted(sorted(by_letter, key=lambda letter: (-by_letter[letter], letter))[:_wanted(task, item)])
        found.append(Answer(item.id, ",".join(best), ",".join(best), log_likelihoods=by_letter))
    return found


def _constrained(model: Checkpoint, task: Task, items: Sequence[Item]) -> list[Answer]:
    pieces = Pieces(model.tokenizer)
    allowed = [OneOf(pieces, [",".join(own) for own in itertools.combinations(task.letters(item), _wanted(task, item))])
               for item in items]
    written = model.generate_constrained([task.prompt(item) for item in items], allowed, _MOST_TOKENS[task.kind])
    texts = [model.tokenizer.decode(ids) for ids in written]
    return [Answer(item.id, text, text) for item, text in zip(items, texts)]


def _wanted(task: Task, item: Item) -> int:
    """Letters of an answer: an examination says how many it wants."""
    return len(item.answer) if task.kind == "exam" else 1


def _spans(model: Checkpoint, task: Task, items: Sequence[Item]) -> list[Answer]:
    pieces = Pieces(model.tokenizer)
    allowed = [SpanList(pieces, tables.text_of(item.question)) for item in items]
    written = model.generate_constrained([task.prompt(item) for item in items], allowed, _MOST_TOKENS[task.kind])
    return [Answer(item.id, model.tokenizer.decode(ids), own.spans())
            for item, ids, own in zip(items, written, allowed)]


def probabilities(answer: Answer) -> list[float]:
    """Of the item's letters, from their log-likelihoods: what the model gives to other texts is left out."""
    own = answer.log_likelihoods or {}
    largest = max(own.values())
    weights = [math.exp(value - largest) for value in own.values()]
    return [weight / sum(weights) for weight in weights]
