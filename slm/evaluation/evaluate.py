"""Evaluation: a model and a benchmark in, a leaderboard and every raw answer out."""

import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from slm import benchmarks, checkpoint, files
from slm.benchmarks import REGISTRY
from slm.corpus.sources import CorpusConfig
from slm.data.conversations import is_held_out
from slm.evaluation import answer_store, candidates, language_model, leaderboard
from slm.evaluation.candidates import Candidate
from slm.evaluation.endpoint import Endpoint
from slm.evaluation.hugging_face import HuggingFace
from slm.scoring import answer_modes, baselines, calibration
from slm.scoring.answer_modes import Answer
from slm.scoring.models import Checkpoint, LabelModel, Model
from slm.tasks.benchmark import Benchmark
from slm.tasks.kinds import KINDS, AnswerMode
from slm.tasks.tables import TableConfig
from slm.tasks.task import Item, Task, spread


@dataclasses.dataclass(frozen=True)
class EvaluateConfig(benchmarks.Settings):
    """What is asked of which model, and how its answers are read."""
    job: str = "evaluate"
    variant: str = "jmed_llm"
    benchmark: str = "jmed_llm"  # a name of slm/benchmarks.py, or text: bits per byte
    rows: Literal["scored", "held_out"] = "scored"  # held_out: fine-tuning's validation rows, to choose settings by
    tasks: str = ""  # NAME[,NAME…] of the benchmark; empty: all
    limit: int = 0  # rows of each task, spread over it; 0: all
    # A fine-tuning (all its seeds and folds) or a single training; empty: the newest fine-tuning under runs/.
    checkpoint: str = ""
    backend: str = "checkpoint"  # a name of BACKENDS
    model: str = ""  # the name at the endpoint, or the Hugging Face model's folder
    base_url: str = ""  # of an OpenAI-compatible endpoint: the only thing that sends a question off this machine
    api_key_variable: str = ""  # of the environment, with the endpoint's key; empty: OPENAI_API_KEY, for OpenAI only
    choice: Literal["likelihood", "constrained", "free"] = "likelihood"
    extraction: Literal["spans", "free"] = "spans"
    exam: Literal["likelihood", "constrained", "free"] = "likelihood"
    tables: tuple[TableConfig, ...] = ()  # of benchmark=tables
    corpus: CorpusConfig = CorpusConfig()  # of benchmark=text
    baselines: bool = True
    resamples: int = 2000  # of the bootstrap
    seed: int = 0
    batch_tokens: int = 16_384  # of prompts computed together

    def __post_init__(self):
        for name, known in (("benchmark", [*REGISTRY, "text"]), ("backend", [*BACKENDS])):
            if getattr(self, name) not in known:
                raise ValueError(f"{name}={getattr(self, name)!r}: choose one of {', '.join(known)}")
        if self.limit < 0 or self.resamples < 1 or self.batch_tokens < 1:
            raise ValueError(f"limit={self.limit}, resamples={self.resamples}, batch_tokens={self.batch_tokens}: give "
                             "at least 0, 1 and 1")
        if self.backend == "openai" and not (self.model and self.base_url):
            raise ValueError(f"backend=openai needs model and base_url (they are {self.model!r} and {self.base_url!r})")
        if self.backend == "hugging_face" and not self.model:
            raise ValueError("backend=hugging_face needs model: the folder of a Hugging Face model")
        if self.backend != "checkpoint" and self.checkpoint:
            raise ValueError(f"backend={self.backend} and checkpoint={self.checkpoint!r} conflict: remove one of them")
        if self.benchmark == "text" and self.backend != "checkpoint":
            raise ValueError(f"benchmark=text measures bits per byte of our own checkpoints, not of backend="
                             f"{self.backend}")


# What answers: (config, where the model is) → model.
BACKENDS: dict[str, Callable[["EvaluateConfig", str], Model]] = {
    "checkpoint": lambda config, location: (LabelModel if _has_labels(config, location) else Checkpoint).load(
        Path(location), config.batch_tokens),
    "openai": lambda config, location: Endpoint(config.base_url, config.model,
                                               api_key_variable=config.api_key_variable),
    "hugging_face": lambda config, location: HuggingFace(config.model)}


