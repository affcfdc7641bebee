"""Instructions for annotating records: the prompt, the grammar that constrains an answer, and how it is parsed."""

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args

from slm.tasks.reading import read_list
from slm.text import chat
from slm.text.normalize import normalize

VERSION = 1  # raise it with any change of the prompts or of the format of the answers
_MOST_ENTITIES, _LONGEST_ENTITY, _LONGEST_SUMMARY = 64, 80, 400  # the last two in characters
_LONGEST_COPIED = 4_000  # characters of a record whose grammar lists its spans
Kind = Literal["extract", "classify", "summarise", "labels"]  # labels: by label heads, which need no prompt


@dataclasses.dataclass(frozen=True)
class Instruction:
    """What to ask of each record."""
    kind: Kind
    system: str
    prompt: str  # {text} stands for the record, {labels} for the labels
    labels: str = ""  # A|B|C, to classify
    file: str = ""  # a JSON file with the four above, read instead of them


def read(instruction: Instruction) -> Instruction:
    """The validated instruction, from its file if it names one.

    Raises:
      ValueError, FileNotFoundError: an instruction or a file that cannot be used.
    """
    location = "config.instruction"
    if instruction.file:
        location, keys = instruction.file, ["kind", "system", "prompt", "labels"]
        try:
            value = json.loads(Path(location).read_text(encoding="utf-8-sig"))
        except FileNotFoundError:
            raise FileNotFoundError(f"{location} is missing: give a JSON file with {', '.join(keys)}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{location} is not JSON in UTF-8 ({error})") from None
        # Nothing in it is quoted: it may be another file, or hold records as examples.
        if not isinstance(value, dict) or not set(keys[:3]) <= set(value) <= set(keys):
            found = [name for name in keys if name in value] if isinstance(value, dict) else []
            raise ValueError(f"{location} has {', '.join(found) or 'none'} of an instruction's keys, and "
                             f"{len(value) - len(found) if isinstance(value, dict) else 0} others: an instruction is "
                             f"an object with {', '.join(keys[:3])}, and {keys[3]} to classify")
        if wrong := [name for name in value if not isinstance(value[name], str)]:
            raise ValueError(f"{location}.{wrong[0]} is a {type(value[wrong[0]]).__name__}: write a text")
        if value["kind"] not in get_args(Kind):
            raise ValueError(f"{location}.kind is unknown: choose one of {', '.join(get_args(Kind))}")
        instruction = Instruction(**value)
    if instruction.kind == "labels":
        return instruction
    if (count := instruction.prompt.count("{text}")) != 1:
        raise ValueError(f"{location}.prompt has {{text}} {count} times: write {{text}} exactly once")
    if (instruction.kind == "classify") != bool(instruction.labels):
        raise ValueError(f"{location} has {'labels' if instruction.labels else 'no labels'} and "
                         f"kind={instruction.kind}: give labels, as --config.instruction.labels='A|B|C', to classify "
                         "and only then")
    return instruction


class Form:
    """An instruction to a model that writes, and the format of its answers: the grammar, and how to parse an answer.

    An answer that max_tokens cut off is the beginning of one.

    Raises:
      ValueError: fewer than two labels, or two that are the same.
    """

    def __init__(self, instruction: Instruction):
        self.instruction = instruction
        labels = [label.strip() for label in instruction.labels.split("|")]
        self._labels = {normalize(label): label for label in labels}  # the model writes normalised text
        if instruction.kind == "classify" and (len(self._labels) < max(2, len(labels)) or not all(
                label and label.isprintable() for label in labels)):
            raise ValueError(f"{len(self._labels)} of {len(labels)} labels differ: give at least two, all different, "
                             "none of them empty, written A|B|C")

    def messages(self, text: str) -> list[chat.Message]:
        before, after = self.instruction.prompt.replace("{labels}", "、".join(self._labels.values())).split("{text}")
        system = [{"role": "system", "content": self.instruction.system}] if self.instruction.system else []
        return [*system, {"role": "user", "content": f"{before}{text}{after}"}]

    def grammar(self, text: str, borders: Callable[[str], set[int]]) -> str:
        """GBNF of the answers about a normalised text; `borders` gives the offsets of its morphemes' borders."""
        match self.instruction.kind:
            case "extract":
                return _spans(text, borders(text)) if len(text) <= _LONGEST_COPIED else _STRINGS
            case "classify":
                return f"root ::= {' | '.join(map(_literal, self._labels))}"
            case _:
                return rf"root ::= [^\x00-\x1f\x7f-\x9f]{{1,{_LONGEST_SUMMARY}}}"

    def read(self, answer: str, text: str) -> dict[str, Any]:
        match self.instruction.kind:
            case "extract":
                whole = _WHOLE_ENTITIES.match(answer)
                entities, unread = read_list(f"{whole[0]}]" if whole else "[]")
                if unread:
                    raise ValueError("the answer is not a list of strings")
                return {"entities": locate([str(entity) for entity in entities], text)}
            case "classify":
                return {"label": self._labels.get(answer)}
            case _:
                return {"summary": answer.strip()}


# The list has the format of slm.tasks.tables.extraction_reply, on which models are fine-tuned.
_LIST = f"""root ::= "[" (entity (", " entity){{0,{_MOST_ENTITIES - 1}}})? "]"
entity ::= "'" string "'"
"""
_STRINGS = _LIST + rf"""string ::= character{{1,{_LONGEST_ENTITY}}}
character ::= [^'\\\x00-\x1f\x7f-\x9f] | "\\" ['\\n]
"""
_WHOLE_ENTITIES = re.compile(r"\['(?:[^'\\]|\\.)*'(?:, '(?:[^'\\]|\\.)*')*")
_IN_LIST = {"'": "\\'", "\\": "\\\\"}


def _spans(text: str, borders: set[int]) -> str:
    """GBNF of lists of spans of the text: one rule per character, followed by that of the next."""
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
    """Each entity with its span in the text, [start, end) in characters, or `in_text: false`.

    Longer entities are located first, each at its first free occurrence: 糖尿病 is not located inside 糖尿病性網膜症
    while it also occurs alone. An entity that is repeated more often than it occurs gets its first span again.
    """
    taken: set[tuple[int, int]] = set()
    spans: dict[int, tuple[int, int] | None] = {}
    for index in sorted(range(len(entities)), key=lambda index: -len(entities[index])):
        occurrences = [match.span() for match in re.finditer(re.escape(entities[index]), text)]
        free = [span for span in occurrences if all(span[1] <= start or end <= span[0] for start, end in taken)]
        inside = [span for span in occurrences if span not in taken]
        spans[index] = next(iter(free or inside or occurrences), None)
        taken.update(filter(None, [spans[index]]))
    return [{"text": entity, "start": span[0], "end": span[1]} if (span := spans[index])
            else {"text": entity, "in_text": False} for index, entity in enumerate(entities)]
