"""The sets that fine-tuning mixes: files of conversations, and the training rows of benchmarks."""

import dataclasses
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from slm import benchmarks
from slm.benchmarks import REGISTRY
from slm.corpus import lexicon
from slm.corpus.sources import find
from slm.data.conversations import has_empty_answer, is_held_out, read_alpaca, read_messages
from slm.data.lexicon_notes import lexicon_notes
from slm.sample import short_notes
from slm.tasks import annotated, jmed_llm, split, tables
from slm.tasks.benchmark import Protocol
from slm.tasks.task import Item, Message, Task, conversation

_READERS: dict[str, Callable[[Path], Iterator[list[Message]]]] = {"messages": read_messages, "alpaca": read_alpaca}
FILE_KINDS = (*_READERS, "choice", "extraction", "annotated", "lexicon_notes")


@dataclasses.dataclass(frozen=True)
class SetConfig:
    """One set of conversations."""
    name: str
    # messages, alpaca: JSON Lines; choice, extraction: CSV tables; annotated: texts with entities
    # (tasks/annotated.py); lexicon_notes: synthetic notes with the names of two lists, diseases and drugs, asked in
    # JMED-LLM's words if its data_dir is set; or a benchmark of slm/benchmarks.py: what the protocol allows of the task
    # or year that the set is named after.
    kind: str = "messages"
    files: str = ""  # GLOB[,GLOB…] of the kinds that are files
    weight: float = 1.0  # how often its rows are read for each time that those of weight 1 are
    limit: int = 0  # conversations; 0: all
    short: float = 0.0  # share of the questions of tables and benchmarks that are asked in few words

    def __post_init__(self):
        known = (*FILE_KINDS, *REGISTRY)
        if self.kind not in known:
            raise ValueError(f"sets.{self.name}.kind={self.kind!r}: choose one of {', '.join(known)}")
        if (self.kind in FILE_KINDS) != bool(self.files):
            raise ValueError(f"sets.{self.name} is of kind {self.kind} and has files={self.files!r}: "
                             + ("the benchmark's settings say where it is" if self.files else "name its files"))
        if not 0 <= self.short <= 1:
            raise ValueError(f"sets.{self.name}.short={self.short}: give a share from 0 to 1")
        if self.weight <= 0 or self.limit < 0:
            raise ValueError(f"sets.{self.name} has weight={self.weight} and limit={self.limit}: a weight is above 0, "
                             "a limit 0 (all) or above")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A conversation, its location, and the text that conversations to be held out together have in common."""
    location: str
    group: str
    messages: list[Message]
    task: Task | None = None  # and the item of it that the conversation asks
    item: Item | None = None


@dataclasses.dataclass(frozen=True)
class Access(benchmarks.Settings):
    """Where benchmarks are, and what the protocol allows to learn from them."""
    protocol: Protocol = "P2"
    fold: int | None = None


def read(config: SetConfig, access: Access, seed: int) -> list[Entry]:
    """The conversations of a set."""
    if reader := _READERS.get(config.kind):
        entries = [Entry(f"{path}, conversation {number}", _user_text(messages), messages)
                   for path in find(config.files) for number, messages in enumerate(reader(path))]
    else:
        entries = [Entry(item.id, item.document or item.question, _conversation(task, item, config.short), task, item)
                   for task in _tasks(config, access, seed) for item in task.items]
    if not entries:
        raise ValueError(f"sets.{config.name} has no conversation under protocol={access.protocol}: leave it out")
    number = len(entries)
    entries = [entry for entry in entries if not has_empty_answer(entry.messages)]
    if not entries:
        raise ValueError(f"sets.{config.name} has no answer to learn from: of {number} conversations all have an empty "
                         "one")
    if len(entries) < number:
        print(f"sets.{config.name}: left out {number - len(entries)} of {number} conversations, whose answer is empty",
              file=sys.stderr)
    if config.limit and len(entries) > config.limit:  # spread over the set, which may be sorted
        entries = [entries[number * len(entries) // config.limit] for number in range(config.limit)]
    return entries


def tasks_of(entries: Iterable[Entry]) -> dict[str, Task]:
    """The tasks that conversations ask, with the items of these conversations."""
    tasks: dict[str, Task] = {}
    items: dict[str, list[Item]] = defaultdict(list)
    for entry in entries:
        if entry.task and entry.item:
            tasks.setdefault(entry.task.name, entry.task)
            items[entry.task.name].append(entry.item)
    return {name: dataclasses.replace(task, items=tuple(items[name])) for name, task in tasks.items()}


def _conversation(task: Task, item: Item, short: float) -> list[Message]:
    """The item in the task's own prompt, or in a short one; a hash of its id decides."""
    if task.kind == "tagging":  # it is answered by a head
        return task.prompt(item)
    messages = conversation(task, item)
    if not is_held_out(item.id, short):
        return messages
    text = tables.text_of(item.question)
    asked = f"{item.tag}「{text}」" if item.tag and text != item.question else item.question
    return [{"role": "user", "content": asked}, messages[-1]]


