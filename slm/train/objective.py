"""Cross entropy with z-loss as sums and counts, in chunks: the logits of all tokens never exist at the same time."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from slm.model import axes, decoder, label_heads
from slm.model.axes import BATCH, DATA, FSDP, TENSOR
from slm.model.presets import ModelConfig


def sums(params: decoder.Params, config: ModelConfig, batch: dict, z_loss: float, chunk: int) -> tuple:
    """(objective, (nll, weight)): sums over the targets of `batch`, in nats.

    Args:
      batch: what `data.loader` gives: inputs, targets, segments, positions, weights, each [B, T].
      z_loss: weight of log² Z (PaLM), part of the objective only.
      chunk: positions of each row whose logits are computed together.
    """
    if config.label_groups:
        return label_heads.sums(params, config, batch)
    hidden, _ = decoder.hidden_states(params, config, batch["inputs"], batch["segments"], batch["positions"])
    objective, nll = cross_entropy(hidden, params["head"], batch["targets"], batch["loss_mask"], z_loss, chunk)
    return objective, (nll, jnp.sum(batch["loss_mask"]))


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def cross_entropy(hidden_BTD, head_DV, targets_BT, loss_mask_BT, z_loss: float, chunk: int):
    """(Σ w (nll + z_loss · log² Z), Σ w nll), float32. Only the first has a gradient."""
    def part(hidden_BTD, head_DV, targets_BT, loss_mask_BT):
        head_DV = axes.all_gather(head_DV.astype(hidden_BTD.dtype), FSDP, 0)

        def add_chunk(total, piece):
            objective, nll, _ = _chunk(*piece, head_DV, z_loss)
            return (total[0] + objective, total[1] + nll), None

        sums, _ = _scan(add_chunk, (jnp.float32(0), jnp.float32(0)), (hidden_BTD, targets_BT, loss_mask_BT), chunk)
        return axes.psum(sums, BATCH)
    return axes.shard_map(part, _INPUTS, ((), ()))(hidden_BTD, head_DV, targets_BT, loss_mask_BT)


_INPUTS = ((BATCH, None, None), (FSDP, TENSOR), (BATCH, None), (BATCH, None))


def _chunk(hidden_BCD, targets_BC, loss_mask_BC, head_DV, z_loss):
    """Sums of a chunk, and (logits, log Z, which logit is the target's); V is this device's part of the vocabulary."""
    logits = jnp.einsum("BCD,DV->BCV", hidden_BCD, head_DV, preferred_element_type=jnp.float32)
    largest = axes.pmax(jax.lax.stop_gradient(logits.max(-1)), TENSOR)
    log_z = largest + jnp.log(axes.psum(jnp.exp(logits - largest[..., None]).sum(-1), TENSOR))
    ids = axes.axis_index(TENSOR) * head_DV.shape[1] + jnp.arange(head_DV.shape[1])  # of this device's part
    is_target = ids == targets_BC[..., None]
    if axes.are_set():  # another device may hold the target's
        target = axes.psum(jnp.where(is_target, logits, 0).sum(-1), TENSOR)
    else:  # the same, sooner
        target = jnp.take_along_axis(logits, targets_BC[..., None], axis=-1)[..., 0]
    nll = log_z - target
    objective = jnp.sum(loss_mask_BC * (nll + z_loss * jnp.square(log_z)))
    return objective, jnp.sum(loss_mask_BC * nll), (logits, log_z, is_target)


def _forward(hidden_BTD, head_DV, targets_BT, loss_mask_BT, z_loss, chunk):
    """Computes the gradients too: they need the logits, which are then not computed twice."""
    def part(hidden_BTD, head_DV, targets_BT, loss_mask_BT):
        head_DV = axes.all_gather(head_DV.astype(hidden_BTD.dtype), FSDP, 0)

        def add_chunk(total, piece):
            hidden_BCD, _, loss_mask_BC = piece
            objective, nll, (logits, log_z, is_target) = _chunk(*piece, head_DV, z_loss)
            share = jnp.exp(logits - log_z[..., None]) * (1 + 2 * z_loss * log_z)[..., None]
            d_logits = (loss_mask_BC[..., None] * (share - is_target)).astype(hidden_BCD.dtype)
            d_hidden = axes.psum(jnp.einsum("BCV,DV->BCD", d_logits, head_DV), TENSOR)
            d_head = jnp.einsum("BCD,BCV->DV", hidden_BCD, d_logits, preferred_element_type=jnp.float32)
            return (total[0] + objective, total[1] + nll, total[2] + d_head), d_hidden

        zeros = (jnp.float32(0), jnp.float32(0), jnp.zeros(head_DV.shape, jnp.float32))
        (objective, nll, d_head), d_hidden = _scan(add_chunk, zeros, (hidden_BTD, targets_BT, loss_mask_BT), chunk)
        # Once, not with each chunk.
        d_head = axes.psum_scatter(axes.psum(d_head.astype(hidden_BTD.dtype), DATA), FSDP, 0)
        return axes.psum(objective, BATCH), axes.psum(nll, BATCH), d_hidden, d_head

    objective, nll, d_hidden, d_head = axes.shard_map(part, _INPUTS, ((), (), (BATCH, None, None), (FSDP, TENSOR)))(
        hidden_BTD, head_DV, targets_BT, loss_mask_BT)
    return (objective, nll), (d_hidden, axes.widened(d_head, head_DV.dtype), targets_BT, loss_mask_BT)


def _backward(z_loss, chunk, saved, gradients):
    d_hidden, d_head, targets, weights = saved
    scale = gradients[0]
    return ((d_hidden * scale).astype(d_hidden.dtype), d_head * scale,
            np.zeros(targets.shape, jax.dtypes.float0), jnp.zeros_like(weights))


cross_entropy.defvjp(_forward, _backward)


def _scan(function, start, arrays, chunk):
    """`lax.scan` over pieces of `chunk` positions; the stacked results are laid along the row again."""
    B, T = arrays[1].shape
    chunk = min(chunk, T)
    if T % chunk:
        raise ValueError(f"step.loss_chunk={chunk} does not divide the {T} tokens of a row: choose a divisor")
    cut = [jnp.moveaxis(x.reshape(B, T // chunk, chunk, *x.shape[2:]), 1, 0) for x in arrays]
    total, pieces = jax.lax.scan(function, start, tuple(cut))
    return total, None if pieces is None else jnp.moveaxis(pieces, 0, 1).reshape(B, T, -1)
