"""Will it fit, how long will it take: the training step, compiled for accelerators that this machine does not have.

Everything printed about time is a prediction.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slm import hardware, sharding
from slm.hardware import Topology
from slm.model import attention, presets
from slm.planning import costs, hlo
from slm.train import optimizer, pretrain, step
from slm.train.pretrain import PretrainConfig

_GIB = 2**30
_BACKWARD = {"splash": 7, "cudnn": 5, "xla": 4}  # products of a block of attention, for its gradient
# libtpu looks for a TPU's neighbours, and says so when there are none.
_QUIET = {"TPU_SKIP_MDS_QUERY": "1", "ALLOW_MULTIPLE_LIBTPU_LOAD": "1", "TPU_ACCELERATOR_TYPE": "v4-8",
          "TPU_WORKER_HOSTNAMES": "localhost", "TPU_STDERR_LOG_LEVEL": "3", "TPU_MIN_LOG_LEVEL": "3"}
_H100 = """
platform_name: "CUDA" device_description_str: "NVIDIA H100 80GB HBM3"
dnn_version_info { major: 9 minor: 8 } runtime_version { major: 12 minor: 8 }
gpu_device_info {
  cuda_compute_capability { major: 9 } core_count: 132 fpus_per_core: 128 threads_per_warp: 32
  threads_per_block_limit: 1024 threads_per_core_limit: 2048
  registers_per_core_limit: 65536 registers_per_block_limit: 65536
  shared_memory_per_block: 49152 shared_memory_per_block_optin: 232448 shared_memory_per_core: 233472
  block_dim_limit_x: 2147483647 block_dim_limit_y: 65535 block_dim_limit_z: 65535
  clock_rate_ghz: 1.98 l2_cache_size: 52428800 memory_bandwidth: 3352000000000 device_memory_size: 85000000000
}
"""


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """The plan job. Where a list is meant, its parts are separated by / (or by commas, in a flag)."""
    recipe: PretrainConfig  # what would be trained
    job: str = "plan"
    variant: str = "ncvc_slm_1"
    topology: str = "v4-32"  # list of v4-32, v5e-16, v5p-8, v6e-8, h100-8, …
    batch: str = ""  # list of global rows an optimizer step; empty: the recipe's
    grad_accum_steps: str = ""  # list; empty: the recipe's
    remat: str = ""  # list of none, dots, full; empty: the recipe's
    mesh: str = ""  # list of DATAxFSDPxTENSOR; empty: the recipe's, or chosen
    price: float = 0.0  # of an hour of one device, in any currency


def run(config: PlanConfig, workdir: Path) -> dict:
    """Prints the plan, or a table of plans; returns what `result.json` holds."""
    jax.config.update("jax_platforms", "cpu")  # whatever this machine has, the step is compiled for another
    jax.config.update("jax_enable_compilation_cache", False)  # which cannot read back what was compiled for another
    plans = []
    for topology, recipe in list(settings(config)):  # a mistake in the last is found before the first is compiled
        found = plan(recipe, topology, config.price)
        plans.append(found)
        print(describe(found, recipe, topology), flush=True)
        if not found["fits"]:
            print(_what_would_fit(recipe, topology, config.price), flush=True)
    if len(plans) == 1:
        return plans[0]
    text = table(plans)
    (workdir / "table.md").write_text(text + "\n", encoding="utf-8")
    print(text)
    return {"plans": plans}


def settings(config: PlanConfig) -> Iterator[tuple[Topology, PretrainConfig]]:
    """Each topology with each recipe that the lists of `config` ask for.

    Raises:
      ValueError: a part of a list that cannot be read.
    """
    def parts(name: str, kind=str) -> list:
        try:
            found = [kind(part) for part in re.split(r"[/,]", getattr(config, name)) if part] or [None]
        except ValueError:
            found = [0]
        if kind is int and any(part is not None and part < 1 for part in found):
            raise ValueError(f"{name}={getattr(config, name)!r}: expected numbers from 1, separated by /")
        return found

    lists = [parts("topology"), parts("batch", int), parts("grad_accum_steps", int), parts("remat"), parts("mesh")]
    for name, batch, grad_accum_steps, remat, mesh in itertools.product(*lists):
        recipe, model, sizes = config.recipe, config.recipe.model, config.recipe.mesh
        if remat and remat not in ("none", "dots", "full"):
            raise ValueError(f"remat={remat!r}: choose none, dots or full")
        if mesh and not re.fullmatch(r"\d+x\d+x\d+", mesh):
            raise ValueError(f"mesh={mesh!r}: expected DATAxFSDPxTENSOR, as 1x16x1")
        if mesh:
            sizes = sharding.MeshConfig(*map(int, mesh.split("x")))
        topology = hardware.topology(name)
        asked = dataclasses.replace(
            recipe, mesh=sizes, model=dataclasses.replace(model, remat=remat or model.remat),
            rows=dataclasses.replace(recipe.rows, batch_size=batch or recipe.rows.batch_size),
            # The run's tokens stay the recipe's: other batches make more or fewer steps of them.
            train=dataclasses.replace(recipe.train, steps=-(-recipe.train.steps * recipe.rows.batch_size
                                                            // (batch or recipe.rows.batch_size))),
            step=dataclasses.replace(recipe.step, grad_accum_steps=grad_accum_steps or recipe.step.grad_accum_steps))
        sharding.check_divisible(asked.rows.batch_size, asked.step.grad_accum_steps,
                               sharding.mesh_shape(asked.mesh, topology.devices, asked.model))
        if asked.model.attention == ("cudnn" if topology.is_tpu else "splash"):
            raise ValueError(f"model.attention={asked.model.attention} does not run on {name}: leave it at auto")
        yield topology, asked


def plan(recipe: PretrainConfig, topology: Topology, price: float = 0.0) -> dict[str, Any]:
    """What a run of `recipe` on `topology` needs and how long it would take."""
    chip, model = topology.chip, recipe.model
    if model.attention == "auto":
        model = dataclasses.replace(model, attention=attention.choose(
            "tpu" if topology.is_tpu else "gpu", recipe.rows.seq_len, model.compute_dtype, model.attention_block))
    recipe = dataclasses.replace(recipe, model=model)
    shape = sharding.mesh_shape(recipe.mesh, topology.devices, model)
    rows, length = recipe.rows.batch_size, recipe.rows.seq_len
    tokens = rows * length / (shape[0] * shape[1])
    counted = costs.products(model, tokens) / shape[2]
    usual = attention.XLA_BLOCK if model.attention == "xla" else attention.SPLASH_BLOCK
    kernels = costs.kernels(model, rows, length, model.attention_block or usual,
                            _BACKWARD[model.attention]) / topology.devices
    if model.attention == "xla":  # no kernel: its products are among the others
        counted, kernels = counted + kernels, 0.0
    compiled = Compiled.of(recipe, topology)
    stored = presets.parameter_count(model) / (shape[1] * shape[2])
    traffic = costs.traffic(model, shape, recipe.step.grad_accum_steps, tokens)
    if compiled.module:
        collectives = compiled.module.collectives()
        traffic = costs.Traffic(sum(c.received for c in collectives) / 1e9, sum(c.payload for c in collectives) / 1e9)
    if compiled.module and topology.is_tpu:
        method = "hlo"
        hidden = sum(c.received for c in collectives if c.overlapped) / 1e9
        products = compiled.module.flops()
        compute = compiled.module.cycles() / chip.clock_ghz / 1e9
    else:  # what a GPU's schedule starts early says nothing of how long it then takes
        method, hidden, products = "analytic", 0.0, counted
        compute = costs.seconds(model, chip, counted, tokens, shape, stored)
    in_kernels = kernels * costs.padding(model, chip) / (chip.tflops * 1e12 * costs.KERNEL_SHARE)
    waiting = (traffic.received - hidden) / (topology.gb_per_second * costs.LINKS_SHARE)
    predicted = compute + in_kernels + waiting
    useful = presets.flops_per_token(model, length) * rows * length / topology.devices
    all_tokens = recipe.train.steps * rows * length
    hours = recipe.train.steps * predicted / 3600
    return {
        "topology": topology.name, "devices": topology.devices, "mesh": list(shape), "batch_size": rows,
        "grad_accum_steps": recipe.step.grad_accum_steps, "seq_len": length, "remat": model.remat,
        "attention": model.attention, "method": method,
        "fits": compiled.total_gib <= chip.memory_gib, "memory_gib": chip.memory_gib,
        "arguments_gib": compiled.arguments_gib, "temporaries_gib": compiled.temporaries_gib,
        "memory_from": compiled.source, "parameters_gib": stored * 4 / _GIB,
        "optimizer_gib": max(compiled.arguments_gib - stored * 4 / _GIB, 0),
        "flops_per_device": products + kernels, "analytic_flops_per_device": counted + kernels,
        "model_flops_per_device": useful,
        "collective_gb_per_device": traffic.received, "overlapped_gb_per_device": hidden,
        "collective_payload_gb_per_device": traffic.payload,
        "compute_seconds": compute, "attention_seconds": in_kernels, "collective_seconds": waiting,
        "predicted_step_seconds": predicted, "mfu_bound": useful / (predicted * chip.tflops * 1e12),
        "tokens": all_tokens, "steps": recipe.train.steps, "hours_for_run": hours,
        "device_hours": hours * topology.devices, "cost": hours * topology.devices * price if price else None}


@dataclasses.dataclass(frozen=True)
class Compiled:
    """Memory of a device, and the compiler's text where it gives one."""
    arguments_gib: float
    temporaries_gib: float
    source: str  # compiled, or counted where this machine cannot compile for the target
    module: hlo.Module | None

    @property
    def total_gib(self) -> float:
        return self.arguments_gib + self.temporaries_gib

    @classmethod
    def of(cls, recipe: PretrainConfig, topology: Topology) -> "Compiled":
        shape = sharding.mesh_shape(recipe.mesh, topology.devices, recipe.model)
        tokens = recipe.rows.batch_size * recipe.rows.seq_len / (shape[0] * shape[1] * recipe.step.grad_accum_steps)
        state = jax.eval_shape(lambda key: step.initial_state(recipe.model, optimizer.build(
            recipe.optimizer, recipe.train.steps), key), jax.random.key(0))
        stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / (shape[1] * shape[2]) / _GIB
        if not topology.is_tpu and not (topology.chip.name == "h100" and _has_cuda_compiler()):
            temporaries = costs.temporaries(recipe.model, int(tokens), recipe.rows.seq_len, shape)
            return cls(stored, temporaries, "counted", None)
        try:
            compiled = lower(recipe, topology).compile()
        except jax.errors.JaxRuntimeError as error:
            # The compiler refuses what does not fit, and says what it would have taken.
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if temporaries := re.search(r"temporaries \(([\d.]+)G\) exceeds", str(error)):
                return cls(stored, float(temporaries[1]), "compiled", None)
            if used := re.search(r"Used ([\d.]+)G of [\d.]+G hbm", str(error)):
                return cls(stored, float(used[1]) - stored, "compiled", None)
            raise
        memory = compiled.memory_analysis()
        arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        # Of what sparse cores do, libtpu 0.0.52 writes a text that JAX cannot read.
        module = None if topology.chip.sparse_cores else hlo.Module(compiled.as_text())
        return cls(arguments / _GIB, memory.temp_size_in_bytes / _GIB, "compiled", module)


