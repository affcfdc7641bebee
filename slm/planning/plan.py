"""Will it fit, how long will it take: the training step, compiled for accelerators that this machine does not have.

Everything printed about time is a prediction.
"""

import dataclasses
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from slm import files, hardware, sharding
from slm.hardware import Topology
from slm.model import attention, presets
from slm.planning import costs
from slm.planning.compile import GIB, Compiled
from slm.planning.report import Plan, describe, table
from slm.train.pretrain import PretrainConfig

_BACKWARD = {"splash": 7, "cudnn": 5, "xla": 4}  # matrix products of a block of attention, for its gradient


@dataclasses.dataclass(frozen=True)
class PlanConfig:
    """The plan job. The parts of a list are separated by / (or by commas, in a flag)."""
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
        plans.append(plan(recipe, topology, config.price))
        print(describe(plans[-1], recipe, topology), flush=True)
        if not plans[-1]["fits"]:
            print(_what_would_fit(recipe, topology, config.price), flush=True)
    if len(plans) == 1:
        return plans[0]
    files.write_text(workdir / "table.md", table(plans) + "\n")
    print(table(plans))
    return {"plans": plans}


def settings(config: PlanConfig) -> Iterator[tuple[Topology, PretrainConfig]]:
    """Each topology with each recipe that the lists of `config` ask for.

    Raises:
      ValueError: a part of a list that cannot be read.
    """
    lists = [_parts(config, "topology"), _numbers(config, "batch"), _numbers(config, "grad_accum_steps"),
             _parts(config, "remat"), _parts(config, "mesh")]
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
            step=dataclasses.replace(
                recipe.step, grad_accum_steps=grad_accum_steps or recipe.step.grad_accum_steps))
        sharding.check_divisible(asked.rows.batch_size, asked.step.grad_accum_steps,
                                 sharding.mesh_shape(asked.mesh, topology.devices, asked.model))
        if asked.model.attention == ("cudnn" if topology.is_tpu else "splash"):
            raise ValueError(f"model.attention={asked.model.attention} does not run on {name}: leave it at auto")
        yield topology, asked


def _parts(config: PlanConfig, name: str) -> list:
    return [part for part in re.split(r"[/,]", getattr(config, name)) if part] or [None]


def _numbers(config: PlanConfig, name: str) -> list:
    parts = _parts(config, name)
    if not all(part is None or (part.isdecimal() and int(part) > 0) for part in parts):
        raise ValueError(f"{name}={getattr(config, name)!r}: expected numbers from 1, separated by /")
    return [part and int(part) for part in parts]


