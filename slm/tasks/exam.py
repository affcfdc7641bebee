"""Answer sheets of the national medical licensing exam: accuracy, points, and whether they pass."""

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from slm.files import markdown_table
from slm.tasks.reading import is_right, read_exam_answer

SECTIONS = "ABCDEF"
YEAR_BEFORE_THE_FIRST = 1906  # exams are counted, one a year

# On every table: others score otherwise.
PROTOCOL = "IgakuQA: exact match of the letters; the prompt tells how many answers are right"

REQUIRED = "BE"  # 必修, the sections with a mark of their own

# {year: points to pass, (required, general)}, as the ministry published them.
MARKS: dict[int, tuple[int, int]] = {
    2018: (160, 208), 2019: (160, 209), 2020: (158, 217), 2021: (160, 209), 2022: (158, 214)}

FORBIDDEN = 3  # forbidden choices (禁忌肢) that may be taken

_PROBLEMS = 400  # of a whole exam


@dataclasses.dataclass(frozen=True)
class Question:
    """What is known of a problem, apart from its text.

    Attributes:
      problem_id: exam, section and number, as 112A1.
      answer: letters, or one number. 112B30 has "a or d".
      points: for the right answer; 0 where the ministry took the problem out.
      text_only: no picture belongs to it.
      choices: their letters; empty: the answer is a number.
      kinki: letters of the forbidden choices, as in the file, where some are full-width; None: unknown.
      human_accuracy: % of the students; None: unknown.
      category: the branch of medicine.
    """
    problem_id: str
    answer: tuple[str, ...]
    points: int
    text_only: bool
    choices: str = "abcde"
    kinki: str | None = None
    human_accuracy: float | None = None
    category: str = ""

    @property
    def year(self) -> int:
        return YEAR_BEFORE_THE_FIRST + int(self.problem_id[:3])

    @property
    def section(self) -> str:
        """As its file is named: 112-A."""
        return f"{self.problem_id[:3]}-{self.problem_id[3]}"

    @property
    def numeric(self) -> bool:
        return not self.choices


def score(questions: Mapping[str, Question], predictions: Mapping[str, str]) -> dict[str, Any]:
    """The report on an answer sheet.

    Args:
      predictions: {problem: answer, as `reading.read_exam_answer` reads it}. What is missing is wrong.

    Returns:
      all, text_only: {n, right, accuracy (None if n is 0), score and total in points}.
      by_year, by_section, by_answers (1, 2, 3 of them, or numeric): {name: the same}; a year is a string.
      exams: {year: {required, required_total, required_mark, general, general_total, general_mark, kinki_selected,
        kinki_selected_full_width, passed, why}}. `kinki_selected` counts the problems where a forbidden choice was
        taken, by the letters as in the files. Some of those are full-width, which no answer is: the other count reads
        them too, and it decides. `passed` is None where it cannot be known; `why` says why not, or what was failed.
      unanswered: problems without a prediction.
    """
    if not questions:
        raise ValueError("there are no questions to score: give at least one")
    unknown = [name for name in predictions if name not in questions]
    if unknown:
        raise ValueError(f"{len(unknown)} predictions answer no problem of the exam, the first {unknown[0]!r}: give "
                         f"the questions they answer; those here are as {next(iter(questions))}")
    for name, prediction in predictions.items():
        if not isinstance(prediction, str):
            raise ValueError(f"the prediction of {name} is a {type(prediction).__name__}: give a string, empty where "
                             "there is none")
    right = {name: is_right(name, predictions.get(name, ""), question.answer) for name, question in questions.items()}

    def groups(key) -> dict[str, dict]:
        names = sorted({key(question) for question in questions.values()})
        return {name: _tally((q for q in questions.values() if key(q) == name), right) for name in names}

    return {"protocol": PROTOCOL,
            "all": _tally(questions.values(), right),
            "text_only": _tally((question for question in questions.values() if question.text_only), right),
            "by_year": groups(lambda question: str(question.year)),
            "by_section": groups(lambda question: question.section),
            "by_answers": groups(lambda question: "numeric" if question.numeric else str(len(question.answer))),
            "exams": {str(year): _exam(year, [q for q in questions.values() if q.year == year], predictions, right)
                      for year in sorted({question.year for question in questions.values()})},
            "unanswered": sum(name not in predictions for name in questions)}


