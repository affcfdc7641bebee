"""Labels from the decoder's blocks: classes of a whole text, or of each of its tokens.

The blocks are the decoder's, with attention that sees both ways inside a segment (`model.label_groups` decides that);
the head has a column for each class of each label group. A group that classifies reads the mean of its segment's hidden
states, one that tags reads each token's own. So one pass over a text answers all groups.

A token's embedding also says whether it, it and the next, and it and the next two occur again in its segment: the exact
match feature of Chen et al. 2017 (arXiv 1704.00051). Small models learn from it how alike two sentences are.
"""

import jax
import jax.numpy as jnp

from slm.model import decoder
from slm.model.presets import REPEATS, ModelConfig

_OUTSIDE = -1e30  # the logit of a class of another group


def sums(params: decoder.Params, config: ModelConfig, batch: dict) -> tuple:
    """(objective, (nll, weight)): sums over the labels of `batch`, in nats.

    Args:
      batch: what `data.labelled.LabelRows` gives: inputs, segments, positions, groups, targets (a class of the
        position's group), loss_mask (the weight of its answer), each [B, T].
    """
    log_shares = jax.nn.log_softmax(logits(params, config, batch))
    # Sums over a mask: the gradient of a look-up is a scatter, which is slow.
    target_BT1 = (_starts(config)[batch["groups"]] + batch["targets"])[..., None]
    is_target_BTC = target_BT1 == jnp.arange(config.head_width)
    nll = -jnp.sum(jnp.where(is_target_BTC, log_shares, 0.0) * batch["loss_mask"][..., None])
    return nll, (nll, jnp.sum(batch["loss_mask"]))


def logits(params: decoder.Params, config: ModelConfig, batch: dict) -> jax.Array:
    """Float32 logits [B, T, C] of the classes of each position's group; those of other groups are out of reach."""
    hidden_BTD = _hidden(params, config, batch)
    classifies = jnp.asarray([group.kind == "classify" for group in config.label_groups])
    hidden_BTD = jnp.where(classifies[batch["groups"]][..., None], _means(hidden_BTD, batch["segments"]), hidden_BTD)
    sizes = jnp.asarray([group.classes for group in config.label_groups])
    first_BT1, size_BT1 = (of_group[batch["groups"]][..., None] for of_group in (_starts(config), sizes))
    columns = jnp.arange(config.head_width)
    inside_BTC = (columns >= first_BT1) & (columns < first_BT1 + size_BT1)
    return jnp.where(inside_BTC, decoder.logits(params, hidden_BTD), _OUTSIDE)


def all_logits(params: decoder.Params, config: ModelConfig, batch: dict) -> tuple[jax.Array, jax.Array]:
    """Float32 logits of all groups' classes, of rows with a text each: of the texts [B, C], of their tokens [B, T, C].

    `columns` says which are a group's.
    """
    hidden_BTD = _hidden(params, config, batch)
    return (decoder.logits(params, _means(hidden_BTD, batch["segments"])[:, 0]), decoder.logits(params, hidden_BTD))


def _hidden(params: decoder.Params, config: ModelConfig, batch: dict) -> jax.Array:
    features_BTD = _repeats(batch["inputs"], batch["segments"]) @ params["repeats"]
    hidden_BTD, _ = decoder.hidden_states(params, config, batch["inputs"], batch["segments"], batch["positions"],
                                          features_BTD=features_BTD.astype(config.compute_dtype))
    return hidden_BTD


def columns(config: ModelConfig, number: int) -> slice:
    """The columns of a group's classes."""
    start = sum(group.classes for group in config.label_groups[:number])
    return slice(start, start + config.label_groups[number].classes)


def _starts(config: ModelConfig) -> jax.Array:
    """The first column of each group."""
    return jnp.asarray([columns(config, number).start for number in range(len(config.label_groups))])


def _means(hidden_BTD: jax.Array, segments_BT: jax.Array) -> jax.Array:
    """At each position, the mean of its segment."""
    same_BTS = (segments_BT[:, :, None] == segments_BT[:, None, :]).astype(jnp.float32)
    means = jnp.einsum("BTS,BSD->BTD", same_BTS / same_BTS.sum(-1, keepdims=True), hidden_BTD.astype(jnp.float32))
    return means.astype(hidden_BTD.dtype)


def _repeats(tokens_BT: jax.Array, segments_BT: jax.Array) -> jax.Array:
    """[B, T, n]: whether the n-gram of tokens that begins here begins elsewhere in the segment too, n = 1, 2, …"""
    T = tokens_BT.shape[1]
    other_TS = ~jnp.eye(T, dtype=bool)
    same_BTS = (segments_BT[:, :, None] == segments_BT[:, None, :]) & (tokens_BT[:, :, None] == tokens_BT[:, None, :])
    features, match_BTS = [], same_BTS & other_TS
    for n in range(REPEATS):
        if n:
            shifted = jnp.pad(same_BTS[:, n:, n:], ((0, 0), (0, n), (0, n)))
            match_BTS &= shifted
        features.append(match_BTS.any(-1))
    return jnp.stack(features, axis=-1).astype(jnp.float32)
