"""The model under test: one checkpoint, or all seeds and folds of a fine-tuning, and what they have seen."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from slm import checkpoint, workdir
from slm.tasks.benchmark import Provenance


@dataclasses.dataclass(frozen=True)
class Candidate:
    """A row of the leaderboard.

    Attributes:
      models: {(seed, fold): where it is}; fold None: not of a cross-validation.
    """
    name: str
    models: Mapping[tuple[int, int | None], str]
    provenance: Provenance = Provenance()

    @property
    def folds(self) -> set[int]:
        return {fold for _, fold in self.models if fold is not None}


def find(backend: str, named: str, model: str) -> Candidate:
    """The candidate that a config names; where it names none, the newest fine-tuning under runs/.

    Raises:
      FileNotFoundError: there is none; the message names the command that makes one.
    """
    if backend != "checkpoint":
        return Candidate(model, {(0, None): model})
    folder = Path(named) if named else workdir.newest("sft", workdir.RESULT_FILE)
    if not folder:
        raise FileNotFoundError("no fine-tuned model under runs/: make one with python -m slm.main "
                                "--config=configs/sft.py, or name a training with --config.checkpoint=WORKDIR")
    result = workdir.read_result(folder)
    if result and "runs" in result:
        models = {(run["seed"], run["fold"]): str(workdir.model_folder(folder, run["seed"], run["fold"]))
                  for run in result["runs"]}
        return Candidate(str(folder), models, Provenance.of_checkpoint(result))
    about = checkpoint.read_about(folder)
    seed_and_fold = about["config"]["seed"], about["config"].get("fold")
    return Candidate(str(folder), {seed_and_fold: str(folder)}, Provenance.of_checkpoint(about))
