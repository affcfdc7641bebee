"""Adapters: W + α/r · A·B, by hand, against full fine-tuning, and on a mesh."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from slm import sharding
from slm.model import decoder, lora
from slm.model.lora import LoraConfig
from slm.model.presets import PRESETS
from slm.train import optimizer, step
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

# Each matrix of a block has 32 rows, so that A can be an identity for all of them.
MODEL = dataclasses.replace(PRESETS["debug"], vocabulary_size=96, layers=1, width=32, query_heads=4, kv_heads=2, mlp_width=32,
                            mlp="swiglu")
CONFIG = StepConfig(loss_chunk=16, spike_factor=0.0)
TARGETS = "query,value,output,up,down"  # not all


def batch(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 96, (rows, 33)).astype(np.int32)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "segments": np.ones((rows, 32), np.int32),
            "loss_mask": (rng.random((rows, 32)) < 0.7).astype(np.float32),
            "positions": np.broadcast_to(np.arange(32, dtype=np.int32), (rows, 32))}


def drawn(model, spread):
    """Parameters of numpy's: compiling `decoder.initialize` takes longer than these tests."""
    rng = np.random.default_rng(0)
    return jax.tree.map_with_path(
        lambda path, x: np.ones(x.shape, np.float32) if path[-1].key == "scale" else np.float32(
            rng.normal(0, spread, x.shape)), jax.eval_shape(lambda key: decoder.initialize(model, key), jax.random.key(0)))


@pytest.fixture(scope="module")
def two_layers():
    # Larger than at the start of a training, so that gradients are clearly not zero.
    return drawn(dataclasses.replace(MODEL, layers=2), 0.1)


@pytest.fixture(scope="module")
def params(two_layers):
    return two_layers | {"blocks": jax.tree.map(lambda x: x[:1], two_layers["blocks"])}


initialize = jax.jit(lora.initialize, static_argnums=1)


@jax.jit
def logits(params):
    rows = batch()
    hidden, _ = decoder.hidden_states(params, MODEL, rows["inputs"], rows["segments"], rows["positions"])
    return decoder.logits(params, hidden)


def leaves(tree):
    return {"/".join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def trained(two_layers):
    """Adapters of rank 3 of which B is no longer zero, and their settings."""
    config = LoraConfig(rank=3, alpha=5.0)
    adapters = initialize(two_layers, config, jax.random.key(1))
    for part in adapters["blocks"].values():
        for number, pair in enumerate(part.values()):
            pair["b"] = np.random.default_rng(number).normal(size=pair["b"].shape).astype(np.float32)
    return adapters, config


def test_a_new_adapter_changes_nothing(params, two_layers):
    config = LoraConfig(rank=4)
    adapters = initialize(params, config, jax.random.key(1))
    np.testing.assert_array_equal(logits(lora.merge(params, adapters, config)), logits(params))
    adapters = initialize(two_layers, config, jax.random.key(1))
    drawn = [np.asarray(leaf) for path, leaf in leaves(adapters).items() if path.endswith("/a")]
    assert len(drawn) == 7 and all(leaf.std() == pytest.approx(32 ** -0.5, rel=0.15) for leaf in drawn)
    assert len({float(layer[0, 0]) for leaf in drawn for layer in leaf}) == 14


def test_merging_adds_the_product_by_hand(two_layers, trained):
    adapters, config = trained
    merged, before, pairs = (leaves(tree) for tree in (
        lora.merge(two_layers, adapters, config), two_layers, adapters))
    adapted = {path.rpartition("/")[0] for path in pairs}
    assert adapted == {f"blocks/{part}/{name}" for part, names in (
        ("attention", ("query", "key", "value", "output")), ("mlp", ("gate", "up", "down"))) for name in names}
    assert merged.keys() == before.keys()
    for path, matrix in merged.items():
        if path not in adapted:
            assert matrix is before[path]
            continue
        for layer in range(2):
            product = np.asarray(pairs[f"{path}/a"][layer], float) @ np.asarray(pairs[f"{path}/b"][layer], float)
            np.testing.assert_allclose(matrix[layer], before[path][layer] + 5 / 3 * product, atol=1e-5)


def test_only_the_targets_that_the_model_has_are_adapted(params):
    adapters = initialize(params, LoraConfig(rank=2, targets="value,down"), jax.random.key(0))
    assert {path: leaf.shape for path, leaf in leaves(adapters).items()} == {
        "blocks/attention/value/a": (1, 32, 2), "blocks/attention/value/b": (1, 2, 16),
        "blocks/mlp/down/a": (1, 32, 2), "blocks/mlp/down/b": (1, 2, 32)}
    silu = jax.eval_shape(functools.partial(decoder.initialize, dataclasses.replace(MODEL, mlp="silu")),
                          jax.random.key(0))
    made = jax.eval_shape(lambda params: lora.initialize(params, LoraConfig(rank=2), jax.random.key(0)), silu)
    assert made["blocks"]["mlp"].keys() == {"up", "down"}


@pytest.mark.parametrize("settings", [dict(rank=-1), dict(targets="query,head"), dict(rank=1, targets="")])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(ValueError, match=r"lora\.rank=.*, lora\.targets=.*: set a rank of at least 0, "
                                         r"and targets from query,key,value,output,gate,up,down"):
        LoraConfig(**settings)


FULL_RANK = LoraConfig(rank=32, alpha=32.0, targets=TARGETS)
SGD = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)  # the rate is part of its state
lora_step = jax.jit(functools.partial(step.train, config=CONFIG, model=MODEL, optimizer=SGD, adapt=FULL_RANK))


