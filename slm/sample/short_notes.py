"""Short records that hold known entities: symptoms and diseases, which the patient has or has not, drugs and doses."""

import dataclasses
import random
import re
from collections.abc import Iterator, Mapping, Sequence

from slm.sample.phrases import fill, phrases, pick
from slm.sample.tables import Row, labs, rows, tables, with_unit, written

KINDS = ("症例報告", "看護記録")
TAGS = ("d", "m-key", "m-val")  # symptoms and diseases; drugs; doses
QUESTIONS = {tag: list(phrases(f"questions.{tag}")) for tag in TAGS}
OXYGEN = "酸素"

_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {ord(" "): "　"}
_ENTITIES = {"s": "d", "d": "d", "no": "", "other": "", "oral": "m-key", "injected": "m-key", "topical": "m-key",
             "insulin": "m-key", "oxygen": "m-key", "class": "m-key"}
_LIKE = {"no": "s", "other": "d"}  # slots that draw from another's names
_SHARES = {"past": 0.3, "findings": 0.4, "denial": 0.35, "treatment": 0.75, "course": 0.35}  # of each of two sentences
_COMMON = 5000
_OTHER_SEX = {"男性": re.compile("子宮|月経|卵巣|卵管|[膣腟]|妊娠|産|胎|乳[房癌腺]|女性"),
              "女性": re.compile("前立腺|精巣|精[索管]|陰[茎嚢]|男性")}
_INTEGERS = {"age": (18, 94), "few": (2, 9), "day": (8, 40), "hour": (1, 23), "pulse": (58, 118),
             "saturation": (88, 99)}
_AMOUNTS = "1 2 2.5 5 10 15 20 25 30 40 50 60 75 80 100 120 150 200 250 300 400 500 600 750 1000"
_DOSES = {  # slot → numbers, then units
    "mg": (_AMOUNTS, "mg", "mg", "mg/日", "mg/日", "mg/日", "mg/kg", "mg×2/日"),
    "tablets": ("1 2 3 4 6", "錠", "錠", "錠", "錠/日", "包", "錠分2"),
    "volume": ("20 50 100 200 250 500 1000", "mL", "mL", "mL/h", "mL/日"),
    "ampoules": ("1 2", "A", "A", "V"), "units": ("2 4 6 8 10 12 20", "単位", "単位", "単位/日"),
    "flow": ("1 2 3 4 5 6 10", "L", "L/分", "L/min"),
}
_LABS = ("WBC", "Plt", "K", "Ca", "Glu", "BUN", "TSH", "FT4")  # the same range for both sexes, low and high both occur

Names = Mapping[str, Sequence[str]]  # slot → names, the commonest first


@dataclasses.dataclass(frozen=True)
class Note:
    """A short record.

    Attributes:
      entities: tag → the entities of the note in the order of the text, each once.
      absent: symptoms and diseases that the patient does not have: denied, ruled out, or another person's.
    """
    kind: str
    text: str
    entities: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...]


