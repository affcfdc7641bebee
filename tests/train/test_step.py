import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slm.model.presets import PRESETS
from slm.train import optimizer, step
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

MODEL = dataclasses.replace(PRESETS["debug"], vocabulary_size=97)
CONFIG = StepConfig(loss_chunk=16)


def batch(rows=4, seed=0):
    """Rows with ragged ends: the last ones count few targets."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 97, (rows, 33))
    weights = (np.arange(32) < np.asarray([32, 30, 3, 1] * (rows // 4))[:, None]).astype(np.float32)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "segments": weights.astype(int), "loss_mask": weights,
            "positions": np.broadcast_to(np.arange(32), (rows, 32))}


def start(name="adamw", **changes):
    transformation = optimizer.build(OptimizerConfig(name=name, **changes), steps=100)
    return jax.jit(lambda key: step.initial_state(MODEL, transformation, key))(jax.random.key(0)), transformation


@functools.cache
def jitted(transformation, config):
    return jax.jit(functools.partial(step.train, config=config, model=MODEL, optimizer=transformation))


@functools.partial(jax.jit, static_argnums=1)
def gradients(params, config=CONFIG):
    return step._gradients(params, batch(), config, MODEL)


def run(state, transformation, config=CONFIG):
    return jitted(transformation, config)(state, batch())


@pytest.mark.parametrize("parts", [2, 4])
def test_accumulated_equals_the_full_batch_with_ragged_weights(parts):
    state, _ = start()
    full = gradients(state["params"])
    summed = gradients(state["params"], dataclasses.replace(CONFIG, grad_accum_steps=parts))
    np.testing.assert_allclose(full[1:], summed[1:], rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), full[0], summed[0])


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_loss_falls(name):
    state, transformation = start(name, learning_rate=3e-3)
    losses = []
    for _ in range(8):
        state, metrics = run(state, transformation)
        losses.append(float(metrics["loss"]))
    assert losses[0] == pytest.approx(np.log(97), abs=0.1)
    assert losses[-1] < losses[0] - 0.3
    assert int(state["step"]) == 8 and int(state["skipped"]) == 0


def test_a_step_that_is_not_finite_changes_nothing_but_is_counted():
    state, transformation = start()
    state, _ = run(state, transformation)
    broken = jax.tree.map(lambda x: x, state)
    broken["params"] = {**state["params"], "head": state["params"]["head"].at[0, 0].set(jnp.nan)}
    after, metrics = run(broken, transformation)
    assert int(metrics["skipped"]) == int(after["skipped"]) == 1 and int(after["step"]) == 2
    for name in ("params", "optimizer", "grad_norm_ema"):
        jax.tree.map(np.testing.assert_array_equal, after[name], broken[name])


def test_a_spike_is_skipped_once_the_norm_is_known():
    state, transformation = start()
    config = dataclasses.replace(CONFIG, spike_after=2)
    for _ in range(2):
        state, metrics = run(state, transformation, config)
    calm = {**state, "grad_norm_ema": metrics["grad_norm"] / 100}
    after, metrics = run(calm, transformation, config)
    assert int(metrics["skipped"]) == 1
    for name in ("params", "optimizer"):
        jax.tree.map(np.testing.assert_array_equal, after[name], calm[name])
    _, metrics = run({**calm, "step": jnp.int32(1)}, transformation, config)
    assert int(metrics["skipped"]) == 0
    _, metrics = run(calm, transformation, dataclasses.replace(config, spike_factor=0))
    assert int(metrics["skipped"]) == 0


def test_the_average_norm_remembers_and_a_spike_counts_up_to_its_factor():
    state, transformation = start()
    first, metrics = run(state, transformation)
    assert float(first["grad_norm_ema"]) == float(metrics["grad_norm"])
    second, metrics = run({**first, "grad_norm_ema": metrics["grad_norm"] * 2}, transformation)
    expected = 0.98 * float(first["grad_norm_ema"]) * 2 + 0.02 * float(metrics["grad_norm"])
    assert float(second["grad_norm_ema"]) == pytest.approx(expected, rel=1e-6)
    low = metrics["grad_norm"] / 100
    after, _ = run({**second, "grad_norm_ema": low}, transformation)
    assert float(after["grad_norm_ema"]) == pytest.approx((0.98 + 0.02 * CONFIG.spike_factor) * float(low), rel=1e-6)


def test_a_lasting_rise_of_the_norm_is_learned():
    """The guard does not latch: a norm of a thousand times the average is skipped for a while, then trained on."""
    state, transformation = start()
    state, metrics = run(state, transformation)
    state = {**state, "step": jnp.int32(100), "grad_norm_ema": metrics["grad_norm"] / 1000}
    skipped = []
    for _ in range(20):
        state, metrics = run(state, transformation)
        skipped.append(int(metrics["skipped"]))
    assert 5 < skipped[-1] < 20 and skipped[-1] == skipped[-5]


def test_evaluation_sums_the_targets_that_count():
    state, _ = start()
    nll, weight = step.evaluate(state["params"], batch(), config=CONFIG, model=MODEL)
    assert float(weight) == 66
    assert float(nll / weight) == pytest.approx(np.log(97), abs=0.1)


def test_muon_moves_matrices_by_its_own_rate_and_adamw_the_rest():
    state, transformation = start("muon", learning_rate=0.0, muon_learning_rate=0.1, warmup_share=0.0)
    after, _ = run(state, transformation)
    moved = jax.tree.map(lambda a, b: bool((a != b).any()), state["params"], after["params"])
    assert moved["blocks"]["attention"] == {"query": True, "key": True, "value": True, "output": True}
    assert not moved["embedding"] and not moved["head"] and not moved["blocks"]["mlp_norm"]["scale"]
    update = after["params"]["blocks"]["mlp"]["up"] - state["params"]["blocks"]["mlp"]["up"]
    gradient = gradients(state["params"])[0]["blocks"]["mlp"]["up"]
    evenness = [np.median(values) / values.max() for values in (
        np.linalg.svd(np.asarray(x[0]), compute_uv=False) for x in (update, gradient))]
    assert evenness[0] > 0.6 > 0.3 > evenness[1]  # orthogonalised, which the gradient is not


def test_muon_decays_its_matrices_and_nothing_else():
    state, transformation = start("muon", muon_learning_rate=0.1, weight_decay=0.5, warmup_share=0.0, clip_norm=0.0)
    zeros = jax.tree.map(jnp.zeros_like, state["params"])
    updates, _ = jax.jit(transformation.update)(zeros, state["optimizer"], state["params"])
    for part in ("attention", "mlp"):
        jax.tree.map(lambda update, matrix: np.testing.assert_allclose(update, -0.1 * 0.5 * matrix, rtol=1e-5),
                     updates["blocks"][part], state["params"]["blocks"][part])
    for name in ("embedding", "head", "final_norm"):
        jax.tree.map(lambda update: np.testing.assert_array_equal(update, 0), updates[name])


@pytest.mark.parametrize("name", ["adamw", "muon"])
@pytest.mark.parametrize("clip_norm, seen", [(1.0, 1.0), (0.0, 30.0), (50.0, 30.0)])
def test_gradients_are_clipped_by_their_global_norm(name, clip_norm, seen):
    """Adam's first moment after a step is (1 - beta1) times the gradient that it was given."""
    transformation = optimizer.build(OptimizerConfig(name=name, clip_norm=clip_norm, beta1=0.9), steps=10)
    params = {"embedding": jnp.ones((2, 2)), "head": jnp.ones((2, 2))}
    gradient = {"embedding": jnp.full((2, 2), 9.0), "head": jnp.full((2, 2), 12.0)}  # norms 18 and 24, together 30
    _, state = transformation.update(gradient, transformation.init(params), params)
    moments = [leaf for path, leaf in jax.tree.leaves_with_path(state) if ".mu" in jax.tree_util.keystr(path)]
    assert float(optax.global_norm(moments)) == pytest.approx(0.1 * seen, rel=1e-5)


