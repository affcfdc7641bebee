"""Orbax checkpoints: parameters, optimizer, step, data position, fingerprints; kept by number and by best."""

import concurrent.futures
import contextlib
import dataclasses
import functools
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

from slm import distributed, files
from slm import workdir as workdirs
from slm.config import freeze
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.text.tokenizer import Tokenizer, load_tokenizer

METRIC = "validation_bits_per_byte"
CHECKSUMS_FILE = "checksums.json"  # {file: SHA-256}, inside a checkpoint's folder


class Checkpoints:
    """The checkpoints of one run, which all its processes save and restore together."""

    def __init__(self, folder: Path | str, keep: int = 2):
        """Keeps the newest `keep`, and the one with the lowest validation bits per byte.

        Args:
          folder: local, or gs://BUCKET/… .
        """
        policies = preservation_policy
        options = ocp.CheckpointManagerOptions(
            cleanup_tmp_directories=True,  # half-written by a killed run
            best_fn=lambda metrics: metrics[METRIC], best_mode="min",  # without it, metrics are not kept on disk
            preservation_policy=policies.AnyPreservationPolicy([
                policies.LatestN(keep),
                policies.BestN(get_metric_fn=lambda metrics: metrics[METRIC], reverse=True, n=1,
                               keep_checkpoints_without_metrics=False)]))
        self._folder = _absolute(folder)
        try:
            self._manager = ocp.CheckpointManager(self._folder, options=options)
        except ValueError:  # it reads the metrics of all checkpoints
            for step in ocp.utils.checkpoint_steps(self._folder):
                verify(self._folder, step)
            raise
        self._checksums = concurrent.futures.ThreadPoolExecutor(1)

    def save(self, step: int, state: Any, about: Mapping[str, Any], bits_per_byte: float | None) -> None:
        """Saves in the background.

        Args:
          about: data position, fingerprints, config; must be JSON.
          bits_per_byte: of the validation text at this step, if it was measured, or another rank, the lower the better.
        """
        self._manager.save(step, args=ocp.args.Composite(state=ocp.args.StandardSave(state),
                                                         about=ocp.args.JsonSave(dict(about))),
                           metrics=None if bits_per_byte is None else {METRIC: bits_per_byte})
        self._write_checksums(before=step)  # those that were saved before are complete now

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint."""
        return self._manager.latest_step()

    def best(self) -> int | None:
        """The step with the lowest validation bits per byte, among those kept."""
        return self._manager.best_step()

    def about(self, step: int) -> dict[str, Any]:
        return _read_about(self._folder, step)

    def restore(self, step: int, like: Any) -> Any:
        """The state at `step`, with the shapes, dtypes and shardings of `like` (arrays or their shapes).

        They need not be the shardings that it was saved with: any mesh and any number of processes can resume.

        Raises:
          ValueError: the checkpoint is damaged.
        """
        verify(self._folder, step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        return self._manager.restore(step, args=ocp.args.Composite(state=ocp.args.StandardRestore(abstract)))["state"]

    def wait(self) -> None:
        """Until saves in progress are complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for saves in progress."""
        self._manager.wait_until_finished()
        self._write_checksums()
        self._checksums.shutdown()
        self._manager.close()

    def _write_checksums(self, before: int | None = None) -> None:
        """Of complete checkpoints that have none yet, in the background."""
        if not distributed.is_first() or str(self._folder).startswith("gs://"):  # a bucket has checksums of its own
            return
        for step in self._manager.all_steps():
            folder = Path(self._folder, str(step))
            if (before is None or step < before) and not (folder / CHECKSUMS_FILE).exists():
                self._checksums.submit(_write_checksums, folder)


def _write_checksums(folder: Path) -> None:
    aside = folder / f"{CHECKSUMS_FILE}.writing"
    with contextlib.suppress(FileNotFoundError):  # removed meanwhile: others are newer or better
        aside.write_text(json.dumps(_hashes(folder), indent=2))
        aside.rename(folder / CHECKSUMS_FILE)


def _hashes(folder: Path) -> dict[str, str]:
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not path.name.startswith(CHECKSUMS_FILE):
            with open(path, "rb") as file:
                hashes[str(path.relative_to(folder))] = hashlib.file_digest(file, "sha256").hexdigest()
    return hashes


def verify(folder: epath.Path, step: int) -> None:
    """Raises a `ValueError` if a checkpoint's files are not those that were saved.

    Of several processes the first verifies. A checkpoint whose process was killed before it wrote checksums is not
    verified, nor is one in a bucket.
    """
    path = folder / str(step)
    if not distributed.is_first() or not (path / CHECKSUMS_FILE).exists():  # one process reads it all, not each
        return
    saved, current = files.read_json(Path(path / CHECKSUMS_FILE)), _hashes(Path(path))
    if damaged := [name for name in sorted({*saved, *current}) if saved.get(name) != current.get(name)]:
        older = [other for other in ocp.utils.checkpoint_steps(folder) if other < step]
        offer = f"remove the folder to use step {max(older)}, or copy it again" if older else "copy it again"
        raise ValueError(f"the checkpoint {path} is damaged: {damaged[0]} is not as it was saved"
                         f"{f', nor are {len(damaged) - 1} other files' if damaged[1:] else ''}; {offer}")


def resolve(name: str) -> tuple[Path, int | None]:
    """The checkpoint that a setting names, as (training workdir, step or None for its newest).

    Args:
      name: a training's workdir; WORKDIR/checkpoints/STEP; a fine-tuning's workdir, for its first model; or empty, for
        the checkpoint under runs/ that was written last.

    Raises:
      FileNotFoundError: no checkpoint under runs/, or a cross-validation, whose folds must be named.
    """
    path = Path(name) if name else newest(workdirs.RUNS, fine_tuned=True)
    if path.name.isdecimal() and path.parent.name == "checkpoints":
        return path.parents[1], int(path.name)
    if not (path / "checkpoints").exists():
        if folds := sorted(path.glob("fold-*")):
            raise FileNotFoundError(f"{path} is a cross-validation of {len(folds)} folds: name one, for example "
                                    f"{folds[0]}")
        path = next(iter(sorted(path.glob("seed-*/checkpoints"))), path / "checkpoints").parent
    return path, None


def newest(runs: Path, fine_tuned: bool = False) -> Path:
    """The training workdir under `runs` whose checkpoint was written last.

    Args:
      fine_tuned: whether to consider the models of fine-tunings, which are one folder deeper.

    Raises:
      FileNotFoundError: there is none.
    """
    checkpoints = [*runs.glob("*/checkpoints/*/_CHECKPOINT_METADATA")]
    if fine_tuned:
        checkpoints += runs.glob("*/seed-*/checkpoints/*/_CHECKPOINT_METADATA")
    if not checkpoints:
        raise FileNotFoundError(f"no checkpoint under {runs}: train one with python -m slm.main "
                                "--config=configs/pretrain.py, or name one with --config.checkpoint=WORKDIR")
    return max(checkpoints, key=lambda path: path.stat().st_mtime).parents[2]


def read(workdir: Path, step: int | None = None, labels: bool = False
         ) -> tuple[decoder.Params, ModelConfig, Tokenizer]:
    """Parameters (of the newest checkpoint, or of `step`), model and tokenizer of a training workdir, for inference.

    Raises:
      ValueError: a model with label heads where one that writes is wanted, or the other way round (`labels`).
    """
    # On a CPU unrolled layers decode faster than scanned ones (three times at 1.2B, in a prototype before this code).
    model_config = dataclasses.replace(read_model(workdir), scan_layers=False, remat="none")
    if bool(model_config.label_groups) != labels:
        raise ValueError(f"{workdir} has no label heads: fine-tune one with --config=configs/sft.py:classify" if labels
                         else f"{workdir} has label heads and writes no text: name a model that does")
    shapes = jax.eval_shape(functools.partial(decoder.initialize, model_config), jax.random.key(0))
    return read_params(workdir, step, shapes), model_config, load_tokenizer(workdir / "tokenizer")


def read_params(workdir: Path, step: int | None, like: Any) -> Any:
    """Parameters alone, from the newest checkpoint of a training workdir or from `step`.

    They take the shardings of `like`; where it has none, they are placed on one device.

    Raises:
      FileNotFoundError: no such checkpoint.
    """
    step = _step(workdir, step)
    verify(_folder(workdir), step)
    path = _folder(workdir) / str(step) / "state"
    one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])  # whatever mesh it was saved on
    target = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding or one_device),
                          {"params": like})
    with ocp.PyTreeCheckpointer() as checkpointer:
        return checkpointer.restore(path, args=ocp.args.PyTreeRestore(
            item=target, restore_args=ocp.checkpoint_utils.construct_restore_args(target),
            partial_restore=True))["params"]


def read_about(workdir: Path, step: int | None = None) -> dict[str, Any]:
    """What was saved beside the parameters: see `Checkpoints.save`."""
    return _read_about(_folder(workdir), _step(workdir, step))


def _read_about(folder: epath.Path, step: int) -> dict[str, Any]:
    path = folder / str(step) / "about" / "metadata"
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error}): the checkpoint is damaged; copy it again, or use an older one"
                         ) from None


def read_model(workdir: Path) -> ModelConfig:
    """The model of a workdir's checkpoints."""
    return freeze(ModelConfig, read_about(workdir)["config"]["model"])


