"""What a step costs by counting: products, kernels, memory traffic, bytes between devices.

Used where the compiler's own text cannot be had, and to check it where it can.
"""

import dataclasses

from slm.hardware import Chip
from slm.model.presets import ModelConfig, parameter_count

# Assumed shares of the makers' peaks. Those of products and memory were set, with _WIDTHS_MOVED, so that the count
# comes within 5% of the compiler's cycles for v4-32 and v5e-16 (docs/LOG.md); the others are assumptions.
PRODUCTS_SHARE = 0.88  # of the peak, in large matrix products
KERNEL_SHARE = 0.75  # of the peak, in attention kernels, heads padded to the width of the unit that multiplies
MEMORY_SHARE = 0.8  # of the memory's speed, in everything else
LINKS_SHARE = 0.75  # of the links of the device that has the fewest

_WIDTHS_MOVED = 120  # arrays [tokens, width] in the compute dtype that a layer's other operations read or write


def products(model: ModelConfig, tokens: int) -> float:
    """FLOPs of a step's matrix products, attention's scores left out.

    A layer is computed once forward and twice backward, and once more where `remat` is full, but for its last product,
    whose result no gradient needs.
    """
    attention = model.width * model.head_size * 2 * (model.query_heads + model.kv_heads)
    mlp = model.width * model.mlp_width * (3 if model.mlp == "swiglu" else 2)
    again = attention + mlp - model.mlp_width * model.width if model.remat == "full" else 0
    head = 3 * model.width * model.vocabulary_size
    return 2.0 * tokens * (model.layers * (3 * (attention + mlp) + again) + head)


def kernels(model: ModelConfig, rows: int, length: int, block: int, backward: int) -> float:
    """FLOPs of attention kernels, of the blocks that are not wholly in the future.

    Args:
      backward: products of a block backward: 7 in splash's two kernels, 5 in cuDNN's.
    """
    blocks = -(-length // min(block, length))
    share = (blocks + 1) / (2 * blocks)
    forward = 2 if model.remat == "none" else 4  # dots, too, does not keep what a kernel made
    one = 2.0 * length * length * model.head_size * model.query_heads
    return (forward + backward) * share * one * model.layers * rows


def padding(model: ModelConfig, chip: Chip) -> float:
    """How much larger a head is in the unit that multiplies."""
    return max(1.0, chip.products / model.head_size) if chip.clock_ghz else 1.0


@dataclasses.dataclass(frozen=True)
class Traffic:
    """GB a device receives from others in a step, and what of it is spoken of as (GB of the arrays themselves)."""
    received: float
    payload: float


def traffic(model: ModelConfig, shape: tuple[int, int, int], grad_accum_steps: int, tokens: int) -> Traffic:
    """By count: parameters gathered forward and backward, gradients summed; with tensor > 1 activations, too."""
    data, fsdp, tensor = shape
    size = 2 if model.compute_dtype == "bfloat16" else 4
    tables = 2 * model.vocabulary_size * model.width
    blocks = (parameter_count(model) - tables) / tensor * size
    tables = tables / tensor * size
    gathered = grad_accum_steps * (2 * blocks + tables) if fsdp > 1 else 0.0  # forward, and for the gradient
    summed = grad_accum_steps * (blocks + tables) if fsdp * data > 1 else 0.0
    share = (fsdp - 1) / fsdp
    both = (fsdp * data - 1) / (fsdp * data)
    activations = 0.0
    if tensor > 1:  # a sum after attention and one after the MLP, forward, again and backward
        activations = (2 + 2 + 2) * model.layers * tokens * model.width * size
    received = gathered * share + 2 * summed * both + 2 * activations * (tensor - 1) / tensor
    return Traffic(received / 1e9, (gathered + summed + activations) / 1e9)


def seconds(model: ModelConfig, chip: Chip, product_flops: float, tokens: int, shape: tuple[int, int, int],
            parameters: float) -> float:
    """Of products and everything elementwise, on one device.

    Args:
      product_flops, tokens: of the device.
      parameters: that it stores.
    """
    size = 2 if model.compute_dtype == "bfloat16" else 4
    moved = tokens * model.width * size * model.layers * _WIDTHS_MOVED / shape[2] + parameters * 4 * 7
    return product_flops / (chip.tflops * 1e12 * PRODUCTS_SHARE) + moved / (
        chip.memory_gb_per_second * 1e9 * MEMORY_SHARE)


def temporaries(model: ModelConfig, tokens: int, length: int, shape: tuple[int, int, int]) -> float:
    """GiB a device, roughly: kept layers, one layer at work, gradients; of xla's attention, its scores."""
    size = 2 if model.compute_dtype == "bfloat16" else 4
    kept = {"full": 1, "dots": 6 + 2 * model.mlp_width / model.width, "none": 14 + 4 * model.mlp_width / model.width}
    layer = tokens * size * (8 * model.width + 4 * model.mlp_width / shape[2])
    gradients = parameter_count(model) * 4 / (shape[1] * shape[2])
    tables = 4 * model.vocabulary_size * model.width / shape[2] * 1.5
    if model.attention == "xla":  # half of them are in the future; one layer's, in float32 besides, or all layers'
        scores = tokens * length / 2 * model.query_heads / shape[2]
        layer += scores * (size * (model.layers if model.remat == "none" else 1) + 4)
    return (tokens * model.width * size * model.layers * kept[model.remat] + layer + gradients + tables) / 2**30
