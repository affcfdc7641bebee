"""IgakuQA (Kasai et al. 2023, jungokasai/IgakuQA): the Japanese national medical licensing exams of 2018 to 2022.

An exam is six sections, A to F, of a file each. A case may be asked about more than once: its text then stands in the
first question alone, and the others are asked without it, as the reference does. The prompt says how many answers are
right; scores without that are not comparable.
"""

import dataclasses
import itertools
import json
import re
import string
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from slm.tasks import download, exam
from slm.tasks.benchmark import Benchmark, Protocol, Provenance
from slm.tasks.exam import SECTIONS, YEAR_BEFORE_THE_FIRST, Question
from slm.tasks.task import Item, Message, Task

SYSTEM = "医師国家試験を解きます。"
SHOTS = 3  # the worked examples of its scripts/prompts/prompt.jsonl

_CASE = re.compile(r"次の文を読み、(?:\d+[、,〜～~ー-](?P<last>\d+)|以下)の問いに答えよ")

# How to fix a missing or broken file.
_FIX = "copy it from a checkout of https://github.com/jungokasai/IgakuQA"

_EXAMPLE = {"problem_id": str, "problem_text": str, "choices": list, "answer": list}
_PROBLEM = _EXAMPLE | {"text_only": bool, "points": str}
_METADATA = {"problem_id": str, "category": str, "kinki": list, "human_accuracy": str}


@dataclasses.dataclass(frozen=True)
class IgakuQAConfig:
    """Which exams are asked, and how.

    Attributes:
      data_dir: a checkout of its repository; empty: it is downloaded.
      years: of the exams, as 2018,2019; all: those that the checkout has.
      text_only: without the questions that show a picture, which the prompt leaves out.
      shots: worked examples before each question, 0 or 3. Published scores have 3.
    """
    data_dir: str = ""
    years: str = "all"
    text_only: bool = False
    shots: int = SHOTS


def folder(config: IgakuQAConfig) -> Path:
    """The checkout that the config names, or a downloaded one."""
    return Path(config.data_dir) if config.data_dir else download.igakuqa(Path("runs", "products"))


def load(data_dir: Path, years: str = "all", text_only: bool = False, shots: int = SHOTS
         ) -> tuple[Task, dict[str, Question]]:
    """The exams as a task, whose items are named by problem, and what is known of each problem.

    Questions about one case are one document, which has the name of the first.

    Raises:
      FileNotFoundError: no such folder, year or file.
      ValueError: not such a file; the message names the line, the first being 1.
    """
    if shots not in (0, SHOTS):
        raise ValueError(f"shots is {shots}: give 0, or {SHOTS} for the worked examples that IgakuQA has")
    data_dir = Path(data_dir)
    chosen = _years(data_dir, years)
    examples = _examples(data_dir / "scripts/prompts/prompt.jsonl") if shots else []
    items, questions = [], {}
    for year in chosen:
        for section in SECTIONS:
            for item, question in _section(data_dir / f"data/{year}/{year - YEAR_BEFORE_THE_FIRST}-{section}.jsonl"):
                if question.text_only or not text_only:
                    items.append(item)
                    questions[item.id] = question
    name = f"igakuqa{'_text_only' if text_only else ''}{'' if shots else '_0_shot'}"

    def prompt(item: Item) -> list[Message]:
        return [{"role": "system", "content": SYSTEM}, *examples, {"role": "user", "content": _asked(item)}]

    task = Task(name, "exam", tuple(items), ("accuracy", "kappa"), prompt, reply,
                "none stated; exams of the Ministry of Health, Labour and Welfare: evaluation only")
    return task, questions


def reply(item: Item) -> str:
    """The right answer as the worked examples have it: a,b. Of two that are both right, the first."""
    return ",".join(answer.partition(" or ")[0] for answer in item.answer)


def _asked(item: Item) -> str:
    text = f"問題: {item.question}"
    if not item.options:  # a number is wanted
        return text
    choices = "".join(f"\n{letter}: {choice}" for letter, choice in item.options)
    return f"{text}{choices}\n必ずa,b,c,d,eの中からちょうど{len(item.answer)}個選んでください。\n答え:"


