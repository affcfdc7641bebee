"""The figures job: draws from what earlier runs left, as PNG and SVG; for the embedding space also a CSV table."""

import dataclasses
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slm import checkpoint, figures
from slm import workdir as workdirs
from slm.corpus import proportions
from slm.files import read_json
from slm.model.presets import PRESETS
from slm.report import architecture, embedding_space, evaluation_figures, training_curves

FIGURES = ("corpus", "architecture", "training", "embedding", "leaderboard", "reliability")
# What a run of a job leaves once it can be drawn.
_WRITTEN = {"pretrain": "metrics.jsonl", "sft": "**/training/metrics.jsonl", "evaluate": "report.json"}


@dataclasses.dataclass(frozen=True)
class FiguresConfig:
    """Which figures, and the workdirs to draw from; an empty one means the job's newest run under runs/."""
    job: str = "figures"
    variant: str = "all"
    figure: Literal["all", "corpus", "architecture", "training", "embedding", "leaderboard", "reliability"] = "all"
    pretrain: str = ""
    sft: str = ""
    evaluate: str = ""
    corpus: str = ""  # a corpus job's workdir or the corpus itself; empty: that of the pretraining, else the newest
    preset: str = ""  # of the architecture; empty: the model of the pretraining, else ncvc_slm_1
    # Of the embedding space.
    lexicons: str = ""  # PATH[,PATH…]: their kinds colour the words; empty: the lexicons of the tokenizer's training
    words: int = 200  # per kind, at most
    labels: int = 40  # words written beside their points, as many as fit
    seed: int = 0

    def __post_init__(self):
        if self.preset and self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r} is not a preset: choose one of {', '.join(PRESETS)}")
        if self.words < 2 or self.labels < 0 or not 0 <= self.seed < 2**32:
            raise ValueError(f"words={self.words}, labels={self.labels}, seed={self.seed}: give at least 2 and 0, and "
                             "a seed from 0 to 4294967295")


def run(config: FiguresConfig, workdir: Path) -> dict:
    """Draws into `workdir`; returns {figure: its source, files and numbers, skipped: {figure: reason}}.

    With `figure="all"`, figures without a source are skipped, and the reason is printed.

    Raises:
      FileNotFoundError: a named source, or the source of the only figure asked for, is missing.
    """
    drawn, skipped = {}, {}
    for name in FIGURES if config.figure == "all" else (config.figure,):
        draw, sources = _DRAWERS[name]
        try:
            drawn[name] = draw(config, workdir / name)
        except (FileNotFoundError, figures.NothingToPlot) as error:
            named = any(getattr(config, source) for source in sources)
            if config.figure != "all" or (named and isinstance(error, FileNotFoundError)):
                raise
            skipped[name] = str(error)
            print(f"{name} is left out: {error}", file=sys.stderr)
        else:
            print(f"{name}: {', '.join(drawn[name]['files'])}")
    return {**drawn, "skipped": skipped}


def _corpus(config: FiguresConfig, path: Path) -> dict:
    folder = _corpus_folder(config)
    report = read_json(folder / "report.json")
    sources = report["by_source"].items()
    # A corpus that was only normalised counts no characters by source.
    unit = "characters" if all("characters_out" in counts for _, counts in sources) else "documents"
    amounts = {name: counts[f"{unit}_out"] for name, counts in sources}
    files = proportions.draw(path.parent, amounts, report["dropped"], report["documents_in"], unit)
    return {"files": files, "corpus": str(folder), "unit": unit, "by_source": amounts}


def _corpus_folder(config: FiguresConfig) -> Path:
    """A named corpus, else that of the pretraining, else the newest."""
    if config.corpus:
        folder = Path(config.corpus)
        if not (folder / "report.json").exists():
            folder = Path((workdirs.read_result(folder) or {}).get("corpus", folder))
        if not (folder / "report.json").exists():
            raise FileNotFoundError(f"{folder} holds no report.json: name a corpus, or the workdir of "
                                    "configs/corpus.py, with --config.corpus=FOLDER")
        return folder
    if pretraining := _workdir("pretrain", config.pretrain):
        folder = Path((workdirs.read_result(pretraining) or {}).get("corpus", ""))
        if (folder / "report.json").exists():
            return folder
    reports = [path for path in workdirs.RUNS.glob("products/corpus-*/report.json")
               if not path.parent.suffix]  # not those being built
    if not reports:
        raise FileNotFoundError(_missing("corpus"))
    return max(reports, key=lambda path: path.stat().st_mtime).parent


def _architecture(config: FiguresConfig, path: Path) -> dict:
    model_config = PRESETS[config.preset or "ncvc_slm_1"]
    if not config.preset and (pretraining := _workdir("pretrain", config.pretrain)):
        model_config = checkpoint.read_model(checkpoint.resolve(str(pretraining))[0])
    return architecture.draw(path, model_config)


def _training(config: FiguresConfig, path: Path) -> dict:
    folders = {job: _workdir(job, getattr(config, job)) for job in ("pretrain", "sft")}
    if not any(folders.values()):
        raise FileNotFoundError(_missing("pretrain"))
    for job, folder in folders.items():
        if not folder:
            print(f"training is drawn in part: {_missing(job)}", file=sys.stderr)
        elif not list(folder.glob(_WRITTEN[job])):
            raise FileNotFoundError(f"{folder} holds no {_WRITTEN[job]}: name the workdir of a run of "
                                    f"configs/{job}.py with --config.{job}=WORKDIR")
    return training_curves.draw(path, folders["pretrain"], folders["sft"])


def _embedding(config: FiguresConfig, path: Path) -> dict:
    pretraining = _workdir("pretrain", config.pretrain)
    if not pretraining:
        raise FileNotFoundError(_missing("pretrain"))
    return embedding_space.draw(path, str(pretraining), config.lexicons, config.words, config.labels, config.seed)


# Each figure and the settings that name its sources.
_DRAWERS: dict[str, tuple[Callable[[FiguresConfig, Path], dict], tuple[str, ...]]] = {
    "corpus": (_corpus, ("corpus", "pretrain")), "architecture": (_architecture, ("pretrain",)),
    "training": (_training, ("pretrain", "sft")), "embedding": (_embedding, ("pretrain",)),
    "leaderboard": (lambda config, path: evaluation_figures.leaderboard(path, _evaluation(config)), ("evaluate",)),
    "reliability": (lambda config, path: evaluation_figures.reliability(path, _evaluation(config)), ("evaluate",))}


def _evaluation(config: FiguresConfig) -> Path:
    folder = _workdir("evaluate", config.evaluate)
    if not folder:
        raise FileNotFoundError(_missing("evaluate"))
    if not (folder / "report.json").exists():
        raise FileNotFoundError(f"{folder} holds no report.json: name the workdir of a leaderboard with "
                                "--config.evaluate=WORKDIR")
    return folder


def _workdir(job: str, name: str) -> Path | None:
    """The named workdir, else that of the job's newest run under runs/; None without any.

    Raises:
      FileNotFoundError: the named one is not a folder.
    """
    if name and not Path(name).is_dir():
        raise FileNotFoundError(f"{name} is missing: name the workdir of a run with --config.{job}=WORKDIR")
    return Path(name) if name else workdirs.newest(job, _WRITTEN[job])


def _missing(job: str) -> str:
    return (f"no workdir of configs/{job}.py under runs/: make one with python -m slm.main "
            f"--config=configs/{job}.py, or name one with --config.{job}=WORKDIR")
