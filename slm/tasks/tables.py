"""Choice and extraction tasks in the CSV shape of JMED-LLM: tag, question, optionA …, answer."""

import ast
import csv
import dataclasses
import hashlib
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Literal

from slm.files import long_csv_fields, text_lines
from slm.tasks import reading, split
from slm.tasks.benchmark import Benchmark, Provenance
from slm.tasks.kinds import KINDS
from slm.tasks.task import Item, Message, Task

_ESCAPES = str.maketrans({"\\": "\\\\", "'": "\\'", "\n": "\\n"})
_QUOTED = re.compile(r"\n「(.*)」\s*\Z", re.DOTALL)

# JMED-LLM's wording (sociocom/JMED-LLM, src/prompts); scores are comparable only with it.
CHOICE_SYSTEM = ("与えられた医学に関する質問と選択肢から、最も適切な回答を選択してください。なお、回答には選択肢の"
                 "アルファベット（例：A）のみを含め、他には何も含めないことを厳守してください。")
EXTRACTION_SYSTEM = ("与えられた医学に関する質問から、最も適切な回答をしてください。なお、回答にはPythonのリスト形式"
                     "（例：['回答1', '回答2']）のみを含め、他には何も含めないことを厳守してください。")


@dataclasses.dataclass(frozen=True)
class TableConfig:
    """A task of your own, in a CSV file."""
    name: str
    file: str  # the rows that are scored
    kind: Literal["choice", "extraction"] = "choice"
    headline: Literal["", "kappa", "linear_kappa", "accuracy", "exact_f1", "partial_f1"] = ""  # empty: its kind's
    train_file: str = ""  # rows to learn from; they must not be among the others


def choice_prompt(item: Item) -> list[Message]:
    options = "".join(f"{letter}. {text}\n" for letter, text in item.options)
    return [{"role": "system", "content": CHOICE_SYSTEM},
            {"role": "user", "content": f"質問: {item.question}\n選択肢:\n{options}"}]


def extraction_prompt(item: Item) -> list[Message]:
    return [{"role": "system", "content": EXTRACTION_SYSTEM}, {"role": "user", "content": item.question}]


def choice_reply(item: Item) -> str:
    return item.answer[0]


def extraction_reply(item: Item) -> str:
    """The entities as a Python list, each once, in an order that carries no information.

    They are a set. In random order, each is equally likely to come next, so a small greedy model begins with what it
    is surest of; in the order of the text, its first wrong step would skip what comes before.
    """
    def shuffled(entity: str) -> bytes:
        return hashlib.sha256(f"{item.question}\0{entity}".encode("utf-8", "surrogatepass")).digest()
    # Not repr(): it would spell out an ideographic space as \\u3000.
    quoted = (f"'{entity.translate(_ESCAPES)}'" for entity in sorted(dict.fromkeys(item.answer), key=shuffled))
    return f"[{', '.join(quoted)}]"


def task(name: str, kind: str, items: tuple[Item, ...], headline: str = "", license: str = "unknown") -> Task:
    """A task with the prompts of its kind; the headline is kappa or exact F1 if it is left empty.

    Raises:
      ValueError: a headline that its kind does not have.
    """
    metrics = KINDS[kind].metrics
    headline = headline or metrics[0]
    if headline not in metrics:
        raise ValueError(f"the task {name} is of kind {kind} and has no {headline}: choose one of {', '.join(metrics)}")
    second = next(metric for metric in reversed(metrics) if metric != headline)
    prompt, reply = {"choice": (choice_prompt, choice_reply), "extraction": (extraction_prompt, extraction_reply)}[kind]
    return Task(name, kind, items, (headline, second), prompt, reply, license)


def text_of(question: str) -> str:
    """What a question asks about, as written: the text in 「…」 on separate lines, else all of it."""
    quoted = _QUOTED.search(question)
    return quoted[1] if quoted else question


