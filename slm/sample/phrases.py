"""The phrases of the sample text (`data/phrases/*.tsv`), and how a phrase is filled in.

`[a|b]` is one of several, `<ある/あります>` the plain or the polite form, `{name}` a value. Clauses from the tables end
in the dictionary form of a verb.
"""

import functools
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from slm.sample.tables import DATA

T = TypeVar("T")
Values = dict[str, str]


@functools.cache
def lists() -> dict[str, list[tuple[str, ...]]]:
    """List → rows of cells: of most lists, one phrase a row."""
    result: dict[str, list[tuple[str, ...]]] = {}
    for path in sorted((DATA / "phrases").glob("*.tsv")):
        for line in path.read_text(encoding="utf-8").split("\n"):
            if line and not line.startswith("#"):
                name, _, cells = line.partition("\t")
                result.setdefault(name, []).append(tuple(cells.replace("\\n", "\n").split("\t")))
    return result


@functools.cache
def phrases(name: str) -> tuple[str, ...]:
    return tuple(phrase for phrase, in lists()[name])


@functools.cache
def groups(prefix: str) -> tuple[str, ...]:
    """The middle names of the lists `prefix.NAME.…`, in order."""
    return tuple(dict.fromkeys(name.split(".")[1] for name in lists() if name.startswith(f"{prefix}.")))


@functools.cache
def parse(template: str, polite: bool = False) -> tuple[tuple[str | list[str], ...], frozenset[str]]:
    """Its parts, fixed text and alternatives by turns, and the names of the values it needs."""
    text = re.sub(r"<([^/>]*)/([^>]*)>", r"\2" if polite else r"\1", template)
    parts = tuple(part.split("|") if i % 2 else part for i, part in enumerate(re.split(r"\[([^\]]*)\]", text)))
    return parts, frozenset(re.findall(r"{(\w+)}", text))


def pick(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def take(rng: random.Random, items: Sequence[T], low: int, high: int) -> list[T]:
    left, count = list(items), low + int(rng.random() * (high - low + 1))
    return [left.pop(int(rng.random() * len(left))) for _ in range(min(len(left), count))]


def listing(rng: random.Random, items: Sequence[str]) -> str:
    return pick(rng, "、、や" if len(items) == 2 else "、").join(items)


def fill(rng: random.Random, template: str, values: Mapping[str, Any], polite: bool = False) -> str:
    parts, _ = parse(template, polite)
    return "".join([part if isinstance(part, str) else pick(rng, part) for part in parts]).format_map(values)


def known(templates: Sequence[str], values: Values) -> list[str]:
    return [template for template in templates if parse(template)[1] <= values.keys()]


def say(rng: random.Random, templates: Sequence[str], values: Values, count: int = 1, polite: bool = False) -> str:
    """Up to `count` sentences whose values are all known; each but the first adds a value to the others."""
    left, used = known(templates, values), set[str]()
    sentences: list[str] = []
    while left and len(sentences) < count:
        template = left.pop(int(rng.random() * len(left)))
        fields = parse(template, polite)[1]
        if not fields or not fields <= used:
            sentences.append(fill(rng, template, values, polite))
            used |= fields - {"name"}
    return "".join(sentences)
