"""Evaluation: a model and a benchmark in, a leaderboard and every raw answer out."""

import dataclasses
import hashlib
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from slm import checkpoint
from slm.corpus.sources import CorpusConfig
from slm.data.conversations import is_held_out
from slm.evaluation import answer_modes, baselines, calibration, candidates, exam, language_model, leaderboard
from slm.evaluation.answer_modes import Answer
from slm.evaluation.candidates import Candidate
from slm.evaluation.models import Checkpoint, Model
from slm.sample import tasks as sample_tasks
from slm.tasks import igakuqa, jmed_llm, split, tables
from slm.tasks.igakuqa import IgakuQAConfig
from slm.tasks.jmed_llm import FOLDS, JmedLlmConfig
from slm.tasks.tables import TableConfig
from slm.tasks.task import Item, Task

ANSWERS = "answers"


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """What is asked of which model, and how its answers are read."""
    job: str = "evaluate"
    variant: str = "jmed_llm"
    benchmark: Literal["jmed_llm", "igakuqa", "sample", "tables", "text"] = "jmed_llm"
    rows: Literal["scored", "held_out"] = "scored"  # held_out: the validation share of what was learned, to choose by
    tasks: str = ""  # NAME[,NAME…] of the benchmark; empty: all
    limit: int = 0  # rows of each task, spread over it; 0: all
    # A fine-tuning (all its seeds and folds) or a single training; empty: the newest fine-tuning under runs/.
    checkpoint: str = ""
    backend: Literal["checkpoint", "openai", "hugging_face"] = "checkpoint"
    model: str = ""  # the name at the endpoint, or the Hugging Face model's folder
    base_url: str = ""  # of an OpenAI-compatible endpoint: the only thing that sends a question off this machine
    choice: Literal["likelihood", "constrained", "free"] = "likelihood"
    extraction: Literal["spans", "free"] = "spans"
    exam: Literal["likelihood", "constrained", "free"] = "likelihood"
    jmed_llm: JmedLlmConfig = JmedLlmConfig()
    igakuqa: IgakuQAConfig = IgakuQAConfig()
    tables: tuple[TableConfig, ...] = ()
    corpus: CorpusConfig = CorpusConfig()  # of benchmark=text
    baselines: bool = True
    resamples: int = 2000  # of the bootstrap
    seed: int = 0
    batch_tokens: int = 16_384  # of prompts computed together

    def __post_init__(self):
        if self.limit < 0 or self.resamples < 1 or self.batch_tokens < 1:
            raise ValueError(f"limit={self.limit}, resamples={self.resamples}, batch_tokens={self.batch_tokens}: give "
                             "at least 0, 1 and 1")
        if self.backend == "openai" and not (self.model and self.base_url):
            raise ValueError(f"backend=openai needs model and base_url (they are {self.model!r} and {self.base_url!r})")
        if self.backend == "hugging_face" and not self.model:
            raise ValueError("backend=hugging_face needs model: the folder of a Hugging Face model")
        if self.backend != "checkpoint" and self.checkpoint:
            raise ValueError(f"backend={self.backend} and checkpoint={self.checkpoint!r} fight: leave one of them out")
        if self.rows == "held_out" and self.benchmark != "jmed_llm":
            raise ValueError(f"rows=held_out is for benchmark=jmed_llm, not {self.benchmark}: leave it out")
        if self.benchmark == "text" and self.backend != "checkpoint":
            raise ValueError(f"benchmark=text measures bits per byte of own checkpoints, not of backend={self.backend}")


