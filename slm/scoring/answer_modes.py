"""Answer modes: how an answer is taken from a model.

free         what it writes, read as the benchmark reads it
constrained  what it writes where only valid letters are allowed
likelihood   the option with the highest log-probability as the answer's first token; the fairest for small models
spans        a list in which only spans of the question are allowed
labels       the label, or the labelled spans, of a model with label heads; it has no other mode, and needs no prompt
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from slm.data import labelled
from slm.inference.constraints import OneOf, Pieces, SpanList
from slm.inference.labeller import Labeller
from slm.model.presets import LabelGroup
from slm.scoring.models import Checkpoint, LabelModel, Model
from slm.tasks import annotated, reading, tables
from slm.tasks.kinds import KINDS, AnswerMode, Kind
from slm.tasks.task import Item, Task
from slm.text.chat import without_thoughts
from slm.text.spans import Span


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a model answered to an item.

    Attributes:
      item: its id.
      raw: what the model wrote; of the likelihood, the letters; of a head, JSON of its spans, confidences included.
      value: a letter or letters, or a list of entities, of a head each as START-END:LABEL.
      log_likelihoods: of the item's letters, in nats.
    """
    item: str
    raw: str
    value: Any
    unread: bool = False
    log_likelihoods: dict[str, float] | None = None


def answers(model: Model, task: Task, items: Sequence[Item], mode: AnswerMode) -> list[Answer]:
    """The model's answer to each item.

    Raises:
      ValueError: an answer mode that the task's kind does not have, or that the model cannot do.
    """
    kind = KINDS[task.kind]
    if isinstance(model, LabelModel):
        return _labels(model, task, items)
    if mode not in kind.modes:
        raise ValueError(f"the task {task.name} is of kind {task.kind} and has no answer mode {mode!r}: choose one of "
                         f"{', '.join(kind.modes)}")
    if mode in ("constrained", "spans") and not isinstance(model, Checkpoint):
        raise ValueError(f"{model.name} cannot be constrained while it writes, as the answer mode {mode!r} needs: set "
                         f"--config.{task.kind}=free")
    if mode == "labels":
        raise ValueError(f"{model.name} has no label heads, which the task {task.name} of kind {task.kind} needs: "
                         "train them with --config=configs/sft.py:tag, and name that training as --config.checkpoint")
    beyond = next((item for item in items if task.kind == "choice" and max(task.letters(item)) > "F"), None)
    if mode == "free" and beyond and not task.read:
        raise ValueError(f"{beyond.id} has the option {max(task.letters(beyond))}, and free generation is read as "
                         "JMED-LLM does, by the letters A to F: choose --config.choice=likelihood")
    ask: dict[str, Callable[..., list[Answer]]] = {
        "free": _free, "likelihood": _likelihood, "constrained": _constrained, "spans": _spans}
    numeric = [item for item in items if task.kind == "exam" and not item.options]  # the answer is a number
    others = [item for item in items if item not in numeric]
    by_item = {answer.item: answer for answer in [*_free(model, task, numeric), *ask[mode](model, task, others)]}
    return [by_item[item.id] for item in items]


def from_text(read: Callable[[Item, str], tuple[Any, bool]], item: Item, raw: str) -> Answer:
    """What a model wrote, read without its thoughts."""
    value, unread = read(item, without_thoughts(raw))
    return Answer(item.id, raw, value, unread)


def from_log_likelihoods(kind: Kind, item: Item, values: Sequence[float]) -> Answer:
    """The likeliest of an item's letters, as many as are wanted.

    Args:
      values: of each letter, in nats; NaN where a server reports the probabilities of other beginnings only.
    """
    by_letter = dict(zip((letter for letter, _ in item.options), values))
    if any(map(math.isnan, values)):
        return Answer(item.id, "", reading.NONE, unread=True)
    ranked = sorted(by_letter, key=lambda letter: (-by_letter[letter], letter))
    best = ",".join(sorted(ranked[:kind.letters_wanted(item)]))
    return Answer(item.id, best, best, log_likelihoods=by_letter)


