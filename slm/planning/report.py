"""A plan as text, and plans side by side; times are predictions."""

from collections.abc import Callable
from typing import Any

from slm import sharding
from slm.files import markdown_table
from slm.hardware import Topology
from slm.planning import costs
from slm.train.pretrain import PretrainConfig

Plan = dict[str, Any]


def describe(plan: Plan, recipe: PretrainConfig, topology: Topology) -> str:
    chip = topology.chip
    mesh = " × ".join(f"{axis} {size}" for axis, size in zip(sharding.AXES, plan["mesh"]))
    total = plan["arguments_gib"] + plan["temporaries_gib"]
    spare = chip.memory_gib - total
    timed = "by the compiler's cycles" if plan["method"] == "hlo" else (
        f"by a count: matrix products assumed at {costs.MATMUL_SHARE:.0%} of the peak, the rest at "
        f"{costs.MEMORY_SHARE:.0%} of the memory's speed")
    padded = ", with heads padded to the matrix unit" if costs.padding(recipe.model, chip) > 1 else ""
    links = "the network between nodes" if not topology.is_tpu and topology.devices > 8 else "the links"
    room = f"fits, {spare:.2f} to spare" if spare >= 0 else f"DOES NOT FIT, {-spare:.2f} too much"
    parts = f"{plan['grad_accum_steps']} part{'s' if plan['grad_accum_steps'] > 1 else ''}"
    lines = [
        f"{recipe.model.preset} on {topology.name}: {topology.devices} {chip.kind}, mesh {mesh}, {plan['batch_size']} "
        f"rows of {plan['seq_len']} a step in {parts}, remat {plan['remat']}",
        f"memory a device ({plan['memory_from']}): parameters {plan['parameters_gib']:.2f} + optimizer and batch "
        f"{plan['optimizer_gib']:.2f} + temporaries {plan['temporaries_gib']:.2f} = {total:.2f} GiB of "
        f"{chip.memory_gib}: {room}",
        f"FLOPs a device: {plan['flops_per_device']:.4g} computed (count: {plan['analytic_flops_per_device']:.4g}), "
        f"of which the model needs {plan['model_flops_per_device']:.4g}",
        f"collectives a device: {plan['collective_gb_per_device']:.2f} GB received (arrays of "
        f"{plan['collective_payload_gb_per_device']:.2f} GB)",
        f"PREDICTION ({plan['method']}): {plan['predicted_step_seconds']:.3g} s a step, MFU "
        f"{'at most' if plan['method'] == 'hlo' else 'of'} {plan['mfu_bound']:.1%}",
        f"  = {plan['compute_seconds']:.3g} s {timed}",
        f"  + {plan['attention_seconds']:.3g} s in attention kernels, assumed at {costs.KERNEL_SHARE:.0%} of the peak"
        + padded,
        f"  + {plan['collective_seconds']:.3g} s of collectives that nothing overlaps, assumed at "
        f"{costs.LINKS_SHARE:.0%} of {topology.gb_per_second:g} GB/s, {links} of a device",
        "  left out: reading data, evaluation, checkpoints, compilation, slow or lost machines",
        f"run: {plan['tokens'] / 1e9:.1f}B tokens in {plan['steps']:,} steps, {plan['hours_for_run']:.1f} hours "
        f"({plan['hours_for_run'] / 24:.1f} days), {plan['device_hours']:,.0f} device-hours"
        + (f", {plan['cost']:,.0f} at the price given" if plan["cost"] else "")]
    if abs(plan["flops_per_device"] / plan["analytic_flops_per_device"] - 1) > 0.005:
        lines.insert(3, "  more than counted: short of memory, the compiler computes some of it again")
    if plan["memory_from"] == "counted" and chip.name == "h100":
        lines.insert(2, "  (pip install 'slm[plan_h100]' to have it from the GPU's compiler)")
    return "\n".join(lines)


_COLUMNS: dict[str, Callable[[Plan], str]] = {
    "topology": lambda p: p["topology"], "mesh": lambda p: "×".join(map(str, p["mesh"])),
    "rows": lambda p: f"{p['batch_size']}", "parts": lambda p: f"{p['grad_accum_steps']}",
    "remat": lambda p: p["remat"], "method": lambda p: p["method"],
    "GiB a device": lambda p: f"{p['arguments_gib']:.2f} + {p['temporaries_gib']:.2f}{'' if p['fits'] else ' (no)'}",
    "collectives, GB": lambda p: f"{p['collective_gb_per_device']:.1f}",
    "step, s": lambda p: f"{p['predicted_step_seconds']:.2f}", "MFU bound": lambda p: f"{p['mfu_bound']:.1%}",
    "days": lambda p: f"{p['hours_for_run'] / 24:.1f}", "device-hours": lambda p: f"{p['device_hours']:,.0f}",
    "cost": lambda p: f"{p['cost']:,.0f}" if p["cost"] else ""}


def table(plans: list[Plan]) -> str:
    return markdown_table([*_COLUMNS], [[column(plan) for column in _COLUMNS.values()] for plan in plans],
                          numbers=False).rstrip()
