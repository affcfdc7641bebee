"""The kinds of task: how an answer is asked for, read and compared, each written once.

choice      one letter of the options
extraction  spans of the question
exam        one letter or several, or a number
tagging     positions and labels of entities in the question
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal

from slm.tasks import annotated, reading
from slm.tasks.task import Item

AnswerMode = Literal["free", "constrained", "likelihood", "spans", "labels"]


@dataclasses.dataclass(frozen=True)
class Kind:
    """How answers to one kind of task are handled.

    Attributes:
      metrics: names of scoring/metrics.py, all that are reported.
      modes: answer modes (scoring/answer_modes.py), the default first.
      max_tokens: of an answer.
      read: (item, model output) → (answer, whether it could not be read).
      compared: (item id, gold answers, answer) → (gold, answer) as the metrics take them.
      several_letters: an answer may be several letters, as many as the item has gold answers.
    """
    metrics: tuple[str, ...]
    modes: tuple[AnswerMode, ...]
    max_tokens: int
    read: Callable[[Item, str], tuple[Any, bool]]
    compared: Callable[[str, Sequence[str], Any], tuple[Any, Any]]
    several_letters: bool = False

    def letters_wanted(self, item: Item) -> int:
        return len(item.answer) if self.several_letters else 1


def _read_choice(item: Item, output: str) -> tuple[str, bool]:
    letter = reading.read_letter(output)
    return letter, letter == reading.NONE


def _read_extraction(item: Item, output: str) -> tuple[list, bool]:
    return reading.read_list(output)


def _read_exam(item: Item, output: str) -> tuple[str, bool]:
    answer = reading.read_exam_answer(output)
    letters = {letter for letter, _ in item.options}
    return answer, bool(letters) and not set(answer.split(",")) <= letters


def _read_tagging(item: Item, output: str) -> tuple[list, bool]:
    return [], True  # what a model writes has no positions


KINDS: dict[str, Kind] = {
    "choice": Kind(("kappa", "linear_kappa", "accuracy"), ("likelihood", "constrained", "free"), 16, _read_choice,
                   lambda item, gold, answer: (gold[0], answer)),
    "extraction": Kind(("exact_f1", "partial_f1", "partial_f1_reference"), ("spans", "free"), 192, _read_extraction,
                       lambda item, gold, answer: (list(gold), list(answer))),
    # Right or wrong: some problems accept more than one answer.
    "exam": Kind(("accuracy",), ("likelihood", "constrained", "free"), 16, _read_exam,
                 lambda item, gold, answer: (1, int(reading.is_right(item, answer, tuple(gold)))),
                 several_letters=True),
    "tagging": Kind(("label_f1", "span_f1"), ("labels",), 0, _read_tagging,
                    lambda item, gold, answer: (annotated.spans(gold), annotated.spans(answer))),
}
