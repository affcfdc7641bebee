import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm.model import flash
from slm.model.attention import attend, choose

B, N, K, H = 2, 4, 2, 16


def inputs(length, keys=None):
    names = jax.random.split(jax.random.key(length), 4)
    q = jax.random.normal(names[0], (B, N, length, H))
    k, v = (jax.random.normal(name, (B, K, keys or length, H)) for name in names[1:3])
    return q, k, v, jax.random.normal(names[3], q.shape)


def reference(q, k, v, visible):
    q, k, v = (x.swapaxes(1, 2) for x in (q, k, v))
    return jax.nn.dot_product_attention(q, k, v, mask=visible[:, None]).swapaxes(1, 2)


def packed(length):
    segments = jnp.asarray(np.sort(np.random.default_rng(0).integers(1, 4, (B, length)), axis=1))
    return segments, jnp.broadcast_to(jnp.arange(length), (B, length))


@pytest.mark.parametrize("length", [5, 128, 300])
def test_packed_rows_equal_jax_own_attention_forward_and_backward(length):
    q, k, v, cotangent = inputs(length)
    segments, positions = packed(length)
    visible = (segments[:, :, None] == segments[:, None]) & (positions[:, :, None] >= positions[:, None])

    @jax.jit
    def ours(q, k, v):
        return attend(q, k, v, q_positions_BT=positions, k_positions_BS=positions, q_segments_BT=segments,
                      k_segments_BS=segments, aligned=True)

    out, gradient = jax.vjp(ours, q, k, v)
    expected, expected_gradient = jax.vjp(jax.jit(lambda *x: reference(*x, visible)), q, k, v)
    np.testing.assert_allclose(out, expected, atol=2e-6)
    for one, two in zip(gradient(cotangent), expected_gradient(cotangent)):
        np.testing.assert_allclose(one, two, atol=1e-5)


@pytest.mark.parametrize("block", [128, 256])
def test_splash_equals_xla_on_packed_rows_forward_and_backward(block):
    q, k, v, cotangent = inputs(256)
    segments, positions = packed(256)

    @jax.jit
    def plain(q, k, v):
        return attend(q, k, v, q_positions_BT=positions, k_positions_BS=positions, q_segments_BT=segments,
                      k_segments_BS=segments, aligned=True)

    out, gradient = jax.vjp(lambda *x: flash.splash(*x, segments, block=block, interpret=True), q, k, v)
    expected, expected_gradient = jax.vjp(plain, q, k, v)
    np.testing.assert_allclose(out, expected, atol=5e-6)
    for one, two in zip(gradient(cotangent), expected_gradient(cotangent)):
        np.testing.assert_allclose(one, two, atol=2e-5)


def test_kernels_refuse_what_they_cannot_do():
    q, k, v, _ = inputs(192)
    with pytest.raises(ValueError, match=r"rows of 192 tokens into blocks of 128: make rows.seq_len a multiple"):
        flash.splash(q, k, v, packed(192)[0], block=128)
    with pytest.raises(ValueError, match=r"cuDNN's attention supports bfloat16 .* this model has float32 and 16"):
        flash.cudnn(q, k, v, packed(192)[0])


def test_keys_of_a_cache_are_seen_up_to_the_position():
    q, k, v, _ = inputs(3, keys=10)
    positions = jnp.asarray([[2, 3, 4], [7, 8, 9]])
    slots = jnp.broadcast_to(jnp.arange(10), (B, 10))
    out = attend(q, k, v, q_positions_BT=positions, k_positions_BS=slots, q_segments_BT=jnp.ones_like(positions),
                 k_segments_BS=jnp.ones_like(slots), aligned=False)
    expected = reference(q, k, v, positions[:, :, None] >= slots[:, None])
    np.testing.assert_allclose(out, expected, atol=2e-6)


def test_a_query_that_sees_nothing_gives_numbers():
    q, k, v, _ = inputs(4)
    zeros = jnp.zeros((B, 4), int)
    out = attend(q, k, v, q_positions_BT=zeros, k_positions_BS=zeros, q_segments_BT=zeros, k_segments_BS=zeros + 1,
                 aligned=True)
    assert jnp.isfinite(out).all()


@pytest.mark.parametrize("platform, length, dtype, block, implementation", [
    ("tpu", 2048, "bfloat16", 0, "splash"), ("tpu", 1024, "float32", 256, "splash"), ("tpu", 192, "bfloat16", 0, "xla"),
    ("tpu", 2048, "bfloat16", 64, "xla"), ("tpu", 640, "bfloat16", 0, "xla"), ("gpu", 100, "bfloat16", 0, "cudnn"),
    ("gpu", 2048, "float32", 0, "xla"), ("cpu", 2048, "bfloat16", 0, "xla")])
def test_auto_takes_a_kernel_where_it_can_do_the_rows(platform, length, dtype, block, implementation):
    assert choose(platform, length, dtype, block) == implementation
