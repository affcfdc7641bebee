"""The checkpoint that a fine-tuning begins with."""

import dataclasses
from pathlib import Path
from typing import Any

import jax

from slm import checkpoint, files
from slm import workdir as workdirs
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.train import step


@dataclasses.dataclass(frozen=True)
class Base:
    """The checkpoint that a fine-tuning begins with, pinned when it first starts."""
    path: Path
    step: int
    hash: str
    model: ModelConfig
    pin_file: Path

    @property
    def record(self) -> dict[str, Any]:
        return {"path": str(self.path), "step": self.step, "hash": self.hash}

    def pin(self) -> None:
        if not self.pin_file.exists():
            files.write_json(self.pin_file, self.record)


def find(named: str, pin_file: Path) -> Base:
    """The base of this run; one that was interrupted keeps the step it began with, whatever was trained since.

    Raises:
      ValueError: the workdir's models begin with another base, or theirs is gone.
    """
    pinned, folder = files.read_json(pin_file) if pin_file.exists() else None, pin_file.parent
    named = named or (pinned["path"] if pinned else str(checkpoint.newest(workdirs.RUNS)))
    source, number = checkpoint.resolve(named)
    if pinned and pinned["path"] != str(source):
        raise ValueError(f"{folder} holds models that begin with {pinned['path']}, this run has checkpoint={source}: "
                         "give another --workdir, or the old checkpoint to resume")
    number = pinned["step"] if pinned else checkpoint.read_about(source, number)["step"]
    base = Base(source, number, checkpoint.content_hash(source, number), checkpoint.read_model(source), pin_file)
    if pinned and pinned["hash"] != base.hash:
        raise ValueError(f"{folder} holds models that begin with step {number} of {source} as {pinned['hash']}, which "
                         f"is now {base.hash}: give another --workdir, or bring back the old checkpoint")
    return base


def read_params(base: Base, model: ModelConfig, mesh: jax.sharding.Mesh, seed: int) -> decoder.Params:
    """The base's parameters, sharded; where `model` has other label heads than the base, those are fresh ones."""
    def initialize(key: jax.Array) -> decoder.Params:
        return decoder.initialize(model, key)

    shapes = jax.eval_shape(initialize, jax.random.key(0))
    shardings = step.model_shardings(model, mesh)
    fresh = () if model.label_groups == base.model.label_groups else ("head", "repeats")
    params = checkpoint.read_params(base.path, base.step, jax.tree.map(
        lambda x, spec: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=spec),
        *({name: tree[name] for name in tree if name not in fresh} for tree in (shapes, shardings))))
    if not fresh:
        return params
    make = jax.jit(lambda key: {name: tree for name, tree in initialize(key).items() if name in fresh},
                   out_shardings={name: spec for name, spec in shardings.items() if name in fresh})
    return params | make(jax.random.key(seed))
