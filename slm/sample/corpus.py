"""The bundled sample text: hand-written prose, then synthetic medical documents drawn from hand-written tables.

Document i of the generated part depends on (seed, i) alone, so a larger corpus starts with the smaller one.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path

from slm.sample.items import exam
from slm.sample.notes import case, disease_values, drug_values, headed, nursing
from slm.sample.phrases import groups, phrases, pick, say
from slm.sample.tables import DATA, labs, rows, tables

POLITE_READERS = ("患者と家族", "介護職")


def textbook(rng: random.Random) -> str:
    polite = rng.random() < 0.5
    if rng.random() < 0.62:
        kind, row, reader, draw = "disease", pick(rng, rows("diseases")), pick(rng, groups("readers")), disease_values
        opening, closing = phrases(f"readers.{reader}.opening"), phrases(f"readers.{reader}.closing")
        polite = polite or reader in POLITE_READERS
        longer = pick(rng, (0, 1, 1, 2))
    else:
        kind, row, draw, longer = "drug", pick(rng, rows("drugs")), drug_values, pick(rng, (1, 2))
        opening, closing = phrases("drug_openings"), phrases("drug_closings")
    layout = pick(rng, ("headings", "headings", "headings", "questions", "paragraphs", "paragraphs"))
    sections = []
    for heading in groups(f"{kind}_sections"):
        if (heading == "症状" and not row["symptoms"]) or rng.random() < 0.1:
            continue
        values, section = draw(rng, row), f"{kind}_sections.{heading}"
        text = say(rng, phrases(f"{section}.opening"), values, 1, polite)
        text += say(rng, phrases(f"{section}.further"), values, rng.randint(longer, longer + 1), polite)
        if layout == "questions":
            text = f"Q. {say(rng, phrases(f'{section}.question'), values)}\nA. {text}"
        sections.append((heading, text))
    values = draw(rng, row) | {"number": str(rng.randint(1, 60))}
    body = headed(rng, sections) if layout == "headings" else "\n".join(text for _, text in sections)
    ends = [say(rng, templates, values, 1, polite) if rng.random() < 0.85 else "" for templates in (opening, closing)]
    return "\n".join(filter(None, (say(rng, phrases(f"{kind}_titles"), values), ends[0], body, ends[1])))


WRITERS: dict[str, Callable[[random.Random], str]] = {
    "textbook": textbook, "case": case, "nursing": nursing, "exam": exam}
SHORTEST = 290  # characters; the notice adds at least twenty
ORDER = ("textbook", "case", "exam", "textbook", "nursing", "case", "exam", "nursing")


def _document(source: str, name: str, text: str) -> dict[str, str]:
    return {"id": f"{source}-{name}", "text": text, "source": source, "license": "Apache-2.0", "url": ""}


def prose() -> Iterator[dict[str, str]]:
    for path in sorted((DATA / "prose").glob("*.txt")):
        yield _document("sample-prose", path.stem, path.read_text(encoding="utf-8").strip())


def generate(index: int, seed: int) -> dict[str, str]:
    rng, kind = random.Random(f"{seed}-{index}"), ORDER[index % len(ORDER)]
    parts = [say(rng, phrases("notices"), {}), WRITERS[kind](rng)]
    while len(parts[1]) < SHORTEST:
        parts[1] = WRITERS[kind](rng)
    return _document(f"sample-{kind}", f"{index:06d}", "\n".join(parts if rng.random() < 0.5 else parts[::-1]))


def documents(megabytes: float, seed: int) -> Iterator[dict[str, str]]:
    """Documents {id, text, source, license, url} until their texts reach `megabytes` · 10^6 UTF-8 bytes."""
    size = 0
    for document in itertools.chain(prose(), (generate(i, seed) for i in itertools.count())):
        if size >= megabytes * 1e6:
            return
        size += len(document["text"].encode())
        yield document


def files() -> list[Path]:
    """Every file that decides the result of `documents` and `terms`."""
    return sorted(path for path in Path(__file__).parent.rglob("*") if path.suffix in (".py", ".tsv", ".txt"))


def terms() -> dict[str, list[str]]:
    """Surface forms by kind: disease, drug, symptom, examination, body_part."""
    kinds = {"disease": "diseases", "drug": "drugs", "symptom": "symptoms", "body_part": "body_parts"}
    examinations = list(dict.fromkeys([*tables()["examinations"], *labs()]))
    return {kind: list(tables()[table]) for kind, table in kinds.items()} | {"examination": examinations}
