"""Tasks drawn from the bundled tables: for the demo, tests and notebooks, and as extra training data for extraction.

The tables decide each answer, so it is right by construction. A document goes to the test or to the training rows by
its hash, so that no seed puts one into both.
"""

import dataclasses
import random
import zlib
from collections.abc import Callable, Iterator

from slm.sample.items import exam_item, unrelated_diseases
from slm.sample.phrases import fill, phrases, pick
from slm.sample.short_notes import (
    KINDS,
    QUESTIONS,
    TAGS,
    Slots,
    ask,
    lab_value,
    note,
    notes,
    plain_labs,
    sample_names,
)
from slm.sample.tables import rows, tables, with_unit
from slm.tasks import tables as benchmark_tables
from slm.tasks.task import Item, Message, Task

_GENERAL = {"内科", "小児科", "救急科"}  # departments that may see anyone


def _lettered(*texts: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip("ABCD", texts))


def _symptom(rng: random.Random) -> Item:
    kind = pick(rng, KINDS)
    record = note(rng, kind, sample_names(), ("opening", "denial"), wide=False)
    answer = pick(rng, "AB") if record.absent else "A"
    asked = pick(rng, record.entities["d"] if answer == "A" else record.absent)
    question = fill(rng, f"次の{kind}の患者に「{{asked}}」は[認められるか|みられるか|あるといえるか]。\n「{{note}}」",
                    {"asked": asked, "note": record.text})
    return Item("", question, (answer,), _lettered("はい", "いいえ"), document=record.text)


def _course(rng: random.Random) -> Item:
    answer, slots = pick(rng, "ABC"), Slots(rng, sample_names())
    text = fill(rng, pick(rng, phrases(f"{KINDS[0]}.opening")), slots)
    text += fill(rng, "[治療開始|入院|内服開始|処置]{few}[日|週間|か月]後、{s}は", slots)
    text += pick(rng, phrases(f"courses.{answer}")) + "。"
    question = f"次の記録で、最後に述べられた症状の経過はどれか。\n「{text}」"
    return Item("", question, (answer,), _lettered("改善", "不変", "悪化"), document=text)


def _lab(rng: random.Random) -> Item:
    answer, row, slots = pick(rng, "ABC"), pick(rng, plain_labs()), Slots(rng, {})
    value = with_unit(lab_value(rng, row, answer), row["unit"])
    question = fill(rng, "{age}歳{sex}の[血液検査|採血]で、" + pick(rng, (row["name"], row["abbreviation"]))
                    + f"は{value}であった。[この値は|基準範囲と比べて]どれか。", slots)
    levels = _lettered("基準範囲より高い", "基準範囲内", "基準範囲より低い")
    return Item("", question, (answer,), levels, document=question)


def _department(rng: random.Random) -> Item:
    row = pick(rng, [row for row in rows("diseases") if row["department"] not in _GENERAL])
    far = {other["name"] for other in unrelated_diseases(row["name"])}
    near = {other["department"] for other in rows("diseases") if other["name"] not in far}
    unrelated = sorted({other["department"] for other in rows("diseases")} - near - _GENERAL)
    texts = [row["department"], *rng.sample(unrelated, 3)]
    rng.shuffle(texts)
    question = fill(rng, "{age}歳の[患者|外来患者|入院患者]。{few}[日前|週間前|か月前]に" + row["name"]
                    + "と[診断された|わかった]。[主に担当する|診療の中心となる]診療科はどれか。", Slots(rng, {}))
    return Item("", question, ("ABCD"[texts.index(row["department"])],), _lettered(*texts), document=question)


_CHOICES = {"symptom": _symptom, "course": _course, "lab": _lab, "department": _department}


def _choices(rng: random.Random) -> Iterator[Item]:
    while True:
        for tag, draw in _CHOICES.items():
            yield dataclasses.replace(draw(rng), tag=tag)


def _extractions(rng: random.Random) -> Iterator[Item]:
    records = notes(rng, sample_names(), wide=0.25)
    while True:
        for tag in TAGS:
            record = next(records)
            yield Item("", ask(rng, record, tag, QUESTIONS), record.entities[tag], tag=tag, document=record.text)


def _exams(rng: random.Random) -> Iterator[Item]:
    names = {name for table in ("diseases", "drugs", "symptoms", "examinations") for name in tables()[table]}
    while True:
        item = exam_item(rng)
        # The topics of the question, whatever its wording: questions about one disease stay together.
        subjects = "、".join(sorted(name for name in names if name in item.question)) or item.question
        yield Item("", item.question, ("abcde"[item.answer],), tuple(zip("abcde", item.choices)), document=subjects)


def exam_prompt(item: Item) -> list[Message]:
    choices = "".join(f"{letter}: {text}\n" for letter, text in item.options)
    letters = ",".join(letter for letter, _ in item.options)
    question = f"問題: {item.question}\n{choices}必ず{letters}の中からちょうど1個選んでください。\n答え:"
    return [{"role": "system", "content": "医学の試験問題を解きます。"}, {"role": "user", "content": question}]


def exam_reply(item: Item) -> str:
    return item.answer[0]


_DRAWS: dict[str, Callable[[random.Random], Iterator[Item]]] = {
    "sample_choice": _choices, "sample_extraction": _extractions, "sample_exam": _exams}


def tasks(seed: int = 0, test_rows: int = 100) -> dict[str, Task]:
    """sample_choice, sample_extraction and sample_exam, `test_rows` items each."""
    return _tasks("test", seed, test_rows)


def training(seed: int = 0, rows: int = 400) -> dict[str, Task]:
    """The same three with other rows: no question and no document of any `tasks`."""
    return _tasks("train", seed, rows)


def _tasks(split: str, seed: int, count: int) -> dict[str, Task]:
    items = {name: _items(name, split, seed, count) for name in _DRAWS}
    choice, extraction, exam = (items[name] for name in _DRAWS)
    return {
        "sample_choice": benchmark_tables.task("sample_choice", "choice", choice, "kappa", "Apache-2.0"),
        "sample_extraction": benchmark_tables.task("sample_extraction", "extraction", extraction, "exact_f1",
                                                   "Apache-2.0"),
        "sample_exam": Task("sample_exam", "exam", exam, ("accuracy", "kappa"), exam_prompt, exam_reply, "Apache-2.0")}


def _items(name: str, split: str, seed: int, count: int) -> tuple[Item, ...]:
    items: dict[str, Item] = {}
    for item in _DRAWS[name](random.Random(f"{seed}-{name}-{split}")):
        if len(items) == count:
            break
        is_test = zlib.crc32(item.document.encode()) % 4 == 0
        if is_test == (split == "test") and item.question not in items:
            items[item.question] = dataclasses.replace(item, id=f"{name}-{split}:{len(items)}")
    return tuple(items.values())
