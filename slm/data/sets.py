"""The sets that fine-tuning mixes: files of conversations, and the training rows of benchmarks."""

import dataclasses
import re
from collections.abc import Iterable
from typing import Literal

from slm.corpus import lexicon
from slm.corpus.sources import find
from slm.data.conversations import read_alpaca, read_messages
from slm.data.lexicon_notes import lexicon_notes
from slm.sample import short_notes
from slm.sample import tasks as sample_tasks
from slm.tasks import igakuqa, jmed_llm, split, tables
from slm.tasks.igakuqa import IgakuQAConfig
from slm.tasks.jmed_llm import JmedLlmConfig, Protocol
from slm.tasks.task import Message, Task, conversation

Kind = Literal["messages", "alpaca", "choice", "extraction", "lexicon_notes", "sample", "jmed_llm", "igakuqa"]
_OF_FILES = ("messages", "alpaca", "choice", "extraction", "lexicon_notes")


@dataclasses.dataclass(frozen=True)
class SetConfig:
    """One set of conversations."""
    name: str
    # messages, alpaca: JSON Lines; choice, extraction: CSV tables; lexicon_notes: synthetic notes with the names of two
    # lists, diseases and drugs, asked in JMED-LLM's words if its data_dir is set; sample: generated tasks; jmed_llm,
    # igakuqa: what the protocol lets learn from of the task or the year named like the set.
    kind: Kind = "messages"
    files: str = ""  # GLOB[,GLOB…] of the first five kinds
    weight: float = 1.0  # how often its rows are read for each time that those of weight 1 are
    limit: int = 0  # conversations; 0: all

    def __post_init__(self):
        if (self.kind in _OF_FILES) != bool(self.files):
            raise ValueError(f"sets.{self.name} is of kind {self.kind} and has files={self.files!r}: "
                             + ("the benchmark's settings say where it is" if self.files else "name its files"))
        if self.weight <= 0 or self.limit < 0:
            raise ValueError(f"sets.{self.name} has weight={self.weight} and limit={self.limit}: a weight is above 0, "
                             "a limit 0 (all) or above")


@dataclasses.dataclass(frozen=True)
class Entry:
    """A conversation, its place, and the text that it shares with others which must be held out with it."""
    place: str
    group: str
    messages: list[Message]


@dataclasses.dataclass(frozen=True)
class Benchmarks:
    """Where benchmarks are, and what may be learned from them."""
    jmed_llm: JmedLlmConfig
    igakuqa: IgakuQAConfig
    protocol: Protocol
    fold: int | None = None


def read(config: SetConfig, benchmarks: Benchmarks, seed: int) -> list[Entry]:
    """The conversations of a set."""
    if config.kind in ("messages", "alpaca"):
        reader = {"messages": read_messages, "alpaca": read_alpaca}[config.kind]
        entries = [Entry(f"{path}, conversation {number}", _asked(messages), messages)
                   for path in find(config.files.split(",")) for number, messages in enumerate(reader(path))]
    else:
        entries = [Entry(item.id, item.document or item.question, conversation(task, item))
                   for task in _tasks(config, benchmarks, seed) for item in task.items]
    if not entries:
        raise ValueError(f"sets.{config.name} has no conversation under protocol={benchmarks.protocol}: leave it out")
    if config.limit and len(entries) > config.limit:  # spread over the set, which may be sorted
        entries = [entries[number * len(entries) // config.limit] for number in range(config.limit)]
    return entries


def _asked(messages: list[Message]) -> str:
    return "\n".join(message["content"] for message in messages if message["role"] == "user")


def _tasks(config: SetConfig, benchmarks: Benchmarks, seed: int) -> list[Task]:
    if config.kind == "sample":
        return list(sample_tasks.training(seed).values())
    if config.kind == "jmed_llm":
        folder = jmed_llm.folder(benchmarks.jmed_llm)
        return [jmed_llm.training(folder, config.name, benchmarks.protocol, benchmarks.fold)]
    if config.kind == "igakuqa":
        if not re.fullmatch(r"20\d\d", config.name):
            raise ValueError(f"sets.{config.name} is of kind igakuqa: its name is one year, as 2018")
        return [igakuqa.load(igakuqa.folder(benchmarks.igakuqa), config.name)[0]]
    if config.kind == "lexicon_notes":
        lists = [[entry.surface for entry in entries] for entries in lexicon.lists(config.files)]
        if len(lists) != 2:
            raise ValueError(f"sets.{config.name} has files={config.files!r}, {len(lists)} lists: give diseases, "
                             "then drugs")
        diseases, drugs = lists
        notes = lexicon_notes(diseases, drugs, config.limit or 1000, seed, _wordings(benchmarks))
        return [tables.task(config.name, "extraction", tuple(notes), "exact_f1")]
    headline = {"choice": "kappa", "extraction": "exact_f1"}[config.kind]
    return [tables.task(config.name, config.kind, tables.read(path, config.kind, split.document), headline)
            for path in find(config.files.split(","))]


def _wordings(benchmarks: Benchmarks) -> dict[str, list[str]]:
    """{tag: how such entities are asked for}: in the words of JMED-LLM's training rows where a copy is named.

    Words of a question are no document: a model that knows them alone is still one of P0.
    """
    if not benchmarks.jmed_llm.data_dir:
        return short_notes.QUESTIONS
    data_dir = jmed_llm.folder(benchmarks.jmed_llm)
    wordings: dict[str, dict[str, None]] = {}
    for name in ("mrner_disease", "nrner"):
        for item in jmed_llm.training(data_dir, name, benchmarks.protocol, benchmarks.fold).items:
            first = re.sub("症例報告|看護記録|読影レポート", "{kind}", item.question.split("\n")[0])
            wordings.setdefault(item.tag, {})[first + "\n「{note}」"] = None
    return {tag: list(of_tag) for tag, of_tag in wordings.items()}


def refuse_leaks(entries: Iterable[Entry], benchmarks: Benchmarks) -> None:
    """Raises a `ValueError` that names conversations which hold a document of the rows that will be scored.

    Under P1, which is leaky by its own rule, nothing is refused.
    """
    if benchmarks.protocol == "P1":
        return
    tests = jmed_llm.scored_questions(jmed_llm.folder(benchmarks.jmed_llm), benchmarks.protocol, benchmarks.fold)
    texts = ((entry.place, "\n".join(message["content"] for message in entry.messages)) for entry in entries)
    found = split.leaks(texts, tests)
    if found:
        named = "; ".join(f"{place} holds the document of {task} row {row}" for place, task, row in found[:5])
        raise ValueError(f"{len(found)} training conversations hold test documents of JMED-LLM: {named}"
                         f"{' …' if len(found) > 5 else ''}. Take them out, or set protocol=P1, which says so on every "
                         "leaderboard")
