"""A benchmark as data: items, how they are asked, and what a right answer is. No model."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

Message = dict[str, Any]  # {role: system | user | assistant, content}; weight 0: an assistant's turn, not learned


@dataclasses.dataclass(frozen=True)
class Item:
    """One question of a task."""
    id: str  # FILE:ROW, the first row being 0
    question: str  # as it is in the file
    answer: tuple[str, ...]  # a letter (an exam: several), the entities in the file's order, or START-END:LABEL
    options: tuple[tuple[str, str], ...] = ()  # (letter, text); empty: extraction, or an answer that is a number
    tag: str = ""
    document: str = ""  # items of one document stay together, in folds and in the bootstrap


@dataclasses.dataclass(frozen=True)
class Task:
    """Items of one kind, with their prompt and metrics.

    Attributes:
      kind: a name in kinds.KINDS.
      metrics: the headline, then the second; names in scoring/metrics.py.
      prompt: what the model is asked, zero-shot, system turn included.
      reply: the right answer as the assistant should write it.
      read: (item, model output) → (answer, whether it could not be read); None: as its kind.
    """
    name: str
    kind: str
    items: tuple[Item, ...]
    metrics: tuple[str, str]
    prompt: Callable[[Item], list[Message]]
    reply: Callable[[Item], str]
    license: str = "unknown"
    read: Callable[[Item, str], tuple[Any, bool]] | None = None

    def letters(self, item: Item) -> tuple[str, ...]:
        return tuple(letter for letter, _ in item.options)


def without_system(messages: list[Message]) -> list[Message]:
    """For a model without a system role: its text precedes the first user turn, after a blank line."""
    if messages[0]["role"] != "system":
        return messages
    first, user, *rest = messages
    return [{"role": "user", "content": f"{first['content']}\n\n{user['content']}"}, *rest]


def spread(items: Sequence[Item], limit: int) -> tuple[Item, ...]:
    """At most `limit` items (0: all), spread over the task: files are sorted by tag and answer."""
    number = len(items)
    if not limit or number <= limit:
        return tuple(items)
    return tuple(items[index * number // limit] for index in range(limit))


def conversation(task: Task, item: Item) -> list[Message]:
    """The item as a training conversation; worked examples in its prompt are not in the loss."""
    prompt = [message | {"weight": 0} if message["role"] == "assistant" else message for message in task.prompt(item)]
    return [*prompt, {"role": "assistant", "content": task.reply(item)}]


Tasks = Mapping[str, Task]
