"""Mesh axes and collectives for the model; without a mesh they all do nothing.

Batches are sharded along `data` and `fsdp`; heads, MLP and vocabulary along `tensor`. Parameters are sharded along
`fsdp` (ZeRO 3; Rajbhandari et al. 2020) and gathered in the compute dtype where they are used.
"""

import functools
from collections.abc import Callable

import jax
from jax.experimental.layout import Layout, with_layout_constraint
from jax.sharding import PartitionSpec

DATA, FSDP, TENSOR = "data", "fsdp", "tensor"
BATCH = (DATA, FSDP)


def _mesh():
    """The mesh set with `jax.set_mesh`; None on a single device."""
    mesh = jax.sharding.get_abstract_mesh()
    return mesh if mesh.size > 1 and not mesh.empty else None


def are_set() -> bool:
    """Whether a mesh of several devices is set."""
    return _mesh() is not None


def with_sharding_constraint(x: jax.Array, *spec) -> jax.Array:
    """Constrains how `x` is sharded; `spec` has one entry per dimension."""
    return jax.lax.with_sharding_constraint(x, PartitionSpec(*spec)) if _mesh() else x


def shard_map(function: Callable, inputs: tuple, outputs) -> Callable:
    """Runs `function` on each device with its shard of the arguments; specs are tuples with one entry per dimension.

    Within it `psum`, `pmax`, `all_gather`, `psum_scatter` and `axis_index` communicate between devices.
    """
    if not _mesh():
        return function
    inputs, outputs = (jax.tree.map(lambda spec: PartitionSpec(*spec), specs, is_leaf=_is_spec)
                       for specs in (inputs, outputs))
    return jax.shard_map(function, in_specs=inputs, out_specs=outputs, check_vma=False)


def in_rows(x_BTD) -> jax.Array:
    """Pins row-major layout; otherwise XLA on TPU transposes the activations in every layer."""
    rows = (BATCH, None, None)
    if not _mesh():
        return x_BTD
    # On each device's shard: as a constraint on the whole array, GPUs would gather it first.
    return shard_map(lambda x: with_layout_constraint(x, Layout(major_to_minor=(0, 1, 2))), (rows,), rows)(x_BTD)


def _is_spec(specs) -> bool:
    return isinstance(specs, tuple) and all(
        entry is None or isinstance(entry, str) or entry == BATCH for entry in specs)


def psum(x, axes):
    """The sum over `axes`, on each device."""
    return jax.lax.psum(x, axes) if _mesh() else x


def pmax(x, axes):
    return jax.lax.pmax(x, axes) if _mesh() else x


def all_gather(x, axis: str, dimension: int):
    """The shards along `axis`, concatenated."""
    return jax.lax.all_gather(x, axis, axis=dimension, tiled=True) if _mesh() else x


def psum_scatter(x, axis: str, dimension: int):
    """The sum over `axis`, of which each device keeps its shard."""
    return jax.lax.psum_scatter(x, axis, scatter_dimension=dimension, tiled=True) if _mesh() else x


def widened(x, dtype) -> jax.Array:
    """A sum over devices cast to a wider dtype; libtpu 0.0.52 fails in a loop of sums if it may swap the two."""
    return (jax.lax.optimization_barrier(x) if _mesh() else x).astype(dtype)


def axis_index(axis: str):
    return jax.lax.axis_index(axis) if _mesh() else 0


@functools.partial(jax.custom_vjp, nondiff_argnums=(1, 2, 3))
def gathered(weight, dtype, stored: tuple, used: tuple) -> jax.Array:
    """`weight` in `dtype`, gathered from its `stored` to its `used` sharding.

    It is cast before it is sent. The gradient is summed directly into the stored shards: the transpose of a plain
    constraint would first materialise it on each device.
    """
    return with_sharding_constraint(with_sharding_constraint(weight.astype(dtype), *stored), *used)


def _gathered(weight, dtype, stored, used):
    return gathered(weight, dtype, stored, used), None


def _scatter_gradient(dtype, stored, used, _, gradient):
    return (with_sharding_constraint(gradient, *stored).astype(jax.numpy.float32),)


gathered.defvjp(_gathered, _scatter_gradient)
