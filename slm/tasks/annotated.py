"""Texts whose entities are marked by position and label, and tasks of finding them: the kind `tagging`.

Positions are characters (code points) of the text as it is written, the end excluded.
"""

import csv
import dataclasses
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from slm.files import long_csv_fields, text_lines
from slm.tasks.task import Item, Message, Task
from slm.text.spans import Span

_SPAN = re.compile(r"([0-9]{1,9})-([0-9]{1,9}):(.+)", re.DOTALL)
_SHAPE = '{"text": …, "entities": [{"start": 0, "end": 4, "label": "disease"}]}'


@dataclasses.dataclass(frozen=True)
class AnnotatedText:
    """A text and what is in it.

    Attributes:
      entities: in the order of the text, without overlaps; `kind` is the label.
      document: what is held out together.
    """
    id: str
    text: str
    entities: tuple[Span, ...]
    document: str


def write_span(span: Span) -> str:
    """A span as an item's answer has it."""
    return f"{span.start}-{span.end}:{span.kind}"


def parse_span(written: str) -> Span:
    """The inverse of `write_span`.

    Raises:
      ValueError: not such a string.
    """
    match = _SPAN.fullmatch(written)
    if not match:
        raise ValueError(f"an answer of {len(written)} characters is no span: write START-END:LABEL, as 0-4:disease")
    return Span(int(match[1]), int(match[2]), match[3])


def spans(answer: Iterable[str]) -> tuple[Span, ...]:
    return tuple(map(parse_span, answer))


def read(path: Path) -> tuple[AnnotatedText, ...]:
    """The texts of a JSON Lines file, or of a CSV with the columns text and entities (a cell holds the same JSON list).

    Both may be compressed (.gz). `id` and `document` are optional: FILE:ROW, the first row being 0, and the text.

    Raises:
      ValueError: not such a file; the message names the line (of CSV the row, counted from 0 without the header), and
        shows nothing of it.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the path of JSON Lines, a line is {_SHAPE}")
    name = path.name.removesuffix(".gz")
    rows = _csv_rows(path) if name.endswith(".csv") else json_rows(path)
    texts, where_of = [], dict[str, str]()
    for index, (where, row) in enumerate(rows):
        text = _annotated(where, row, f"{Path(name).stem}:{index}")
        if text.id in where_of:
            raise ValueError(f"{where} has the same id as {where_of[text.id]}: give each text its own, or none")
        where_of[text.id] = where
        texts.append(text)
    if not texts:
        raise ValueError(f"{path} has no texts: a line is {_SHAPE}")
    return tuple(texts)


def json_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, object) of each line of a JSON Lines file, plain or .gz; empty lines are passed over.

    Raises:
      ValueError: a line that is not JSON, or not an object.
    """
    for number, line in enumerate(text_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON ({error}): JSON Lines holds one object a line") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where} holds a {type(row).__name__}, not an object with named fields: JSON Lines holds "
                             "one object a line")
        yield where, row


def ordered(where: str, text: str, entities: Iterable[Span]) -> tuple[Span, ...]:
    """The entities in the order of the text.

    Raises:
      ValueError: one that is outside of the text or empty, or two that overlap.
    """
    in_order = tuple(sorted(entities))
    for entity in in_order:
        if not 0 <= entity.start < entity.end <= len(text):
            raise ValueError(f"{where} has an entity at {entity.start}-{entity.end}, the text has {len(text)} "
                             "characters: start is at least 0, end above start and at most the length")
    for one, other in itertools.pairwise(in_order):
        if other.start < one.end:
            raise ValueError(f"{where} has overlapping entities, {one.start}-{one.end} and {other.start}-{other.end}: "
                             "a character can have one label, so keep one of them")
    return in_order


def item(text: AnnotatedText, tag: str = "") -> Item:
    return Item(text.id, text.text, tuple(map(write_span, text.entities)), tag=tag, document=text.document)


def task(name: str, items: Sequence[Item], license: str = "unknown") -> Task:
    """A task of finding the entities of each item's question."""
    return Task(name, "tagging", tuple(items), ("label_f1", "span_f1"), _prompt, _reply, license)


def _prompt(item: Item) -> list[Message]:
    return [{"role": "user", "content": item.question}]


def _reply(item: Item) -> str:
    raise ValueError(f"{item.id} is of a task of kind tagging, which a head answers and not a text: leave the set out, "
                     "or train a span tagger on it")


def _csv_rows(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with long_csv_fields() as limit:
        reader = csv.DictReader(text_lines(path))
        try:
            names = reader.fieldnames or ()
            if missing := [name for name in ("text", "entities") if name not in names]:
                raise ValueError(f"{path} has no column {', '.join(missing)} among the {len(names)} of its first line:"
                                 " annotated texts need text and entities, and may have id and document")
            for index, row in enumerate(reader):
                where = f"{path}, row {index}"
                try:
                    entities = json.loads(row["entities"] or "")
                except (ValueError, RecursionError):
                    raise ValueError(f"{where} has no JSON list in the column entities: write [] or "
                                     '[{"start": 0, "end": 4, "label": "disease"}]') from None
                # An empty cell of an optional column stands for none.
                more = {name: value for name in ("id", "document") if (value := row.get(name))}
                yield where, {"text": row["text"], "entities": entities, **more}
        except csv.Error as error:
            raise ValueError(f"{path} is not CSV after line {reader.line_num} ({error}): a field has at most {limit:,} "
                             "characters") from None


def _annotated(where: str, row: Mapping[str, Any], name: str) -> AnnotatedText:
    text, entities = row.get("text"), row.get("entities")
    if not isinstance(text, str) or not text:
        raise ValueError(f"{where} has no text: a line is {_SHAPE}")
    if not isinstance(entities, list):
        raise ValueError(f"{where} has no list of entities (an empty one if there are none): a line is {_SHAPE}")
    found = [_entity(f"{where}, entity {index}", entity) for index, entity in enumerate(entities)]
    name, document = (_name(where, field, row.get(field, default))
                      for field, default in (("id", name), ("document", text)))
    try:
        "".join([text, name, document, *(entity.kind for entity in found)]).encode()
    except UnicodeEncodeError:
        raise ValueError(f"{where} has half of a surrogate pair, which is not a character: write the file again as "
                         "UTF-8") from None
    return AnnotatedText(name, text, ordered(where, text, found), document)


def _name(where: str, field: str, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise ValueError(f"{where} has a field {field} that is empty or of type {type(value).__name__}: give a string "
                         "or a whole number, or leave it out")
    return str(value)


def _entity(where: str, entity: Any) -> Span:
    if not isinstance(entity, dict):
        raise ValueError(f"{where} is a {type(entity).__name__}: an entity is "
                         '{"start": 0, "end": 4, "label": "disease"}')
    for field in ("start", "end"):
        if isinstance(entity.get(field), bool) or not isinstance(entity.get(field), int):
            raise ValueError(f"{where} has no whole number as {field}: give positions in characters, the first being 0")
    label = entity.get("label")
    if not isinstance(label, str) or not label.strip():
        raise ValueError(f"{where} has no label: give a string, as disease")
    return Span(entity["start"], entity["end"], label)
