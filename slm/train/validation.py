"""Bits per byte of held-out rows, by source."""

import math
from collections.abc import Callable, Mapping

import jax
import numpy as np

from slm.data import loader


def rank(line: Mapping) -> float:
    """Of a validation, lower is better: minus the mean of its tasks' scores, else its bits per byte."""
    if scores := line.get("scores"):
        return -sum(score["value"] for score in scores.values()) / len(scores)
    return line["bits_per_byte"] if math.isfinite(line["bits_per_byte"]) else math.inf


def measure(sums: Callable[[loader.Batch], tuple], rows: Mapping[str, loader.Rows],
            bytes_per_token: Mapping[str, float], batch_size: int, limit: int | None = None, share: int = 0,
            shares: int = 1) -> dict:
    """{loss, bits_per_byte, bits_per_byte_by_source} over each source's rows.

    Args:
      sums: (a process' share of a batch) → (Σ nll in nats, Σ loss mask) of the whole batch.
      bytes_per_token: UTF-8 bytes of the normalised text for each token in the loss; of a part of the rows, bytes are
        taken in proportion.
      limit: rows of each source; None: all.
    """
    by_source = {}
    for source, of_source in rows.items():
        parts = [sums(batch) for batch in loader.validation(of_source, batch_size, limit, share, shares)]
        nll, tokens = np.asarray(jax.device_get(parts), np.float64).sum(axis=0).tolist()
        by_source[source] = nll, tokens, tokens * bytes_per_token[source]
    nll, tokens, size = map(sum, zip(*by_source.values()))
    return {"loss": nll / tokens, "bits_per_byte": nll / math.log(2) / size,
            "bits_per_byte_by_source": {source: n / math.log(2) / b for source, (n, _, b) in by_source.items()}}
