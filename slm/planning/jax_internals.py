"""What reaches into jax._src: look here first when a new JAX breaks planning."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def cudnn_without_a_gpu() -> Iterator[None]:
    """Lets cuDNN's attention be lowered: its checks ask for a GPU that is not here."""
    from jax._src.cudnn import fused_attention_stablehlo as cudnn
    checks = cudnn.check_cudnn_version, cudnn.check_compute_capability
    cudnn.check_cudnn_version, cudnn.check_compute_capability = lambda: 90800, lambda needed: True
    try:
        yield
    finally:
        cudnn.check_cudnn_version, cudnn.check_compute_capability = checks
