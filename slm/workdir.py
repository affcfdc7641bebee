"""Workdirs: the folder of a run, what it was made with (`config.json`) and what came of it (`result.json`)."""

import dataclasses
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from slm import config as configs
from slm import files

RUNS = Path("runs")
PRIVATE = "private"  # in the metadata of a config's field: its text is not kept on disk
_NOT_KEPT = "(not kept)"
CONFIG_FILE, RESULT_FILE = "config.json", "result.json"
_LIBRARIES = ("jax", "flax", "optax", "orbax-checkpoint", "grain", "sentencepiece", "mecab-python3", "ipadic", "numpy")


def begin(workdir: Path, config: Any, resumable: bool, exclusive: bool = True) -> None:
    """Makes the workdir and writes its `config.json`: settings, library versions, git revision, command.

    Args:
      exclusive: no other process writes to the workdir, so what a killed one left half-written is removed.

    Raises:
      ValueError: the job is resumable and the workdir holds results of another config.
    """
    if resumable:
        _refuse_other_config(workdir, config)
    if exclusive:
        files.remove_torn(workdir)
    settings, command = dataclasses.asdict(config), sys.argv
    for name in [field.name for field in dataclasses.fields(config) if field.metadata.get(PRIVATE)]:
        if text := settings[name]:
            settings[name] = _NOT_KEPT
            command = [_NOT_KEPT if argument == text else argument.replace(f"{name}={text}", f"{name}={_NOT_KEPT}")
                       for argument in command]
    files.write_json(workdir / CONFIG_FILE, {
        "config": settings, "versions": {"python": sys.version.split()[0], **_versions()}, "revision": _revision(),
        "command": command})


def write_result(workdir: Path, result: dict) -> None:
    files.write_json(workdir / RESULT_FILE, result)


def read_config(workdir: Path) -> dict[str, Any]:
    """The settings of the run in a workdir; empty if it has none, or if its config.json is of another program."""
    path = workdir / CONFIG_FILE
    content = files.read_json(path) if path.exists() else {}
    return content.get("config", {}) if isinstance(content, dict) else {}


def read_result(workdir: Path) -> dict[str, Any] | None:
    """What a finished run recorded; None where none is finished."""
    path = workdir / RESULT_FILE
    return files.read_json(path) if path.exists() else None


def newest(job: str, written: str) -> Path | None:
    """The workdir under runs/ of a run of `job` that wrote a file last; None where there is none.

    Args:
      written: pattern of the files, inside the workdir, that a run leaves once it can be used.
    """
    times = {}
    for path in RUNS.glob(f"*/{CONFIG_FILE}"):
        proofs = list(path.parent.glob(written))
        if proofs and read_config(path.parent).get("job") == job:
            times[path.parent] = max(proof.stat().st_mtime for proof in proofs)
    return max(times, key=times.__getitem__, default=None)


def model_folder(workdir: Path, seed: int, fold: int | None) -> Path:
    """The workdir of one model of a fine-tuning."""
    return workdir / ("" if fold is None else f"fold-{fold}") / f"seed-{seed}"


def _refuse_other_config(workdir: Path, config: Any) -> None:
    if not (workdir / CONFIG_FILE).exists() or list(workdir.iterdir()) == [workdir / CONFIG_FILE]:
        return
    for name, (old, new) in configs.differences(read_config(workdir), dataclasses.asdict(config)).items():
        raise ValueError(f"{workdir} holds a run with {name}={old!r}, this one has {new!r}: give another --workdir, or "
                         "the old setting to resume")


def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in _LIBRARIES}


def _revision() -> str | None:
    """The git revision of this code, with + where files were changed; None outside a checkout."""
    try:
        done = subprocess.run(["git", "describe", "--always", "--dirty=+", "--exclude=*"], capture_output=True,
                              text=True, cwd=Path(__file__).parent)
    except FileNotFoundError:
        return None
    return done.stdout.strip() or None
