"""The items of the textbooks: sections, readers and styles, the prompts for a language model (`data/textbooks*`), and
the generator that writes items from the bundled tables without a model.
"""

import dataclasses
import hashlib
import random
import re
from pathlib import Path

from slm.corpus.lexicon import Entry
from slm.sample.corpus import POLITE_READERS
from slm.sample.items import exam_item
from slm.sample.notes import disease_values, drug_values
from slm.sample.phrases import groups, phrases, say
from slm.sample.tables import tables
from slm.text.normalize import normalize

TEMPLATE = 1  # raise it when prompts or generated items change: items of another version are written again

Slot = tuple[str, str, str]  # section, reader, style


@dataclasses.dataclass(frozen=True)
class Item:
    """One item of the plan."""
    topic: Entry
    slot: Slot


DATA = Path(__file__).parent / "data"


def _descriptions(group: str) -> dict[str, str]:
    rows = (line.split("\t") for line in (DATA / "textbooks.tsv").read_text(encoding="utf-8").splitlines())
    return {name: description for row_group, name, description in rows if row_group == group}


def _text(name: str) -> str:
    return (DATA / f"textbooks_{name}.txt").read_text(encoding="utf-8").removesuffix("\n")


# Name → its description in the prompt.
SECTIONS = {kind: _descriptions(f"section.{kind}") for kind in ("disease", "drug")}
READERS, STYLES, EXAM_STYLES = map(_descriptions, ("reader", "style", "exam_style"))
SYSTEM, PROSE, EXAM = map(_text, ("system", "prose", "exam"))
NO_EXAM = ("患者と家族",)


def slots(kind: str) -> list[Slot]:
    """Every combination for a disease or a drug."""
    return [(section, reader, style) for section in SECTIONS[kind] for reader in READERS
            for style in (*STYLES, *(() if reader in NO_EXAM else EXAM_STYLES))]


def messages(item: Item) -> list[dict[str, str]]:
    """The conversation that asks a model for one item."""
    topic, (section, reader, style) = item.topic, item.slot
    # Models have favourite letters, so the prompt sets the right one, drawn evenly.
    letter = "abcde"[hashlib.sha256("\n".join([topic.surface, *item.slot]).encode()).digest()[0] % 5]
    prompt = (EXAM if style in EXAM_STYLES else PROSE).format(
        kind="疾患・症候" if topic.kind == "disease" else "医薬品", term=topic.surface, section=section, letter=letter,
        code=f"（ICD-10：{topic.code}）" if re.match(r"[A-Z]\d\d", topic.code) and topic.kind == "disease" else "",
        content=SECTIONS[topic.kind][section], audience=READERS[reader], manner=(STYLES | EXAM_STYLES)[style])
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": prompt}]


_EXAM_LAYOUT = (r"\s*問題\s*:?(.+?)\n\s*選択肢\s*:?(.+?)"
                r"\n\s*正解\s*:?\s*[(]?[a-e][).。]?\s*\n\s*解説\s*:?(.+)")


def is_exam(text: str) -> bool:
    """Whether a text has the layout of `EXAM`: question, five different choices, answer, explanation."""
    match = re.fullmatch(_EXAM_LAYOUT, normalize(text), flags=re.DOTALL)
    if not match or not match[1].strip() or not match[3].strip():
        return False
    choices = re.findall(r"^\s*[(]?([a-e])[).:、\s]\s*(\S.*)$", match[2], flags=re.MULTILINE)
    return [letter for letter, _ in choices] == list("abcde") and len({choice for _, choice in choices}) == 5


# The generator ------------------------------------------------------------------------------------------------

# The tables suffice for these: neither for examination items by section nor for explanations along a case.
GENERATED_STYLES = ("教科書", "講義", "問答")
GENERATED_EXAM = ("総合", "医学生", "試験問題")
EXAMS = (*EXAM_STYLES, GENERATED_EXAM[-1])  # styles with the layout of `EXAM`
_HEADINGS = {"用法・用量": "用法の考え方", "相互作用": "相互作用の注意"}
_MOST_DRAWS = 20_000


def generated_slots(kind: str) -> list[Slot]:
    """Every combination that the generator can write for a disease or a drug."""
    readers = groups("readers") if kind == "disease" else ("医学生",)
    prose = [(section, reader, style) for section in SECTIONS[kind] for reader in readers for style in GENERATED_STYLES]
    return [*prose, GENERATED_EXAM]


def generate(item: Item, seed: int) -> str:
    """The text of an item about a disease or drug of the bundled tables.

    Raises:
      ValueError: the tables are too small for an examination item about it.
    """
    topic, (section, reader, style) = item.topic, item.slot
    rng = random.Random(f"{seed}-{topic.surface}-{section}-{reader}-{style}")
    if item.slot == GENERATED_EXAM:
        return _generated_exam(topic.surface, rng)
    kind = topic.kind
    if kind == "disease":
        row, draw = tables()["diseases"][topic.surface], disease_values
        opening, closing = phrases(f"readers.{reader}.opening"), phrases(f"readers.{reader}.closing")
    else:
        row, draw = tables()["drugs"][topic.surface], drug_values
        opening, closing = phrases("drug_openings"), phrases("drug_closings")
    polite = style == "講義" or reader in POLITE_READERS

    def passage(heading: str, more: int) -> str:
        values, chapter = draw(rng, row), f"{kind}_sections.{heading}"
        text = say(rng, phrases(f"{chapter}.opening"), values, 1, polite)
        text += say(rng, phrases(f"{chapter}.further"), values, more, polite)
        return f"問：{say(rng, phrases(f'{chapter}.question'), values)}\n答：{text}" if style == "問答" else text

    heading, introduction = _HEADINGS.get(section, section), groups(f"{kind}_sections")[0]
    values = draw(rng, row) | {"number": str(rng.randint(1, 60))}
    return "\n".join(filter(None, [
        f"{say(rng, phrases(f'{kind}_titles'), values)}　{section}", say(rng, opening, values, 1, polite),
        passage(introduction, 2) if heading != introduction else "", passage(heading, 4),
        say(rng, closing, values, 1, polite)]))


def _generated_exam(term: str, rng: random.Random) -> str:
    for _ in range(_MOST_DRAWS):
        item = exam_item(rng)
        if term in item.question or term == item.choices[item.answer]:
            choices = [f"{letter}. {text}" for letter, text in zip("abcde", item.choices)]
            return "\n".join([f"問題：{item.question}", "選択肢", *choices, f"正解：{'abcde'[item.answer]}",
                              f"解説：{item.explanation}"])
    raise ValueError(f"no examination item about {term} in {_MOST_DRAWS:,} draws: the tables hold too little of it")
