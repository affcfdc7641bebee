"""The transformer classifier: our decoder, the mean of its last hidden states, one linear unit.

It starts from a pretrained checkpoint, or from random weights, and all of it is trained. A document is the
end-of-document token and the first tokens of its excerpt, as many as the model's context holds. Rows are padded to
powers of two; padding lies behind the text, where causal attention never looks, and is left out of the mean.
One device computes.
"""

import dataclasses
import functools
import json
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slm import checkpoint as checkpoints
from slm.config import freeze
from slm.model import decoder
from slm.model.presets import PRESETS, ModelConfig
from slm.quality.labels import STOPPING, Example
from slm.text.tokenizer import Tokenizer, load_tokenizer

FILE, MODEL_FILE, TOKENIZER = "transformer.npz", "model.json", "tokenizer"
_ROWS = 32  # documents computed together
_SHORTEST = 32  # tokens of a row; shorter ones are padded to it
_STOPPING_SHARE = 0.1  # of the training labels, for early stopping


def fit(folder: Path, examples: Sequence[Example], *, checkpoint: str, tokenizer: str, preset: str, epochs: int,
        learning_rate: float, seed: int) -> list[float]:
    """Trains until the loss of the stopping labels rises, and leaves the best epoch's parameters in `folder`.

    Args:
      checkpoint: the workdir of a pretraining; empty: random weights of `preset`, with the `tokenizer` folder.

    Returns:
      The loss of the stopping labels after each epoch.
    """
    params, model, words, source = _start(checkpoint, tokenizer, preset, seed)
    params = {"decoder": {name: value for name, value in params.items() if name != "head"},
              "weights": jnp.zeros(model.width), "bias": jnp.zeros(())}
    stopping, training = _split(examples)
    rows, targets = _tokens(training, words, model.context), _targets(training)
    stopping_rows, stopping_targets = _tokens(stopping, words, model.context), _targets(stopping)
    steps = epochs * sum(1 for _ in _batches(rows, range(len(rows)), model.context))
    optimizer = _optimizer(learning_rate, steps)
    state, best, losses = (params, optimizer.init(params)), None, []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for chosen, tokens, lengths in _batches(rows, order, model.context):
            state = _step(model, optimizer, state, tokens, lengths, _padded(targets, chosen))
        losses.append(float(_loss(_logits_of(state[0], model, stopping_rows), *stopping_targets.T)))
        if not np.isfinite(losses[-1]):
            raise RuntimeError(f"the loss is {losses[-1]} after epoch {epoch + 1}: lower learning_rate={learning_rate}")
        print(f"epoch {epoch + 1} of {epochs}: loss of the stopping labels {losses[-1]:.4f}", flush=True)
        if losses[-1] > min(losses):
            break
        best = jax.tree.map(np.array, state[0])  # copies: the next step writes over these
    _save(folder, best, dataclasses.replace(model, scan_layers=False, remat="none"), source)
    return losses


def read(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """The scores of excerpts."""
    model = freeze(ModelConfig, json.loads((folder / MODEL_FILE).read_text(encoding="utf-8")))
    words = load_tokenizer(folder / TOKENIZER)
    with np.load(folder / FILE) as file:
        params = _nested({name: jnp.asarray(file[name]) for name in file.files})

    def score(texts: list[str]) -> np.ndarray:
        rows = [_ids(text, words, model.context) for text in texts]
        return jax.device_get(jax.nn.sigmoid(_logits_of(params, model, rows)))
    return score


# Data ---------------------------------------------------------------------------------------------------------

def _start(checkpoint: str, tokenizer: str, preset: str, seed: int):
    """Parameters, the model as it is trained, the tokenizer, and its folder."""
    if bool(checkpoint) == bool(tokenizer):
        raise ValueError(f"checkpoint={checkpoint!r} and tokenizer={tokenizer!r}: give the workdir of a pretraining as "
                         "checkpoint, or, to begin with random weights, a tokenizer folder and a preset")
    if checkpoint:
        workdir, step = checkpoints.resolve(checkpoint)
        params, _, words = checkpoints.read(workdir, step)
        # Scanned and rematerialised as in its pretraining, not as `generate` runs it.
        return params, checkpoints.read_model(workdir), words, workdir / "tokenizer"
    if preset not in PRESETS:
        raise ValueError(f"preset={preset!r}: choose one of {', '.join(PRESETS)}")
    words = load_tokenizer(Path(tokenizer))
    model = dataclasses.replace(PRESETS[preset], vocabulary_size=len(words))
    return decoder.initialize(model, jax.random.key(seed)), model, words, Path(tokenizer)


def _split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """A share of each class, the smallest hashes, for early stopping; and the others."""
    stopping, training = [], []
    for good in (True, False):
        side = sorted((e for e in examples if e.good == good), key=lambda example: example.place(STOPPING))
        number = max(1, round(len(side) * _STOPPING_SHARE))
        stopping += side[:number]
        training += side[number:]
    return stopping, training


def _targets(examples: Sequence[Example]) -> np.ndarray:
    """Label and weight of each example, [N, 2]; both classes weigh the same in all."""
    labels = np.array([example.good for example in examples], np.float32)
    share = labels.mean()
    return np.stack([labels, np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))], axis=1).astype(np.float32)