def test_norms_are_not_decayed():
    state, transformation = start(learning_rate=1e-2, weight_decay=1.0, warmup_share=0.0)
    zeros = jax.tree.map(jnp.zeros_like, state["params"])
    updates, _ = jax.jit(transformation.update)(zeros, state["optimizer"], state["params"])
    new = optax.apply_updates(state["params"], updates)
    np.testing.assert_array_equal(new["final_norm"]["scale"], 1)
    np.testing.assert_array_equal(new["blocks"]["mlp_norm"]["scale"], 1)
    assert (jnp.abs(new["head"]) < jnp.abs(state["params"]["head"])).all()


def test_schedules():
    cosine = optimizer.schedule(OptimizerConfig(schedule="cosine", warmup_share=0.1, final_share=0.1), 100, 1.0)
    assert [float(cosine(i)) for i in (0, 9, 10)] == pytest.approx([0.1, 1.0, 1.0])
    assert float(cosine(99)) == pytest.approx(0.1, abs=0.01)
    stable = optimizer.schedule(OptimizerConfig(schedule="warmup_stable_decay", warmup_share=0.1, decay_share=0.2,
                                                final_share=0.0), 100, 1.0)
    assert [float(stable(i)) for i in (4, 50, 80, 90, 100)] == pytest.approx([0.5, 1.0, 1.0, 0.5, 0.0])
    ends = optimizer.schedule(OptimizerConfig(schedule="warmup_stable_decay", decay_share=0.2, final_share=0.3), 100, 2.0)
    assert [float(ends(i)) for i in (90, 100, 200)] == pytest.approx([1.3, 0.6, 0.6])


def test_noise_replaces_a_share_of_the_inputs_but_no_first_token_and_repeats_itself():
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, MODEL.vocabulary_size, (64, 32)).astype(np.int32)
    positions = np.broadcast_to(np.arange(32, dtype=np.int32) % 8, inputs.shape)
    first, again, next_step = (np.asarray(step._noisy(inputs, positions, MODEL, 0.25, np.int32(number)))
                               for number in (3, 3, 4))
    changed = first != inputs
    assert 0.2 < changed[positions > 0].mean() < 0.3 and not changed[positions == 0].any()
    np.testing.assert_array_equal(first, again)
    assert (first != next_step).any()


def test_a_step_with_noise_learns_from_other_inputs():
    (state, transformation), losses = start(), []
    for share in (0.0, 0.5):
        _, metrics = run(state, transformation, dataclasses.replace(CONFIG, noise=share))
        losses.append(float(metrics["loss"]))
    assert losses[0] != losses[1]
