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
MODEL = dataclasses.replace(PRESETS["debug"], vocabulary_size=96, width=32, query_heads=4, kv_heads=2, mlp_width=32,
                            mlp="swiglu")
CONFIG = StepConfig(loss_chunk=16, spike_factor=0.0)
ALL = "query,key,value,output,gate,up,down"


def batch(rows=8, seed=0):
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, 96, (rows, 33)).astype(np.int32)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "segments": np.ones((rows, 32), np.int32),
            "weights": (rng.random((rows, 32)) < 0.7).astype(np.float32),
            "positions": np.broadcast_to(np.arange(32, dtype=np.int32), (rows, 32))}


@pytest.fixture(scope="module")
def params():
    # The blocks are larger than at the start of a training, so that their gradients are clearly not zero.
    return jax.jit(lambda key: jax.tree.map(lambda x: x * 4 if x.ndim == 3 else x, decoder.initialize(MODEL, key)))(
        jax.random.key(0))


@jax.jit
def logits(params):
    rows = batch()
    hidden, _ = decoder.hidden_states(params, MODEL, rows["inputs"], rows["segments"], rows["positions"])
    return decoder.logits(params, hidden)


def leaves(tree):
    return {"/".join(key.key for key in path): leaf for path, leaf in jax.tree.leaves_with_path(tree)}


@pytest.fixture(scope="module")
def trained(params):
    """Adapters of rank 3 of which B is no longer zero, and their settings."""
    config = LoraConfig(rank=3, alpha=5.0)
    adapters = lora.initialize(params, config, jax.random.key(1))
    for part in adapters["blocks"].values():
        for number, pair in enumerate(part.values()):
            pair["b"] = jax.random.normal(jax.random.key(number), pair["b"].shape)
    return adapters, config


def test_a_new_adapter_changes_nothing(params):
    config = LoraConfig(rank=4)
    adapters = lora.initialize(params, config, jax.random.key(1))
    np.testing.assert_array_equal(logits(lora.merge(params, adapters, config)), logits(params))
    drawn = [np.asarray(leaf) for path, leaf in leaves(adapters).items() if path.endswith("/a")]
    assert len(drawn) == 7 and all(leaf.std() == pytest.approx(32 ** -0.5, rel=0.15) for leaf in drawn)
    assert len({float(leaf[0, 0, 0]) for leaf in drawn} | {float(leaf[1, 0, 0]) for leaf in drawn}) == 14


def test_merging_adds_the_product_by_hand(params, trained):
    adapters, config = trained
    merged, before, pairs = leaves(lora.merge(params, adapters, config)), leaves(params), leaves(adapters)
    adapted = {path.rpartition("/")[0] for path in pairs}
    assert adapted == {f"blocks/{part}/{name}" for part, names in (
        ("attention", ("query", "key", "value", "output")), ("mlp", ("gate", "up", "down"))) for name in names}
    assert merged.keys() == before.keys()
    for path, matrix in merged.items():
        if path not in adapted:
            assert matrix is before[path]
            continue
        for layer in range(MODEL.layers):
            product = np.asarray(pairs[f"{path}/a"][layer], float) @ np.asarray(pairs[f"{path}/b"][layer], float)
            np.testing.assert_allclose(matrix[layer], before[path][layer] + 5 / 3 * product, atol=1e-5)
    assert not np.allclose(logits(lora.merge(params, adapters, config)), logits(params), atol=0.1)


def test_only_the_targets_that_the_model_has_are_adapted(params):
    adapters = lora.initialize(params, LoraConfig(rank=2, targets="value,down"), jax.random.key(0))
    assert {path: leaf.shape for path, leaf in leaves(adapters).items()} == {
        "blocks/attention/value/a": (2, 32, 2), "blocks/attention/value/b": (2, 2, 16),
        "blocks/mlp/down/a": (2, 32, 2), "blocks/mlp/down/b": (2, 2, 32)}
    silu = jax.eval_shape(functools.partial(decoder.initialize, dataclasses.replace(MODEL, mlp="silu")),
                          jax.random.key(0))
    made = jax.eval_shape(lambda params: lora.initialize(params, LoraConfig(rank=2), jax.random.key(0)), silu)
    assert made["blocks"]["mlp"].keys() == {"up", "down"}


@pytest.mark.parametrize("settings", [dict(rank=-1), dict(targets="query,head"), dict(rank=1, targets="")])
def test_settings_that_are_none_are_refused(settings):
    with pytest.raises(ValueError, match=r"lora\.rank=.*, lora\.targets=.*: the rank is 0 \(none\) or above, the "
                                         r"targets are some of query,key,value,output,gate,up,down"):
        LoraConfig(**settings)


@functools.cache
def trainer(targets, alpha, rank):
    """(plain SGD, whose rate is part of its state; a step of it)."""
    transformation = optax.inject_hyperparams(optax.sgd)(learning_rate=0.0)
    return transformation, jax.jit(functools.partial(
        step.train, config=CONFIG, model=MODEL, optimizer=transformation,
        adapt=LoraConfig(rank=rank, alpha=alpha, targets=targets)))