def run(config: EvaluateConfig, workdir: Path) -> dict:
    """Answers, scores and prints; returns what `result.json` holds: {task: its line of the leaderboard}.

    Answers that are there are kept, so that the same command goes on.
    """
    started = time.perf_counter()
    candidate = candidates.find(config.backend, config.checkpoint, config.model)
    if config.benchmark == "text":
        return language_model.run(candidate, config.corpus, workdir, config.batch_tokens)
    tasks = _tasks(config, candidate)
    answers = _ask(config, candidate, tasks, workdir)
    lines, reports = {}, {}
    protocol = _protocol(config, candidate)
    for name, task in tasks.items():
        given, truncated = answers[name]
        baseline, majority = _baselines(config, candidate, task)
        lines[name], reports[name] = leaderboard.line(
            task, given, protocol, getattr(config, task.kind), truncated, baseline, majority, config.resamples,
            config.seed)
        if given[0][0].log_likelihoods:
            reports[name]["calibration"] = _calibration(task, given, workdir / f"reliability-{name}")
        if config.benchmark == "igakuqa":
            reports[name]["examination"] = _examination(config, given[0])
    leaderboard.correct(reports)
    _write(workdir / "report.json", json.dumps({
        "model": candidate.name, "protocol": protocol, "seconds": time.perf_counter() - started,
        "tasks": reports}, indent=2, ensure_ascii=False) + "\n")
    text = leaderboard.markdown(candidate.name, lines, reports, published=config.benchmark == "jmed_llm")
    _write(workdir / "leaderboard.md", text)
    print(text)
    return lines


def _protocol(config: EvaluateConfig, candidate: Candidate) -> str:
    """What was learned before the rows were scored, as the leaderboard says it."""
    if config.benchmark == "jmed_llm":
        return (candidate.protocol + " held out" * (config.rows == "held_out")
                + " (training text unchecked)" * candidate.unchecked)
    return {"igakuqa": "IgakuQA, number of answers told", "sample": "own test rows", "tables": "own test rows"}[
        config.benchmark]


def _tasks(config: EvaluateConfig, candidate: Candidate) -> dict[str, Task]:
    """What is asked; of a cross-validation, all rows of the tasks that were learned."""
    if config.benchmark == "jmed_llm":
        folder = jmed_llm.folder(config.jmed_llm)
        if config.rows == "held_out":
            found = {name: _held_out(config, candidate, name)[0] for name in candidate.learned}
            found = {name: task for name, task in found.items() if task.items}
        elif candidate.protocol == "CV":
            folds = {fold for _, fold in candidate.models}
            found = {name: jmed_llm.fold(folder, name) for name in candidate.learned}
            found = {name: dataclasses.replace(task, items=tuple(
                item for item in task.items if jmed_llm.fold_of(item) in folds)) for name, task in found.items()}
        else:
            found = dict(jmed_llm.test(folder))
    elif config.benchmark == "igakuqa":
        task, questions = _examinations(config)
        found = {"igakuqa": task}
        years = {str(question.year) for question in questions.values()} & set(candidate.igakuqa_years)
        if years:
            raise ValueError(f"{candidate.name} learned from the examinations of {', '.join(sorted(years))}: leave "
                             "these years out with --config.igakuqa.years")
    elif config.benchmark == "sample":
        found = dict(sample_tasks.tasks())
    else:
        if not config.tables:
            raise ValueError("benchmark=tables has no tables: name one, as configs/evaluate.py does")
        found = {own.name: tables.task(own.name, own.kind, tables.read(own.file, own.kind, split.document),
                                       own.headline) for own in config.tables}
    names = config.tasks.split(",") if config.tasks else list(found)
    unknown = [name for name in names if name not in found]
    if unknown:
        raise ValueError(f"{config.benchmark} has no task {', '.join(unknown)} for {candidate.name}: there are "
                         f"{', '.join(found)}")
    if not names:
        raise ValueError(f"{candidate.name} has no rows to be asked: it learned from no task of JMED-LLM")
    if len(candidate.models) > 1 and candidate.protocol == "CV" and config.benchmark != "jmed_llm":
        raise ValueError(f"{candidate.name} is a cross-validation of JMED-LLM: a model of one fold is evaluated on "
                         f"{config.benchmark} by naming its folder")
    return {name: _limited(found[name], config.limit) for name in names}