def _folder(workdir: Path) -> epath.Path:
    """The folder of a workdir's checkpoints: in it, or where its config puts them."""
    elsewhere = workdirs.read_config(Path(workdir)).get("train", {}).get("checkpoints", "")
    return _absolute(elsewhere or Path(workdir) / "checkpoints")


def _absolute(folder: Path | str) -> epath.Path:
    if str(folder).startswith("gs://"):
        if not importlib.util.find_spec("gcsfs"):
            raise RuntimeError(f"{folder} is in Google Cloud Storage, which needs gcsfs: pip install 'slm[gcs]'")
        return epath.Path(folder)
    return epath.Path(Path(folder).absolute())


def _step(workdir: Path, step: int | None) -> int:
    folder = _folder(workdir)
    steps = sorted(ocp.utils.checkpoint_steps(folder)) if folder.is_dir() else []
    if not steps or (step is not None and step not in steps):
        raise FileNotFoundError(f"{folder} has no checkpoint{'' if step is None else f' of step {step}'} (found "
                                f"{steps}): train one with python -m slm.main --config=configs/pretrain.py")
    return steps[-1] if step is None else step


def content_hash(workdir: Path, step: int) -> str:
    """Tells a checkpoint from another one of the same step, by Orbax's metadata and the manifest of its arrays."""
    folder = _folder(workdir) / str(_step(workdir, step))
    digest = hashlib.sha256()
    for path in sorted([*folder.iterdir(), *(folder / "state").iterdir(), *(folder / "about").iterdir()]):
        if path.is_file() and not path.name.startswith(CHECKSUMS_FILE):
            digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:16]