def _has_labels(config: "EvaluateConfig", location: str) -> bool:
    """Whether the model answers by label heads, not in words."""
    return config.backend == "checkpoint" and bool(checkpoint.read_model(Path(location)).label_groups)


def _answer_modes(config: "EvaluateConfig", candidate: Candidate, tasks: dict[str, Task]) -> dict[str, AnswerMode]:
    """{task: its answer mode}."""
    if _has_labels(config, next(iter(candidate.models.values()))):
        return dict.fromkeys(tasks, "labels")
    # A kind with one mode has no setting.
    return {name: getattr(config, task.kind, KINDS[task.kind].modes[0]) for name, task in tasks.items()}


def run(config: EvaluateConfig, workdir: Path) -> dict:
    """Answers, scores and prints; returns what `result.json` holds: {task: its line of the leaderboard}.

    Answers that are on disk are kept, so that the same command resumes.
    """
    started = time.perf_counter()
    candidate = candidates.find(config.backend, config.checkpoint, config.model)
    if config.benchmark == "text":
        return language_model.run(candidate, config.corpus, workdir, config.batch_tokens)
    benchmark = REGISTRY[config.benchmark]
    tasks = _tasks(config, candidate, benchmark)
    modes = _answer_modes(config, candidate, tasks)
    answers, templates = _ask(config, candidate, benchmark, tasks, modes, workdir)
    protocol = benchmark.protocol(candidate.provenance) + " held out" * (config.rows == "held_out")
    lines, reports = {}, {}
    for name, task in tasks.items():
        by_seed, truncated = answers[name]
        baseline, majority = _baselines(config, candidate, benchmark, task)
        lines[name], reports[name] = leaderboard.line(
            task, by_seed, protocol, modes[name], truncated, baseline, majority, config.resamples, config.seed)
        reports[name] |= calibration.report(task, by_seed, workdir / f"reliability-{name}")
        more, text = benchmark.report(benchmarks.settings_of(config, config.benchmark),
                                      {answer.item: answer.value for answer in by_seed[0]})
        reports[name] |= more
        print(text, end="")
    leaderboard.correct(reports)
    files.write_json(workdir / "report.json", {
        "model": candidate.name, "protocol": protocol, "templates": sorted(templates),
        "seconds": time.perf_counter() - started, "tasks": reports})
    text = leaderboard.markdown(candidate.name, templates, lines, reports, benchmark.published())
    files.write_text(workdir / "leaderboard.md", text)
    print(text)
    return lines


def _tasks(config: EvaluateConfig, candidate: Candidate, benchmark: Benchmark) -> dict[str, Task]:
    """The tasks that are asked, with their rows."""
    settings = benchmarks.settings_of(config, benchmark.name)
    if len(candidate.folds) > 1 and not benchmark.has_folds:
        raise ValueError(f"{candidate.name} is a cross-validation: to evaluate a model of one fold on "
                         f"{benchmark.name}, name its folder")
    if config.rows == "held_out":
        if candidate.provenance.protocol not in ("P1", "P2"):
            raise ValueError(f"rows=held_out is for models of P1 or P2, {candidate.name} is of "
                             f"{candidate.provenance.protocol}")
        tasks = {name: _held_out(config, candidate, benchmark, name)[0]
                 for name in candidate.provenance.seen_of(benchmark.name)}
        tasks = {name: task for name, task in tasks.items() if task.items}
    else:
        tasks = benchmark.tasks(settings, candidate.provenance, candidate.folds)
    names = config.tasks.split(",") if config.tasks else list(tasks)
    if unknown := [name for name in names if name not in tasks]:
        raise ValueError(f"{benchmark.name} has no task {', '.join(unknown)} for {candidate.name}: it has "
                         f"{', '.join(tasks)}")
    if not names:
        raise ValueError(f"{candidate.name} has no rows to be asked: it was trained on no task of {benchmark.name}")
    return {name: dataclasses.replace(tasks[name], items=spread(tasks[name].items, config.limit)) for name in names}


def _held_out(config: EvaluateConfig, candidate: Candidate, benchmark: Benchmark, name: str
              ) -> tuple[Task, list[Item]]:
    """(the rows that fine-tuning held out for validation, those that it was trained on)."""
    provenance = candidate.provenance
    settings = benchmarks.settings_of(config, benchmark.name)
    task, = benchmark.training_tasks(settings, name, provenance.protocol, None, config.seed)
    held_out = [is_held_out(item.document or item.question, provenance.held_out) for item in task.items]
    return (dataclasses.replace(task, items=tuple(item for item, held in zip(task.items, held_out) if held)),
            [item for item, held in zip(task.items, held_out) if not held])


