"""Instructions: what is asked of a record, the grammar that holds an answer to its form, and how it is read."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from slm import config as configs
from slm.tasks.reading import read_list
from slm.text import chat
from slm.text.normalize import normalize

VERSION = 1  # raise it with any change of what is asked or of the form of the answers
_MOST_ENTITIES, _LONGEST_ENTITY, _LONGEST_SUMMARY = 64, 80, 400  # the last two in characters
_LONGEST_COPIED = 4_000  # characters of a record whose grammar lists its spans


@dataclasses.dataclass(frozen=True)
class Instruction:
    """What is asked of each record."""
    kind: Literal["extract", "classify", "summarise"]
    system: str
    prompt: str  # holds {text} where the record goes; {labels} stands for the labels
    labels: str = ""  # A|B|C, to classify
    file: str = ""  # a JSON file with the four above, read instead of them


def read(instruction: Instruction) -> Instruction:
    """The instruction, from its file where it names one, once it is checked."""
    where = "config.instruction"
    if where_from := instruction.file:
        where, known = where_from, [field.name for field in dataclasses.fields(Instruction) if field.name != "file"]
        try:
            found = json.loads(Path(where).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{where} is missing: give a JSON file with {', '.join(known)}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON in UTF-8 ({error})") from None
        if not isinstance(found, dict) or not set(known[:3]) <= set(found) <= set(known):
            keys = ", ".join(found) if isinstance(found, dict) else type(found).__name__
            raise ValueError(f"{where} holds {keys}: an instruction is an object with {', '.join(known[:3])}, and "
                             f"{known[3]} to classify")
        instruction = configs.freeze(Instruction, found, where)
    if instruction.prompt.count("{text}") != 1:
        raise ValueError(f"{where}.prompt={instruction.prompt[:80]!r}: write {{text}} once, where the record goes")
    if (instruction.kind == "classify") != bool(instruction.labels):
        raise ValueError(f"{where}.labels={instruction.labels!r} with kind={instruction.kind}: labels, written "
                         "A|B|C, are what classify chooses from, and of no use to the others; give them as "
                         "--config.instruction.labels='A|B|C'")
    return instruction


class Form:
    """An instruction, and the form of its answers: a grammar, and how an answer that keeps to it is read.

    An answer that max_tokens ended is the beginning of one.

    Raises:
      ValueError: labels that are not at least two, all different.
    """

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        labels = [label.strip() for label in instruction.labels.split("|")]
        self._labels = {normalize(label): label for label in labels}  # the model writes normalised text
        if instruction.kind == "classify" and (len(self._labels) < max(2, len(labels)) or not all(
                label and label.isprintable() for label in labels)):
            raise ValueError(f"labels={instruction.labels!r}: give at least two, all different, written A|B|C")

    def messages(self, text: str) -> list[chat.Message]:
        before, after = self.instruction.prompt.replace("{labels}", "、".join(self._labels.values())).split("{text}")
        system = [{"role": "system", "content": self.instruction.system}] if self.instruction.system else []
        return [*system, {"role": "user", "content": f"{before}{text}{after}"}]

    def grammar(self, text: str, borders: Callable[[str], set[int]]) -> str:
        """GBNF of the answers about a normalised text; `borders` tells where its morphemes begin and end."""
        match self.instruction.kind:
            case "extract":
                return _spans(text, borders(text)) if len(text) <= _LONGEST_COPIED else _STRINGS
            case "classify":
                return f"root ::= {' | '.join(map(_literal, self._labels))}"
            case "summarise":
                return rf"root ::= [^\x00-\x1f\x7f-\x9f]{{1,{_LONGEST_SUMMARY}}}"

    def read(self, answer: str, text: str) -> dict[str, Any]:
        match self.instruction.kind:
            case "extract":
                whole = _WHOLE_ENTITIES.match(answer)
                entities, unread = read_list(f"{whole[0]}]" if whole else "[]")
                if unread:
                    raise ValueError("the answer is no list of strings")
                return {"entities": locate(entities, text)}
            case "classify":
                return {"label": self._labels.get(answer)}
            case "summarise":
                return {"summary": answer.strip()}


# The list is what slm.tasks.tables.extraction_reply writes, and so what is fine-tuned on.
_LIST = f"""root ::= "[" (entity (", " entity){{0,{_MOST_ENTITIES - 1}}})? "]"
entity ::= "'" string "'"
"""
_STRINGS = _LIST + rf"""string ::= character{{1,{_LONGEST_ENTITY}}}
character ::= [^'\\\x00-\x1f\x7f-\x9f] | "\\" ['\\n]
"""
_WHOLE_ENTITIES = re.compile(r"\['(?:[^'\\]|\\.)*'(?:, '(?:[^'\\]|\\.)*')*")
_IN_LIST = {"'": "\\'", "\\": "\\\\"}


def _spans(text: str, borders: set[int]) -> str:
    """GBNF of lists of spans of the text: a rule for each character, which the next one's follows."""
    inside = [character.isprintable() and character != "。" for character in text] + [False]
    starts = [f"at{index}" for index in sorted(borders) if inside[index] and text[index] != " "]
    if not starts:
        return 'root ::= "[]"'
    rules = [f"string ::= {' | '.join(starts)}"]
    for index, character in enumerate(text):
        if inside[index]:
            may_end = index + 1 in borders and character != " "
            following = f" at{index + 1}{'?' * may_end}" if inside[index + 1] else ""
            rules.append(f"at{index} ::= {_literal(_IN_LIST.get(character, character))}{following}")
    return _LIST + "\n".join(rules)


def _literal(label: str) -> str:
    escaped = label.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def locate(entities: list[str], text: str) -> list[dict[str, Any]]:
    """Each entity with its place in the text, [start, end) in characters, or `in_text: false`.

    It is the first that is not taken, longer ones first: 糖尿病 is not found in 糖尿病性網膜症 while it also stands
    alone. An entity that is told more often than it stands there has its first place again.
    """
    taken: set[tuple[int, int]] = set()
    places: dict[int, tuple[int, int] | None] = {}
    for index in sorted(range(len(entities)), key=lambda index: -len(entities[index])):
        size = len(entities[index])
        found = [(match.start(), match.start() + size) for match in re.finditer(re.escape(entities[index]), text)]
        free = [span for span in found if all(span[1] <= start or end <= span[0] for start, end in taken)]
        inside = [span for span in found if span not in taken]
        places[index] = next(iter(free or inside or found), None)
        taken.update(filter(None, [places[index]]))
    return [{"text": entity, "start": place[0], "end": place[1]} if (place := places[index])
            else {"text": entity, "in_text": False} for index, entity in enumerate(entities)]