def _tally(questions: Iterable[Question], right: Mapping[str, bool]) -> dict[str, Any]:
    points = [(question.points, right[question.problem_id]) for question in questions]
    count = sum(is_correct for _, is_correct in points)
    return {"n": len(points), "right": count, "accuracy": count / len(points) if points else None,
            "score": sum(value for value, is_correct in points if is_correct),
            "total": sum(value for value, _ in points)}


def _exam(year: int, questions: list[Question], predictions: Mapping[str, str], right: Mapping[str, bool]
          ) -> dict[str, Any]:
    required, general = (_tally((q for q in questions if (q.problem_id[3] in REQUIRED) == of_required), right)
                         for of_required in (True, False))
    marks = MARKS.get(year)
    taken, taken_read = _forbidden(questions, predictions, str), _forbidden(questions, predictions, read_exam_answer)
    result = {"required": required["score"], "required_total": required["total"], "required_mark": marks and marks[0],
              "general": general["score"], "general_total": general["total"], "general_mark": marks and marks[1],
              "kinki_selected": taken, "kinki_selected_full_width": taken_read}
    unknown = _unknown(year, questions, predictions)
    if unknown or not marks:
        return result | {"passed": None, "why": unknown}
    failed = [f"{part} points {tally['score']} < {mark}"
              for part, tally, mark in zip(("required", "general"), (required, general), marks)
              if tally["score"] < mark]
    if taken_read is not None and taken_read > FORBIDDEN:
        failed.append(f"forbidden choices {taken_read} > {FORBIDDEN}")
    return result | {"passed": not failed, "why": ", ".join(failed)}


def _unknown(year: int, questions: list[Question], predictions: Mapping[str, str]) -> str:
    """Why nobody can say whether the exam was passed; empty: it can be said."""
    asked = {question.problem_id[3] for question in questions}
    answered = {question.problem_id[3] for question in questions if question.problem_id in predictions}
    if year not in MARKS:
        return f"no marks are known of {year}"
    if asked != set(SECTIONS):
        return f"no questions of section {', '.join(sorted(set(SECTIONS) - asked))}"
    if len(questions) != _PROBLEMS:
        return f"{len(questions)} questions of {_PROBLEMS}"
    if answered != set(SECTIONS):
        return f"no answers to section {', '.join(sorted(set(SECTIONS) - answered))}"
    if any(question.kinki is None for question in questions):
        return "the forbidden choices are unknown"
    return ""


def _forbidden(questions: list[Question], predictions: Mapping[str, str], read: Callable[[str], str]) -> int | None:
    if any(question.kinki is None for question in questions):
        return None
    return sum(not set(read(question.kinki or "")).isdisjoint(predictions.get(question.problem_id, "").split(","))
               for question in questions)


def markdown(report: Mapping[str, Any]) -> str:
    """A report as tables: what was right, and each year's exam."""
    answers = {"1": "1 answer", "numeric": "a number"}
    parts = [("all", report["all"]), ("text only", report["text_only"]),
             *((answers.get(name, f"{name} answers"), tally) for name, tally in report["by_answers"].items()),
             *report["by_year"].items(), *report["by_section"].items()]
    tallies = [[name, f"{tally['n']:,}", f"{tally['right']:,}",
                "–" if tally["accuracy"] is None else f"{tally['accuracy']:.3f}",
                f"{tally['score']:,}/{tally['total']:,}"] for name, tally in parts]
    exams = []
    for year, exam in report["exams"].items():
        points = [f"{exam[part]}/{exam[f'{part}_total']} ({_known(exam[f'{part}_mark'])})"
                  for part in ("required", "general")]
        taken = _known(exam["kinki_selected_full_width"])
        if exam["kinki_selected"] != exam["kinki_selected_full_width"]:
            taken += f" ({exam['kinki_selected']} by half-width letters)"
        passed = {True: "yes", False: "no", None: "unknown"}[exam["passed"]]
        exams.append([year, *points, taken, f"{passed}{exam['why'] and ': '}{exam['why']}"])
    text = f"{report['protocol']}.\n\n" + markdown_table(["part", "problems", "right", "accuracy", "points"], tallies)
    text += "\n" + markdown_table(["exam", "required (mark)", "general (mark)", f"forbidden (at most {FORBIDDEN})",
                                  "passed"], exams)
    if report["unanswered"]:
        text += f"\n{report['unanswered']:,} problems have no answer: wrong.\n"
    return text


def _known(value: int | None) -> str:
    return "–" if value is None else str(value)