def read(path: Path, kind: str, document: Callable[[str], str] = lambda question: question) -> tuple[Item, ...]:
    """The rows of a CSV file as items.

    Args:
      document: question → the text it is about, which other rows may share.

    Raises:
      ValueError: not such a table; the message names the row, counted from 0 without the header.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the path of a CSV file with the columns question, "
                                f"{'optionA, optionB … ' if kind == 'choice' else ''}and answer")
    with long_csv_fields() as limit:
        reader = csv.DictReader(text_lines(path))
        try:
            names = reader.fieldnames or ()
            required = ["question", "answer", *(["optionA", "optionB"] if kind == "choice" else [])]
            if missing := [name for name in required if name not in names]:
                # The first line may be a row, so its cells are not printed.
                raise ValueError(f"{path} has no column {', '.join(missing)} among the {len(names)} of its first line: "
                                 f"a task of kind {kind} needs {', '.join(required)}")
            items = tuple(_item(f"{path}, row {index}", f"{path.stem}:{index}", row, kind, document)
                          for index, row in enumerate(reader))
        except csv.Error as error:
            raise ValueError(f"{path} is not CSV after line {reader.line_num} ({error}): a field has at most {limit:,} "
                             "characters") from None
    if not items:
        raise ValueError(f"{path} has no rows")
    return items


def _item(where: str, name: str, row: Mapping[str, str | None], kind: str, document: Callable[[str], str]) -> Item:
    question, answer = row["question"], row["answer"]
    if not question or answer is None:
        raise ValueError(f"{where} has no question or no answer: each row needs both")
    options: tuple[tuple[str, str], ...] = ()
    if kind == "choice":
        columns = [column for column in row if column and re.fullmatch("option[A-Z]", column)]
        options = tuple((column[-1], text) for column in columns if (text := row[column]))
        if answer not in dict(options):
            raise ValueError(f"{where} has an answer of {len(answer)} characters, which is not one of the letters of "
                             f"its options, {', '.join(dict(options))}: write one of them")
        return Item(name, question, (answer,), options, row.get("tag") or "", document(question))
    return Item(name, question, _entities(where, answer), options, row.get("tag") or "", document(question))


def _entities(where: str, answer: str) -> tuple[str, ...]:
    try:
        value = ast.literal_eval(answer)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        value = None
    if not isinstance(value, list) or not all(isinstance(entity, str) for entity in value):
        raise ValueError(f"{where} has an answer of {len(answer)} characters, which is not a Python list of "
                         "strings: write ['first', 'second']")
    return tuple(value)


def _read_letter(item: Item, output: str) -> tuple[str, bool]:
    """As a person reads it, where no published score depends on JMED-LLM's reading."""
    letter = reading.find_letter(output, item.options)
    return letter, letter == reading.NONE


class Tables(Benchmark):
    """CSV files of your own; each may name another file to learn from."""
    name = "tables"

    def tasks(self, settings: tuple[TableConfig, ...], provenance: Provenance,
              folds: Collection[int]) -> dict[str, Task]:
        if not settings:
            raise ValueError("benchmark=tables has no tables: name one, as configs/evaluate.py does")
        tasks = (task(table.name, table.kind, read(Path(table.file), table.kind, split.document), table.headline)
                 for table in settings)
        return {made.name: dataclasses.replace(made, read=_read_letter if made.kind == "choice" else None)
                for made in tasks}

    def training(self, settings: tuple[TableConfig, ...], task: Task, provenance: Provenance,
                 fold: int | None = None) -> Sequence[Item]:
        table = next(table for table in settings if table.name == task.name)
        items = read(Path(table.train_file), table.kind) if table.train_file else ()
        scored = {item.question for item in task.items}
        if shared := next((item for item in items if item.question in scored), None):
            raise ValueError(f"{table.train_file} and {table.file} share questions, the first is {shared.id}: remove "
                             "scored rows from the training file")
        return items