def _user_text(messages: list[Message]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def _tasks(config: SetConfig, access: Access, seed: int) -> list[Task]:
    if config.kind in REGISTRY:
        return REGISTRY[config.kind].training_tasks(
            benchmarks.settings_of(access, config.kind), config.name, access.protocol, access.fold, seed)
    if config.kind == "lexicon_notes":
        lists = [[entry.surface for entry in entries] for entries in lexicon.lists(config.files)]
        if len(lists) != 2:
            raise ValueError(f"sets.{config.name} has files={config.files!r}, {len(lists)} lists: give diseases, "
                             "then drugs")
        diseases, drugs = lists
        notes = lexicon_notes(diseases, drugs, config.limit or 1000, seed, _wordings(access))
        return [tables.task(config.name, "extraction", tuple(notes))]
    if config.kind == "annotated":
        return [annotated.task(config.name, tuple(map(annotated.item, annotated.read(path))))
                for path in find(config.files)]
    return [tables.task(config.name, config.kind, tables.read(path, config.kind, split.document))
            for path in find(config.files)]


def _wordings(access: Access) -> dict[str, list[str]]:
    """{tag: how such entities are asked for}: in the words of JMED-LLM's training rows where a copy is named.

    The words of a question are not a document: a model that has seen them alone is still one of P0.
    """
    settings = benchmarks.settings_of(access, "jmed_llm")
    if not settings.data_dir:
        return short_notes.QUESTIONS
    wordings: dict[str, dict[str, None]] = {}
    for name in ("mrner_disease", "nrner"):
        for item in jmed_llm.training(jmed_llm.folder(settings), name, access.protocol, access.fold).items:
            first = re.sub("症例報告|看護記録|読影レポート", "{kind}", item.question.split("\n")[0])
            wordings.setdefault(item.tag, {})[first + "\n「{note}」"] = None
    return {tag: list(questions) for tag, questions in wordings.items()}


def refuse_leaks(entries: Iterable[Entry], access: Access) -> None:
    """Raises a `ValueError` that names conversations which hold a document of the rows that will be scored.

    Under P1, which is leaky by its own rule, nothing is refused.
    """
    if access.protocol == "P1":
        return
    folder = jmed_llm.folder(benchmarks.settings_of(access, "jmed_llm"))
    tests = jmed_llm.scored_questions(folder, access.protocol, access.fold)
    texts = ((entry.location, "\n".join(message["content"] for message in entry.messages)) for entry in entries)
    if leaks := split.leaks(texts, tests):
        named = "; ".join(f"{location} holds the document of {task} row {row}" for location, task, row in leaks[:5])
        raise ValueError(f"{len(leaks)} training conversations hold test documents of JMED-LLM: {named}"
                         f"{' …' if len(leaks) > 5 else ''}. Remove them, or set protocol=P1, which every leaderboard "
                         "then shows")