def sgd(params, adapters, targets, rate, steps, rank=32, alpha=32.0):
    """The adapters after some steps of SGD, and the metrics of each."""
    transformation, train = trainer(targets, alpha, rank)
    opt = transformation.init(adapters)
    opt.hyperparams["learning_rate"] = jnp.float32(rate)
    state = {"params": adapters, "optimizer": opt, "step": jnp.int32(0), "running_norm": jnp.float32(0),
             "skipped": jnp.int32(0)}
    metrics = []
    for number in range(steps):
        state, own = train(state, batch(seed=number), params)
        metrics.append(jax.device_get(own))
    return state["params"], metrics


@jax.jit
def full_step(params, rows, rate):
    gradients, nll, weight = step._gradients(params, rows, CONFIG, MODEL)
    return jax.tree.map_with_path(
        lambda path, x, g: x - rate * g if path[-1].key in ALL.split(",") else x, params, gradients), nll / weight


def full(params, rate, steps):
    """Full fine-tuning of the blocks' matrices alone, and the losses."""
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
    """
    config = LoraConfig(rank=32, alpha=32.0, targets=ALL)
    adapters = lora.initialize(params, config, jax.random.key(1))
    for part in adapters["blocks"].values():
        for pair in part.values():
            pair["a"] = jnp.broadcast_to(jnp.eye(32), pair["a"].shape)
    differences = []
    for rate in (0.4, 0.2):
        own, metrics = sgd(params, adapters, ALL, rate, 5)
        expected, losses = full(params, rate, 5)
        differences.append(distance(lora.merge(params, own, config), expected) / distance(expected, params))
        np.testing.assert_allclose([one["loss"] for one in metrics], losses, atol=1e-3)
    assert differences[0] < 5e-3  # measured: 2.0e-3 and 5.4e-4
    assert differences[1] < differences[0] / 3.5


def test_the_first_gradient_is_of_the_targets_alone_and_of_their_b(params):
    config = LoraConfig(rank=3, alpha=5.0, targets="query,down")
    adapters = lora.initialize(params, config, jax.random.key(1))
    kept = jax.tree.map(np.array, params)
    after, metrics = sgd(params, adapters, "query,down", 0.5, 1, rank=3, alpha=5.0)
    moved, _ = full_step(params, batch(), jnp.float32(1))
    gradients = jax.tree.map(lambda before, after: np.asarray(before - after, float), params, moved)
    squares = 0.0
    for part, name in (("attention", "query"), ("mlp", "down")):
        before, new = adapters["blocks"][part][name], after["blocks"][part][name]
        np.testing.assert_array_equal(new["a"], before["a"])  # its gradient is dW·Bᵀ, and B is zero
        own = 5 / 3 * np.einsum("lir,lio->lro", before["a"], gradients["blocks"][part][name])
        np.testing.assert_allclose(new["b"], -0.5 * own, atol=1e-5)
        assert np.abs(own).max() > 1e-3
        squares += np.square(own).sum()
    assert float(metrics[0]["grad_norm"]) == pytest.approx(np.sqrt(squares), rel=1e-4)  # of the adapters
    assert jax.tree.structure(after) == jax.tree.structure(adapters)
    jax.tree.map(np.testing.assert_array_equal, params, kept)


# On a mesh ----------------------------------------------------------------------------------------------------

@functools.cache
def three_steps(shape):
    """(losses, adapters, the frozen parameters before and after) on a mesh."""
    model = dataclasses.replace(MODEL, layers=1)
    mesh = sharding.make_mesh(shape, jax.devices()[:np.prod(shape)])
    with jax.set_mesh(mesh):
        program = step.program(StepConfig(loss_chunk=16), model, optimizer.build(OptimizerConfig(learning_rate=1e-2), 10),
                               mesh, LoraConfig(rank=4))
        kept = jax.jit(functools.partial(decoder.initialize, model))(jax.random.key(0))
        base = jax.device_put(jax.device_get(kept), step.model_shardings(model, mesh))
        state, losses = program.initial(jax.random.key(3)), []
        for number in range(3):
            state, metrics = program.train(state, sharding.to_devices(batch(seed=number), mesh), base)
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(state["params"]), jax.device_get(kept), jax.device_get(base)


def test_adapters_on_a_mesh_equal_one_device():
    losses, adapters, kept, base = three_steps((2, 2, 2))
    expected, expected_adapters, *_ = three_steps((1, 1, 1))
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), adapters, expected_adapters)
    assert all(np.abs(leaf).max() > 1e-3 for path, leaf in leaves(adapters).items() if path.endswith("/b"))
    jax.tree.map(np.testing.assert_array_equal, base, kept)  # what is frozen stays, to the last bit


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
    model = dataclasses.replace(MODEL, layers=1)
    transformation = optimizer.build(OptimizerConfig(), 10)
    plain = jax.eval_shape(lambda key: step.initial_state(model, transformation, key), jax.random.key(0))
    with_none = jax.eval_shape(lambda key: step.initial_state(model, transformation, key, lora.NONE), jax.random.key(0))
    assert plain == with_none and plain["params"].keys() == {"embedding", "blocks", "final_norm", "head"}
