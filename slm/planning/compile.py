"""Compiles the training step for accelerators that this machine does not have."""

import contextlib
import dataclasses
import importlib.util
import os
import re
from collections.abc import Iterator

import jax
import numpy as np

from slm import sharding
from slm.hardware import Topology
from slm.planning import costs, hlo, jax_internals
from slm.train import optimizer, pretrain, step
from slm.train.pretrain import PretrainConfig

GIB = 2**30
# libtpu looks for a TPU's neighbours, and logs an error when there are none.
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
        data, fsdp, tensor = shape = sharding.mesh_shape(recipe.mesh, topology.devices, recipe.model)
        state = jax.eval_shape(lambda key: step.initial_state(recipe.model, optimizer.build(
            recipe.optimizer, recipe.train.steps), key), jax.random.key(0))
        stored = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state)) / (fsdp * tensor) / GIB
        if not topology.is_tpu and not (topology.chip.name == "h100" and _has_cuda_compiler()):
            tokens = recipe.rows.batch_size * recipe.rows.seq_len // (data * fsdp * recipe.step.grad_accum_steps)
            return cls(stored, costs.temporaries(recipe.model, tokens, recipe.rows.seq_len, shape), "counted", None)
        try:
            compiled = lower(recipe, topology).compile()
        except jax.errors.JaxRuntimeError as error:
            # The compiler refuses what does not fit, and reports what it would have taken.
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            if match := re.search(r"temporaries \(([\d.]+)G\) exceeds", str(error)):
                return cls(stored, float(match[1]), "compiled", None)
            if match := re.search(r"Used ([\d.]+)G of [\d.]+G hbm", str(error)):
                return cls(stored, float(match[1]) - stored, "compiled", None)
            raise
        memory, text = compiled.memory_analysis(), compiled.as_text() if not topology.chip.sparse_cores else None
        if memory is None:
            raise RuntimeError(f"the compiler for {topology.name} reports no memory: plan with another version of it")
        arguments = memory.argument_size_in_bytes + memory.output_size_in_bytes - memory.alias_size_in_bytes
        # libtpu 0.0.52 writes a text of sparse cores that JAX cannot read.
        return cls(arguments / GIB, memory.temp_size_in_bytes / GIB, "compiled", hlo.Module(text) if text else None)


def lower(recipe: PretrainConfig, topology: Topology) -> jax.stages.Lowered:
    """The step that training runs, for the devices of `topology`.

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
            compiled = step.compiled(recipe.step, recipe.model, transformation, mesh)
            return compiled.train.lower(compiled.abstract, batch)


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
    with jax_internals.cudnn_without_a_gpu():
        yield {"platform": "cuda", "target_config": _H100, "topology": f"1x{'x'.join(map(str, topology.shape))}"}


def _has_cuda_compiler() -> bool:
    return bool(importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12"))
