"""A saved classifier as a function of texts, for the corpus pipeline and its worker processes."""

import dataclasses
import functools
import hashlib
import importlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from slm import files
from slm.quality.labels import excerpt
from slm.text import normalize

FILE = "classifier.json"
_FORMAT = 1  # raise it when the same files give other scores: the excerpt, the hashes, the pooling
_COMMAND = "train one with python -m slm.main --config=configs/quality.py"


@dataclasses.dataclass(frozen=True)
class Scorer:
    """Texts → probability of good quality; the first call of each process loads the model.

    Attributes:
      model: the module of this package that computes the scores.
      fingerprint: hash of the trained model and of everything that decides its scores.
    """
    folder: str
    model: str
    fingerprint: str

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Scores in [0, 1], float32 [len(texts)]; a blank text scores 0."""
        excerpts = [excerpt(text) for text in texts]
        some = [index for index, text in enumerate(excerpts) if text.strip()]
        scores = np.zeros(len(texts), np.float32)
        if some:
            scores[some] = _loaded(self)([excerpts[index] for index in some])
        return scores


def load(folder: Path) -> Scorer:
    """The classifier that the quality job wrote into `WORKDIR/classifier`.

    Raises:
      FileNotFoundError: the folder holds no classifier.
      ValueError: it was trained with another normaliser, or by another version of this code.
    """
    settings = _settings(Path(folder))
    for name, version in (("format", _FORMAT), ("normalizer", normalize.VERSION)):
        if settings[name] != version:
            raise ValueError(f"{folder} is a classifier of {name} {settings[name]}, now it is {version}: {_COMMAND}")
    return Scorer(str(Path(folder).absolute()), settings["model"], settings["fingerprint"])


def seal(folder: Path, model: str) -> None:
    """Turns the files that a model's `fit` wrote into `folder` into a classifier that `load` reads."""
    settings = {"model": model, "format": _FORMAT, "normalizer": normalize.VERSION}
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with open(path, "rb") as file:
            digest.update(path.relative_to(folder).as_posix().encode() + hashlib.file_digest(file, "sha256").digest())
    settings["fingerprint"] = digest.hexdigest()[:16]
    files.write_json(folder / FILE, settings)


def _settings(folder: Path) -> dict:
    try:
        return files.read_json(folder / FILE)
    except FileNotFoundError:
        raise FileNotFoundError(f"{folder} holds no quality classifier ({FILE} is missing): {_COMMAND}") from None


@functools.cache
def _loaded(scorer: Scorer) -> Callable[[list[str]], np.ndarray]:
    folder = Path(scorer.folder)
    current = _settings(folder)["fingerprint"]
    if current != scorer.fingerprint:
        raise ValueError(f"{folder} holds the classifier {current}, this run began with {scorer.fingerprint}: it was "
                         "trained again meanwhile; start the run again")
    return importlib.import_module(f"slm.quality.{scorer.model}").read(folder)  # late: one of them loads jax