def _free(model: Model, task: Task, items: Sequence[Item]) -> list[Answer]:
    kind = KINDS[task.kind]
    texts = model.generate([task.prompt(item) for item in items], kind.max_tokens)
    return [from_text(task.read or kind.read, item, text) for item, text in zip(items, texts)]


def _likelihood(model: Model, task: Task, items: Sequence[Item]) -> list[Answer]:
    values = model.log_likelihoods([(task.prompt(item), task.letters(item)) for item in items])
    return [from_log_likelihoods(KINDS[task.kind], item, of_item) for item, of_item in zip(items, values)]


def _constrained(model: Checkpoint, task: Task, items: Sequence[Item]) -> list[Answer]:
    kind, pieces = KINDS[task.kind], Pieces(model.tokenizer)
    constraints = [OneOf(pieces, [",".join(letters) for letters in itertools.combinations(
        task.letters(item), kind.letters_wanted(item))]) for item in items]
    ids = model.generate_constrained([task.prompt(item) for item in items], constraints, kind.max_tokens)
    texts = [model.tokenizer.decode(of_item) for of_item in ids]
    return [Answer(item.id, text, text) for item, text in zip(items, texts)]


def _spans(model: Checkpoint, task: Task, items: Sequence[Item]) -> list[Answer]:
    pieces = Pieces(model.tokenizer)
    constraints = [SpanList(pieces, tables.text_of(item.question)) for item in items]
    ids = model.generate_constrained([task.prompt(item) for item in items], constraints, KINDS[task.kind].max_tokens)
    return [Answer(item.id, model.tokenizer.decode(of_item), constraint.spans())
            for item, of_item, constraint in zip(items, ids, constraints)]


def default(model: Model, task: Task) -> AnswerMode:
    """The answer mode of a model that can be constrained."""
    return "labels" if isinstance(model, LabelModel) else KINDS[task.kind].modes[0]


def _labels(model: LabelModel, task: Task, items: Sequence[Item]) -> list[Answer]:
    """One pass over a text answers all that is asked about it."""
    labeller = model.labeller
    groups = [labelled.group_of(labeller.groups.values(), task, item) for item in items]
    texts = [labelled.read_text(group, item) for group, item in zip(groups, items)]
    different = list(dict.fromkeys(texts))
    readings = dict(zip(different, labeller.read(different)))
    answers = []
    for item, group, text in zip(items, groups, texts):
        if task.kind == "choice":
            shares = labeller.log_shares(group.name, readings[text].text)
            answers.append(_chosen_label(labeller, task, item, group, shares))
            continue
        spans = labeller.spans(group.name, readings[text])
        if task.kind == "tagging":
            answers.append(Answer(item.id, json.dumps(spans, ensure_ascii=False),
                                  [annotated.write_span(Span(*span[:3])) for span in spans]))
            continue
        wanted = labelled.tag_of(task, item)
        entities = list(dict.fromkeys(text[span.start:span.end] for span in spans if span.label == wanted))
        answers.append(Answer(item.id, json.dumps(entities, ensure_ascii=False), entities))
    return answers


def _chosen_label(labeller: Labeller, task: Task, item: Item, group: LabelGroup, log_shares: np.ndarray) -> Answer:
    """The chosen label; log-likelihoods are those of the item's letters."""
    letters = task.letters(item)
    by_letter = {letter: float(share) for letter, share in zip(group.labels, log_shares) if letter in letters}
    label = labeller.chosen(group.name, log_shares)
    return Answer(item.id, label, label, log_likelihoods=by_letter or None)


def probabilities(answer: Answer) -> list[float]:
    """Of the item's letters, from their log-likelihoods: what the model gives to other texts is left out."""
    values = list((answer.log_likelihoods or {}).values())
    weights = [math.exp(value - max(values)) for value in values]
    return [weight / sum(weights) for weight in weights]