def lower(recipe: PretrainConfig, topology: Topology) -> jax.stages.Lowered:
    """The very step that training runs, for the devices of `topology`.

    Raises:
      RuntimeError: the compiler for them is not installed.
    """
    from jax.experimental import topologies
    with _compiler_for(topology) as description:
        described = topologies.get_topology_desc(**description)
        mesh = pretrain.choose_mesh(recipe, topology.devices, described.devices)
        transformation = optimizer.build(recipe.optimizer, recipe.train.steps)
        shape, rows = (recipe.rows.batch_size, recipe.rows.seq_len), sharding.batch_sharding(mesh)
        batch = {name: jax.ShapeDtypeStruct(shape, np.float32 if name == "loss_mask" else np.int32, sharding=rows)
                 for name in ("inputs", "targets", "segments", "positions", "loss_mask")}
        with jax.sharding.use_abstract_mesh(mesh.abstract_mesh):
            program = step.compiled(recipe.step, recipe.model, transformation, mesh)
            return program.train.lower(program.abstract, batch)


@contextlib.contextmanager
def _compiler_for(topology: Topology) -> Iterator[dict]:
    """What describes the topology to JAX, while its compiler can be used here."""
    if topology.is_tpu:
        if not importlib.util.find_spec("libtpu"):
            raise RuntimeError(f"planning for {topology.name} compiles with libtpu: pip install 'slm[tpu]'")
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        yield topology.description()
        return
    from jax._src.cudnn import fused_attention_stablehlo as cudnn  # its checks ask for a GPU that is not here
    checks = cudnn.check_cudnn_version, cudnn.check_compute_capability
    cudnn.check_cudnn_version, cudnn.check_compute_capability = lambda: 90800, lambda needed: True
    try:
        yield {"platform": "cuda", "target_config": _H100, "topology": f"1x{'x'.join(map(str, topology.shape))}"}
    finally:
        cudnn.check_cudnn_version, cudnn.check_compute_capability = checks


