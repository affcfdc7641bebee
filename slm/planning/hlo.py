"""Reads compiled HLO: operations with how often they run, their matrix products, cycles and collectives.

`compiled.cost_analysis()` counts the body of a loop once; here each operation is multiplied by the trips of the loops
around it.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

COLLECTIVES = ("all-gather", "all-reduce", "reduce-scatter", "all-to-all", "collective-permute")
_BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "bf16": 2, "f16": 2, "s32": 4, "u32": 4, "f32": 4, "s64": 8,
          "u64": 8, "f64": 8}
_OPERATION = re.compile(r"^\s+(?:ROOT )?%(?P<name>[\w.\-]+) = (?P<result>.*?) (?P<opcode>[\w\-]+)\((?P<operands>.*)$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,]*)\]")


@dataclasses.dataclass(frozen=True)
class Operation:
    name: str
    opcode: str
    result: str  # its type, as in the text
    rest: str  # operands and attributes, as in the text

    @property
    def operands(self) -> list[str]:
        return re.findall(r"%([\w.\-]+)", self.rest.split(")", 1)[0])

    @property
    def cycles(self) -> int:
        """The compiler's estimate; 0 where it gives none."""
        match = re.search(r'"estimated_cycles":"(\d+)"', self.rest)
        return int(match[1]) if match else 0

    def attribute(self, name: str) -> str:
        """The attribute's text; empty where the operation has none of that name."""
        match = re.search(rf"[ ,]{name}=%?([^\s,]+)", self.rest)
        return match[1] if match else ""


@dataclasses.dataclass(frozen=True)
class Collective:
    """One, with all the times it runs in a step."""
    kind: str
    dtypes: tuple[str, ...]
    largest: tuple[int, ...]  # shape of the largest array of it, gathered or before it is scattered
    payload: float  # bytes of that array and its companions, times the runs
    devices: int  # that take part
    overlapped: bool  # it is started and awaited, with other work between

    @property
    def received(self) -> float:
        """Bytes a device receives in a ring."""
        share = (self.devices - 1) / self.devices
        return self.payload * {"all-reduce": 2 * share, "collective-permute": 1}.get(self.kind, share)


