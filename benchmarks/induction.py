"""Can a checkpoint copy? The loss of a random span at its second occurrence against its first (Olsson et al. 2022).

    python -m benchmarks.induction --checkpoints=runs/pretrain-laptop,runs/sft-sample --text='DIR/*.jsonl.gz'

A span of 24 tokens, once drawn at random from the vocabulary and once taken from text, stands twice in a row, with text
between. Prints nats a token at both occurrences and their ratio: 1 is no copying, 0 perfect copying.
"""

import argparse
import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from slm import checkpoint
from slm.corpus.readers import json_objects
from slm.corpus.sources import find
from slm.files import markdown_table
from slm.model import decoder

SPAN, BETWEEN, ROWS = 24, 64, 64


def rows(tokenizer, ids: np.ndarray, from_text: bool, seed: int) -> np.ndarray:
    """[ROWS, T] ids: the end of a document, a span, other text, the span again."""
    rng = np.random.default_rng(seed)
    usable = [index for index in range(len(tokenizer)) if not tokenizer.is_special(index)]
    made = []
    for _ in range(ROWS):
        begin, other = rng.integers(0, len(ids) - BETWEEN - SPAN, 2)
        span = ids[begin:begin + SPAN] if from_text else rng.choice(usable, SPAN)
        made.append([tokenizer.end_of_document, *span, *ids[other:other + BETWEEN], *span])
    return np.asarray(made, np.int32)


@functools.partial(jax.jit, static_argnums=1)
def losses(params, model, tokens_BT) -> jax.Array:
    """Nats of each token but the first, [B, T − 1]."""
    inputs_BT, targets_BT = tokens_BT[:, :-1], tokens_BT[:, 1:]
    positions_BT = jnp.broadcast_to(jnp.arange(inputs_BT.shape[1]), inputs_BT.shape)
    hidden, _ = decoder.hidden_states(params, model, inputs_BT, jnp.ones_like(inputs_BT), positions_BT)
    shares = jax.nn.log_softmax(decoder.logits(params, hidden))
    return -jnp.take_along_axis(shares, targets_BT[..., None], axis=-1)[..., 0]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--checkpoints", required=True)
    parser.add_argument("--text", required=True, help="JSON Lines with a field text")
    arguments = parser.parse_args()
    texts = [row["text"] for path in find(arguments.text) for _, row in json_objects(path)][-200:]
    table = []
    for name in arguments.checkpoints.split(","):
        params, model, tokenizer = checkpoint.read(checkpoint.resolve(name)[0])
        ids = np.concatenate([tokenizer.encode(text[:2000]) for text in texts])
        for from_text in (False, True):
            nats = np.asarray(losses(params, model, rows(tokenizer, ids, from_text, seed=0)))
            # The first token of a span cannot be known; those after it can be copied.
            first, second = nats[:, 1:SPAN].mean(), nats[:, -SPAN + 1:].mean()
            table.append([str(Path(name)), "text" if from_text else "random", f"{first:.3f}", f"{second:.3f}",
                          f"{second / first:.3f}"])
    print(markdown_table(["checkpoint", "span", "first, nats a token", "again", "ratio"], table))


if __name__ == "__main__":
    main()