def sgd(params, adapters, rate, steps):
    """The adapters after some steps of SGD, and the metrics of each."""
    moments = SGD.init(adapters)
    moments.hyperparams["learning_rate"] = jnp.float32(rate)
    state = {"params": adapters, "optimizer": moments, "step": jnp.int32(0), "grad_norm_ema": jnp.float32(0),
             "skipped": jnp.int32(0)}
    metrics = []
    for number in range(steps):
        state, own = lora_step(state, batch(seed=number), params)
        metrics.append(jax.device_get(own))
    return state["params"], metrics


@jax.jit
def full_step(params, rows, rate):
    gradients, nll, weight = step._gradients(params, rows, CONFIG, MODEL)
    return jax.tree.map_with_path(
        lambda path, x, g: x - rate * g if path[-1].key in TARGETS.split(",") else x, params, gradients), nll / weight


def full(params, rate, steps):
    """Full fine-tuning of the targets alone, and the losses."""
    losses = []
    for number in range(steps):
        params, loss = full_step(params, batch(seed=number), jnp.float32(rate))
        losses.append(float(loss))
    return params, losses


def distance(one, other):
    return float(np.sqrt(sum(np.square(np.asarray(a, float) - np.asarray(b, float)).sum()
                             for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))))


def test_full_rank_with_an_identity_is_full_fine_tuning(params):
    """With A = I and α = r, W + A·B moves as W does: dB = Aᵀ·dW = dW.

    A drifts by η·dW·Bᵀ a step. B is zero at first and η·dW later, so A drifts by O(η²), and what it changes in A·B is
    O(η³), while the matrices move by O(η): half the rate gives a quarter of the relative difference.
    (With A held still, the difference is that of float32, 1e-6.)
    """
    adapters = initialize(params, FULL_RANK, jax.random.key(1))
    for part in adapters["blocks"].values():
        for pair in part.values():
            pair["a"] = jnp.broadcast_to(jnp.eye(32), pair["a"].shape)
    differences = []
    for rate in (0.2, 0.1):
        own, metrics = sgd(params, adapters, rate, 5)
        expected, losses = full(params, rate, 5)
        differences.append(distance(lora.merge(params, own, FULL_RANK), expected) / distance(expected, params))
        np.testing.assert_allclose([one["loss"] for one in metrics], losses, atol=1e-3)
    assert differences[0] < 2e-3  # measured: 1.3e-3, and 3.6e-4 with half the rate
    assert differences[1] < differences[0] / 3.5