def _ask(config: EvaluateConfig, candidate: Candidate, benchmark: Benchmark, tasks: dict[str, Task],
         modes: dict[str, AnswerMode], workdir: Path) -> tuple[dict[str, tuple[list[list[Answer]], int]], set[str]]:
    """({task: (answers [seeds][rows], prompts truncated)}, chat templates); every answer is in a file of `answers/`."""
    by_task: dict[str, dict[int, dict[str, Answer]]] = {name: {} for name in tasks}
    truncated = dict.fromkeys(tasks, 0)
    paths: list[Path] = []
    kept: set[str] = set()
    templates: set[str] = set()
    for (seed, fold), location in candidate.models.items():
        model: Model | None = None
        model_identity = _identity(config, location)
        for name, task in tasks.items():
            items = benchmark.of_fold(task.items, fold)
            path = answer_store.path(workdir, name, seed, fold)
            identity = answer_store.identity(model_identity, task, items)
            paths.append(path)
            if items and config.backend == "openai" and (asked_at := answer_store.asked_at(path, identity)):
                kept.add(f"{asked_at} of {location} at {config.base_url}")
            if items and not answer_store.asked_at(path, identity):
                model = model or BACKENDS[config.backend](config, location)
                before = model.truncated
                answers = answer_modes.answers(model, task, items, modes[name])
                answer_store.write(path, identity, task, items, answers, model.truncated - before, model.template)
            if items:
                read, cut, template = answer_store.read(path)
                by_task[name].setdefault(seed, {}).update(read)
                truncated[name] += cut
                templates.add(template)
            else:
                by_task[name].setdefault(seed, {})
    answer_store.remove_others(workdir, paths)
    for answers_of in sorted(kept):  # what a server calls by this name today nobody here can know
        print(f"reusing answers from {answers_of}: if it serves another model by now, remove "
              f"{workdir / answer_store.FOLDER} to ask again", file=sys.stderr)
    by_seed = {name: [[of_seed[item.id] for item in task.items] for of_seed in by_task[name].values()]
               for name, task in tasks.items()}
    return {name: (by_seed[name], truncated[name]) for name in tasks}, templates


def _identity(config: EvaluateConfig, location: str) -> str:
    """Tells a model from another one that was put in its location."""
    if config.backend == "hugging_face":
        return _folder_identity(Path(location))
    if config.backend != "checkpoint":
        return f"{location} at {config.base_url}"
    about = checkpoint.read_about(Path(location))
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:16]


def _folder_identity(folder: Path) -> str:
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            content = hashlib.file_digest(file, "sha256").digest()
        digest.update(str(path.relative_to(folder)).encode() + b"\0" + content)
    return digest.hexdigest()[:16]


def _baselines(config: EvaluateConfig, candidate: Candidate, benchmark: Benchmark, task: Task
               ) -> tuple[list | None, list]:
    """(the baseline's answers, the commonest answer) for each row, under the candidate's protocol.

    Without training rows there is no baseline, and the commonest answer is that of the test itself.
    """
    settings, provenance = benchmarks.settings_of(config, benchmark.name), candidate.provenance
    baseline: dict[str, object] | None = {}
    majority: dict[str, object] = {}
    for fold in sorted(candidate.folds) if benchmark.has_folds and candidate.folds else [None]:
        asked = benchmark.of_fold(task.items, fold)
        if config.rows == "held_out":
            learned: Sequence[Item] = _held_out(config, candidate, benchmark, task.name)[1]
        else:
            learned = benchmark.training(settings, task, provenance, fold)
        if not asked:
            continue
        ids = [item.id for item in asked]
        majority |= zip(ids, baselines.majority(learned, asked, task.kind))
        if baseline is not None and config.baselines and (learned or task.kind == "exam"):
            baseline |= zip(ids, baselines.baseline(task, learned, asked))
        else:
            baseline = None
    return (None if baseline is None else [baseline[item.id] for item in task.items],
            [majority[item.id] for item in task.items])