def _has_cuda_compiler() -> bool:
    return bool(importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12"))


def _what_would_fit(recipe: PretrainConfig, topology: Topology, price: float) -> str:
    """The first change, from the cheapest, with which it does."""
    def with_(mesh: sharding.MeshConfig, grad_accum_steps: int, rows: int) -> PretrainConfig:
        return dataclasses.replace(
            recipe, mesh=mesh, model=dataclasses.replace(recipe.model, remat="full"),
            rows=dataclasses.replace(recipe.rows, batch_size=rows),
            step=dataclasses.replace(recipe.step, grad_accum_steps=grad_accum_steps))

    rows, parts = recipe.rows.batch_size, recipe.step.grad_accum_steps
    tried = [(recipe.mesh, parts * 2**doubled, rows) for doubled in range(12)]
    tried += [(sharding.MeshConfig(tensor=tensor), parts * 2**doubled, rows) for tensor in (1, 2, 4)
              for doubled in (0, 2, 4)]
    tried += [(recipe.mesh, 1, topology.devices), (sharding.MeshConfig(), 1, topology.devices)]
    for change in tried:
        asked = with_(*change)
        try:
            shape = sharding.mesh_shape(asked.mesh, topology.devices, asked.model)
            sharding.check_divisible(asked.rows.batch_size, asked.step.grad_accum_steps, shape)
        except ValueError:
            continue
        if asked == recipe or not (found := plan(asked, topology, price))["fits"]:
            continue
        words = {"remat=full": recipe.model.remat != "full",
                 f"mesh={'x'.join(map(str, shape))}": change[0] != recipe.mesh,
                 f"grad_accum_steps={change[1]}": change[1] != parts, f"batch={change[2]}": change[2] != rows}
        named = ",".join(word for word, changed in words.items() if changed)
        return (f"It would fit with {named}: {found['arguments_gib']:.2f} + {found['temporaries_gib']:.2f} GiB, "
                f"predicted step {found['predicted_step_seconds']:.2f} s")
    return "No remat, mesh, grad_accum_steps or batch that was tried makes it fit: take more devices"


def describe(found: dict, recipe: PretrainConfig, topology: Topology) -> str:
    chip = topology.chip
    mesh = " × ".join(f"{axis} {size}" for axis, size in zip(sharding.AXES, found["mesh"]))
    total = found["arguments_gib"] + found["temporaries_gib"]
    spare = chip.memory_gib - total
    timed = "by the compiler's cycles" if found["method"] == "hlo" else (
        f"by a count: products assumed at {costs.PRODUCTS_SHARE:.0%} of the peak, the rest at {costs.MEMORY_SHARE:.0%} "
        "of the memory's speed")
    padded = ", with heads padded to the unit that multiplies" if costs.padding(recipe.model, chip) > 1 else ""
    between = "the network between nodes" if not topology.is_tpu and topology.devices > 8 else "the links"
    room = f"fits, {spare:.2f} to spare" if spare >= 0 else f"DOES NOT FIT, {-spare:.2f} too much"
    parts = f"{found['grad_accum_steps']} part{'s' if found['grad_accum_steps'] > 1 else ''}"
    lines = [
        f"{recipe.model.preset} on {topology.name}: {topology.devices} {chip.kind}, mesh {mesh}, {found['batch_size']} "
        f"rows of {found['seq_len']} a step in {parts}, remat {found['remat']}",
        f"memory a device ({found['memory_from']}): parameters {found['parameters_gib']:.2f} + optimizer and batch "
        f"{found['optimizer_gib']:.2f} + temporaries {found['temporaries_gib']:.2f} = {total:.2f} GiB of "
        f"{chip.memory_gib}: {room}",
        f"FLOPs a device: {found['flops_per_device']:.4g} computed (count: {found['analytic_flops_per_device']:.4g}), "
        f"of which the model needs {found['model_flops_per_device']:.4g}",
        f"collectives a device: {found['collective_gb_per_device']:.2f} GB received (arrays of "
        f"{found['collective_payload_gb_per_device']:.2f} GB)",
        f"PREDICTION ({found['method']}): {found['predicted_step_seconds']:.3g} s a step, MFU "
        f"{'at most' if found['method'] == 'hlo' else 'of'} {found['mfu_bound']:.1%}",
        f"  = {found['compute_seconds']:.3g} s {timed}",
        f"  + {found['attention_seconds']:.3g} s in attention kernels, assumed at {costs.KERNEL_SHARE:.0%} of the peak"
        + padded,
        f"  + {found['collective_seconds']:.3g} s of collectives that nothing overlaps, assumed at "
        f"{costs.LINKS_SHARE:.0%} of {topology.gb_per_second:g} GB/s, {between} of a device",
        "  left out: reading data, evaluation, checkpoints, compilation, slow or lost machines",
        f"run: {found['tokens'] / 1e9:.1f}B tokens in {found['steps']:,} steps, {found['hours_for_run']:.1f} hours "
        f"({found['hours_for_run'] / 24:.1f} days), {found['device_hours']:,.0f} device-hours"
        + (f", {found['cost']:,.0f} at the price given" if found["cost"] else "")]
    if abs(found["flops_per_device"] / found["analytic_flops_per_device"] - 1) > 0.005:
        lines.insert(3, "  more than counted: short of memory, the compiler computes some of it again")
    if found["memory_from"] == "counted" and chip.name == "h100":
        lines.insert(2, "  (pip install 'slm[plan_h100]' to have it from the GPU's compiler)")
    return "\n".join(lines)


_COLUMNS = {
    "topology": lambda p: p["topology"], "mesh": lambda p: "×".join(map(str, p["mesh"])),
    "rows": lambda p: f"{p['batch_size']}", "parts": lambda p: f"{p['grad_accum_steps']}",
    "remat": lambda p: p["remat"], "method": lambda p: p["method"],
    "GiB a device": lambda p: f"{p['arguments_gib']:.2f} + {p['temporaries_gib']:.2f}{'' if p['fits'] else ' (no)'}",
    "collectives, GB": lambda p: f"{p['collective_gb_per_device']:.1f}",
    "step, s": lambda p: f"{p['predicted_step_seconds']:.2f}", "MFU bound": lambda p: f"{p['mfu_bound']:.1%}",
    "days": lambda p: f"{p['hours_for_run'] / 24:.1f}", "device-hours": lambda p: f"{p['device_hours']:,.0f}",
    "cost": lambda p: f"{p['cost']:,.0f}" if p["cost"] else ""}


def table(plans: list[dict]) -> str:
    """Plans side by side, in Markdown; times are predictions."""
    lines = [f"| {' | '.join(_COLUMNS)} |", "|---" * len(_COLUMNS) + "|"]
    return "\n".join(lines + [f"| {' | '.join(column(one) for column in _COLUMNS.values())} |" for one in plans])