def _examples(path: Path) -> list[Message]:
    rows = [_item(row, row["problem_id"]) for _, row in _rows(path, _EXAMPLE)]
    if len(rows) != SHOTS:
        raise ValueError(f"{path} has {len(rows)} worked examples, published scores have {SHOTS}: {_FIX}")
    return [message for item in rows for message in ({"role": "user", "content": _asked(item)},
                                                     {"role": "assistant", "content": reply(item)})]


def _years(data_dir: Path, wanted: str) -> list[int]:
    folder = data_dir / "data"
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is missing: give the path of a checkout of "
                                "https://github.com/jungokasai/IgakuQA, which has data/2018 and so on")
    available = sorted(int(path.name) for path in folder.iterdir() if re.fullmatch(r"\d{4}", path.name, re.ASCII))
    if not available:
        raise FileNotFoundError(f"{folder} has no year: {_FIX}")
    if wanted.strip() in ("", "all"):
        return available
    years = []
    for year in wanted.split(","):
        if not re.fullmatch(r"\s*\d{4}\s*", year, re.ASCII):
            raise ValueError(f"years is {wanted!r}: write all, or years with commas between, as 2018,2019")
        if int(year) not in available:
            raise FileNotFoundError(f"{folder} has no year {int(year)}, only {', '.join(map(str, available))}: "
                                    "name some of these, or all")
        years.append(int(year))
    return sorted(set(years))


def _section(path: Path) -> list[tuple[Item, Question]]:
    facts_path = path.with_name(f"{path.stem}_metadata.jsonl")
    problems = list(_rows(path, _PROBLEM))
    if not facts_path.exists():
        raise FileNotFoundError(f"{facts_path} is missing: without it the forbidden choices (kinki) of this section "
                                f"are unknown, and so is whether the exam is passed; {_FIX}")
    facts = {row["problem_id"]: row for _, row in _rows(facts_path, _METADATA)}
    by_name: dict[str, tuple[Item, Question]] = {}
    documents = _documents([(row["problem_id"], row["problem_text"]) for _, row in problems])
    for where, row in problems:
        name = row["problem_id"]
        if not re.fullmatch(rf"{path.stem.replace('-', '')}\d+", name, re.ASCII) or name in by_name:
            raise ValueError(f"{where}: the problem_id of {len(name)} characters is not {path.stem.replace('-', '')} "
                             "and a number that no other line has")
        if name not in facts:
            raise ValueError(f"{facts_path} has no line of {name}: its forbidden choices are unknown; {_FIX}")
        question = _question(where, row, facts[name])
        by_name[name] = _item(row, documents[name], question.category), question
    return list(by_name.values())


def _item(row: Mapping[str, Any], document: str, category: str = "") -> Item:
    options = tuple(zip(string.ascii_lowercase, row["choices"]))
    return Item(row["problem_id"], row["problem_text"], tuple(row["answer"]), options, category, document)


def _question(where: str, row: Mapping[str, Any], facts: Mapping[str, Any]) -> Question:
    letters, name = string.ascii_lowercase[:len(row["choices"])], row["problem_id"]
    if len(row["choices"]) > len(letters):
        raise ValueError(f"{where}: {len(row['choices'])} choices, there are letters for {len(letters)}")
    wrong = [answer for answer in row["answer"] if letters and not re.fullmatch("[a-z]( or [a-z])?", answer)]
    if not row["answer"] or wrong:
        raise ValueError(f"{where}: the answer has {len(row['answer'])} parts, {len(wrong)} of them unknown, and "
                         f"should be {'letters, as the choices have them' if letters else 'a number'}")
    if not re.fullmatch(r"\d+", row["points"], re.ASCII):
        raise ValueError(f"{where}: the points of {len(row['points'])} characters are not a whole number")
    try:
        students = float(facts["human_accuracy"])
    except ValueError:  # of some it is not known
        students = None
    return Question(name, tuple(row["answer"]), int(row["points"]), row["text_only"], letters, "".join(facts["kinki"]),
                    students, facts["category"])


