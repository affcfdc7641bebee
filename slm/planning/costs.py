"""What a step costs by counting: matrix products, kernels, memory traffic, bytes between devices.

Used where the compiler gives no text, and to check it where it does.
"""

import dataclasses

from slm.hardware import Chip
from slm.model.presets import ModelConfig, parameter_count

# Assumed shares of the makers' peaks. Those of matrix products and memory were set, with _WIDTHS_MOVED, so that the
# count comes within 5% of the compiler's cycles for v4-32 and v5e-16 (docs/LOG.md); the others are assumptions.
MATMUL_SHARE = 0.88  # of the peak, in large matrix products
KERNEL_SHARE = 0.75  # of the peak, in attention kernels, heads padded to the width of the unit that multiplies
MEMORY_SHARE = 0.8  # of the memory's speed, in everything else
LINKS_SHARE = 0.75  # of the links of the device that has the fewest

_WIDTHS_MOVED = 120  # arrays [tokens, width] in the compute dtype that a layer's other operations read or write


def matmul_flops(model: ModelConfig, tokens: float) -> float:
    """FLOPs of a step's matrix products, attention's logits left out.

    A layer is computed once forward and twice backward, and once more where `remat` is full, but for its last product,
    whose result no gradient needs.
    """
    attention = model.width * model.head_size * 2 * (model.query_heads + model.kv_heads)
    mlp = model.width * model.mlp_width * (3 if model.mlp == "swiglu" else 2)
    again = attention + mlp - model.mlp_width * model.width if model.remat == "full" else 0
    head = 3 * model.width * model.vocabulary_size
    return 2.0 * tokens * (model.layers * (3 * (attention + mlp) + again) + head)


def kernel_flops(model: ModelConfig, rows: int, length: int, block: int, backward: int) -> float:
    """FLOPs of attention kernels, of the blocks that are not wholly in the future.

    Args:
      backward: matrix products of a block backward: 7 in splash's two kernels, 5 in cuDNN's.
    """
    blocks = -(-length // min(block, length))
    share = (blocks + 1) / (2 * blocks)
    forward = 2 if model.remat == "none" else 4  # dots, too, does not keep what a kernel made
    one = 2.0 * length * length * model.head_size * model.query_heads
    return (forward + backward) * share * one * model.layers * rows


def padding(model: ModelConfig, chip: Chip) -> float:
    """How much larger a head is in the matrix unit."""
    return max(1.0, chip.mxu_size / model.head_size) if chip.clock_ghz else 1.0


@dataclasses.dataclass(frozen=True)
class Traffic:
    """GB that a device receives from others in a step, and GB of the arrays that are exchanged."""
    received: float
    payload: float


def traffic(model: ModelConfig, shape: tuple[int, int, int], grad_accum_steps: int, tokens: float) -> Traffic:
    """By count: parameters gathered forward and backward, gradients summed; with tensor > 1 activations, too."""
    data, fsdp, tensor = shape
    size = 2 if model.compute_dtype == "bfloat16" else 4
    in_tables = 2 * model.vocabulary_size * model.width
    blocks = (parameter_count(model) - in_tables) / tensor * size
    tables = in_tables / tensor * size
    gathered = grad_accum_steps * (2 * blocks + tables) if fsdp > 1 else 0.0  # forward, and for the gradient
    summed = grad_accum_steps * (blocks + tables) if fsdp * data > 1 else 0.0
    share = (fsdp - 1) / fsdp
    both = (fsdp * data - 1) / (fsdp * data)
    activations = 0.0
    if tensor > 1:  # a sum after attention and one after the MLP, forward, again and backward
        activations = (2 + 2 + 2) * model.layers * tokens * model.width * size
    received = gathered * share + 2 * summed * both + 2 * activations * (tensor - 1) / tensor
    return Traffic(received / 1e9, (gathered + summed + activations) / 1e9)


def seconds(model: ModelConfig, chip: Chip, flops: float, tokens: float, tensor: int, parameters: float) -> float:
    """Of matrix products and everything elementwise, on one device.

    Args:
      flops, tokens: of the device.
      tensor: devices that share a layer.
      parameters: that the device stores.
    """
    size = 2 if model.compute_dtype == "bfloat16" else 4
    moved = tokens * model.width * size * model.layers * _WIDTHS_MOVED / tensor + parameters * 4 * 7
    return flops / (chip.tflops * 1e12 * MATMUL_SHARE) + moved / (chip.memory_gb_per_second * 1e9 * MEMORY_SHARE)


def temporaries(model: ModelConfig, tokens: int, length: int, shape: tuple[int, int, int]) -> float:
    """GiB a device, roughly: kept layers, one layer at work, gradients; of xla's attention, its logits."""
    size = 2 if model.compute_dtype == "bfloat16" else 4
    kept = {"full": 1, "dots": 6 + 2 * model.mlp_width / model.width, "none": 14 + 4 * model.mlp_width / model.width}
    layer = tokens * size * (8 * model.width + 4 * model.mlp_width / shape[2])
    gradients = parameter_count(model) * 4 / (shape[1] * shape[2])
    tables = 4 * model.vocabulary_size * model.width / shape[2] * 1.5
    if model.attention == "xla":  # half of them are in the future; one layer's, in float32 besides, or all layers'
        logits = tokens * length / 2 * model.query_heads / shape[2]
        layer += logits * (size * (model.layers if model.remat == "none" else 1) + 4)
    return (tokens * model.width * size * model.layers * kept[model.remat] + layer + gradients + tables) / 2**30
