"""The gates that a synthesised item must pass to become a document."""

import dataclasses
from collections.abc import Callable

from slm.corpus import textbook_prompts as prompts
from slm.text.normalize import normalize


@dataclasses.dataclass(frozen=True)
class GatesConfig:
    """The limits an item must keep to become a document."""
    shortest: int = 150  # characters
    longest: int = 4000
    repetition: float = 0.3  # largest share of lines, or of character 10-grams, that repeat earlier ones
    similarity: float = 0.6  # largest Jaccard similarity of character 5-grams to an accepted item of the same term


def grams(text: str, size: int) -> list[str]:
    return [text[i:i + size] for i in range(len(text) - size + 1)]


def repetition(text: str) -> float:
    """The share of lines, or of character 10-grams, that repeat earlier ones, whichever is larger."""
    parts = [line for line in text.split("\n") if line.strip()], grams(text, 10)
    return max((1 - len(set(part)) / len(part) for part in parts if part), default=0.0)


def jaccard(a: set[str], b: set[str]) -> float:
    return len(a & b) / max(1, len(a | b))


def gate(record: dict, siblings: list[set[str]], config: GatesConfig,
         contaminated: Callable[[str], bool] | None) -> dict[str, bool]:
    """{gate: whether the item passes}; without a test for contamination, without that gate.

    Args:
      siblings: character 5-grams of the accepted items of the same term.
    """
    text, text_grams = record["text"], set(grams(record["text"], 5))
    passed = {
        "form": record["whole"] and (record["style"] not in prompts.EXAMS or prompts.is_exam(text)),
        "length": config.shortest <= len(text) <= config.longest,
        "repetition": repetition(text) <= config.repetition,
        "term_present": record["term"] in normalize(text),
        "near_duplicate": all(jaccard(text_grams, sibling) <= config.similarity for sibling in siblings)}
    return passed | ({"contamination": not contaminated(text)} if contaminated else {})
