"""Low-rank adaptation (Hu et al. 2021): W + α/r · A·B, where only A and B are trained.

The product A·B is added to the weights before each forward pass, so every path of the model (scan, mesh, kernels) stays
as it is; the cost is the gradient of the whole matrix.
"""

import dataclasses

import jax
import jax.numpy as jnp

from slm.model.decoder import Params

_TARGETS = {"query": "attention", "key": "attention", "value": "attention", "output": "attention",
            "gate": "mlp", "up": "mlp", "down": "mlp"}


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    """Which matrices of the blocks are adapted; rank 0 trains all parameters instead."""
    rank: int = 0
    alpha: float = 32.0
    targets: str = "query,key,value,output,gate,up,down"  # the model's subset of these

    def __post_init__(self):
        unknown = [name for name in self.targets.split(",") if name not in _TARGETS]
        if self.rank < 0 or unknown:
            raise ValueError(f"lora.rank={self.rank}, lora.targets={self.targets!r}: set a rank of at least 0, "
                             f"and targets from {','.join(_TARGETS)}")


NONE = LoraConfig()


def initialize(params: Params, config: LoraConfig, key: jax.Array) -> Params:
    """{blocks: {part: {matrix: {a [L, in, r], b [L, r, out]}}}}; B is zero, so the model starts unchanged."""
    adapters: Params = {}
    for name, matrix_key in zip(_TARGETS, jax.random.split(key, len(_TARGETS))):
        matrices = params["blocks"][_TARGETS[name]]
        if name not in config.targets.split(",") or name not in matrices:
            continue
        L, rows, columns = matrices[name].shape
        adapters.setdefault(_TARGETS[name], {})[name] = {
            "a": jax.random.normal(matrix_key, (L, rows, config.rank), jnp.float32) * rows ** -0.5,
            "b": jnp.zeros((L, config.rank, columns), jnp.float32)}
    return {"blocks": adapters}


def merge(params: Params, adapters: Params, config: LoraConfig) -> Params:
    """The parameters with the adapters added."""
    blocks = dict(params["blocks"])
    for part, matrices in adapters["blocks"].items():
        blocks[part] = blocks[part] | {
            name: blocks[part][name] + config.alpha / config.rank * jnp.einsum("lir,lro->lio", pair["a"], pair["b"])
            for name, pair in matrices.items()}
    return params | {"blocks": blocks}
