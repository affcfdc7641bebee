"""What the YAML files beside this one call: our tasks as documents of the harness, our answer_modes and metrics as its.

A document holds the prompt that tasks/ makes, so the wording is there alone. What the harness knows of an answer (its
text, or log-likelihoods) is read by evaluation/answer_modes.py.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from slm.evaluation import answer_modes, leaderboard
from slm.evaluation.metrics import METRICS
from slm.tasks import igakuqa, jmed_llm
from slm.tasks.task import Item, Task

Document = dict[str, Any]


def jmed_llm_documents(name: str, jmed_llm: str = "", limit: int = 0, **_) -> dict:
    """The test rows of a task, from a checkout of the benchmark's repository."""
    return _datasets(_jmed_llm(name, jmed_llm), limit)


def igakuqa_documents(igakuqa: str = "", years: str = "all", text_only: bool = False, lettered: bool = False,
                      limit: int = 0, **_) -> dict:
    """Examinations, from a checkout; the worked examples are a split of their own.

    Args:
      lettered: without the problems whose answer is a number.
    """
    task = _igakuqa(igakuqa, years, text_only)
    return _datasets(task, limit, lambda item: bool(item.options) or not lettered)


def _jmed_llm(name: str, folder: str) -> Task:
    return jmed_llm.test(_folder("jmed_llm", folder))[name]


def _igakuqa(folder: str, years: str, text_only: bool) -> Task:
    return igakuqa.load(_folder("igakuqa", folder), str(years), text_only)[0]


def _folder(name: str, folder: str) -> Path:
    if not folder:
        raise ValueError(f"the folder of {name} is not known, and nothing is downloaded here: give the harness "
                         f"--metadata '{{\"{name}\": \"FOLDER\"}}', a checkout of the benchmark's repository")
    return Path(folder)


def _datasets(task: Task, limit: int, kept: Callable[[Item], bool] = lambda item: True) -> dict:
    import datasets
    items = [item for item in task.items if kept(item)]
    if limit and limit < len(items):  # spread over the task: files are sorted by tag and answer
        items = [items[place * len(items) // limit] for place in range(limit)]
    made = {"test": datasets.Dataset.from_list([_document(task, item) for item in items])}
    turns = task.prompt(items[0])[1:-1]
    if turns:
        made["examples"] = datasets.Dataset.from_list([
            {"user": asked["content"], "reply": said["content"], "letters": []}
            for asked, said in zip(turns[::2], turns[1::2])])
    return made


def _document(task: Task, item: Item) -> Document:
    system, *_, user = task.prompt(item)
    return {"id": item.id, "system": system["content"], "user": user["content"], "letters": list(task.letters(item)),
            "answer": list(item.answer), "reply": task.reply(item)}


# Answers --------------------------------------------------------------------------------------------------------------

class _Said:
    """A model that has answered one item already."""
    name, truncated = "the harness", 0

    def __init__(self, results: Sequence):
        self._results = results

    def generate(self, conversations, max_tokens):
        return [self._results[0] for _ in conversations]

    def log_likelihoods(self, requests):
        return [[value for value, _ in self._results] for _ in requests]


def _scored(kind: str, readout: answer_modes.AnswerMode, document: Document, results: Sequence) -> dict:
    """{metric: (gold, answer)}, as evaluation/leaderboard.py compares them."""
    item = Item(document["id"], "", tuple(document["answer"]), tuple((letter, "") for letter in document["letters"]))
    task = Task(kind, kind, (item,), ("accuracy", "kappa"), lambda item: [], lambda item: "")
    [answer] = answer_modes.answers(_Said(results), task, [item], readout)
    gold, value = list(item.answer), answer.value
    if kind == "choice":
        gold = item.answer[0]
    if kind == "exam":
        gold, value = 1, int(igakuqa.is_right(item.id, value, item.answer))
    return {"unread": float(answer.unread), **{name: (gold, value) for name in leaderboard.OF_KIND[kind]}}


def choice_by_likelihood(document: Document, results: Sequence) -> dict:
    return _scored("choice", "likelihood", document, results)


def choice(document: Document, results: Sequence) -> dict:
    return _scored("choice", "free", document, results)


def extraction(document: Document, results: Sequence) -> dict:
    return _scored("extraction", "free", document, results)


def exam(document: Document, results: Sequence) -> dict:
    return _scored("exam", "free", document, results)


def exam_by_likelihood(document: Document, results: Sequence) -> dict:
    return _scored("exam", "likelihood", document, results)


# Metrics over the documents -------------------------------------------------------------------------------------------

def _over(name: str) -> Callable[[Sequence[tuple]], float]:
    def metric(pairs: Sequence[tuple]) -> float:
        return METRICS[name]([gold for gold, _ in pairs], [answer for _, answer in pairs])
    return metric


kappa, linear_kappa, accuracy = _over("kappa"), _over("linear_kappa"), _over("accuracy")
exact_f1, partial_f1, partial_f1_reference = _over("exact_f1"), _over("partial_f1"), _over("partial_f1_reference")