def _tokens(examples: Sequence[Example], words: Tokenizer, context: int) -> list[list[int]]:
    return [_ids(example.text, words, context) for example in examples]


def _ids(text: str, words: Tokenizer, context: int) -> list[int]:
    return [words.end_of_document, *words.encode(text)][:context]  # as every document in pretraining begins


def _batches(rows: Sequence[list[int]], order: Sequence[int], context: int) -> Iterator[tuple]:
    """(indices of rows, tokens [B, T], lengths [B]) by length; absent rows of a last batch have length 0."""
    waiting: dict[int, list[int]] = {}
    for index in order:
        length = min(max(_SHORTEST, 1 << (len(rows[index]) - 1).bit_length()), context)
        waiting.setdefault(length, []).append(index)
        if len(waiting[length]) == _ROWS:
            yield _batch(rows, waiting.pop(length), length)
    for length, chosen in waiting.items():
        yield _batch(rows, chosen, length)


def _batch(rows: Sequence[list[int]], chosen: list[int], length: int) -> tuple:
    tokens, lengths = np.zeros((_ROWS, length), np.int32), np.zeros(_ROWS, np.int32)
    for place, index in enumerate(chosen):
        tokens[place, :len(rows[index])], lengths[place] = rows[index], len(rows[index])
    return chosen, tokens, lengths


def _padded(targets: np.ndarray, chosen: list[int]) -> np.ndarray:
    return np.concatenate([targets[chosen], np.zeros((_ROWS - len(chosen), 2), np.float32)])


# Computation --------------------------------------------------------------------------------------------------

@functools.partial(jax.jit, static_argnums=1)
def _logits(params: dict[str, Any], model: ModelConfig, tokens_BT, lengths_B) -> jax.Array:
    """[B] in float32."""
    positions = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    inside = positions < lengths_B[:, None]
    hidden_BTD, _ = decoder.hidden_states(params["decoder"], model, tokens_BT, inside.astype(jnp.int32), positions)
    total_BD = jnp.sum(jnp.where(inside[:, :, None], hidden_BTD, 0), axis=1, dtype=jnp.float32)
    return total_BD / jnp.maximum(lengths_B, 1)[:, None] @ params["weights"] + params["bias"]


def _logits_of(params, model: ModelConfig, rows: Sequence[list[int]]) -> jax.Array:
    found = np.zeros(len(rows), np.float32)
    for chosen, tokens, lengths in _batches(rows, range(len(rows)), model.context):
        found[chosen] = _logits(params, model, tokens, lengths)[:len(chosen)]
    return jnp.asarray(found)


def _loss(logits, labels, weights) -> jax.Array:
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels) * weights) / jnp.sum(weights)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _step(model: ModelConfig, optimizer: optax.GradientTransformation, state, tokens_BT, lengths_B, targets_BX):
    params, optimizer_state = state

    def loss(params):
        return _loss(_logits(params, model, tokens_BT, lengths_B), *targets_BX.T)
    updates, optimizer_state = optimizer.update(jax.grad(loss)(params), optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state


def _optimizer(learning_rate: float, steps: int) -> optax.GradientTransformation:
    """AdamW: a tenth of the steps up, the others down to zero; norms and the bias are not decayed."""
    rate = optax.warmup_cosine_decay_schedule(learning_rate / 10, learning_rate, max(1, steps // 10), max(2, steps))

    def decayed(params):
        return jax.tree.map_with_path(
            lambda path, x: x.ndim > 0 and "scale" not in jax.tree_util.keystr(path), params)
    return optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(rate, b2=0.98, weight_decay=0.01, mask=decayed))


# Files --------------------------------------------------------------------------------------------------------

def _save(folder: Path, params, model: ModelConfig, tokenizer_folder: Path) -> None:
    flat = {"/".join(key.key for key in path): value for path, value in jax.tree.leaves_with_path(params)}
    np.savez(folder / FILE, **flat)
    (folder / MODEL_FILE).write_text(json.dumps(dataclasses.asdict(model), indent=2) + "\n", encoding="utf-8")
    shutil.copytree(tokenizer_folder, folder / TOKENIZER)


def _nested(flat: dict[str, jax.Array]) -> dict[str, Any]:
    tree: dict[str, Any] = {}
    for name, value in flat.items():
        *parents, last = name.split("/")
        node = tree
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    return tree
