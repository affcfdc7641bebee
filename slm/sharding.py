"""The mesh (data, fsdp, tensor), and which part of each parameter, optimizer state and batch a device holds."""

import dataclasses
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from slm.model.axes import BATCH, DATA, FSDP, TENSOR
from slm.model.presets import ModelConfig

AXES = (DATA, FSDP, TENSOR)

# Path of a parameter, or the end of a path in the optimizer's state → a mesh axis for each dimension.
RULES: Mapping[str, tuple] = {
    r"embedding": (TENSOR, FSDP),
    r"repeats": (None, FSDP),
    r"blocks/attention/(query|key|value)": (None, FSDP, TENSOR),
    r"blocks/attention/output": (None, TENSOR, FSDP),
    r"blocks/mlp/(gate|up)": (None, FSDP, TENSOR),
    r"blocks/mlp/down": (None, TENSOR, FSDP),
    r"blocks/(attention|mlp)_norm/scale": (None, None),
    r"final_norm/scale": (None,),
    r"head": (FSDP, TENSOR),
    r"optimizer/muon": (None,),  # the coefficients of its iteration
    # Of LoRA: the side that is as long as the matrix is cut as the matrix is.
    r"blocks/(attention|mlp)/(query|key|value|gate|up)/a": (None, FSDP, None),
    r"blocks/(attention|mlp)/(query|key|value|gate|up)/b": (None, None, TENSOR),
    r"blocks/(attention|mlp)/(output|down)/a": (None, TENSOR, None),
    r"blocks/(attention|mlp)/(output|down)/b": (None, None, FSDP),
}


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each axis; 0: chosen to fit the devices."""
    data: int = 0  # copies of the parameters, each with other rows
    fsdp: int = 0  # parts that the parameters are stored in, each with other rows
    tensor: int = 1  # parts that heads, MLP and vocabulary are computed in

    def __post_init__(self):
        for name in AXES:
            if getattr(self, name) < (1 if name == TENSOR else 0):
                raise ValueError(f"mesh.{name}={getattr(self, name)}: give at least 1"
                                 + (", or 0 to have it chosen" if name != TENSOR else ""))


def mesh_shape(config: MeshConfig, devices: int, model: ModelConfig) -> tuple[int, int, int]:
    """(data, fsdp, tensor) for `devices` devices: parameters in as many parts as their axes allow.

    Raises:
      ValueError: the axes do not make up the devices, or the model cannot be cut along them.
    """
    fixed = config.tensor * max(config.data, 1) * max(config.fsdp, 1)
    chosen = 0 in (config.data, config.fsdp)
    if devices % fixed or (not chosen and fixed != devices):
        raise ValueError(f"a mesh of data={config.data} × fsdp={config.fsdp} × tensor={config.tensor} does not fit "
                         f"{devices} devices: their product must be the number of devices (0: chosen)")
    left = devices // fixed
    fsdp = config.fsdp or (left if config.data else max(
        part for part in range(1, left + 1) if left % part == 0 and model.width % part == 0))
    shape = (config.data or devices // (config.tensor * fsdp), fsdp, config.tensor)
    for name, size in (("query_heads", model.query_heads), ("kv_heads", model.kv_heads),
                       ("mlp_width", model.mlp_width), ("vocabulary_size", model.vocabulary_size)):
        if size % config.tensor:
            raise ValueError(f"model.{name}={size} cannot be shared by mesh.tensor={config.tensor}: choose a divisor")
    if model.width % fsdp:
        raise ValueError(f"model.width={model.width} cannot be stored in mesh.fsdp={fsdp} parts: choose a divisor")
    return shape


def make_mesh(shape: Sequence[int], devices: Sequence | None = None) -> Mesh:
    """A mesh over `devices` (None: all of this run), neighbours on the axes that communicate most."""
    laid = mesh_utils.create_device_mesh(tuple(shape), jax.devices() if devices is None else devices,
                                         allow_split_physical_axes=True)
    return Mesh(laid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def shardings(tree: Any, mesh: Mesh, rules: Mapping[str, tuple] = RULES) -> Any:
    """The sharding of each leaf of a training state (arrays or their shapes), by its path.

    Numbers are on every device.

    Raises:
      ValueError: no rule or two rules for a leaf, an axis named twice, or a dimension that its axis does not divide.
    """
    def one(path, leaf):
        keys = [str(entry.key) for entry in path if isinstance(entry, jax.tree_util.DictKey)]
        return NamedSharding(mesh, _spec("/".join(keys), leaf.shape, mesh.shape, rules))
    return jax.tree.map_with_path(one, tree)


def _spec(path: str, shape: tuple[int, ...], sizes: Mapping[str, int], rules: Mapping[str, tuple]) -> PartitionSpec:
    if not shape:
        return PartitionSpec()
    matching = [rule for rule in rules if re.search(f"(^|/){rule}$", path)]
    if len(matching) != 1:
        raise ValueError(f"{path} {shape} matches {' and '.join(map(repr, matching)) or 'no'} sharding rule"
                         f"{'s' if len(matching) > 1 else ''}: each parameter needs exactly one in slm/sharding.py")
    spec = rules[matching[0]]
    named = [axis for axis in spec if axis]
    if len(spec) != len(shape) or len(set(named)) < len(named):
        raise ValueError(f"the sharding rule {matching[0]!r} is {spec}, {path} has shape {shape}: give each dimension "
                         "a different axis, or None")
    for dimension, axis in zip(shape, spec):
        if axis and dimension % sizes[axis]:
            raise ValueError(f"{path} {shape} cannot be cut into mesh.{axis}={sizes[axis]} parts along its dimension "
                             f"of {dimension}: choose a divisor")
    return PartitionSpec(*spec)


def replicated(mesh: Mesh) -> NamedSharding:
    return NamedSharding(mesh, PartitionSpec())


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Of arrays [B, T]."""
    return NamedSharding(mesh, PartitionSpec(BATCH))


