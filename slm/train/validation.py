"""Bits per byte of held-out rows, by source."""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from slm.data import loader


def measure(sums: Callable[[loader.Batch], tuple], rows: Mapping[str, loader.Rows], bytes_a_token: Mapping[str, float],
            batch_size: int, limit: int | None = None, share: int = 0, shares: int = 1) -> dict:
    """{loss, bits_per_byte, bits_per_byte_by_source} over each source's rows.

    Args:
      sums: (a process' share of a batch) → (Σ nll in nats, Σ weight) of the whole batch.
      bytes_a_token: UTF-8 bytes of the normalised text for each token that weighs; so of a part of the rows, bytes are
        taken in proportion.
      limit: rows of each source; None: all.
    """
    by_source = {}
    for source, own in rows.items():
        parts = [sums(batch) for batch in loader.validation(own, batch_size, limit, share, shares)]
        nll, tokens = np.sum(jax.device_get(parts), axis=0, dtype=np.float64)
        by_source[source] = float(nll), float(tokens), float(tokens) * bytes_a_token[source]
    nll, tokens, size = map(sum, zip(*by_source.values()))
    return {"loss": nll / tokens, "bits_per_byte": nll / math.log(2) / size,
            "bits_per_byte_by_source": {source: n / math.log(2) / b for source, (n, _, b) in by_source.items()}}