class Slots(dict[str, str]):
    """Draws the value of each slot when it is asked for, and records the entities among them.

    No name is part of another of the same note: the entities would not be well defined.
    """

    def __init__(self, rng: random.Random, names: Names):
        super().__init__()
        self.rng, self.names = rng, names
        self.used: list[str] = []
        self.entities: dict[str, list[str]] = {tag: [] for tag in TAGS}
        self.absent: list[str] = []
        self.sex, self.day, self.space = (
            pick(rng, values) for values in (tuple(_OTHER_SEX), ("/日", "/日", "/day"), ("", "", " ")))

    def __missing__(self, slot: str) -> str:
        if slot not in _ENTITIES:
            value = self._number(slot)
            if slot in _DOSES:
                self.entities["m-val"].append(value)
            return value
        name = self._name(self.names[_LIKE.get(slot, slot)])
        (self.entities[_ENTITIES[slot]] if _ENTITIES[slot] else self.absent).append(name)
        return name

    def _name(self, names: Sequence[str]) -> str:
        for _ in range(1000):
            # Most draws are of common names: the rare names of long lists are often odd.
            name = pick(self.rng, names[:_COMMON] if self.rng.random() < 0.7 else names)
            if not _OTHER_SEX[self.sex].search(name) and not any(name in used or used in name for used in self.used):
                self.used.append(name)
                return name
        raise ValueError(f"{len(names)} names are too few for a note ({', '.join(names[:3])} …): give longer lists")

    def _number(self, slot: str) -> str:
        rng, space = self.rng, self.space
        if slot in _DOSES:
            numbers, *units = _DOSES[slot]
            unit = pick(rng, units)
            latin = unit[0].isascii()
            return pick(rng, numbers.split()) + (space + unit.replace("/日", self.day) if latin else unit)
        if slot == "lab":
            row = pick(rng, plain_labs())
            return f"{row['abbreviation']} {with_unit(lab_value(rng, row, pick(rng, 'AC')), row['unit'])}"
        if slot == "sex":
            return self.sex
        if slot == "pressure":
            upper = rng.randint(92, 168)
            return f"{upper}/{round(upper * rng.uniform(0.52, 0.64))}"
        if slot == "temperature":
            return f"{rng.uniform(36, 39.6):.1f}"
        return str(rng.randint(*_INTEGERS[slot]))


def note(rng: random.Random, kind: str, names: Names, sections: Sequence[str], wide: bool) -> Note:
    slots, templates = Slots(rng, names), []
    for section in sections:
        templates.append(pick(rng, [text for text in phrases(f"{kind}.{section}") if text not in templates]))
    text = "".join([fill(rng, template, slots) for template in templates])
    milligram = pick(rng, ("mg", "㎎"))

    def shown(value: str) -> str:
        return value.replace("mg", milligram).translate(_WIDE) if wide else value

    entities = {tag: tuple(dict.fromkeys(map(shown, values))) for tag, values in slots.entities.items()}
    return Note(kind, shown(text), entities, tuple(map(shown, slots.absent)))


def notes(rng: random.Random, names: Names, wide: float) -> Iterator[Note]:
    """Notes of 80 to 300 characters that hold something of each tag, without end.

    Args:
      wide: share of those with full-width digits and letters.
    """
    while True:
        sections = [section for section, share in _SHARES.items() for _ in range(2) if rng.random() < share]
        drawn = note(rng, pick(rng, KINDS), names, ["opening", *sections], rng.random() < wide)
        if 80 <= len(drawn.text) <= 300 and all(drawn.entities.values()):
            yield drawn


def ask(rng: random.Random, note: Note, tag: str, questions: Mapping[str, Sequence[str]]) -> str:
    """The question that asks for the entities of a tag."""
    return pick(rng, questions[tag]).replace("{kind}", note.kind).replace("{note}", note.text)


def sample_names() -> dict[str, list[str]]:
    """The names of the bundled tables."""
    def drugs(routes: str) -> list[str]:
        return [row["name"] for row in rows("drugs") if re.search(routes, row["route"])]
    return with_fixed({"s": list(tables()["symptoms"]), "d": list(tables()["diseases"]), "oral": drugs("内服"),
                       "injected": drugs("静注|注射"), "topical": drugs("外用|点眼|吸入")})


def with_fixed(names: dict[str, list[str]]) -> dict[str, list[str]]:
    """`names` with those of the slots that no list fills."""
    return names | {"insulin": list(phrases("insulins")), "oxygen": [OXYGEN], "class": list(phrases("drug_classes"))}


def plain_labs() -> list[Row]:
    return [labs()[name] for name in _LABS]


def lab_value(rng: random.Random, row: Row, level: str) -> str:
    """A value above (A), inside (B) or below (C) the reference range."""
    low, high = float(row["low"]), float(row["high"])
    value = {"A": high * rng.uniform(1.3, 1.7), "C": low * rng.uniform(0.5, 0.75),
             "B": low + (high - low) * rng.uniform(0.15, 0.85)}[level]
    return written(value, row["low"])
