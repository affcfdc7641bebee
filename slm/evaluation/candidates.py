"""Which models stand for one row of the leaderboard, and what they were trained on."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

from slm import checkpoint
from slm.tasks.trained import NOTHING_LEARNED, folder_of


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A model, or the same training with several seeds and folds.

    Attributes:
      protocol: of JMED-LLM, P0 … CV.
      models: {(seed, fold): workdir}; fold None: not of a cross-validation.
      learned: tasks of JMED-LLM.
      igakuqa_years: examinations.
      unchecked: whether text that nobody compared with the benchmark went in.
      held_out: the share of documents that all of its trainings held out.
    """
    name: str
    protocol: str
    models: Mapping[tuple[int, int | None], str]
    learned: tuple[str, ...] = ()
    igakuqa_years: tuple[str, ...] = ()
    unchecked: bool = False
    held_out: float = 0.0


def find(backend: str, place: str, model: str) -> Candidate:
    """The candidate that a config names; where it names none, the newest fine-tuning under runs/.

    Raises:
      FileNotFoundError: there is none; the message names the command that makes one.
    """
    if backend != "checkpoint":
        return Candidate(model, "P0", {(0, None): model})
    folder = Path(place) if place else _newest(Path("runs"))
    result = folder / "result.json"
    if result.exists() and "runs" in (about := json.loads(result.read_text(encoding="utf-8"))):
        models = {(own["seed"], own["fold"]): str(folder_of(folder, own["seed"], own["fold"])) for own in about["runs"]}
        return _candidate(str(folder), about["learned"], models)
    about = checkpoint.read_about(folder)
    settings = about["config"]
    # A pretraining has learned from no benchmark that it knows of.
    return _candidate(str(folder), about.get("learned", NOTHING_LEARNED),
                      {(settings["seed"], settings.get("fold")): str(folder)})


def _candidate(name: str, learned: dict, models: dict) -> Candidate:
    return Candidate(name, learned["protocol"], models, tuple(learned["jmed_llm"]), tuple(learned["igakuqa"]),
                     learned["unchecked"], learned["held_out"])


def _newest(runs: Path) -> Path:
    found = []
    for path in runs.glob("**/config.json"):
        result = path.with_name("result.json")
        if result.exists() and json.loads(path.read_text(encoding="utf-8"))["config"].get("job") == "sft":
            found.append(result)
    if not found:
        raise FileNotFoundError("no fine-tuned model under runs/: make one with python -m slm.main "
                                "--config=configs/sft.py, or name a training with --config.checkpoint=WORKDIR")
    return max(found, key=lambda path: path.stat().st_mtime).parent