def test_the_first_gradient_is_of_the_targets_alone_and_of_their_b(params):
    adapters = initialize(params, FULL_RANK, jax.random.key(1))
    kept = jax.tree.map(np.array, params)
    after, metrics = sgd(params, adapters, 0.5, 1)
    moved, _ = full_step(params, batch(), jnp.float32(1))
    before, new, gradients = leaves(adapters), leaves(after), leaves(jax.tree.map(
        lambda before, after: np.asarray(before, float) - np.asarray(after, float), params, moved))
    assert {path.split("/")[2] for path in new} == set(TARGETS.split(","))
    squares = 0.0
    for path in (path.removesuffix("/a") for path in new if path.endswith("/a")):
        np.testing.assert_array_equal(new[f"{path}/a"], before[f"{path}/a"])  # its gradient is dW·Bᵀ, and B is zero
        own = np.einsum("lir,lio->lro", before[f"{path}/a"], gradients[path])
        np.testing.assert_allclose(new[f"{path}/b"], -0.5 * own, atol=1e-6)
        assert np.abs(own).max() > 1e-4
        squares += np.square(own).sum()
    assert float(metrics[0]["grad_norm"]) == pytest.approx(np.sqrt(squares), rel=1e-4)  # of the adapters alone
    jax.tree.map(np.testing.assert_array_equal, params, kept)


# On a mesh ----------------------------------------------------------------------------------------------------

ON_A_MESH, PLAIN = LoraConfig(rank=4), optax.sgd(0.5)


def three_steps(shape, frozen, state):
    """(losses, adapters, the frozen parameters at the end) on a mesh."""
    mesh = sharding.make_mesh(shape, jax.devices()[:np.prod(shape)])
    with jax.set_mesh(mesh):
        program = step.compiled(CONFIG, MODEL, PLAIN, mesh, ON_A_MESH)
        base = jax.device_put(frozen, step.model_shardings(MODEL, mesh))
        state, losses = jax.device_put(state, jax.tree.map(lambda x: x.sharding, program.abstract)), []
        for number in range(3):
            state, metrics = program.train(state, sharding.to_devices(batch(seed=number), mesh), base)
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state["params"]), jax.device_get(base)


@pytest.mark.slow
def test_adapters_on_a_mesh_equal_one_device():
    frozen = drawn(MODEL, 0.04)
    state = jax.device_get(jax.jit(lambda key: step.initial_state(MODEL, PLAIN, key, ON_A_MESH))(jax.random.key(3)))
    losses, adapters, after = three_steps((2, 2, 2), frozen, state)
    expected, expected_adapters, _ = three_steps((1, 1, 1), frozen, state)
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), adapters, expected_adapters)
    assert all(np.abs(leaf).max() > 1e-3 for path, leaf in leaves(adapters).items() if path.endswith("/b"))
    jax.tree.map(np.testing.assert_array_equal, after, frozen)  # what is frozen stays, to the last bit


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_each_adapter_and_its_moments_are_stored_in_parts(name):
    make = functools.partial(step.initial_state, MODEL, optimizer.build(OptimizerConfig(name=name), 10),
                             adapt=LoraConfig(rank=4))
    shapes = jax.eval_shape(make, jax.random.key(0))
    for shape in ((2, 2, 2), (1, 4, 2)):
        cut = 0
        for (path, leaf), sharded in zip(jax.tree.leaves_with_path(shapes), jax.tree.leaves(
                sharding.shardings(shapes, sharding.make_mesh(shape)))):
            spelled = jax.tree_util.keystr(path)
            if leaf.ndim == 3:  # along the side that is as long as the matrix, never along the rank
                axis = next((axis for axis in (1, 2) if leaf.shape[axis] != 4), None)
                pieces = [whole // part for whole, part in zip(leaf.shape, sharded.shard_shape(leaf.shape))]
                first = spelled.endswith("['a']")
                fsdp = first != any(own in spelled for own in ("output", "down"))
                assert pieces[axis] == shape[1 if fsdp else 2] and np.prod(pieces) == pieces[axis], spelled
                cut += 1
        assert cut >= 14


def test_without_lora_nothing_changes():
    transformation = optimizer.build(OptimizerConfig(), 10)
    plain = jax.eval_shape(lambda key: step.initial_state(MODEL, transformation, key), jax.random.key(0))
    with_none = jax.eval_shape(lambda key: step.initial_state(MODEL, transformation, key, lora.NONE), jax.random.key(0))
    assert plain == with_none and plain["params"].keys() == {"embedding", "blocks", "final_norm", "head"}
