"""The decoder as functions of a plain dict of arrays; Flax stays inside.

Parameters: {embedding [V, D], blocks {… [L, …]}, final_norm {scale [D]}, head [D, V]}. Blocks are stacked on disk and
in every interface; whether they are scanned or unrolled is decided here. Decoding unstacks them once (`unrolled`);
otherwise XLA re-slices them for every token.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from slm.model import axes
from slm.model.axes import BATCH, DATA, FSDP, TENSOR
from slm.model.layers import Block, RMSNorm, matrix, rope_angles
from slm.model.presets import REPEATS, ModelConfig

Params = dict[str, Any]
Cache = dict[str, jax.Array] | list[dict[str, jax.Array]]  # stacked, or one per layer

_REMAT = {"full": jax.checkpoint_policies.nothing_saveable,
          "dots": jax.checkpoint_policies.dots_with_no_batch_dims_saveable}


def initialize(config: ModelConfig, key: jax.Array) -> Params:
    """Random float32 parameters; `jax.eval_shape` of this function gives their shapes."""
    embedding_key, head_key, blocks_key = jax.random.split(key, 3)

    def one_block(block_key):
        return nnx.to_pure_dict(nnx.state(Block(config, nnx.Rngs(block_key)), nnx.Param))

    repeats = {"repeats": jnp.zeros((REPEATS, config.width), jnp.float32)} if config.label_groups else {}
    return repeats | {
        "embedding": matrix(nnx.Rngs(embedding_key), (config.vocabulary_size, config.width))[...],
        "blocks": jax.vmap(one_block)(jax.random.split(blocks_key, config.layers)),
        "final_norm": nnx.to_pure_dict(nnx.state(RMSNorm(config), nnx.Param)),
        "head": matrix(nnx.Rngs(head_key), (config.width, config.head_width))[...],
    }


def hidden_states(params: Params, config: ModelConfig, tokens_BT, segments_BT, positions_BT,
                  cache: Cache | None = None, features_BTD: jax.Array | None = None) -> tuple[jax.Array, Cache | None]:
    """Runs the blocks; the caller applies the head, perhaps in chunks or to the last token only.

    Args:
      tokens_BT: int32 ids.
      segments_BT: tokens attend within their segment (ignored with a cache, where a row is a single document).
      positions_BT: from 0 in each segment.
      cache: from `empty_cache` or an earlier call.
      features_BTD: added to the tokens' embeddings.

    Returns:
      Normalised hidden states [B, T, D] in the compute dtype, and the cache with these tokens added.
    """
    block, final_norm = _modules(config)
    x_BTD = _embed(params["embedding"], tokens_BT, config.compute_dtype)
    if features_BTD is not None:
        x_BTD += features_BTD
    angles = rope_angles(positions_BT, config)
    locations = {"segments": segments_BT, "positions": positions_BT}

    def one_block(x_BTD, weights, layer_cache):
        x_BTD, layer_cache = block(weights)(x_BTD, angles, locations, layer_cache)
        return axes.in_rows(x_BTD), layer_cache

    if config.remat != "none":
        one_block = jax.checkpoint(one_block, policy=_REMAT[config.remat])
    if config.scan_layers:
        x_BTD, cache = jax.lax.scan(lambda x, layer: one_block(x, *layer), x_BTD, (params["blocks"], cache))
    else:
        layers = []
        for weights, layer_cache in zip(_unstack(params["blocks"], config), _unstack(cache, config)):
            x_BTD, layer_cache = one_block(x_BTD, weights, layer_cache)
            layers.append(layer_cache)
        cache = None if cache is None else layers
    return final_norm(params["final_norm"])(x_BTD), cache


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _embed(embedding_VD, tokens_BT, dtype) -> jax.Array:
    """The tokens' rows of the table, in `dtype`; each device looks up its shard of the vocabulary.

    The gradient is summed in float32 on each device, then over devices in `dtype`, like those of the matrices.
    """
    def part(table_VD, tokens_BT):
        table_VD = axes.all_gather(table_VD.astype(dtype), FSDP, 1)
        rows, is_local = _local_rows(tokens_BT, table_VD.shape[0])
        return axes.psum(jnp.where(is_local, table_VD[rows], 0), TENSOR)
    return axes.shard_map(part, ((TENSOR, FSDP), (BATCH, None)), (BATCH, None, None))(embedding_VD, tokens_BT)


def _embed_backward(dtype, kept, d_BTD):
    embedding_VD, tokens_BT = kept

    def part(table_VD, tokens_BT, d_BTD):
        rows, is_local = _local_rows(tokens_BT, table_VD.shape[0])
        d_VD = jnp.zeros((table_VD.shape[0], d_BTD.shape[-1]), jnp.float32)
        d_VD = d_VD.at[rows].add(jnp.where(is_local, d_BTD, 0).astype(jnp.float32))
        return axes.psum_scatter(axes.psum(d_VD.astype(dtype), DATA), FSDP, 1)
    d_VD = axes.shard_map(part, ((TENSOR, FSDP), (BATCH, None), (BATCH, None, None)), (TENSOR, FSDP))(
        embedding_VD, tokens_BT, d_BTD)
    return axes.widened(d_VD, embedding_VD.dtype), np.zeros(tokens_BT.shape, jax.dtypes.float0)


_embed.defvjp(lambda embedding, tokens, dtype: (_embed(embedding, tokens, dtype), (embedding, tokens)), _embed_backward)


def _local_rows(tokens_BT, size: int):
    """Rows of tokens in this device's shard of the vocabulary, and which tokens are in it."""
    rows_BT = tokens_BT - axes.axis_index(TENSOR) * size
    is_local_BT = (rows_BT >= 0) & (rows_BT < size)
    return jnp.where(is_local_BT, rows_BT, 0), is_local_BT[..., None]


