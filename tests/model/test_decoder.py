import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm.model import decoder, layers, presets
from slm.model.presets import PRESETS, ModelConfig

CONFIG = dataclasses.replace(PRESETS["debug"], vocabulary_size=97, layers=3)
PARAMS = decoder.initialize(CONFIG, jax.random.key(0))


def packed(seed=0, lengths=((20, 30), (50,))):
    """Tokens, segments and positions of rows that hold documents of these lengths."""
    tokens = np.random.default_rng(seed).integers(0, 97, (len(lengths), 50))
    segments = np.stack([np.repeat(np.arange(1, len(row) + 1), row) for row in lengths])
    positions = np.stack([np.concatenate([np.arange(n) for n in row]) for row in lengths])
    return jnp.asarray(tokens), jnp.asarray(segments), jnp.asarray(positions)


@functools.partial(jax.jit, static_argnums=1)
def scores(params, config, tokens, segments, positions):
    hidden, _ = decoder.hidden_states(params, config, tokens, segments, positions)
    return decoder.logits(params, hidden)


@pytest.mark.parametrize("name, millions", [("ncvc_slm_1", 1191.283), ("slm_1b", 1197.6), ("small", 125.8)])
def test_preset_sizes(name, millions):
    assert presets.parameter_count(PRESETS[name]) / 1e6 == pytest.approx(millions, abs=0.1)


@pytest.mark.parametrize("name", PRESETS)
def test_parameter_count_is_exact(name):
    shapes = jax.eval_shape(lambda key: decoder.initialize(PRESETS[name], key), jax.random.key(0))
    assert presets.parameter_count(PRESETS[name]) == sum(x.size for x in jax.tree.leaves(shapes))
    assert {x.dtype for x in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}


def test_flops_count_by_hand():
    config = ModelConfig(vocabulary_size=10, layers=2, width=4, query_heads=2, kv_heads=1, head_size=2, mlp_width=8)
    matrices = 2 * (4 * 4 + 4 * 2 + 4 * 2 + 4 * 4 + 4 * 8 + 8 * 4 + 4 + 4) + 4 + 4 * 10
    assert presets.flops_per_token(config, 16) == 6 * matrices + 12 * 2 * 4 * 16


def test_flax_does_not_leak():
    assert all(type(node) is dict for node in (PARAMS, PARAMS["blocks"], PARAMS["blocks"]["mlp"]))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(PARAMS))


def test_changing_a_document_leaves_the_others_exactly_unchanged():
    tokens, segments, positions = packed()
    before = scores(PARAMS, CONFIG, tokens, segments, positions)
    after = scores(PARAMS, CONFIG, tokens.at[0, :20].set(5), segments, positions)
    np.testing.assert_array_equal(before[0, 20:], after[0, 20:])
    np.testing.assert_array_equal(before[1], after[1])
    assert (before[0, :20] != after[0, :20]).any()


def test_packed_equals_alone():
    tokens, segments, positions = packed()
    together = scores(PARAMS, CONFIG, tokens, segments, positions)[0, 20:]
    alone = scores(PARAMS, CONFIG, tokens[:1, 20:], segments[:1, 20:], positions[:1, 20:])[0]
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_gradient_to_the_future_is_exactly_zero():
    tokens, segments, positions = packed(lengths=((50,),))

    @jax.jit
    def at(params, t):
        x = params["embedding"][tokens]
        return jax.grad(lambda x: scores({**params, "embedding": x[0]}, CONFIG, jnp.arange(50)[None], segments,
                                         positions)[0, t].sum())(x)

    for t in (0, 24, 48):
        gradient = at(PARAMS, t)
        assert (gradient[0, t + 1:] == 0).all()
        assert (gradient[0, :t + 1] != 0).any(axis=-1).all()


@pytest.mark.parametrize("change", [{"scan_layers": True}, {"remat": "full"}, {"remat": "dots"},
                                    {"scan_layers": True, "remat": "full"}])
def test_scan_and_remat_change_nothing(change):
    @functools.partial(jax.jit, static_argnums=1)
    def loss(params, config):
        return jnp.square(scores(params, config, *packed())).mean()

    value, gradient = jax.value_and_grad(loss)(PARAMS, CONFIG)
    other, other_gradient = jax.value_and_grad(loss)(PARAMS, dataclasses.replace(CONFIG, **change))
    np.testing.assert_allclose(value, other, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), gradient, other_gradient)


@pytest.mark.parametrize("scan, params", [(False, PARAMS), (True, PARAMS), (False, decoder.unrolled(PARAMS))],
                         ids=["unrolled", "scanned", "taken apart once"])
def test_cached_equals_uncached(scan, params):
    config = dataclasses.replace(CONFIG, scan_layers=scan)
    tokens, segments, positions = packed(lengths=((50,), (50,)))
    whole = scores(PARAMS, config, tokens, segments, positions)
    cache, parts = decoder.empty_cache(config, 2, 64), []
    for piece in (slice(0, 17), slice(17, 18), slice(18, 50)):
        hidden, cache = jax.jit(decoder.hidden_states, static_argnums=1)(
            params, config, tokens[:, piece], segments[:, piece], positions[:, piece], cache)
        parts.append(decoder.logits(params, hidden))
    np.testing.assert_allclose(jnp.concatenate(parts, axis=1), whole, atol=1e-5)


