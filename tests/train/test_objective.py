import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm.model import decoder
from slm.model.presets import PRESETS
from slm.train import objective

CONFIG = dataclasses.replace(PRESETS["debug"], vocabulary_size=97)


def parts():
    keys = jax.random.split(jax.random.key(0), 4)
    hidden = jax.random.normal(keys[0], (3, 32, 16))
    head = jax.random.normal(keys[1], (16, 97))
    targets = jax.random.randint(keys[2], (3, 32), 0, 97)
    weights = jax.random.uniform(keys[3], (3, 32)).at[1, 5:].set(0)
    return hidden, head, targets, weights


def plain(hidden, head, targets, weights, z_loss):
    scores = hidden @ head
    log_z = jax.nn.logsumexp(scores, axis=-1)
    nll = log_z - jnp.take_along_axis(scores, targets[..., None], -1)[..., 0]
    return (weights * (nll + z_loss * log_z**2)).sum(), (weights * nll).sum()


@pytest.mark.parametrize("chunk", [4, 32, 1000])
@pytest.mark.parametrize("z_loss", [0.0, 0.1])
def test_equals_the_plain_formula_with_its_gradients(chunk, z_loss):
    hidden, head, targets, weights = parts()
    ours = objective.cross_entropy(hidden, head, targets, weights, z_loss, chunk)
    np.testing.assert_allclose(ours, plain(hidden, head, targets, weights, z_loss), rtol=1e-5)
    gradient = jax.grad(lambda h, w: 3 * objective.cross_entropy(h, w, targets, weights, z_loss, chunk)[0],
                        argnums=(0, 1))(hidden, head)
    expected = jax.grad(lambda h, w: 3 * plain(h, w, targets, weights, z_loss)[0], argnums=(0, 1))(hidden, head)
    for one, two in zip(gradient, expected):
        np.testing.assert_allclose(one, two, atol=2e-4, rtol=1e-4)


def test_gradients_in_bfloat16_have_the_parameters_dtype():
    hidden, head, targets, weights = parts()
    gradient = jax.grad(lambda h, w: objective.cross_entropy(h, w, targets, weights, 0.0, 8)[0], argnums=(0, 1))(
        hidden.astype(jnp.bfloat16), head)
    assert [g.dtype for g in gradient] == [jnp.bfloat16, jnp.float32]


def test_uniform_scores_cost_the_logarithm_of_the_vocabulary():
    params = jax.tree.map(jnp.zeros_like, decoder.initialize(CONFIG, jax.random.key(0)))
    batch = {name: jnp.ones((2, 32), int) for name in ("inputs", "targets", "segments", "positions")}
    batch["loss_mask"] = jnp.ones((2, 32))
    _, (nll, weight) = objective.sums(params, CONFIG, batch, 0.0, 32)
    assert nll / weight == pytest.approx(np.log(97))


def test_a_chunk_that_does_not_divide_is_refused():
    with pytest.raises(ValueError, match=r"step\.loss_chunk=5 does not divide the 32 tokens of a row"):
        objective.cross_entropy(*parts(), 0.0, 5)