def check_divisible(batch_size: int, grad_accum_steps: int, shape: Sequence[int],
                    name: str = "rows.batch_size") -> None:
    """Raises a `ValueError` unless each device gets the same number of rows of each part of a batch.

    Args:
      name: of the setting, for the message.
    """
    shares = shape[0] * shape[1] * grad_accum_steps
    if batch_size % shares:
        raise ValueError(f"{name}={batch_size} cannot be shared by data={shape[0]} × fsdp={shape[1]} devices "
                         f"in step.grad_accum_steps={grad_accum_steps} parts: make it a multiple of {shares}")


def share_of_process(mesh: Mesh, batch_size: int, process: int | None = None) -> tuple[int, int]:
    """(share, shares): which share of each batch a process (None: this one) reads.

    Processes whose devices need the same rows, along `tensor`, have the same share. The rows of a share need not lie
    together in the batch: on a torus, the devices of a host do not.

    Raises:
      ValueError: some of the rows of a process are also another's, which has others besides.
    """
    starts: dict[int, set[int]] = {}
    indices: Mapping[Any, Any] = batch_sharding(mesh).devices_indices_map((batch_size,))
    for device, (rows,) in indices.items():
        starts.setdefault(device.process_index, set()).add(rows.start or 0)
    shares = sorted({tuple(sorted(rows)) for rows in starts.values()})
    if sum(map(len, shares)) != mesh.shape[DATA] * mesh.shape[FSDP] or len({len(rows) for rows in shares}) > 1:
        raise ValueError(f"the mesh {dict(mesh.shape)} makes processes share some rows and not others: mesh.tensor is "
                         "to be a divisor or a multiple of the devices of a process")
    mine = starts[jax.process_index() if process is None else process]
    return shares.index(tuple(sorted(mine))), len(shares)


def to_devices(batch: Mapping[str, np.ndarray], mesh: Mesh) -> dict[str, jax.Array]:
    """The rows of this process' share of a batch, as arrays of the whole batch."""
    sharding = batch_sharding(mesh)
    local_rows = next(iter(batch.values())).shape[0]
    parts = mesh.shape[DATA] * mesh.shape[FSDP]
    positions = _local_positions(mesh, parts)
    size = local_rows // len(positions)

    def whole(rows: np.ndarray) -> jax.Array:
        def part(index: tuple[slice, ...] | None) -> np.ndarray:
            assert index is not None  # of a device of this process
            first = positions[(index[0].start or 0) // size] * size
            return rows[first:first + size]
        return jax.make_array_from_callback((size * parts, *rows.shape[1:]), sharding, part)
    return {name: whole(rows) for name, rows in batch.items()}


@functools.lru_cache(maxsize=8)
def _local_positions(mesh: Mesh, parts: int) -> dict[int, int]:
    """Parts of a batch that this process' devices hold → their position among them."""
    spans = batch_sharding(mesh).addressable_devices_indices_map((parts,)).values()
    return {part: position for position, part in enumerate(sorted({span[0].start or 0 for span in spans if span}))}