def logits(params: Params, hidden: jax.Array) -> jax.Array:
    """Float32 logits [..., V] of hidden states [..., D]."""
    return jnp.dot(hidden, params["head"].astype(hidden.dtype), preferred_element_type=jnp.float32)


def empty_cache(config: ModelConfig, batch: int, length: int) -> Cache:
    """A cache for `length` tokens per row: {keys, values: [L, B, K, S, H]}, or one without L per unrolled layer."""
    layers = (config.layers,) if config.scan_layers else ()
    shape = (*layers, batch, config.kv_heads, length, config.head_size)

    def empty() -> dict[str, jax.Array]:
        return {"keys": jnp.zeros(shape, config.compute_dtype), "values": jnp.zeros(shape, config.compute_dtype)}
    return empty() if config.scan_layers else [empty() for _ in range(config.layers)]


def unrolled(params: Params) -> Params:
    """Parameters with their blocks as a list of L trees, for models that do not scan their layers."""
    leaves, structure = jax.tree.flatten(params["blocks"])
    return params | {"blocks": [jax.tree.unflatten(structure, [jnp.asarray(leaf[layer]) for leaf in leaves])
                                for layer in range(len(leaves[0]))]}


def _unstack(layers, config: ModelConfig) -> list:
    """A tree of [L, …] as L trees, unless it is a list already; the gradient of `jnp.unstack` is one concatenation."""
    if isinstance(layers, list):
        return layers
    leaves, structure = jax.tree.flatten(layers)
    return [jax.tree.unflatten(structure, layer) for layer in zip(*map(jnp.unstack, leaves))] or [None] * config.layers


@functools.cache
def _modules(config: ModelConfig):
    """Functions that turn a plain dict of weights into a Flax module."""
    def maker(build):
        graph, state = nnx.split(nnx.eval_shape(build))

        def merge(weights: Params):
            filled = jax.tree.map(lambda x: x, state)
            nnx.replace_by_pure_dict(filled, weights)
            return nnx.merge(graph, filled)
        return merge
    return maker(lambda: Block(config, nnx.Rngs(0))), maker(lambda: RMSNorm(config))