def _documents(problems: list[tuple[str, str]]) -> dict[str, str]:
    """{problem: the first problem about its case}.

    A case tells the last number that asks about it, or "the following questions": then it ends where the next one
    begins, and the last case of a section asks as many as the one before it. Without one before it, all to the end.
    """
    number = {name: int(re.sub(r"^\d+\D|\D", "", name) or 0) for name, _ in problems}
    opened = {name: match for name, text in problems if (match := _CASE.match(text))}
    starts = [number[name] for name in opened]
    lengths = [after - start for start, after in itertools.pairwise(starts)]
    documents, case, last = {}, "", -1
    for name, _ in problems:
        if name in opened:
            case, index = name, starts.index(number[name])
            if opened[name]["last"]:
                last = int(opened[name]["last"])
            elif lengths:
                last = number[name] + lengths[min(index, len(lengths) - 1)] - 1
            else:
                last = max(number.values())
        documents[name] = case if number[name] <= last else name
    return documents


def _rows(path: Path, keys: Mapping[str, type]) -> Iterator[tuple[str, dict[str, Any]]]:
    """(location, row) of each line; a row has at least these keys, and lists hold strings."""
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: {_FIX}")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")  # a text may have other ends of lines inside
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}): {_FIX}") from None
    if not any(map(str.strip, lines)):
        raise ValueError(f"{path} is empty: {_FIX}")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
            json.dumps(row, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{where} has half of a surrogate pair, which is not a character: {_FIX}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{where} is not JSON ({error}): {_FIX}") from None
        if not isinstance(row, dict):
            raise ValueError(f"{where} is not a JSON object but a {type(row).__name__}: {_FIX}")
        missing = [key for key in keys if key not in row]
        if missing:
            raise ValueError(f"{where} has no {', '.join(missing)} among its {len(row)} fields: {_FIX}")
        for key, kind in keys.items():
            fits = isinstance(row[key], kind)
            if not fits or (kind is list and not all(isinstance(value, str) for value in row[key])):
                raise ValueError(f"{where}: {key} is a {type(row[key]).__name__}, and should be "
                                 f"{'a list of strings' if kind is list else f'a {kind.__name__}'}")
        yield where, row


class IgakuQA(Benchmark):
    """The exams as a benchmark; a model that has seen a year is not asked its questions."""
    name, settings_type, settings_default = "igakuqa", IgakuQAConfig, IgakuQAConfig()

    def tasks(self, settings: IgakuQAConfig, provenance: Provenance, folds: Collection[int]) -> dict[str, Task]:
        task, questions = _load(settings)
        years = {str(question.year) for question in questions.values()} & {*provenance.seen_of(self.name)}
        if years:
            raise ValueError(f"the model was trained on the exams of {', '.join(sorted(years))}: leave these years out "
                             "with --config.igakuqa.years")
        return {self.name: task}

    def training_tasks(self, settings: IgakuQAConfig, name: str, protocol: Protocol, fold: int | None,
                       seed: int) -> list[Task]:
        if not re.fullmatch(r"20\d\d", name):
            raise ValueError(f"sets.{name} is of kind igakuqa: its name is one year, as 2018")
        return [load(folder(settings), name)[0]]

    def protocol(self, provenance: Provenance) -> str:
        return "IgakuQA, number of answers told"

    def report(self, settings: IgakuQAConfig, answers: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """Marks of each year."""
        questions = {name: question for name, question in _load(settings)[1].items() if name in answers}
        report = exam.score(questions, answers)
        return {"examination": report}, exam.markdown(report)

    def prepare(self, settings: IgakuQAConfig) -> None:
        folder(settings)


def _load(settings: IgakuQAConfig) -> tuple[Task, dict[str, Question]]:
    return load(folder(settings), settings.years, settings.text_only, settings.shots)
