"""The decoder as functions of a plain dict of arrays; Flax stays inside.

Parameters: {embedding [V, D], blocks {… [L, …]}, final_norm {scale [D]}, head [D, V]}. The blocks are stacked on
disk and across every border; whether they are scanned or unrolled is decided here.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from slm.model.layers import Block, RMSNorm, matrix, rope_angles
from slm.model.presets import ModelConfig

Params = dict[str, Any]
Cache = dict[str, jax.Array]

_REMAT = {"full": jax.checkpoint_policies.nothing_saveable,
          "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


def initialize(config: ModelConfig, key: jax.Array) -> Params:
    """Fresh float32 parameters; `jax.eval_shape` of it gives their shapes."""
    embedding_key, head_key, blocks_key = jax.random.split(key, 3)

    def one_block(block_key):
        return nnx.to_pure_dict(nnx.state(Block(config, nnx.Rngs(block_key)), nnx.Param))

    return {
        "embedding": matrix(nnx.Rngs(embedding_key), (config.vocabulary_size, config.width))[...],
        "blocks": jax.vmap(one_block)(jax.random.split(blocks_key, config.layers)),
        "final_norm": nnx.to_pure_dict(nnx.state(RMSNorm(config), nnx.Param)),
        "head": matrix(nnx.Rngs(head_key), (config.width, config.vocabulary_size))[...],
    }


def hidden_states(params: Params, config: ModelConfig, tokens_BT, segments_BT, positions_BT,
                  cache: Cache | None = None) -> tuple[jax.Array, Cache | None]:
    """Runs the blocks; the head is left to the caller, who may want it in chunks or for the last token only.

    Args:
      tokens_BT: int32 ids.
      segments_BT: which tokens see each other (with a cache: not looked at, a row is one document).
      positions_BT: from 0 in each segment.
      cache: {keys, values: [L, B, S, K, H]} from `empty_cache` or an earlier call.

    Returns:
      Normed hidden states [B, T, D] in the compute dtype, and the cache with these tokens in it.
    """
    block, final_norm = _modules(config)
    x_BTD = params["embedding"][tokens_BT].astype(config.compute_dtype)
    angles = rope_angles(positions_BT, config)
    where = {"segments": segments_BT, "positions": positions_BT}

    def one_block(x_BTD, weights, layer_cache):
        return block(weights)(x_BTD, angles, where, layer_cache)

    if config.remat != "none":
        one_block = jax.checkpoint(one_block, policy=_REMAT[config.remat])
    if config.scan_layers:
        x_BTD, cache = jax.lax.scan(lambda x, layer: one_block(x, *layer), x_BTD, (params["blocks"], cache))
    else:
        layers = []
        for weights, layer_cache in zip(_unstack(params["blocks"], config), _unstack(cache, config)):
            x_BTD, layer_cache = one_block(x_BTD, weights, layer_cache)
            layers.append(layer_cache)
        cache = None if cache is None else jax.tree.map(lambda *values: jnp.stack(values), *layers)
    return final_norm(params["final_norm"])(x_BTD), cache


def logits(params: Params, hidden: jax.Array) -> jax.Array:
    """Float32 scores [..., V] of hidden states [..., D]."""
    return jnp.dot(hidden, params["head"].astype(hidden.dtype), preferred_element_type=jnp.float32)


def empty_cache(config: ModelConfig, batch: int, length: int) -> Cache:
    """Room for `length` tokens a row."""
    shape = (config.layers, batch, length, config.kv_heads, config.head_size)
    return {"keys": jnp.zeros(shape, config.compute_dtype), "values": jnp.zeros(shape, config.compute_dtype)}


def _unstack(stacked, config: ModelConfig) -> list:
    """A tree of [L, …] → L trees; the gradient of `jnp.unstack` is one concatenation."""
    leaves, structure = jax.tree.flatten(stacked)
    return [structure.unflatten(layer) for layer in zip(*map(jnp.unstack, leaves))] or [None] * config.layers


@functools.cache
def _modules(config: ModelConfig):
    """Functions that turn a plain dict of weights into the Flax module that computes with them."""
    def maker(build):
        graph, state = nnx.split(nnx.eval_shape(build))

        def merge(weights: Params):
            filled = jax.tree.map(lambda x: x, state)
            nnx.replace_by_pure_dict(filled, weights)
            return nnx.merge(graph, filled)
        return merge
    return maker(lambda: Block(config, nnx.Rngs(0))), maker(lambda: RMSNorm(config))