def _held_out(config: EvaluateConfig, candidate: Candidate, name: str) -> tuple[Task, list[Item]]:
    """(the rows that fine-tuning held out to validate on, those that it learned from)."""
    if candidate.protocol not in ("P1", "P2"):
        raise ValueError(f"rows=held_out is for models of P1 or P2, {candidate.name} is of {candidate.protocol}")
    task = jmed_llm.training(jmed_llm.folder(config.jmed_llm), name, candidate.protocol)
    kept = [item for item in task.items if is_held_out(item.document or item.question, candidate.held_out)]
    names = {item.id for item in kept}
    return dataclasses.replace(task, items=tuple(kept)), [item for item in task.items if item.id not in names]


def _limited(task: Task, limit: int) -> Task:
    """At most `limit` rows, spread over the task: files are sorted by tag and answer."""
    number = len(task.items)
    if not limit or number <= limit:
        return task
    return dataclasses.replace(task, items=tuple(task.items[place * number // limit] for place in range(limit)))


def _ask(config: EvaluateConfig, candidate: Candidate, tasks: dict[str, Task],
         workdir: Path) -> dict[str, tuple[list[list[Answer]], int]]:
    """{task: (answers [seeds][rows], prompts cut)}; every answer is in a file of `answers/`."""
    given: dict[str, dict[int, dict[str, Answer]]] = {name: {} for name in tasks}
    truncated = dict.fromkeys(tasks, 0)
    files: list[Path] = []
    for (seed, fold), place in candidate.models.items():
        model: Model | None = None
        model_identity = _identity(config, place)
        for name, task in tasks.items():
            items = [item for item in task.items if fold is None or jmed_llm.fold_of(item) == fold]
            path = workdir / ANSWERS / f"{name}-seed-{seed}{'' if fold is None else f'-fold-{fold}'}.jsonl"
            identity = f"{model_identity} {_digest(task, items)}"
            files.append(path)
            if items and not (path.exists() and _first_line(path).get("asked") == identity):
                model = model or _load(config, place)
                before = model.truncated
                found = answer_modes.answers(model, task, items, getattr(config, task.kind))
                first = {"asked": identity, "truncated": model.truncated - before}
                _write_answers(path, task, items, found, first)
            answers, cut = _read_answers(path) if items else ({}, 0)
            given[name].setdefault(seed, {}).update(answers)
            truncated[name] += cut
    for path in {*(workdir / ANSWERS).glob("*.jsonl")} - {*files}:  # of models or tasks that are no longer asked for
        path.unlink()
    return {name: ([[own[item.id] for item in task.items] for own in given[name].values()], truncated[name])
            for name, task in tasks.items()}


def _load(config: EvaluateConfig, place: str) -> Model:
    if config.backend == "openai":
        from slm.evaluation.endpoint import Endpoint
        return Endpoint(config.base_url, config.model)
    if config.backend == "hugging_face":
        from slm.evaluation.hugging_face import HuggingFace
        return HuggingFace(config.model)
    return Checkpoint.load(Path(place), config.batch_tokens)


def _identity(config: EvaluateConfig, place: str) -> str:
    """Tells one model from another that was put in its place."""
    if config.backend != "checkpoint":
        return place
    return hashlib.sha256(json.dumps(checkpoint.read_about(Path(place)), sort_keys=True).encode()).hexdigest()[:16]


def _digest(task: Task, items: Sequence[Item]) -> str:
    """Tells other rows, prompts or answers from these."""
    content = json.dumps([[item.id, task.prompt(item), item.answer] for item in items])
    return hashlib.sha256(content.encode()).hexdigest()[:16]


def _first_line(path: Path) -> dict:
    with open(path, encoding="utf-8") as file:
        return json.loads(file.readline())


def _write_answers(path: Path, task: Task, items: Sequence[Item], answers: Sequence[Answer], first: dict) -> None:
    """The first line says whose answers these are and how many prompts were cut; then one line an answer.

    No question is written down.
    """
    lines = [first]
    for item, answer in zip(items, answers):
        document = hashlib.sha256(item.document.encode("utf-8", "replace")).hexdigest()[:16]
        lines.append({**dataclasses.asdict(answer), "kind": task.kind, "gold": item.answer, "tag": item.tag,
                      "document": document})
    # What a model writes may hold half a character: escaped, it stays readable.
    _write(path, "".join(json.dumps(line) + "\n" for line in lines))


def _read_answers(path: Path) -> tuple[dict[str, Answer], int]:
    first, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    fields = [field.name for field in dataclasses.fields(Answer)]
    return {line["item"]: Answer(**{name: line[name] for name in fields}) for line in lines}, first["truncated"]


def _baselines(config: EvaluateConfig, candidate: Candidate, task: Task) -> tuple[list | None, list]:
    """What the baseline and the commonest answer give for each row, by the same protocol.

    Without training rows there is no baseline, and the commonest answer is that of the test itself.
    """
    if candidate.protocol == "CV":
        baseline, majority = {}, {}
        folder = jmed_llm.folder(config.jmed_llm)
        for fold in range(FOLDS):
            learned = jmed_llm.training(folder, task.name, "CV", fold).items
            asked = [item for item in task.items if jmed_llm.fold_of(item) == fold]
            if asked:
                majority |= dict(zip([item.id for item in asked], baselines.majority(learned, asked, task.kind)))
                if config.baselines:
                    baseline |= dict(zip([item.id for item in asked], baselines.baseline(task, learned, asked)))
        return ([baseline[item.id] for item in task.items] if config.baselines else None,
                [majority[item.id] for item in task.items])
    learned = _learned(config, candidate, task)
    majority = baselines.majority(learned, task.items, task.kind)
    wanted = config.baselines and (learned or task.kind == "exam")
    return baselines.baseline(task, learned, task.items) if wanted else None, majority


def _learned(config: EvaluateConfig, candidate: Candidate, task: Task) -> Sequence[Item]:
    if config.rows == "held_out":
        return _held_out(config, candidate, task.name)[1]
    if config.benchmark == "jmed_llm" and candidate.protocol != "P0":
        return jmed_llm.training(jmed_llm.folder(config.jmed_llm), task.name, candidate.protocol).items
    if config.benchmark == "sample":
        return sample_tasks.training()[task.name].items
    if config.benchmark == "tables":
        own = next(own for own in config.tables if own.name == task.name)
        learned = tables.read(own.train_file, own.kind) if own.train_file else ()
        scored = {item.question for item in task.items}
        if shared := next((item for item in learned if item.question in scored), None):
            raise ValueError(f"{own.train_file} and {own.file} share questions, the first is {shared.id}: a row that "
                             "is scored must not be learned")
        return learned
    return ()


def _calibration(task: Task, given: Sequence[Sequence[Answer]], figure: Path) -> dict:
    """Of the letters' probabilities of all seeds; where an item wants several letters, it is left out."""
    pairs = [(answer, item) for own in given for answer, item in zip(own, task.items)
             if answer.log_likelihoods and len(item.answer) == 1 and item.answer[0] in answer.log_likelihoods]
    if not pairs:
        return {}
    probabilities = [answer_modes.probabilities(answer) for answer, _ in pairs]
    places = [list(answer.log_likelihoods).index(item.answer[0]) for answer, item in pairs]
    confidence = [max(own) for own in probabilities]
    correct = [own.index(max(own)) == place for own, place in zip(probabilities, places)]
    calibration.figure(calibration.reliability(confidence, correct), figure, task.name)
    return {"ece": calibration.ece(confidence, correct), "brier": calibration.brier(probabilities, places),
            "figure": f"{figure}.png"}


def _examinations(config: EvaluateConfig) -> tuple[Task, dict[str, igakuqa.Question]]:
    own = config.igakuqa
    return igakuqa.load(igakuqa.folder(own), own.years, own.text_only, own.shots)


def _examination(config: EvaluateConfig, answers: Sequence[Answer]) -> dict:
    """Marks of each year, of the first seed's answers."""
    given = {answer.item: answer.value for answer in answers}
    questions = {name: question for name, question in _examinations(config)[1].items() if name in given}
    report = exam.score(questions, given)
    print(exam.markdown(report))
    return report


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f"{path.name}.writing")
    aside.write_text(text, encoding="utf-8")
    aside.rename(path)
