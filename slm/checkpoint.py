"""Orbax checkpoints: parameters, optimizer, step, data position, fingerprints; kept by number and by best."""

import hashlib
import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath
from orbax.checkpoint.checkpoint_managers import preservation_policy

from slm.config import freeze
from slm.model.presets import ModelConfig

METRIC = "validation_bits_per_byte"


class Checkpoints:
    """The checkpoints of one run, which all its processes save and restore together."""

    def __init__(self, folder: Path | str, keep: int = 2):
        """Keeps the newest `keep`, and the one with the lowest validation bits per byte.

        Args:
          folder: local, or gs://BUCKET/… .
        """
        policies = preservation_policy
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True,  # what a killed run left half-written
            best_fn=lambda metrics: metrics[METRIC], best_mode="min",  # without it, metrics are not kept on disk
            preservation_policy=policies.AnyPreservationPolicy([
                policies.LatestN(keep),
                policies.BestN(get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1,
                               keep_checkpoints_without_metrics=False)]))
        self._manager = ocp.CheckpointManager(_absolute(folder), options=options)

    def save(self, step: int, state: Any, about: Mapping[str, Any], bits_per_byte: float | None) -> None:
        """Saves in the background.

        Args:
          about: what JSON can hold: data position, fingerprints, config.
          bits_per_byte: of the validation text at this step, if it was measured.
        """
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state),
                                                         about=ocp.args.JsonSave(dict(about))),
                           metrics=None if bits_per_byte is None else {METRIC: bits_per_byte})

    def latest(self) -> int | None:
        """The newest whole checkpoint's step."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the lowest validation bits per byte, of those that are kept."""
        return self._manager.best_step()

    def about(self, step: int) -> dict[str, Any]:
        return self._manager.restore(step, args=ocp.args.Composite(about=ocp.args.JsonRestore()))["about"]

    def restore(self, step: int, like: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `like` (arrays or their shapes).

        They need not be the shardings that it was saved with: any mesh and any number of processes can go on.
        """
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))["state"]

    def wait(self) -> None:
        """Until what is being saved is whole."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for saves under way."""
        self._manager.close()


def read_params(workdir: Path, step: int | None, like: Any) -> Any:
    """Parameters alone, from the newest checkpoint of a training workdir or from `step`.

    They lie as the shardings of `like` say; where it has none, on one device.

    Raises:
      FileNotFoundError: no checkpoint there.
    """
    step = _step(workdir, step)
    path = _folder(workdir) / str(step) / "state"
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # whatever mesh it was saved on
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or here),
                          {"params": like})
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path, args=ocp.args.PyTreeRestore(
            item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True))["params"]


def read_about(workdir: Path, step: int | None = None) -> dict[str, Any]:
    """What was saved beside the parameters: see `Checkpoints.save`."""
    path = _folder(workdir) / str(_step(workdir, step)) / "about" / "metadata"
    return json.loads(path.read_text(encoding="utf-8"))


def read_model(workdir: Path) -> ModelConfig:
    """The model that a workdir's checkpoints are of."""
    return freeze(ModelConfig, read_about(workdir)["config"]["model"])


def _folder(workdir: Path) -> epath.Path:
    """Where a workdir's checkpoints are: in it, or where its config says."""
    config = Path(workdir) / "config.json"
    elsewhere = ""
    if config.exists():
        elsewhere = json.loads(config.read_text(encoding="utf-8"))["config"].get("train", {}).get("checkpoints", "")
    return _absolute(elsewhere or Path(workdir) / "checkpoints")


def _absolute(folder: Path | str) -> epath.Path:
    if str(folder).startswith("gs://"):
        if not importlib.util.find_spec("gcsfs"):
            raise RuntimeError(f"{folder} is in Google Cloud Storage, which needs gcsfs: pip install 'slm[gcs]'")
        return epath.Path(folder)
    return epath.Path(Path(folder).absolute())


def _step(workdir: Path, step: int | None) -> int:
    folder = _folder(workdir)
    found = sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
    if not found or (step is not None and step not in found):
        raise FileNotFoundError(f"{folder} has no checkpoint{'' if step is None else f' of step {step}'} (found "
                                f"{found}): train one with python -m slm.main --config=configs/pretrain.py")
    return found[-1] if step is None else step


def resolve(place: str) -> tuple[Path, int | None]:
    """(training workdir, step or None for its newest) of what a user names: a training's workdir, one of its
    checkpoints, or the workdir of a fine-tuning, whose first model it is then; empty: the newest under runs/."""
    path = Path(place) if place else newest(Path("runs"), fine_tuned=True)
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        return path.parents[1], int(path.name)
    if not (path / "checkpoints").exists():
        if folds := sorted(path.glob("fold-*")):
            raise FileNotFoundError(f"{path} is a cross-validation, of {len(folds)} folds: name one, as {folds[0]}")
        path = next(iter(sorted(path.glob("seed-*/checkpoints"))), path / "checkpoints").parent
    return path, None


def newest(runs: Path, fine_tuned: bool = False) -> Path:
    """The training workdir under `runs` whose checkpoint was written last.

    Args:
      fine_tuned: whether the models of fine-tunings count, which lie a folder deeper.

    Raises:
      FileNotFoundError: there is none.
    """
    found = [*runs.glob("*/checkpoints/*/_CHECKPOINT_METADATA")]
    if fine_tuned:
        found += runs.glob("*/seed-*/checkpoints/*/_CHECKPOINT_METADATA")
    found.sort(key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no checkpoint under {runs}: train one with python -m slm.main "
                                "--config=configs/pretrain.py, or name one with --config.checkpoint=WORKDIR")
    return found[-1].parents[2]


def content_hash(workdir: Path, step: int) -> str:
    """Tells a checkpoint from another one of the same step, by Orbax's metadata and the manifest of its arrays."""
    folder = _folder(workdir) / str(_step(workdir, step))
    digest = hashlib.sha256()
    for path in sorted([*folder.iterdir(), *(folder / "state").iterdir(), *(folder / "about").iterdir()]):
        if path.is_file():
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
