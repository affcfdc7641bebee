"""The transformer classifier: our decoder, the mean of its last hidden states, one linear unit; all of it is trained.

A document is the end-of-document token and the first tokens of its excerpt, as many as fit the model's context. Causal
attention never sees the padding behind a document, and the mean leaves it out. One device computes.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from slm import checkpoint as checkpoints
from slm import files
from slm.config import freeze
from slm.model import decoder
from slm.model.presets import PRESETS, ModelConfig
from slm.quality.labels import STOPPING, Example
from slm.text.tokenizer import Tokenizer, load_tokenizer

FILE, MODEL_FILE, TOKENIZER = "transformer.npz", "model.json", "tokenizer"
_ROWS, _SHORTEST = 32, 32  # documents of a batch; tokens it is at least padded to
_STOPPING_SHARE = 0.1  # of the training labels, for early stopping


def fit(folder: Path, examples: Sequence[Example], *, checkpoint: str, tokenizer: str, preset: str, epochs: int,
        learning_rate: float, seed: int) -> list[float]:
    """Trains until the loss of the stopping labels rises, and writes the best epoch's parameters into `folder`.

    Args:
      checkpoint: the workdir of a pretraining; empty: random weights of `preset`, with the `tokenizer` folder.

    Returns:
      The loss of the stopping labels after each epoch.
    """
    if bool(checkpoint) == bool(tokenizer):
        raise ValueError(f"checkpoint={checkpoint!r} and tokenizer={tokenizer!r}: give the workdir of a pretraining as "
                         "checkpoint, or, to begin with random weights, a tokenizer folder and a preset")
    tokenizer_folder = Path(tokenizer)
    if checkpoint:  # scanned and rematerialised as in its pretraining, not as `generate` runs it
        workdir, step = checkpoints.resolve(checkpoint)
        start, _, encoder = checkpoints.read(workdir, step)
        model, tokenizer_folder = checkpoints.read_model(workdir), workdir / "tokenizer"
    elif preset in PRESETS:
        encoder = load_tokenizer(tokenizer_folder)
        model = dataclasses.replace(PRESETS[preset], vocabulary_size=len(encoder))
        start = decoder.initialize(model, jax.random.key(seed))
    else:
        raise ValueError(f"preset={preset!r}: choose one of {', '.join(PRESETS)}")
    params = _with_unit(start, model)
    stopping, training = _split(examples)
    rows, stopping_rows = (_encode([example.text for example in part], encoder, model.context)
                           for part in (training, stopping))
    targets, stopping_targets = _targets(training), _targets(stopping)
    steps = epochs * -(-len(rows) // _ROWS)
    rate = optax.warmup_cosine_decay_schedule(learning_rate / 10, learning_rate, max(1, steps // 10), max(2, steps))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(
        rate, b2=0.98, weight_decay=0.01, mask=functools.partial(jax.tree.map_with_path, _is_decayed)))
    state, best, losses = (params, optimizer.init(params)), None, []
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(len(rows))
        for indices, tokens, lengths in _batches(rows, order, model.context):
            padded = np.pad(targets[indices], ((0, _ROWS - len(indices)), (0, 0)))
            state = _step(model, optimizer, state, tokens, lengths, padded)
        losses.append(float(_loss(_logits_of(state[0], model, stopping_rows), *stopping_targets.T)))
        if not np.isfinite(losses[-1]):
            raise RuntimeError(f"the loss is {losses[-1]} after epoch {epoch + 1}: lower learning_rate={learning_rate}")
        print(f"epoch {epoch + 1} of {epochs}: loss of the stopping labels {losses[-1]:.4f}", flush=True)
        if losses[-1] > min(losses):
            break
        best = jax.tree.map(np.array, state[0])  # copies: the next step overwrites these
    np.savez(folder / FILE, **{_name(path): value for path, value in jax.tree.leaves_with_path(best)})
    files.write_json(folder / MODEL_FILE,
                     dataclasses.asdict(dataclasses.replace(model, scan_layers=False, remat="none")))
    files.copy_folder(tokenizer_folder, folder / TOKENIZER)
    return losses


def read(folder: Path) -> Callable[[list[str]], np.ndarray]:
    """The function that scores excerpts."""
    model, tokenizer = freeze(ModelConfig, files.read_json(folder / MODEL_FILE)), load_tokenizer(folder / TOKENIZER)
    shapes = jax.eval_shape(lambda key: _with_unit(decoder.initialize(model, key), model), jax.random.key(0))
    with np.load(folder / FILE) as file:
        params = jax.tree.map_with_path(lambda path, _: jnp.asarray(file[_name(path)]), shapes)

    def score(texts: list[str]) -> np.ndarray:
        return jax.device_get(jax.nn.sigmoid(_logits_of(params, model, _encode(texts, tokenizer, model.context))))
    return score


def _with_unit(params: dict[str, Any], model: ModelConfig) -> dict[str, Any]:
    return {"decoder": {name: value for name, value in params.items() if name != "head"},
            "weights": jnp.zeros(model.width), "bias": jnp.zeros(())}


def _name(path: Any) -> str:
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _is_decayed(path: Any, parameter: jax.Array) -> bool:
    """All but norms and the bias."""
    return parameter.ndim > 0 and "scale" not in _name(path)


def _split(examples: Sequence[Example]) -> tuple[list[Example], list[Example]]:
    """A share of each class, the smallest hashes, for early stopping; and the others."""
    stopping, training = [], []
    for good in (True, False):
        side = sorted((e for e in examples if e.good == good), key=lambda example: example.fraction(STOPPING))
        number = max(1, round(len(side) * _STOPPING_SHARE))
        stopping += side[:number]
        training += side[number:]
    return stopping, training


def _targets(examples: Sequence[Example]) -> np.ndarray:
    """Label and weight of each example, float32 [N, 2]; both classes have the same total weight."""
    labels = np.array([example.good for example in examples], np.float32)
    share = labels.mean()
    return np.stack([labels, np.where(labels == 1, 0.5 / share, 0.5 / (1 - share))], axis=1, dtype=np.float32)


def _encode(texts: Sequence[str], tokenizer: Tokenizer, context: int) -> list[list[int]]:
    return [[tokenizer.end_of_document, *tokenizer.encode(text)][:context] for text in texts]


def _batches(rows: Sequence[list[int]], order: np.ndarray, context: int) -> Iterator[tuple]:
    """(indices of rows, tokens [B, T], lengths [B]); T is a power of two, missing rows of the last batch are empty."""
    for indices in np.split(order, range(_ROWS, len(order), _ROWS)) if len(order) else ():
        lengths = np.array([len(rows[index]) for index in indices] + [0] * (_ROWS - len(indices)), np.int32)
        tokens = np.zeros((_ROWS, min(max(_SHORTEST, 1 << int(lengths.max() - 1).bit_length()), context)), np.int32)
        for i, index in enumerate(indices):
            tokens[i, :lengths[i]] = rows[index]
        yield indices, tokens, lengths


@functools.partial(jax.jit, static_argnums=1)
def _logits(params: dict[str, Any], model: ModelConfig, tokens_BT, lengths_B) -> jax.Array:
    """[B] in float32."""
    positions = jnp.broadcast_to(jnp.arange(tokens_BT.shape[1]), tokens_BT.shape)
    inside = positions < lengths_B[:, None]
    hidden_BTD, _ = decoder.hidden_states(params["decoder"], model, tokens_BT, inside.astype(jnp.int32), positions)
    total_BD = jnp.sum(jnp.where(inside[:, :, None], hidden_BTD, 0), axis=1, dtype=jnp.float32)
    return total_BD / jnp.maximum(lengths_B, 1)[:, None] @ params["weights"] + params["bias"]


def _logits_of(params: dict[str, Any], model: ModelConfig, rows: Sequence[list[int]]) -> jax.Array:
    logits, by_length = np.zeros(len(rows), np.float32), np.argsort([len(row) for row in rows], kind="stable")
    for indices, tokens, lengths in _batches(rows, by_length, model.context):
        logits[indices] = _logits(params, model, tokens, lengths)[:len(indices)]
    return jnp.asarray(logits)


def _loss(logits, labels, weights) -> jax.Array:
    return jnp.sum(optax.sigmoid_binary_cross_entropy(logits, labels) * weights) / jnp.sum(weights)


@functools.partial(jax.jit, static_argnums=(0, 1), donate_argnums=2)
def _step(model: ModelConfig, optimizer: optax.GradientTransformation, state, tokens_BT, lengths_B, targets_BX):
    params, optimizer_state = state
    gradient = jax.grad(lambda params: _loss(_logits(params, model, tokens_BT, lengths_B), *targets_BX.T))(params)
    updates, optimizer_state = optimizer.update(gradient, optimizer_state, params)
    return optax.apply_updates(params, updates), optimizer_state
