"""Flash attention kernels of TPU and GPU for packed rows: the scores are never materialised."""

import jax
import jax.numpy as jnp


def splash(q_BNTH, k_BKTH, v_BKTH, segments_BT, *, block: int, interpret: bool = False) -> jax.Array:
    """Splash attention (JAX's Pallas kernel for TPUs), which skips blocks of keys after all their queries.

    Args:
      block: queries, and keys, computed together; a multiple of 128.
      interpret: runs it on any machine, slowly, for tests.

    Raises:
      ValueError: the rows are not a multiple of the block.
    """
    N, T, H = q_BNTH.shape[1:]
    block = min(block, T)
    if block % 128 or T % block:
        raise ValueError(f"splash attention cannot split rows of {T} tokens into blocks of {block}: make rows.seq_len "
                         "a multiple of model.attention_block, and that one of 128, or set model.attention=xla")
    kernel = _splash_kernel(T, N, block, interpret)
    return jax.vmap(kernel)(q_BNTH * H**-0.5, k_BKTH, v_BKTH, segments_BT)


def _splash_kernel(length: int, heads: int, block: int, interpret: bool):
    # A slow import that only TPUs need.
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_kernel as kernels
    from jax.experimental.pallas.ops.tpu.splash_attention import splash_attention_mask as masks
    # With tokens along the lanes, a head size of 64 does not leave half of them empty. Queries and keys have a gradient
    # kernel each: the fused one stores partial sums in memory.
    minor = kernels.QKVLayout.SEQ_MINOR
    sizes = kernels.BlockSizes(
        q_layout=minor, k_layout=minor, v_layout=minor, block_q=block, block_kv=block, block_q_dkv=block,
        block_kv_dkv=block, block_q_dq=block, block_kv_dq=block)
    kernel = kernels.make_splash_mha(masks.MultiHeadMask([masks.CausalMask((length, length))] * heads),
                                     block_sizes=sizes, head_shards=1, q_seq_shards=1, interpret=interpret)
    return lambda q, k, v, segments: kernel(q, k, v, kernels.SegmentIds(segments, segments))


def cudnn(q_BNTH, k_BKTH, v_BKTH, segments_BT) -> jax.Array:
    """cuDNN's flash attention (NVIDIA), with packed rows as a mask.

    Raises:
      ValueError: a dtype or head size that cuDNN does not support.
    """
    if q_BNTH.dtype not in (jnp.bfloat16, jnp.float16) or q_BNTH.shape[-1] % 8 or q_BNTH.shape[-1] > 128:
        raise ValueError(f"cuDNN's attention supports bfloat16 and head sizes that are multiples of 8 up to 128, this "
                         f"model has {q_BNTH.dtype} and {q_BNTH.shape[-1]}: set model.compute_dtype=bfloat16, or "
                         "model.attention=xla")
    same = segments_BT[:, None, :, None] == segments_BT[:, None, None, :]
    q, k, v = (x.swapaxes(1, 2) for x in (q_BNTH, k_BKTH, v_BKTH))
    out_BTNH = jax.nn.dot_product_attention(q, k, v, mask=same, is_causal=True, implementation="cudnn")
    return out_BTNH.swapaxes(1, 2)
