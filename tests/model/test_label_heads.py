"""Label heads: what a text's classes depend on, packed or alone, on one device or a mesh."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from slm import sharding
from slm.model import decoder, label_heads
from slm.model.presets import PRESETS, LabelGroup, parameter_count
from slm.train import optimizer, step
from slm.train.optimizer import OptimizerConfig
from slm.train.step import StepConfig

GROUPS = (LabelGroup("severity", "classify", ("A", "B", "C")), LabelGroup("spans", "tag", ("disease", "drug")))
MODEL = dataclasses.replace(PRESETS["debug"], vocabulary_size=64, context=32, label_groups=GROUPS)
forward = jax.jit(functools.partial(label_heads.logits, config=MODEL))


@pytest.fixture(scope="module")
def params():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda key: decoder.initialize(MODEL, key), jax.random.key(0))
    return jax.tree.map(lambda x: rng.normal(0, 0.3, x.shape).astype(np.float32), shapes)


def row(*segments, length=32):
    """(ids, group) of segments packed into a row."""
    batch = {name: np.zeros((1, length), np.int32) for name in ("inputs", "segments", "positions", "groups")}
    start = 0
    for number, (ids, group) in enumerate(segments, 1):
        span = slice(start, start + len(ids))
        batch["inputs"][0, span], batch["segments"][0, span] = ids, number
        batch["positions"][0, span], batch["groups"][0, span] = np.arange(len(ids)), group
        start = span.stop
    return batch


def test_parameters_are_counted(params):
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == parameter_count(MODEL)
    assert params["head"].shape == (MODEL.width, 8)  # 3 + 5 classes


@pytest.mark.parametrize("group", [0, 1])
def test_packed_equals_alone(params, group):
    first, second = [5, 6, 7, 8, 5], [9, 5, 6, 11, 12, 13]
    packed = forward(params, batch=row((first, 1 - group), (second, group)))[0, 5:11]
    alone = forward(params, batch=row((second, group)))[0, :6]
    np.testing.assert_allclose(packed, alone, atol=1e-4)


@pytest.mark.parametrize("changed", [0, 5])
def test_every_token_sees_its_whole_segment_and_no_other(params, changed):
    ids = [5, 6, 7, 8, 9, 10]
    other = list(ids)
    other[changed] = 20
    before, after = (np.asarray(forward(params, batch=row((text, 1), ([30, 31], 1))))[0] for text in (ids, other))
    assert np.all(np.abs(before[:6] - after[:6]).max(-1) > 1e-4)
    np.testing.assert_array_equal(before[6:8], after[6:8])


def test_a_class_of_another_group_is_out_of_reach(params):
    logits = np.asarray(forward(params, batch=row(([5, 6], 0), ([5, 6], 1))))[0]
    assert np.all(logits[:2, 3:] < -1e20) and np.all(logits[:2, :3] > -1e3)
    assert np.all(logits[2:4, :3] < -1e20) and np.all(logits[2:4, 3:] > -1e3)


def test_a_classification_reads_the_mean_of_its_segment(params):
    logits = np.asarray(forward(params, batch=row(([5, 6, 7, 8], 0))))[0]
    np.testing.assert_allclose(logits[:4], np.broadcast_to(logits[0], logits[:4].shape), atol=1e-5)


def test_one_pass_gives_what_each_group_is_given(params):
    ids = [5, 6, 7, 8, 5]
    texts, tokens = (np.asarray(x)[0] for x in label_heads.all_logits(params, MODEL, row((ids, 0))))
    classify, tag = (label_heads.columns(MODEL, number) for number in (0, 1))
    np.testing.assert_allclose(texts[classify], forward(params, batch=row((ids, 0)))[0, 0, classify], atol=1e-5)
    np.testing.assert_allclose(tokens[:5, tag], forward(params, batch=row((ids, 1)))[0, :5, tag], atol=1e-5)


@pytest.mark.parametrize("ids, expected", [
    ([5, 6, 7, 5, 6, 7], [[1, 1, 1], [1, 1, 0], [1, 0, 0]] * 2),
    ([5, 6, 5, 9], [[1, 0, 0], [0, 0, 0], [1, 0, 0], [0, 0, 0]]),
    ([5, 5, 5], [[1, 1, 0], [1, 1, 0], [1, 0, 0]]),
])
def test_repeats_mark_what_occurs_again_in_the_segment(ids, expected):
    batch = row((ids, 0), ([5, 6, 7, 40], 0))
    features = np.asarray(label_heads._repeats(batch["inputs"], batch["segments"]))[0]
    assert features[:len(ids)].tolist() == expected
    assert not features[len(ids):len(ids) + 4].any()


def test_sharded_equals_one_device():
    def losses(shape):
        mesh = sharding.make_mesh(shape, jax.devices()[:np.prod(shape)])
        rng = np.random.default_rng(1)
        with jax.set_mesh(mesh):
            program = step.compiled(StepConfig(), MODEL, optimizer.build(OptimizerConfig(learning_rate=1e-3), 4), mesh)
            state, made = program.initial(jax.random.key(0)), []
            for _ in range(4):
                rows = [row((rng.integers(1, 64, 12), 0), (rng.integers(1, 64, 20), 1)) for _ in range(8)]
                batch = {name: np.concatenate([one[name] for one in rows]) for name in rows[0]}
                batch |= {"targets": rng.integers(0, 3, (8, 32)).astype(np.int32),
                          "loss_mask": rng.random((8, 32)).astype(np.float32)}
                state, metrics = program.train(state, sharding.to_devices(batch, mesh))
                made.append(float(metrics["loss"]))
        return made, jax.tree.map(np.asarray, state["params"])
    expected, expected_params = losses((1, 1, 1))
    made, params = losses((2, 2, 2))
    np.testing.assert_allclose(made, expected, atol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-4), params, expected_params)