def plan(recipe: PretrainConfig, topology: Topology, price: float = 0.0) -> Plan:
    """What a run of `recipe` on `topology` needs and how long it would take."""
    chip, model = topology.chip, recipe.model
    if model.attention == "auto":
        chosen: Any = attention.choose("tpu" if topology.is_tpu else "gpu", recipe.rows.seq_len, model.compute_dtype,
                                  model.attention_block)
        model = dataclasses.replace(model, attention=chosen)
    recipe = dataclasses.replace(recipe, model=model)
    data, fsdp, tensor = shape = sharding.mesh_shape(recipe.mesh, topology.devices, model)
    rows, length = recipe.rows.batch_size, recipe.rows.seq_len
    tokens = rows * length / (data * fsdp)  # of a device
    counted = costs.matmul_flops(model, tokens) / tensor
    block = model.attention_block or (attention.XLA_BLOCK if model.attention == "xla" else attention.SPLASH_BLOCK)
    kernels = costs.kernel_flops(model, rows, length, block, _BACKWARD[model.attention]) / topology.devices
    if model.attention == "xla":  # no kernel: its matrix products are among the others
        counted, kernels = counted + kernels, 0.0
    compiled = Compiled.of(recipe, topology)
    stored = presets.parameter_count(model) / (fsdp * tensor)
    traffic, hidden = costs.traffic(model, shape, recipe.step.grad_accum_steps, tokens), 0.0
    method, flops, compute = "analytic", counted, costs.seconds(model, chip, counted, tokens, tensor, stored)
    if compiled.module:
        collectives = compiled.module.collectives()
        traffic = costs.Traffic(sum(c.received for c in collectives) / 1e9, sum(c.payload for c in collectives) / 1e9)
        if topology.is_tpu:  # what a GPU's schedule starts early says nothing of how long it then takes
            method, flops = "hlo", compiled.module.flops()
            hidden = sum(c.received for c in collectives if c.overlapped) / 1e9
            compute = compiled.module.cycles() / chip.clock_ghz / 1e9
    in_kernels = kernels * costs.padding(model, chip) / (chip.tflops * 1e12 * costs.KERNEL_SHARE)
    waiting = (traffic.received - hidden) / (topology.gb_per_second * costs.LINKS_SHARE)
    predicted = compute + in_kernels + waiting
    useful = presets.flops_per_token(model, length) * rows * length / topology.devices
    hours = recipe.train.steps * predicted / 3600
    return {
        "topology": topology.name, "devices": topology.devices, "mesh": list(shape), "batch_size": rows,
        "grad_accum_steps": recipe.step.grad_accum_steps, "seq_len": length, "remat": model.remat,
        "attention": model.attention, "method": method,
        "fits": compiled.total_gib <= chip.memory_gib, "memory_gib": chip.memory_gib,
        "arguments_gib": compiled.arguments_gib, "temporaries_gib": compiled.temporaries_gib,
        "memory_from": compiled.source, "parameters_gib": stored * 4 / GIB,
        "optimizer_gib": max(compiled.arguments_gib - stored * 4 / GIB, 0),
        "flops_per_device": flops + kernels, "analytic_flops_per_device": counted + kernels,
        "model_flops_per_device": useful,
        "collective_gb_per_device": traffic.received, "overlapped_gb_per_device": hidden,
        "collective_payload_gb_per_device": traffic.payload,
        "compute_seconds": compute, "attention_seconds": in_kernels, "collective_seconds": waiting,
        "predicted_step_seconds": predicted, "mfu_bound": useful / (predicted * chip.tflops * 1e12),
        "tokens": recipe.train.steps * rows * length, "steps": recipe.train.steps, "hours_for_run": hours,
        "device_hours": hours * topology.devices, "cost": hours * topology.devices * price if price else None}


def _what_would_fit(recipe: PretrainConfig, topology: Topology, price: float) -> str:
    """The first change, from the cheapest, with which it does."""
    rows, parts = recipe.rows.batch_size, recipe.step.grad_accum_steps
    changes = [(recipe.mesh, parts * 2**doubled, rows) for doubled in range(12)]
    changes += [(sharding.MeshConfig(tensor=tensor), parts * 2**doubled, rows) for tensor in (1, 2, 4)
                for doubled in (0, 2, 4)]
    changes += [(recipe.mesh, 1, topology.devices), (sharding.MeshConfig(), 1, topology.devices)]
    for mesh, grad_accum_steps, batch in changes:
        asked = dataclasses.replace(
            recipe, mesh=mesh, model=dataclasses.replace(recipe.model, remat="full"),
            rows=dataclasses.replace(recipe.rows, batch_size=batch),
            step=dataclasses.replace(recipe.step, grad_accum_steps=grad_accum_steps))
        try:
            shape = sharding.mesh_shape(asked.mesh, topology.devices, asked.model)
            sharding.check_divisible(asked.rows.batch_size, asked.step.grad_accum_steps, shape)
        except ValueError:
            continue
        if asked == recipe or not (fitting := plan(asked, topology, price))["fits"]:
            continue
        words = {"remat=full": recipe.model.remat != "full",
                 f"mesh={'x'.join(map(str, shape))}": mesh != recipe.mesh,
                 f"grad_accum_steps={grad_accum_steps}": grad_accum_steps != parts, f"batch={batch}": batch != rows}
        named = ",".join(word for word, changed in words.items() if changed)
        return (f"It would fit with {named}: {fitting['arguments_gib']:.2f} + {fitting['temporaries_gib']:.2f} GiB, "
                f"predicted step {fitting['predicted_step_seconds']:.2f} s")
    return "No remat, mesh, grad_accum_steps or batch that was tried makes it fit: take more devices"
