"""Our benchmarks as tasks of lm-evaluation-harness, made from the registry: its names are BENCHMARK_TASK[_MODE].

A document holds the prompt that tasks/ makes, so the wording is written once. What the harness gives of an answer (its
text, or log-likelihoods) is read and compared as everywhere else.
"""

import functools
import operator
from collections.abc import Sequence
from typing import Any

from slm.scoring import answer_modes
from slm.scoring.metrics import METRICS
from slm.tasks.kinds import KINDS, AnswerMode
from slm.tasks.task import Item, Task, spread

Document = dict[str, Any]

# Of a kind of task: suffix of the harness task's name → answer mode.
MODES: dict[str, dict[str, AnswerMode]] = {
    "choice": {"": "likelihood", "_free": "free"}, "extraction": {"": "free"},
    "exam": {"": "free", "_likelihood": "likelihood"}, "tagging": {}}  # the harness asks no heads


def configs(benchmark: str, tasks: dict[str, Task], limit: int) -> dict[str, dict[str, Any]]:
    """{name: config of the harness} of a benchmark's tasks, one for each answer mode; at most `limit` rows (0: all)."""
    made = {}
    for task in tasks.values():
        base = benchmark if task.name.startswith(benchmark) else f"{benchmark}_{task.name}"
        for suffix, mode in MODES[task.kind].items():
            made[base + suffix] = _config(base + suffix, task, mode, limit)
    return made


def group(benchmark: str, names: Sequence[str], wanted: str) -> list[str]:
    """The tasks that a name stands for: BENCHMARK its default modes, BENCHMARK_free all that is written."""
    if wanted in names:
        return [wanted]
    if wanted == benchmark:
        return [name for name in names if not name.endswith("_free")]
    if wanted == f"{benchmark}_free":
        written = [name for name in names if name.endswith("_free")]
        return [name for name in names if name in written or f"{name}_free" not in names]
    return []


def _config(name: str, task: Task, mode: AnswerMode, limit: int) -> dict[str, Any]:
    kind = KINDS[task.kind]
    config = {
        "task": name, "custom_dataset": functools.partial(_datasets, task, mode, limit), "test_split": "test",
        "description": "{{system}}", "doc_to_text": "{{user}}", "target_delimiter": "",
        "doc_to_target": operator.itemgetter("reply"),  # a template would evaluate a list that is written out
        "num_fewshot": 0, "process_results": functools.partial(_process, task.kind, mode),
        "metric_list": [{"metric": metric, "aggregation": functools.partial(_aggregate, metric),
                         "higher_is_better": True} for metric in kind.metrics]
        + [{"metric": "unread", "aggregation": "mean", "higher_is_better": False}],
        "metadata": {"version": 1}}
    if _examples(task):
        config |= {"fewshot_split": "examples", "fewshot_config": {"sampler": "first_n"},
                   "num_fewshot": len(_examples(task))}
    if mode == "likelihood":
        return config | {"output_type": "multiple_choice", "doc_to_choice": "letters"}
    return config | {"output_type": "generate_until",
                     "generation_kwargs": {"max_gen_toks": kind.max_tokens, "until": []}}


def _datasets(task: Task, mode: AnswerMode, limit: int, **_: Any) -> dict[str, Any]:
    import datasets
    # Problems whose answer is a number have no letters to compare.
    items = spread([item for item in task.items if item.options or mode == "free"], limit)
    splits = {"test": datasets.Dataset.from_list([_document(task, item) for item in items])}
    if examples := _examples(task):
        splits["examples"] = datasets.Dataset.from_list(examples)
    return splits


def _examples(task: Task) -> list[Document]:
    """The worked examples of a task's prompt."""
    turns = task.prompt(task.items[0])[1:-1]
    return [{"user": user["content"], "reply": assistant["content"], "letters": []}
            for user, assistant in zip(turns[::2], turns[1::2])]


def _document(task: Task, item: Item) -> Document:
    system, *_, user = task.prompt(item)
    return {"id": item.id, "system": system["content"], "user": user["content"], "letters": list(task.letters(item)),
            "answer": list(item.answer), "reply": task.reply(item)}


def _process(kind_name: str, mode: AnswerMode, document: Document, results: Sequence) -> dict[str, Any]:
    """{metric: (gold, answer)} of what the harness got for a document."""
    kind = KINDS[kind_name]
    item = Item(document["id"], "", tuple(document["answer"]), tuple((letter, "") for letter in document["letters"]))
    if mode == "likelihood":
        answer = answer_modes.from_log_likelihoods(kind, item, [value for value, _ in results])
    else:
        answer = answer_modes.from_text(kind.read, item, results[0])
    pair = kind.compared(item.id, item.answer, answer.value)
    return {"unread": float(answer.unread), **dict.fromkeys(kind.metrics, pair)}


def _aggregate(metric: str, pairs: Sequence[tuple]) -> float:
    return METRICS[metric]([gold for gold, _ in pairs], [answer for _, answer in pairs])
