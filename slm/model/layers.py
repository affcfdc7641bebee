"""The parts of a block, as Flax NNX modules.

Parameters are float32; matrix products run in the config's compute dtype. Matrices are [in, out], initialised from a
normal distribution of standard deviation 0.02; the two that write to the residual stream are divided by √(2 L) (GPT-2).
"""

import jax
import jax.numpy as jnp
from flax import nnx

from slm.model import attention, axes
from slm.model.axes import FSDP, TENSOR
from slm.model.presets import ModelConfig

_DEVIATION = 0.02
_COLUMNS, _ROWS = (FSDP, TENSOR), (TENSOR, FSDP)  # shardings of a matrix [in, out]: outputs or inputs along tensor


def matrix(rngs: nnx.Rngs, shape: tuple[int, ...], scale: float = 1.0) -> nnx.Param:
    return nnx.Param(jax.random.normal(rngs.params(), shape, jnp.float32) * _DEVIATION * scale)


def project(x_BTX, weight: nnx.Param, stored: tuple) -> jax.Array:
    """x · W in the dtype of x, over flattened tokens: XLA's CPU gradient of a three-dimensional product is slower."""
    flat = x_BTX.reshape(-1, x_BTX.shape[-1])
    used = tuple(None if axis == FSDP else axis for axis in stored)
    return jnp.dot(flat, axes.gathered(weight[...], flat.dtype, stored, used)).reshape(*x_BTX.shape[:-1], -1)


class RMSNorm(nnx.Module):
    """Root mean square normalisation (Zhang & Sennrich 2019), in float32."""

    def __init__(self, config: ModelConfig):
        self.scale = nnx.Param(jnp.ones(config.width, jnp.float32))
        self.epsilon = config.norm_epsilon

    def __call__(self, x_BTD):
        x32 = x_BTD.astype(jnp.float32)
        normed = x32 * jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
        return (normed * self.scale[...]).astype(x_BTD.dtype)


def rope_angles(positions_BT, config: ModelConfig) -> tuple[jax.Array, jax.Array]:
    """Cosine and sine, [B, 1, T, H/2] in float32, of rotary embeddings (Su et al. 2021)."""
    half = config.head_size // 2
    frequencies = config.rope_theta ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions_BT[:, None, :, None].astype(jnp.float32) * frequencies
    return jnp.cos(angles), jnp.sin(angles)


def rotate(x_BNTH, angles) -> jax.Array:
    """Rotates the pairs (h, h + H/2): the half-split layout of Hugging Face's Llama."""
    cosine, sine = (angle.astype(x_BNTH.dtype) for angle in angles)
    first, second = jnp.split(x_BNTH, 2, axis=-1)
    return jnp.concatenate([first * cosine - second * sine, second * cosine + first * sine], axis=-1)


class Attention(nnx.Module):
    """Grouped-query attention (Ainslie et al. 2023) with rotary embeddings."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.config = config
        queries, keys = config.query_heads * config.head_size, config.kv_heads * config.head_size
        self.query = matrix(rngs, (config.width, queries))
        self.key = matrix(rngs, (config.width, keys))
        self.value = matrix(rngs, (config.width, keys))
        self.output = matrix(rngs, (queries, config.width), (2 * config.layers) ** -0.5)

    def __call__(self, x_BTD, angles, locations: dict, cache: dict | None):
        """Returns the output [B, T, D] and this layer's cache {keys, values: [B, K, S, H]} with T tokens written."""
        B, T, _ = x_BTD.shape
        q, k, v = (project(x_BTD, w, _COLUMNS).reshape(B, T, -1, self.config.head_size).swapaxes(1, 2)
                   for w in (self.query, self.key, self.value))
        q, k = rotate(q, angles), rotate(k, angles)
        positions, segments = locations["positions"], locations["segments"]
        if cache is None:
            both_ways = bool(self.config.label_groups)
            if both_ways:  # nothing is in a token's future
                positions = jnp.zeros_like(positions)
            out = attention.attend(q, k, v, q_positions_BT=positions, k_positions_BS=positions,
                                   q_segments_BT=segments, k_segments_BS=segments, aligned=not both_ways,
                                   implementation=self.config.attention, block=self.config.attention_block)
        else:
            # The slot of a token is its position, so slots that were never written are in its future.
            rows = jnp.arange(B)[:, None]
            cache = {"keys": cache["keys"].at[rows, :, positions].set(k.swapaxes(1, 2)),
                     "values": cache["values"].at[rows, :, positions].set(v.swapaxes(1, 2))}
            slots = jnp.broadcast_to(jnp.arange(cache["keys"].shape[2]), (B, cache["keys"].shape[2]))
            out = attention.attend(q, cache["keys"], cache["values"], q_positions_BT=positions, k_positions_BS=slots,
                                   q_segments_BT=jnp.ones_like(positions), k_segments_BS=jnp.ones_like(slots),
                                   aligned=False)
        return project(out.swapaxes(1, 2).reshape(B, T, -1), self.output, _ROWS), cache


@jax.custom_vjp
def silu(x):
    """x · σ(x); the gradient is recomputed from x, so that nothing else is saved."""
    return x * jax.nn.sigmoid(x)


def _silu_gradient(x, d_out):
    gate = jax.nn.sigmoid(x)
    return (d_out * gate * (1 + x * (1 - gate)),)


silu.defvjp(lambda x: (silu(x), x), _silu_gradient)


class MLP(nnx.Module):
    """Two matrices with SiLU between them, or SwiGLU (Shazeer 2020)."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.gate = matrix(rngs, (config.width, config.mlp_width)) if config.mlp == "swiglu" else None
        self.up = matrix(rngs, (config.width, config.mlp_width))
        self.down = matrix(rngs, (config.mlp_width, config.width), (2 * config.layers) ** -0.5)

    def __call__(self, x_BTD):
        up = project(x_BTD, self.up, _COLUMNS)
        hidden = silu(up) if self.gate is None else silu(project(x_BTD, self.gate, _COLUMNS)) * up
        return project(hidden, self.down, _ROWS)


class Block(nnx.Module):
    """Pre-norm residual block."""

    def __init__(self, config: ModelConfig, rngs: nnx.Rngs):
        self.attention_norm, self.attention = RMSNorm(config), Attention(config, rngs)
        self.mlp_norm, self.mlp = RMSNorm(config), MLP(config, rngs)

    def __call__(self, x_BTD, angles, locations: dict, cache: dict | None):
        attended, cache = self.attention(self.attention_norm(x_BTD), angles, locations, cache)
        x_BTD = x_BTD + attended
        return x_BTD + self.mlp(self.mlp_norm(x_BTD)), cache
