"""AdamW and Muon, their schedules, and gradient clipping: Optax, with our choice of what gets which."""

import dataclasses
from typing import Literal

import jax
import optax
from optax import contrib


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """`muon` orthogonalises the updates of the blocks' matrices and leaves the rest to AdamW (Jordan et al. 2024)."""
    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 3e-4  # of AdamW's parameters
    muon_learning_rate: float = 0.02
    muon_steps: int = 5  # of Newton-Schulz
    schedule: Literal["cosine", "warmup_stable_decay"] = "cosine"
    warmup_share: float = 0.02  # of all steps
    decay_share: float = 0.2  # of all steps; warmup_stable_decay only
    final_share: float = 0.1  # of the peak, at the end
    beta1: float = 0.9
    beta2: float = 0.95
    epsilon: float = 1e-8
    weight_decay: float = 0.1  # of matrices
    clip_norm: float = 1.0  # 0: none


def schedule(config: OptimizerConfig, steps: int, peak: float) -> optax.Schedule:
    """Learning rate by step."""
    warmup = max(1, round(config.warmup_share * steps))
    rise = optax.linear_schedule(peak / warmup, peak, warmup - 1) if warmup > 1 else optax.constant_schedule(peak)
    if config.schedule == "cosine":
        fall = optax.cosine_decay_schedule(peak, max(1, steps - warmup), config.final_share)
        return optax.join_schedules([rise, fall], [warmup])
    decay = max(1, round(config.decay_share * steps))
    stable = optax.constant_schedule(peak)
    fall = optax.linear_schedule(peak, peak * config.final_share, decay)
    return optax.join_schedules([rise, stable, fall], [warmup, max(warmup, steps - decay)])


def build(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The transformation of a run of `steps` steps; parameters are what `decoder.initialize` gives."""
    rate = schedule(config, steps, config.learning_rate)
    adam = dict(b1=config.beta1, b2=config.beta2, eps=config.epsilon, weight_decay=config.weight_decay)
    if config.name == "adamw":
        update = optax.adamw(rate, mask=_is_matrix, **adam)
    else:
        update = contrib.muon(
            schedule(config, steps, config.muon_learning_rate), ns_steps=config.muon_steps,
            weight_decay=config.weight_decay, adam_b1=config.beta1, adam_b2=config.beta2,
            adam_learning_rate=rate,  # embedding, head and norms: not decayed
            muon_weight_dimension_numbers=_muon_dimensions)
    if not config.clip_norm:
        return update
    return optax.chain(optax.clip_by_global_norm(config.clip_norm), update)


def _is_matrix(params):
    return jax.tree.map_with_path(lambda path, x: not _is_norm(path), params)


def _muon_dimensions(params):
    """Blocks' matrices are stacked [L, in, out]; embedding, head and norms are AdamW's."""
    return jax.tree.map_with_path(
        lambda path, x: contrib.MuonDimensionNumbers(1, 2) if x.ndim == 3 else None, params)


def _is_norm(path) -> bool:
    return "scale" in jax.tree_util.keystr(path)
