"""Generation and scoring with the JAX decoder and an explicit KV cache."""

import functools
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from slm import checkpoint
from slm.inference.constraints import Constraint
from slm.inference.sampling import Sampler
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.progress import Progress
from slm.text.tokenizer import Tokenizer

_MULTIPLE = 64  # of a padded prompt: few shapes, so few compiles
_MOST_ROWS = 64  # of a batch
_SCORED = 4  # what a scored token costs, in tokens of a context: its logits cover the vocabulary


class Engine:
    """A model ready to generate and score. Rows of similar length are computed together."""

    def __init__(self, params: decoder.Params, model_config: ModelConfig, batch_tokens: int = 16_384):
        """
        Args:
          batch_tokens: at most so many tokens of prompts are computed together, unless a single prompt is longer.
        """
        self.params, self.model_config, self.batch_tokens = params, model_config, batch_tokens

    @classmethod
    def load(cls, workdir: Path, step: int | None = None, batch_tokens: int = 16_384) -> tuple["Engine", Tokenizer]:
        """A training's newest checkpoint, or that of `step`, and its tokenizer."""
        params, model_config, tokenizer = checkpoint.read(workdir, step)
        return cls(jax.tree.map(jnp.asarray, decoder.unrolled(params)), model_config, batch_tokens), tokenizer

    def generate(self, prompts: Sequence[Sequence[int]], new_tokens: int, sampler: Sampler, end: int, seed: int = 0
                 ) -> list[list[int]]:
        """Continues prompts of any lengths.

        Args:
          prompts: ids; each begins with the end-of-document token, as every document in training did.
          end: the token that ends a continuation; it is not part of the result.

        Returns:
          The new ids of each prompt, at most `new_tokens`.

        Raises:
          ValueError: an empty prompt, or prompt and continuation longer than the model's context.
        """
        continuations: list[list[int]] = [[] for _ in prompts]
        settings = np.array([sampler.temperature, sampler.top_p, sampler.repetition_penalty], np.float32)
        for number, rows in enumerate(self._prompt_batches(prompts, new_tokens, "generate")):
            tokens, lengths, logits, cache = self._prefill_prompts([prompts[row] for row in rows], _padded(new_tokens))
            generated, _ = _decode(self.params, self.model_config, sampler.top_k, _padded(new_tokens), end, settings,
                                   new_tokens, len(rows), tokens, lengths, logits, cache, jax.random.key(seed + number))
            for row, ids in zip(rows, np.asarray(generated)[:, :new_tokens]):
                ends = np.flatnonzero(ids == end)
                continuations[row] = ids[:ends[0] if len(ends) else None].tolist()
        return continuations

    def generate_constrained(self, prompts: Sequence[Sequence[int]], constraints: Sequence[Constraint],
                             new_tokens: int) -> list[list[int]]:
        """Continues each prompt greedily, each token the most likely of those that its constraint allows.

        Raises:
          ValueError: an empty prompt, or prompt and continuation longer than the model's context.
        """
        continuations: list[list[int]] = [[] for _ in prompts]
        for rows in self._prompt_batches(prompts, new_tokens, "generate constrained"):
            _, lengths, logits, cache = self._prefill_prompts([prompts[row] for row in rows], _padded(new_tokens))
            unfinished = set(range(len(rows)))
            for position in range(new_tokens):
                logits = np.asarray(logits)
                chosen = np.zeros(len(lengths), np.int32)
                for index in sorted(unfinished):
                    constraint = constraints[rows[index]]
                    allowed = constraint.allowed()
                    if not len(allowed):
                        unfinished.discard(index)
                        continue
                    chosen[index] = allowed[np.argmax(logits[index, allowed])]
                    constraint.advance(int(chosen[index]))
                    continuations[rows[index]].append(int(chosen[index]))
                if not unfinished:
                    break
                logits, cache = _next(self.params, self.model_config, chosen[:, None], (lengths + position)[:, None],
                                      cache)
        return continuations

    def score(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[tuple[float, bool]]:
        """For ids (context, continuation): log P of the continuation in nats, and whether it is the greedy one.

        Continuations of one context compute it once.

        Raises:
          ValueError: a pair that is longer than the model's context.
        """
        contexts: dict[tuple, list[int]] = defaultdict(list)
        scores = [(0.0, True)] * len(pairs)  # of empty continuations
        for index, (context, continuation) in enumerate(pairs):
            if len(context) + len(continuation) > self.model_config.context + 1:
                raise ValueError(f"{len(context)} tokens and {len(continuation)} that continue them are more than the "
                                 f"model's context of {self.model_config.context}: shorten them, or leave them out")
            if continuation:
                shared = len(context) > len(continuation)
                contexts[tuple(context) if shared else (index, None)].append(index)
        groups = list(contexts.values())
        sizes = [len(pairs[group[0]][0]) + _SCORED * max(len(pairs[index][1]) for index in group) for group in groups]
        for rows in self._batches(sizes, "score"):
            for index, score in self._score_batch(pairs, [groups[row] for row in rows]):
                scores[index] = score
        return scores

    def _score_batch(self, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], batch: Sequence[Sequence[int]]
                     ) -> Iterator[tuple[int, tuple[float, bool]]]:
        """(index, score) of pairs, given as groups of indices that share a context."""
        width = _power_of_two(max(len(pairs[index][1]) for group in batch for index in group))
        _, lengths, logits, cache = self._prefill_prompts([pairs[group[0]][0] for group in batch], width)
        first, greedy_first = np.asarray(jax.nn.log_softmax(logits)), np.asarray(logits).argmax(1)
        positions = lengths[:, None] + np.arange(width)
        for option in range(max(map(len, batch))):  # one continuation of each context at a time, on one cache
            scored = [(row, group[option]) for row, group in enumerate(batch) if option < len(group)]
            ids, mask = np.zeros((2, len(lengths), width), np.int32)
            for row, index in scored:
                continuation = pairs[index][1]
                ids[row, :len(continuation)], mask[row, :len(continuation)] = continuation, 1
            rest, greedy_rest = np.zeros(len(ids)), np.full(len(ids), True)
            if width > 1:
                rest, greedy_rest = map(np.asarray, _score_rest(self.params, self.model_config, ids, positions, mask,
                                                                cache))
            for row, index in scored:
                token = ids[row, 0]
                yield index, (float(first[row, token] + rest[row]),
                              bool(greedy_rest[row] and greedy_first[row] == token))

    def log_probabilities(self, ids: Sequence[int]) -> np.ndarray:
        """Log P in nats of what follows each token of a row: [T, V]."""
        tokens = np.zeros((1, _padded(len(ids))), np.int32)
        tokens[0, :len(ids)] = ids
        return np.asarray(_log_probabilities(self.params, self.model_config, tokens))[:len(ids)]

    def _prompt_batches(self, prompts: Sequence[Sequence[int]], new_tokens: int, description: str
                        ) -> Iterator[list[int]]:
        lengths = [len(prompt) for prompt in prompts]
        if min(lengths, default=1) < 1:
            raise ValueError("a prompt is empty: begin it with the end-of-document token")
        if max(lengths, default=0) + new_tokens > self.model_config.context:
            raise ValueError(f"a prompt of {max(lengths)} tokens and {new_tokens} new ones are more than the model's "
                             f"context of {self.model_config.context}: shorten one of them")
        return self._batches(lengths, description)

    def _batches(self, sizes: Sequence[int], description: str) -> Iterator[list[int]]:
        """Indices of rows of similar size, the largest first, so that what does not fit in memory fails at once."""
        order, batches = sorted(range(len(sizes)), key=lambda row: -sizes[row]), []
        while order:
            count = max(1, min(_MOST_ROWS, self.batch_tokens // _padded(sizes[order[0]])))
            batches.append(sorted(order[:count]))
            order = order[count:]
        with Progress(total=len(sizes), desc=description, unit="prompt", disable=len(batches) < 2) as progress:
            for rows in batches:
                yield rows
                progress.update(len(rows))

    def _prefill_prompts(self, prompts: Sequence[Sequence[int]], room: int) -> tuple:
        """Pads prompts and runs them: (tokens [B, T], lengths [B], logits [B, V], cache with `room` more slots)."""
        shape = _power_of_two(len(prompts)), min(_padded(max(map(len, prompts))), self.model_config.context)
        tokens, lengths = np.zeros(shape, np.int32), np.ones(shape[0], np.int32)
        for row, prompt in enumerate(prompts):
            tokens[row, :len(prompt)], lengths[row] = prompt, len(prompt)
        return tokens, lengths, *_prefill(self.params, self.model_config, tokens, lengths, room)


def _padded(length: int) -> int:
    return -(-length // _MULTIPLE) * _MULTIPLE


def _power_of_two(number: int) -> int:
    return 1 << (number - 1).bit_length()


def draw(logits_BV, seen_BV, key, top_k: int, temperature, top_p, repetition_penalty) -> jax.Array:
    """Next tokens [B], drawn as a `Sampler` with these settings says; `seen_BV`: the ids that each row already has."""
    penalized_BV = jnp.where(logits_BV > 0, logits_BV / repetition_penalty, logits_BV * repetition_penalty)
    logits_BV = jnp.where(seen_BV, penalized_BV, logits_BV)

    def sample():
        scaled_BV = logits_BV / temperature
        sorted_BV = jnp.sort(scaled_BV, axis=-1, descending=True)
        least_B = sorted_BV[:, min(top_k or logits_BV.shape[1], logits_BV.shape[1]) - 1]
        probabilities_BV = jax.nn.softmax(sorted_BV, axis=-1)
        before_BV = jnp.cumsum(probabilities_BV, axis=-1) - probabilities_BV
        last_B = jnp.sum(before_BV < top_p, axis=-1) - 1  # the first is always inside
        nucleus_B = jnp.take_along_axis(sorted_BV, last_B[:, None], axis=-1)[:, 0]
        least_B = jnp.where(top_p < 1, jnp.maximum(least_B, nucleus_B), least_B)
        return jax.random.categorical(key, jnp.where(scaled_BV >= least_B[:, None], scaled_BV, -jnp.inf))
    return jax.lax.cond(temperature == 0, lambda: jnp.argmax(logits_BV, axis=-1), sample)


def _run(params, model_config: ModelConfig, tokens_BT, positions_BT, cache):
    """Hidden states and cache; each row is a single segment."""
    return decoder.hidden_states(params, model_config, tokens_BT, jnp.ones_like(tokens_BT), positions_BT, cache)


@functools.partial(jax.jit, static_argnums=(1, 4))
def _prefill(params, model_config: ModelConfig, tokens_BT, lengths_B, room: int):
    """Logits [B, V] of what follows each prompt, and a cache with `room` more slots.

    Padding fills slots behind each prompt, which decoding overwrites before any query sees them.
    """
    B, T = tokens_BT.shape
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    hidden, cache = _run(params, model_config, tokens_BT, positions, decoder.empty_cache(model_config, B, T + room))
    last = jnp.take_along_axis(hidden, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    return decoder.logits(params, last), cache


@functools.partial(jax.jit, static_argnums=1, donate_argnums=4)
def _next(params, model_config: ModelConfig, tokens_BT, positions_BT, cache):
    hidden, cache = _run(params, model_config, tokens_BT, positions_BT, cache)
    return decoder.logits(params, hidden[:, -1]), cache


@functools.partial(jax.jit, static_argnums=(1, 2, 3), donate_argnums=11)
def _decode(params, model_config: ModelConfig, top_k: int, width: int, end, settings, new_tokens, rows, tokens_BT,
            lengths_B, logits_BV, cache, key):
    """Continuations [B, width] of prefilled prompts, filled up with `end`; only the first `rows` rows are prompts.

    Also returns the cache, so that its memory is reused.
    """
    B, T = tokens_BT.shape
    batch = jnp.arange(B)
    in_prompt_BT = jnp.arange(T) < lengths_B[:, None]
    seen_BV = jnp.zeros(logits_BV.shape, bool).at[batch[:, None], tokens_BT].max(in_prompt_BT)

    def choose(logits_BV, seen_BV, done_B, key):
        token_B = jnp.where(done_B, end, draw(logits_BV, seen_BV, key, top_k, *settings))
        return token_B, seen_BV.at[batch, token_B].set(True), done_B | (token_B == end)

    def body(carry):
        index, generated_BT, token_B, seen_BV, done_B, cache, key = carry
        key, step_key = jax.random.split(key)
        hidden, cache = _run(params, model_config, token_B[:, None], (lengths_B + index - 1)[:, None], cache)
        token_B, seen_BV, done_B = choose(decoder.logits(params, hidden[:, 0]), seen_BV, done_B, step_key)
        return index + 1, generated_BT.at[:, index].set(token_B), token_B, seen_BV, done_B, cache, key

    key, step_key = jax.random.split(key)
    token_B, seen_BV, done_B = choose(logits_BV, seen_BV, batch >= rows, step_key)
    generated_BT = jnp.full((B, width), end, jnp.int32).at[:, 0].set(token_B)
    carry = (jnp.int32(1), generated_BT, token_B, seen_BV, done_B, cache, key)
    carry = jax.lax.while_loop(lambda carry: (carry[0] < new_tokens) & ~jnp.all(carry[4]), body, carry)
    return carry[1], carry[5]


@functools.partial(jax.jit, static_argnums=1)
def _score_rest(params, model_config: ModelConfig, tokens_BT, positions_BT, mask_BT, cache):
    """Of the tokens after each row's first: Σ log P, and whether each is the most likely. The cache stays as it was."""
    hidden, _ = _run(params, model_config, tokens_BT[:, :-1], positions_BT[:, :-1], cache)
    logits_BTV = decoder.logits(params, hidden)
    targets_BT, mask_BT = tokens_BT[:, 1:], mask_BT[:, 1:]
    scores_BT = jnp.take_along_axis(jax.nn.log_softmax(logits_BTV), targets_BT[..., None], axis=-1)[..., 0]
    is_greedy_BT = (jnp.argmax(logits_BTV, axis=-1) == targets_BT) | (mask_BT == 0)
    return jnp.sum(scores_BT * mask_BT, axis=1), jnp.all(is_greedy_BT, axis=1)


@functools.partial(jax.jit, static_argnums=1)
def _log_probabilities(params, model_config: ModelConfig, tokens_BT) -> jax.Array:
    hidden, _ = _run(params, model_config, tokens_BT, jnp.arange(tokens_BT.shape[1])[None], None)
    return jax.nn.log_softmax(decoder.logits(params, hidden[0]))