class Module:
    """A compiled module's text: its operations by computation."""

    def __init__(self, text: str):
        self._computations: dict[str, list[Operation]] = {}
        self._devices = math.prod(int(n) for n in re.findall(
            r"num_partitions=(\d+)|replica_count=(\d+)", text.split("\n", 1)[0]) for n in n if n)
        current = entry = ""
        for line in text.splitlines():
            if line and not line[0].isspace() and line.endswith("{"):
                current = _search(r"%?([\w.\-]+) \(", line)[1]
                entry = current if line.startswith("ENTRY") else entry
                self._computations[current] = []
            elif current and (match := _OPERATION.match(line)):
                self._computations[current].append(Operation(
                    match["name"], match["opcode"], match["result"], match["operands"]))
        if not entry:
            raise ValueError("the compiled text has no entry computation: this version of XLA writes another format")
        self._runs = list(self._walk(entry, 1))

    def _walk(self, computation: str, times: int) -> Iterator[tuple[Operation, int, str]]:
        """(operation, how often it runs in a step, where it is written), in order; fusions are one operation."""
        for operation in self._computations[computation]:
            if operation.opcode == "while":
                yield from self._walk(operation.attribute("body"), times * self._trips(operation))
            elif operation.opcode == "call":
                yield from self._walk(operation.attribute("to_apply"), times)
            else:
                yield operation, times, computation

    def _trips(self, loop: Operation) -> int:
        """The bound of a loop that counts from 0, over the step by which its body counts."""
        condition = self._computations[loop.attribute("condition")]
        bounds = [*_constants(condition).values()]
        known = re.search(r'"known_trip_count":\{"n":"(\d+)"', loop.rest)
        if known:
            return int(known[1])
        if len(bounds) != 1 or "direction=LT" not in condition[-1].rest:
            raise ValueError(f"cannot tell how often the loop {loop.name} runs: its condition is not a count")
        body = self._computations[loop.attribute("body")]
        constants = _constants(body)
        steps = [constants[name] for op in body if op.opcode == "add" and op.result.startswith("s32[]")
                 for name in op.operands if name in constants]
        return -(-bounds[0] // (steps[0] if steps else 1))

    def cycles(self) -> int:
        """Of a step, by the compiler; collectives and kernels, of which it says nothing, are not in it."""
        return sum(operation.cycles * times for operation, times, _ in self._runs
                   if operation.opcode.removesuffix("-start") not in COLLECTIVES)

    def flops(self) -> float:
        """Of matrix products in a step, those in fusions included; kernels (custom calls) are not."""
        return sum((times * self._flops(operation, computation) for operation, times, computation in self._runs), 0.0)

    def _flops(self, operation: Operation, computation: str) -> float:
        if operation.opcode == "fusion":
            inside = operation.attribute("calls")
            return sum(self._flops(part, inside) for part in self._computations[inside])
        return self._matmul_flops(operation, self._computations[computation])

    def _matmul_flops(self, operation: Operation, computation: list[Operation]) -> float:
        if operation.opcode not in ("convolution", "dot"):
            return 0.0
        shapes = {op.name: arrays(op.result)[0][1] for op in computation if arrays(op.result)}
        left, right = (shapes[name] for name in operation.operands[:2])
        if operation.opcode == "dot":
            summed = _search(r"lhs_contracting_dims=\{([\d,]*)\}", operation.rest)[1]
            out = math.prod(arrays(operation.result)[0][1])
            return 2.0 * out * math.prod(left[int(d)] for d in summed.split(",") if d)
        of_left, of_right = _search(r"dim_labels=(\w+)_(\w+)->", operation.rest).groups()
        taps = math.prod(_taps(left[of_left.index(label)], right[of_right.index(label)], dimension, operation.rest)
                         for dimension, label in enumerate(sorted(set(of_left) - {"b", "f"})))
        return 2.0 * left[of_left.index("b")] * math.prod(right[of_right.index(label)] for label in "io") * taps

    def collectives(self) -> list[Collective]:
        collectives, seen = [], set()
        for operation, times, _ in self._runs:
            kind = operation.opcode.removesuffix("-start")
            if kind in COLLECTIVES:
                collectives.append(self._collective(kind, operation, times, operation.opcode.endswith("-start")))
            elif operation.opcode == "fusion":
                for part in self._computations[operation.attribute("calls")]:
                    if part.opcode not in COLLECTIVES:
                        continue
                    # TPUs write a sum of which each device keeps its part as a fusion of that name; other fusions do a
                    # collective beside a product, one collective in several of them, which share its channel.
                    scatters = "all-reduce-scatter" in operation.attribute("calls")
                    channel = part.attribute("channel_id")
                    if scatters or not channel or channel not in seen:
                        collectives.append(self._collective("reduce-scatter" if scatters else part.opcode, part, times,
                                                            not scatters))
                    seen.add(channel)
        return collectives

    def _collective(self, kind: str, operation: Operation, times: int, started: bool) -> Collective:
        moved = arrays(operation.result)
        if started and kind != "all-reduce" and len(moved) > 1:  # (operands, results): the larger of both
            moved = [(dtype, shape) for dtype, shape in moved if shape or dtype not in ("u32", "s32")]
            half = len(moved) // 2
            moved = max(moved[:half], moved[half:2 * half], key=_bytes)
        devices, size = self._group(operation), _bytes(moved)
        if operation.opcode == "reduce-scatter" and not started:
            size *= devices
        return Collective(kind, tuple(dtype for dtype, _ in moved), max((shape for _, shape in moved), key=math.prod),
                          float(size * times), devices, started)

    def _group(self, operation: Operation) -> int:
        if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", operation.rest):
            return listed[1].count(",") + 1
        if named := re.search(r"replica_groups=mesh\[([^\]]*)\] \{([^}]*)\}", operation.rest):
            sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
            return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
        if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]", operation.rest):
            return int(counted[2])
        return self._devices or 2


def _search(pattern: str, text: str) -> re.Match[str]:
    match = re.search(pattern, text)
    if not match:
        raise ValueError(f"the compiled text has no {pattern}: this version of XLA writes another format")
    return match


def _constants(operations: list[Operation]) -> dict[str, int]:
    """{name: value} of the integer constants of a computation."""
    return {op.name: int(match[1]) for op in operations if op.opcode == "constant" and op.result.startswith("s32[]")
            and (match := re.match(r"(\d+)\)", op.rest))}


def _bytes(moved: list[tuple[str, tuple[int, ...]]]) -> int:
    return sum(_BYTES[dtype] * math.prod(shape) for dtype, shape in moved)


def _taps(size: int, window: int, dimension: int, text: str) -> int:
    """How many products a spatial dimension of a convolution takes: window positions that fall on an input."""
    def setting(name: str, default: str) -> list[int]:
        match = re.search(rf"{name}=([\dx_\-]+)", _search(r"window=\{([^}]*)\}", text)[1])
        values = match[1].split("x") if match else [default] * (dimension + 1)
        return [int(value) for value in values[dimension].split("_")]
    stride, (before, after), holes, spread = (
        setting("stride", "1")[0], setting("pad", "0_0"), setting("lhs_dilate", "1")[0], setting("rhs_dilate", "1")[0])
    spanned = (size - 1) * holes + 1
    outputs = (before + spanned + after - (window - 1) * spread - 1) // stride + 1
    return sum(0 <= (at := out * stride + tap * spread - before) < spanned and at % holes == 0
               for out in range(outputs) for tap in range(window))


def arrays(result: str) -> list[tuple[str, tuple[int, ...]]]:
    """(dtype, shape) of each array in the text of a type."""
    return [(dtype, tuple(int(size) for size in shape.split(",") if size))
            for dtype, shape in _ARRAY.findall(re.sub(r"\{[^}]*\}", "", result)) if dtype in _BYTES]
