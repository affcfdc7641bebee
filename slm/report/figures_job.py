"""The figures of a project, from what its runs left: PNG and SVG, and of the embedding space a table too."""

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from slm import figures
from slm.model.presets import PRESETS, ModelConfig

FIGURES = ("corpus", "architecture", "training", "embedding", "leaderboard", "reliability")


@dataclasses.dataclass(frozen=True)
class FiguresConfig:
    """Which figures, and the workdirs they are drawn from; one that is empty is the newest of its kind under runs/."""
    job: str = "figures"
    variant: str = "all"
    figure: Literal["all", "corpus", "architecture", "training", "embedding", "leaderboard", "reliability"] = "all"
    pretrain: str = ""
    sft: str = ""
    evaluate: str = ""
    corpus: str = ""  # a corpus job's workdir or the corpus itself; empty: that of the pretraining, else the newest
    preset: str = ""  # of the architecture; empty: the model of the pretraining, else ncvc_slm_1
    # Of the embedding space.
    lexicons: str = ""  # PATH[,PATH…] whose words are told apart by kind; empty: those of the tokenizer's training
    words: int = 200  # of a kind, at most
    labels: int = 40  # words written beside their points, as many as fit
    seed: int = 0

    def __post_init__(self):
        if self.preset and self.preset not in PRESETS:
            raise ValueError(f"preset={self.preset!r} is none: choose one of {', '.join(PRESETS)}")
        if self.words < 2 or self.labels < 0 or not 0 <= self.seed < 2**32:
            raise ValueError(f"words={self.words}, labels={self.labels}, seed={self.seed}: give at least 2 and 0, and "
                             "a seed from 0 to 4294967295")


def run(config: FiguresConfig, workdir: Path) -> dict:
    """Draws into `workdir`; returns {figure: what it was drawn from, its files and numbers, skipped: {figure: why}}.

    Of `figure="all"`, those with nothing to be drawn from are skipped, and it is said why.

    Raises:
      FileNotFoundError: what was named, or the one figure asked for needs, is not there.
    """
    workdir.mkdir(parents=True, exist_ok=True)
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
    report = _json(folder / "report.json")
    sources = report["by_source"]
    # A corpus that was only normalised counts no characters by source.
    unit = "characters" if all("characters_out" in own for own in sources.values()) else "documents"
    amounts = {name: own[f"{unit}_out"] for name, own in sources.items()}
    files = figures.proportions(path.parent, amounts, report["dropped"], report["documents_in"], unit)
    return {"files": files, "corpus": str(folder), "unit": unit, "by_source": amounts}


def _corpus_folder(config: FiguresConfig) -> Path:
    """A named corpus, else that of the pretraining, else the newest."""
    if config.corpus:
        place = Path(config.corpus)
        if not (place / "report.json").exists() and (place / "result.json").exists():
            place = Path(_json(place / "result.json").get("corpus", place))
        if not (place / "report.json").exists():
            raise FileNotFoundError(f"{place} holds no report.json: name a corpus, or the workdir of "
                                    "configs/corpus.py, with --config.corpus=FOLDER")
        return place
    pretraining = _newest("pretrain", config.pretrain)
    if pretraining and (pretraining / "result.json").exists():
        place = Path(_json(pretraining / "result.json").get("corpus", ""))
        if (place / "report.json").exists():
            return place
    found = sorted(Path("runs", "products").glob("corpus-*/report.json"), key=lambda own: own.stat().st_mtime)
    found = [own for own in found if not own.parent.suffix]  # those that are being made
    if not found:
        raise FileNotFoundError(_missing("corpus"))
    return found[-1].parent


def _architecture(config: FiguresConfig, path: Path) -> dict:
    from slm.report import architecture
    return architecture.draw(path, PRESETS[config.preset] if config.preset else _model(config))


def _model(config: FiguresConfig) -> ModelConfig:
    pretraining = _newest("pretrain", config.pretrain)
    if not pretraining:
        return PRESETS["ncvc_slm_1"]
    from slm import checkpoint
    return checkpoint.read_model(checkpoint.resolve(str(pretraining))[0])


def _training(config: FiguresConfig, path: Path) -> dict:
    from slm.report import training_curves
    found = {kind: _newest(kind, getattr(config, kind)) for kind in ("pretrain", "sft")}
    if not any(found.values()):
        raise FileNotFoundError(_missing("pretrain"))
    for kind, workdir in found.items():
        if not workdir:
            print(f"training is drawn in part: {_missing(kind)}", file=sys.stderr)
        elif not list(workdir.glob(_PROOFS[kind])):
            raise FileNotFoundError(f"{workdir} holds no {_PROOFS[kind]}: name the workdir of a run of "
                                    f"configs/{kind}.py with --config.{kind}=WORKDIR")
    return training_curves.draw(path, found["pretrain"], found["sft"])


def _embedding(config: FiguresConfig, path: Path) -> dict:
    from slm.report import embedding_space
    return embedding_space.draw(path, str(_needed(config, "pretrain")), config.lexicons, config.words, config.labels,
                                config.seed)


def _board(config: FiguresConfig, path: Path) -> dict:
    from slm.report import evaluation_figures
    return evaluation_figures.board(path, _needed(config, "evaluate"))


def _reliability(config: FiguresConfig, path: Path) -> dict:
    from slm.report import evaluation_figures
    return evaluation_figures.reliability(path, _needed(config, "evaluate"))


# Each figure and the settings that name what it is drawn from.
_DRAWERS: dict[str, tuple[Callable[[FiguresConfig, Path], dict], tuple[str, ...]]] = {
    "corpus": (_corpus, ("corpus", "pretrain")), "architecture": (_architecture, ("pretrain",)),
    "training": (_training, ("pretrain", "sft")), "embedding": (_embedding, ("pretrain",)),
    "leaderboard": (_board, ("evaluate",)), "reliability": (_reliability, ("evaluate",))}

# What a run of a job leaves once it can be drawn.
_PROOFS = {"pretrain": "metrics.jsonl", "sft": "**/training/metrics.jsonl", "evaluate": "report.json"}


def _needed(config: FiguresConfig, kind: str) -> Path:
    named = getattr(config, kind)
    found = _newest(kind, named)
    if not found:
        raise FileNotFoundError(_missing(kind))
    if kind == "evaluate" and not (found / "report.json").exists():
        raise FileNotFoundError(f"{found} holds no report.json: name the workdir of a leaderboard with "
                                "--config.evaluate=WORKDIR")
    return found


def _newest(kind: str, named: str) -> Path | None:
    """The workdir that is named, else that of a job's run under runs/ that wrote last; None without any.

    Raises:
      FileNotFoundError: the named one is no folder.
    """
    if named:
        if not Path(named).is_dir():
            raise FileNotFoundError(f"{named} is missing: name the workdir of a run with --config.{kind}=WORKDIR")
        return Path(named)
    written = {}
    for path in Path("runs").glob("*/config.json"):
        proofs = list(path.parent.glob(_PROOFS[kind]))
        if proofs and _json(path)["config"].get("job") == kind:
            written[path.parent] = max(proof.stat().st_mtime for proof in proofs)
    return max(written, key=written.get, default=None)


def _missing(kind: str) -> str:
    return (f"no workdir of configs/{kind}.py under runs/: make one with python -m slm.main "
            f"--config=configs/{kind}.py, or name one with --config.{kind}=WORKDIR")


def _json(path: Path) -> dict:
    return json.loads(path.read_text(encoding="utf-8"))