def test_bfloat16_computes_close_to_float32_with_float32_parameters():
    low = dataclasses.replace(CONFIG, compute_dtype="bfloat16")
    full = scores(PARAMS, CONFIG, *packed())
    half = scores(PARAMS, low, *packed())
    assert half.dtype == jnp.float32
    np.testing.assert_allclose(half, full, atol=0.02)
    gradient = jax.grad(lambda p: scores(p, low, *packed()).sum())(PARAMS)
    assert {x.dtype for x in jax.tree.leaves(gradient)} == {jnp.dtype("float32")}


def test_swiglu_is_what_its_paper_says():
    config = dataclasses.replace(CONFIG, mlp="swiglu")
    params = decoder.initialize(config, jax.random.key(1))
    weights = {name: value[0] for name, value in params["blocks"]["mlp"].items()}
    x = jax.random.normal(jax.random.key(2), (1, 3, config.width))
    expected = (jax.nn.silu(x @ weights["gate"]) * (x @ weights["up"])) @ weights["down"]
    module = layers.MLP(config, layers.nnx.Rngs(0))
    for name, value in weights.items():
        setattr(module, name, layers.nnx.Param(value))
    np.testing.assert_allclose(module(x), expected, atol=1e-6)


def test_rotation_is_by_halves_and_relative():
    config = ModelConfig(head_size=4, rope_theta=100.0)
    angles = layers.rope_angles(jnp.asarray([[3]]), config)
    turned = layers.rotate(jnp.asarray([[[[1.0, 0.0, 0.0, 2.0]]]]), angles)[0, 0, 0]
    expected = [np.cos(3), -2 * np.sin(0.3), np.sin(3), 2 * np.cos(0.3)]
    np.testing.assert_allclose(turned, expected, rtol=1e-5)


def test_initial_deviations():
    config = dataclasses.replace(PRESETS["small"], layers=2, vocabulary_size=4000)
    params = decoder.initialize(config, jax.random.key(0))
    assert params["blocks"]["attention"]["query"].std() == pytest.approx(0.02, rel=0.02)
    assert params["blocks"]["mlp"]["down"].std() == pytest.approx(0.02 / 2, rel=0.02)
    assert params["embedding"].std() == pytest.approx(0.02, rel=0.02)


@pytest.mark.parametrize("change, message", [({"kv_heads": 3}, "query_heads=8 is not a multiple of model.kv_heads=3"),
                                             ({"head_size": 15}, "head_size=15 is odd")])
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **change)


def test_the_norm_is_what_its_paper_says_with_epsilon():
    norm = layers.RMSNorm(dataclasses.replace(CONFIG, width=4, norm_epsilon=1e-2))
    norm.scale[...] = jnp.array([1.0, 2.0, 3.0, 4.0])
    x = jnp.array([[0.1, -0.2, 0.0, 0.3]])
    expected = x / np.sqrt(np.mean(np.square(x)) + 1e-2) * norm.scale[...]
    np.testing.assert_allclose(norm(x), expected, rtol=1e-6)


def test_silu_and_its_gradient_are_those_of_jax():
    x = jnp.linspace(-8, 8, 101)
    np.testing.assert_allclose(layers.silu(x), jax.nn.silu(x), rtol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(layers.silu))(x), jax.vmap(jax.grad(jax.nn.silu))(x), atol=1e-6)


@pytest.mark.parametrize("part", ["attention", "mlp"])
def test_each_part_of_a_block_reads_the_normed_stream(part):
    tokens, segments, positions = packed()
    other = "mlp" if part == "attention" else "attention"
    blocks = {name: jax.tree.map(jnp.zeros_like, weights) if name == f"{other}_norm" else weights
              for name, weights in PARAMS["blocks"].items()}
    silenced = {**blocks, f"{part}_norm": jax.tree.map(jnp.zeros_like, blocks[f"{part}_norm"])}
    neither = scores(PARAMS | {"blocks": silenced}, CONFIG, tokens, segments, positions)
    doubled = {**blocks, f"{part}_norm": jax.tree.map(lambda scale: 2 * scale, blocks[f"{part}_norm"])}
    once, twice = (scores(PARAMS | {"blocks": of}, CONFIG, tokens, segments, positions) for of in (blocks, doubled))
    without_blocks = decoder.logits(PARAMS, layers_norm(PARAMS["embedding"][tokens]))
    np.testing.assert_allclose(neither, without_blocks, atol=1e-5)  # both norms silenced: nothing is added
    assert jnp.abs(once - neither).max() > 1e-4 and jnp.abs(twice - once).max() > 1e-4


def layers_norm(x):
    return layers.RMSNorm(CONFIG)(x)
