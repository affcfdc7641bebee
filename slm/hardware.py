"""Accelerators as their makers state them, and how their pods are wired."""

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Chip:
    name: str
    kind: str  # jax's `device_kind`
    tflops: float  # peak, dense bfloat16
    memory_gib: float  # that a program can have
    memory_gb_per_second: float
    link_gb_per_second: float  # one link of a TPU to its neighbour, or all of a GPU's within its node; one way
    mxu_size: int = 128  # side of the unit that multiplies matrices
    clock_ghz: float = 0.0  # 0: the compiler does not count its cycles
    network_gb_per_second: float = 0.0  # a GPU's to other nodes: assumed, nodes differ
    sparse_cores: bool = False  # that the compiler gives gathers and collectives to


CHIPS = {chip.name: chip for chip in (
    Chip("v4", "TPU v4", 275, 30.75, 1228, 50, clock_ghz=1.05),
    Chip("v5e", "TPU v5 lite", 197, 15.75, 819, 50, clock_ghz=1.5),
    Chip("v5p", "TPU v5", 459, 94.75, 2765, 100, clock_ghz=1.75, sparse_cores=True),
    Chip("v6e", "TPU v6 lite", 918, 31.25, 1640, 112, mxu_size=256, clock_ghz=1.75, sparse_cores=True),
    # Of a GPU's 80 GB, what JAX takes by default (75%).
    Chip("h100", "NVIDIA H100 80GB HBM3", 989, 59.4, 3350, 450, network_gb_per_second=50),
    Chip("a100", "NVIDIA A100-SXM4-80GB", 312, 59.4, 2039, 300, network_gb_per_second=25),
)}
PEAK_TFLOPS = {chip.kind: chip.tflops for chip in CHIPS.values()} | {"NVIDIA A100-SXM4-40GB": 312}

_SHAPES: dict[int, dict[int, tuple[int, ...]]] = {  # dimensions → chips → how they are laid out
    3: {4: (2, 2, 1), 8: (2, 2, 2), 16: (2, 2, 4), 32: (2, 4, 4), 64: (4, 4, 4), 128: (4, 4, 8), 256: (4, 8, 8),
        512: (8, 8, 8), 1024: (8, 8, 16)},
    2: {1: (1, 1), 4: (2, 2), 8: (2, 4), 16: (4, 4), 32: (4, 8), 64: (8, 8), 128: (8, 16), 256: (16, 16)}}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Devices that can be rented together: v4-32, v5e-16, v5p-8, v6e-8, h100-8."""
    name: str
    chip: Chip
    devices: int
    shape: tuple[int, ...]

    @property
    def is_tpu(self) -> bool:
        return bool(self.chip.clock_ghz)

    @property
    def closed(self) -> tuple[bool, ...]:
        """Of each side, whether it ends where it begins."""
        return tuple(min(self.shape) >= 4 if len(self.shape) == 3 else side == 16 for side in self.shape)

    @property
    def gb_per_second(self) -> float:
        """Of the links of the device that has the fewest, one way."""
        if not self.is_tpu:
            return self.chip.network_gb_per_second if self.devices > 8 else self.chip.link_gb_per_second
        links = sum(2 if closed else 1 for side, closed in zip(self.shape, self.closed) if side > 1)
        return max(links, 1) * self.chip.link_gb_per_second

    def description(self) -> dict:
        """What `jax.experimental.topologies.get_topology_desc` wants to know of a TPU."""
        family = "v5" if self.chip.name == "v5p" else self.chip.name
        return {"platform": "tpu", "topology_name": f"{family}:{'x'.join(map(str, self.shape))}",
                "chip_config_name": "megacore" if len(self.shape) == 3 else "default", "num_slices": 1,
                "chips_per_host_bounds": (2, 2, 1) if self.devices > 1 else (1, 1, 1),
                "wrap": (*self.closed, *(False,) * (3 - len(self.closed)))}


def topology(name: str) -> Topology:
    """A topology by its name on the market; the number of v4 and v5p counts two cores a chip.

    Raises:
      ValueError: no such chip, or not a number of them that is sold.
    """
    kind, _, number = name.partition("-")
    if kind not in CHIPS or not number.isdecimal() or int(number) < 1:
        raise ValueError(f"topology={name!r}: expected CHIP-NUMBER with a chip of {', '.join(CHIPS)}, as v4-32 or "
                         "h100-8")
    chip, count = CHIPS[kind], int(number)
    if not chip.clock_ghz:
        if count > 8 and count % 8:
            raise ValueError(f"topology={name!r}: GPU nodes have 8: give up to 8, or a multiple")
        return Topology(name, chip, count, (math.ceil(count / 8), min(count, 8)))
    cores, dimensions = (2, 3) if kind in ("v4", "v5p") else (1, 2)
    sold = {cores * devices: shape for devices, shape in _SHAPES[dimensions].items()}
    if count not in sold:
        raise ValueError(f"topology={name!r}: {kind} comes as {', '.join(f'{kind}-{n}' for n in sold)}")
    return Topology(name, chip, count // cores, sold[count])
