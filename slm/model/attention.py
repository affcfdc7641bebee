"""Attention with a single interface: grouped queries, causal within each segment.

B batch, T query time, S key time, N query heads, K KV heads, G = N / K, H head size.
"""

import functools

import jax
import jax.numpy as jnp

from slm.model import axes, flash
from slm.model.axes import BATCH, TENSOR

XLA_BLOCK, SPLASH_BLOCK = 128, 512  # queries computed together, unless the config says
_HIDDEN = -1e30  # finite: a row that attends to nothing (padding) averages over everything instead of giving NaN


def attend(q_BNTH, k_BKSH, v_BKSH, *, q_positions_BT, k_positions_BS, q_segments_BT, k_segments_BS,
           aligned: bool, implementation: str = "xla", block: int = 0) -> jax.Array:
    """Softmax attention; a query attends to the keys of its segment up to its position.

    Args:
      aligned: queries and keys are the same tokens in the order of their positions, so that S = T and keys after a
        block of queries are skipped.
      implementation: xla, splash (TPU), cudnn (NVIDIA), or auto, the fastest of the platform. Keys that are not
        aligned (a cache) always use xla.
      block: queries computed together; 0: the implementation's default.

    Returns:
      [B, N, T, H] in the dtype of `q_BNTH`. Scores are computed in float32.
    """
    if implementation == "auto":
        implementation = choose(jax.default_backend(), q_BNTH.shape[2], q_BNTH.dtype, block)
    heads, rows = (BATCH, TENSOR, None, None), (BATCH, None)
    if aligned and implementation != "xla":
        def kernel(q, k, v, segments):
            if implementation == "cudnn":
                return flash.cudnn(q, k, v, segments)
            return flash.splash(q, k, v, segments, block=block or SPLASH_BLOCK)
        return axes.shard_map(kernel, (heads, heads, heads, rows), heads)(q_BNTH, k_BKSH, v_BKSH, q_segments_BT)

    def plain(q, k, v, *locations):
        return _xla(q, k, v, locations, aligned, block or XLA_BLOCK)
    return axes.shard_map(plain, (heads, heads, heads, rows, rows, rows, rows), heads)(
        q_BNTH, k_BKSH, v_BKSH, q_positions_BT, k_positions_BS, q_segments_BT, k_segments_BS)


def choose(platform: str, length: int, dtype, block: int = 0) -> str:
    """What "auto" means: the kernel of the platform (tpu, gpu, cpu) if it supports such rows, otherwise xla."""
    size = min(block or SPLASH_BLOCK, length)
    if platform == "tpu" and size % 128 == 0 and length % size == 0:
        return "splash"
    return "cudnn" if platform == "gpu" and jnp.dtype(dtype) != jnp.float32 else "xla"


def _xla(q_BNTH, k_BKSH, v_BKSH, locations, aligned: bool, block: int) -> jax.Array:
    B, N, T, H = q_BNTH.shape
    K = k_BKSH.shape[1]
    q_BKGTH = (q_BNTH * H**-0.5).reshape(B, K, N // K, T, H)
    out_BKGTH = _attention(q_BKGTH, k_BKSH, v_BKSH, locations, aligned, block)
    return out_BKGTH.reshape(B, N, T, H)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4, 5))
def _attention(q_BKGTH, k_BKSH, v_BKSH, locations, aligned: bool, block: int):
    return _forward(q_BKGTH, k_BKSH, v_BKSH, locations, aligned, block)[0]


def _forward(q_BKGTH, k_BKSH, v_BKSH, locations, aligned: bool, block: int):
    """Saves the exponentials for the gradient without normalising them: the divisor is applied to smaller arrays."""
    outs, saved = [], []
    for queries, keys in _blocks(q_BKGTH.shape[3], k_BKSH.shape[2], aligned, block):
        q = q_BKGTH[:, :, :, queries]
        scores = _by_group(jnp.einsum("BKRH,BKSH->BKRS", _rows(q), k_BKSH[:, :, keys],
                                      preferred_element_type=jnp.float32), q)
        scores = jnp.where(_visible(locations, queries, keys), scores, _HIDDEN)
        exponentials = jnp.exp(scores - scores.max(-1, keepdims=True))
        divisor = 1 / exponentials.sum(-1, keepdims=True)
        exponentials = exponentials.astype(q.dtype)
        out = jnp.einsum("BKRS,BKSH->BKRH", _rows(exponentials), v_BKSH[:, :, keys])
        outs.append((_by_group(out, q) * divisor).astype(q.dtype))
        saved.append((exponentials, divisor))
    out_BKGTH = jnp.concatenate(outs, axis=3)
    return out_BKGTH, (q_BKGTH, k_BKSH, v_BKSH, out_BKGTH, saved)


def _backward(aligned: bool, block: int, saved_arrays, d_out_BKGTH):
    q_BKGTH, k_BKSH, v_BKSH, out_BKGTH, saved = saved_arrays
    delta = jnp.sum(d_out_BKGTH.astype(jnp.float32) * out_BKGTH, axis=-1, keepdims=True)
    d_q, d_k, d_v = [], jnp.zeros_like(k_BKSH), jnp.zeros_like(v_BKSH)
    blocks = _blocks(q_BKGTH.shape[3], k_BKSH.shape[2], aligned, block)
    for (queries, keys), (exponentials, divisor) in zip(blocks, saved):
        q = q_BKGTH[:, :, :, queries]
        d_out = _rows((d_out_BKGTH[:, :, :, queries] * divisor).astype(q.dtype))
        d_weights = _by_group(jnp.einsum("BKRH,BKSH->BKRS", d_out, v_BKSH[:, :, keys]), q)
        d_scores = _rows((exponentials * (d_weights - delta[:, :, :, queries] * divisor)).astype(q.dtype))
        d_q.append(_by_group(jnp.einsum("BKRS,BKSH->BKRH", d_scores, k_BKSH[:, :, keys]), q))
        d_k = d_k.at[:, :, keys].add(jnp.einsum("BKRS,BKRH->BKSH", d_scores, _rows(q)))
        d_v = d_v.at[:, :, keys].add(jnp.einsum("BKRS,BKRH->BKSH", _rows(exponentials), d_out))
    return jnp.concatenate(d_q, axis=3), d_k, d_v, None


_attention.defvjp(_forward, _backward)


def _blocks(length: int, keys: int, aligned: bool, block: int) -> list[tuple[slice, slice]]:
    ends = [min(start + block, length) for start in range(0, length, block)]
    return [(slice(start, end), slice(0, end if aligned else keys)) for start, end in zip([0, *ends], ends)]


def _visible(locations, queries: slice, keys: slice) -> jax.Array:
    q_positions, k_positions, q_segments, k_segments = locations
    same = q_segments[:, queries, None] == k_segments[:, None, keys]
    return (same & (q_positions[:, queries, None] >= k_positions[:, None, keys]))[:, None, None]


def _rows(x_BKGTX) -> jax.Array:
    """The query heads of a group as rows of one matrix product [B, K, G·T, X]: keys and values are never repeated."""
    B, K, G, T, X = x_BKGTX.shape
    return x_BKGTX.reshape(B, K, G * T, X)


def _by_group(x_BKRX, q_BKGTH) -> jax.Array:
    return x_BKRX.reshape(*q_BKGTH.shape[:4], x_BKRX.shape[-1])
