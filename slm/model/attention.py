"""Attention behind one signature: grouped queries, causal inside each segment.

B batch, T query time, S key time, N query heads, K KV heads, G = N / K, H head size.
"""

import jax
import jax.numpy as jnp

_BLOCK = 256  # queries; longer rows are cut, so that keys in the future of a whole block are never multiplied


def attend(q_BTNH, k_BSKH, v_BSKH, *, q_positions_BT, k_positions_BS, q_segments_BT, k_segments_BS,
           aligned: bool) -> jax.Array:
    """Softmax attention; a query sees the keys of its segment at its own position and before.

    Args:
      aligned: queries and keys are the same tokens, so that S = T and later keys are skipped by block.

    Returns:
      [B, T, N, H] in the dtype of `q_BTNH`. Scores are computed in float32.
    """
    length = q_BTNH.shape[1]
    outputs = []
    for start in range(0, length, _BLOCK):
        queries = slice(start, min(start + _BLOCK, length))
        keys = slice(0, queries.stop if aligned else k_BSKH.shape[1])
        visible = ((q_segments_BT[:, queries, None] == k_segments_BS[:, None, keys])
                   & (q_positions_BT[:, queries, None] >= k_positions_BS[:, None, keys]))
        outputs.append(_dense(q_BTNH[:, queries], k_BSKH[:, keys], v_BSKH[:, keys], visible))
    return outputs[0] if len(outputs) == 1 else jnp.concatenate(outputs, axis=1)


def _dense(q_BTNH, k_BSKH, v_BSKH, visible_BTS) -> jax.Array:
    B, T, N, H = q_BTNH.shape
    K = k_BSKH.shape[2]
    q_BTKGH = q_BTNH.reshape(B, T, K, N // K, H) * H**-0.5
    scores = jnp.einsum("BTKGH,BSKH->BKGTS", q_BTKGH, k_BSKH, preferred_element_type=jnp.float32)
    # A finite floor: a row that sees nothing (padding) averages over everything instead of giving NaN.
    scores = jnp.where(visible_BTS[:, None, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v_BSKH.dtype)
    return jnp.einsum("BKGTS,BSKH->BTKGH", weights, v_BSKH).reshape(B, T, N, H)
