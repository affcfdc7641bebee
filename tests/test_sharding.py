"""Sharded = one device; rules that refuse what they cannot cut."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from slm import sharding
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.sharding import MeshConfig, mesh_shape
from slm.train import optimizer, step
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

MODEL = dataclasses.replace(PRESETS["debug"], scan_layers=True, remat="full")


def batch(seed):
    """16 packed rows of 32 tokens, of which some do not count."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, MODEL.vocabulary_size, (16, 33)).astype(np.int32)
    first, here = rng.random((16, 32)) < 0.1, np.arange(32)
    positions = here - np.maximum.accumulate(np.where(first, here, 0), axis=1)
    return {"inputs": tokens[:, :-1], "targets": tokens[:, 1:], "positions": positions.astype(np.int32),
            "loss_mask": (rng.random((16, 32)) < 0.9).astype(np.float32),
            "segments": 1 + np.cumsum(first, axis=1, dtype=np.int32)}


@functools.cache
def ten_steps(shape, name="adamw"):
    """(losses, parameters, evaluation) on a mesh."""
    mesh = sharding.make_mesh(shape, jax.devices()[:np.prod(shape)])
    transformation = optimizer.build(OptimizerConfig(name=name, learning_rate=1e-3), 10)
    with jax.set_mesh(mesh):
        program = step.compiled(StepConfig(loss_chunk=16), MODEL, transformation, mesh)
        state, losses = program.initial(jax.random.key(0)), []
        for number in range(10):
            state, metrics = program.train(state, sharding.to_devices(batch(number), mesh))
            losses.append(float(metrics["loss"]))
        evaluation = program.evaluate(state["params"], sharding.to_devices(batch(99), mesh))
    return losses, jax.tree.map(np.asarray, state["params"]), [float(x) for x in evaluation]


@pytest.mark.parametrize("shape", [
    (8, 1, 1), (2, 2, 2), pytest.param((1, 8, 1), marks=pytest.mark.slow), pytest.param((1, 2, 4), marks=pytest.mark.slow)])
def test_ten_steps_on_a_mesh_equal_one_device(shape):
    losses, params, evaluation = ten_steps(shape)
    expected, expected_params, expected_evaluation = ten_steps((1, 1, 1))
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), params, expected_params)
    np.testing.assert_allclose(evaluation, expected_evaluation, rtol=1e-5)


@pytest.mark.slow
def test_muon_on_a_mesh_equals_one_device():
    losses, params, _ = ten_steps((2, 2, 2), "muon")
    expected, expected_params, _ = ten_steps((1, 1, 1), "muon")
    np.testing.assert_allclose(losses, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), params, expected_params)


@pytest.mark.slow
def test_accumulated_gradients_on_a_mesh_equal_the_whole_batch_on_one_device():
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    mesh = sharding.make_mesh((2, 2, 2))
    with jax.set_mesh(mesh):
        placed = jax.device_put(params, sharding.shardings(params, mesh))
        gradients = jax.jit(functools.partial(step._gradients, model=MODEL, config=StepConfig(
            loss_chunk=16, grad_accum_steps=2)))(placed, sharding.to_devices(batch(0), mesh))
    expected = jax.jit(functools.partial(step._gradients, model=MODEL, config=StepConfig(loss_chunk=16)))(params, batch(0))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), gradients, expected)


def state_shapes(name="adamw", model=MODEL):
    transformation = optimizer.build(OptimizerConfig(name=name), 10)
    return jax.eval_shape(functools.partial(step.initial_state, model, transformation), jax.random.key(0))


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_matrix_and_its_moments_are_stored_in_parts(name):
    mesh = sharding.make_mesh((1, 4, 2))
    shapes = state_shapes(name)
    for (path, leaf), sharded in zip(jax.tree.leaves_with_path(shapes),
                                     jax.tree.leaves(sharding.shardings(shapes, mesh))):
        parts = leaf.size // np.prod(sharded.shard_shape(leaf.shape))
        assert parts == (1 if leaf.ndim < 2 or "scale" in jax.tree_util.keystr(path) else 8), path


def spec(path, shape, rules=sharding.RULES):
    tree = {"made": jnp.zeros(shape)}
    for key in reversed(path.split("/")):
        tree = {key: tree} if "made" not in tree else {key: tree["made"]}
    return jax.tree.leaves(sharding.shardings(tree, sharding.make_mesh((1, 2, 4)), rules))[0].spec


def test_rules_refuse_with_the_path_and_the_axis():
    assert spec("params/head", (64, 128)) == PartitionSpec("fsdp", "tensor")
    with pytest.raises(ValueError, match=r"blocks/lora/a \(2, 4\) matches no sharding rule: each parameter needs"):
        spec("blocks/lora/a", (2, 4))
    with pytest.raises(ValueError, match=r"head \(8, 8\) matches 'head' and '.ead' sharding rules"):
        spec("head", (8, 8), {"head": (None, None), ".ead": (None, None)})
    with pytest.raises(ValueError, match=r"the sharding rule 'head' is \('fsdp', 'fsdp'\), head has shape \(8, 8\): give"):
        spec("head", (8, 8), {"head": ("fsdp", "fsdp")})
    with pytest.raises(ValueError, match=r"head \(8, 6\) cannot be cut into mesh.tensor=4 parts along its dimension of 6"):
        spec("head", (8, 6))


@pytest.mark.parametrize("config, devices, shape", [
    (MeshConfig(), 1, (1, 1, 1)), (MeshConfig(), 8, (1, 8, 1)), (MeshConfig(tensor=2), 8, (1, 4, 2)),
    (MeshConfig(data=2), 8, (2, 4, 1)), (MeshConfig(fsdp=2), 8, (4, 2, 1)), (MeshConfig(), 192, (3, 64, 1)),
    (MeshConfig(2, 2, 2), 8, (2, 2, 2))])
def test_the_mesh_is_chosen_for_the_devices(config, devices, shape):
    assert mesh_shape(config, devices, MODEL) == shape


@pytest.mark.parametrize("config, devices, message", [
    (MeshConfig(tensor=3), 8, "data=0 × fsdp=0 × tensor=3 does not fit 8 devices"),
    (MeshConfig(2, 2, 1), 8, "data=2 × fsdp=2 × tensor=1 does not fit 8 devices"),
    (MeshConfig(tensor=8), 8, "model.kv_heads=4 cannot be shared by mesh.tensor=8"),
    (MeshConfig(fsdp=3), 9, "model.width=64 cannot be stored in mesh.fsdp=3 parts")])
def test_impossible_meshes_are_refused(config, devices, message):
    with pytest.raises(ValueError, match=message):
        mesh_shape(config, devices, MODEL)


def test_rows_that_devices_cannot_share_are_refused():
    sharding.check_divisible(16, 2, (2, 4, 1))
    with pytest.raises(ValueError, match=r"rows.batch_size=12 cannot be shared by data=2 × fsdp=4 devices in "
                                         r"step.grad_accum_steps=1 parts: make it a multiple of 8"):
        sharding.check_divisible(12, 1, (2, 4, 1))
