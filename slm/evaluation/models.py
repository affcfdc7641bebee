"""What an evaluation asks of a model: three calls. Our own checkpoints answer them here."""

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import jax
import jax.numpy as jnp
import numpy as np

from slm import generate
from slm.model import decoder
from slm.model.presets import ModelConfig
from slm.progress import Progress
from slm.tasks.task import Message
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN, Tokenizer

_PAD = 64  # prompts are padded to a multiple: few shapes, so few compiles


class Constraint(Protocol):
    """What an answer may be, token by token."""

    def allowed(self) -> np.ndarray:
        """The ids that may come next; none: the answer is whole."""

    def advance(self, token: int) -> None:
        """Takes one of them."""


class Model(Protocol):
    """A model under test.

    Attributes:
      name: on the leaderboard.
      truncated: prompts so far that lost the middle of their longest user turn to fit the context.
    """
    name: str
    truncated: int

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        """Greedy answers."""

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        """For each conversation, log P in nats of each text as the beginning of the assistant's answer."""

    def tokenize(self, text: str) -> list[int]:
        """Ids of a text."""


class Checkpoint:
    """A checkpoint of ours: prompts are batched by length, and what shares a prompt computes it once."""

    def __init__(self, params: decoder.Params, model: ModelConfig, tokenizer: Tokenizer, name: str,
                 batch_tokens: int = 16_384):
        """Computes at most `batch_tokens` tokens of prompts together, where a prompt is not longer by itself."""
        self.name, self.truncated, self.tokenizer = name, 0, tokenizer
        self.params, self.model, self.batch_tokens = params, model, batch_tokens
        self._end = tokenizer.special(END_OF_TURN)

    @classmethod
    def load(cls, workdir: Path, batch_tokens: int = 16_384) -> "Checkpoint":
        return cls(*generate.load(workdir), str(workdir), batch_tokens)

    def tokenize(self, text: str) -> list[int]:
        return self.tokenizer.encode(text)

    def generate(self, conversations: Sequence[list[Message]], max_tokens: int) -> list[str]:
        greedy = generate.Sampler(temperature=0.0)
        answers = [""] * len(conversations)
        for rows, prompts in self._batches(conversations, max_tokens, "generate"):
            made = generate.generate(self.params, self.model, prompts, max_tokens, greedy, 0, self._end)
            for row, ids in zip(rows, made):
                answers[row] = self.tokenizer.decode(ids)
        return answers

    def generate_within(self, conversations: Sequence[list[Message]], constraints: Sequence[Constraint],
                        max_tokens: int) -> list[list[int]]:
        """Greedy ids, each the likeliest of those that its constraint allows."""
        answers: list[list[int]] = [[] for _ in conversations]
        for rows, prompts in self._batches(conversations, max_tokens, "generate within"):
            tokens, lengths = self._padded(prompts)
            scores, cache = _prefill(self.params, self.model, tokens, lengths, max_tokens)
            going = set(range(len(rows)))
            for made in range(max_tokens):
                scores = np.asarray(scores)
                chosen = np.full(len(lengths), self._end, np.int32)
                for place in sorted(going):
                    allowed = constraints[rows[place]].allowed()
                    if not len(allowed):
                        going.discard(place)
                        continue
                    chosen[place] = allowed[np.argmax(scores[place, allowed])]
                    constraints[rows[place]].advance(int(chosen[place]))
                    answers[rows[place]].append(int(chosen[place]))
                if not going:
                    break
                scores, cache = _next(self.params, self.model, chosen[:, None], (lengths + made)[:, None], cache)
        return answers

    def log_likelihoods(self, requests: Sequence[tuple[list[Message], Sequence[str]]]) -> list[list[float]]:
        texts = [[self.tokenizer.encode(text) for text in continuations] for _, continuations in requests]
        longest = max((len(ids) for own in texts for ids in own), default=1)
        found: list[list[float]] = [[] for _ in requests]
        for rows, prompts in self._batches([messages for messages, _ in requests], longest, "score"):
            tokens, lengths = self._padded(prompts)
            scores, cache = _prefill(self.params, self.model, tokens, lengths, longest)
            first = np.asarray(jax.nn.log_softmax(scores))
            most = max(len(texts[row]) for row in rows)
            for option in range(most):  # the same number of each prompt's continuations at a time, on one cache
                ids = [texts[row][option] if option < len(texts[row]) else [self._end] for row in rows]
                ids += [[self._end]] * (len(lengths) - len(rows))
                more = _continued(self.params, self.model, ids, lengths, cache) if longest > 1 else 0
                own = np.array([first[place, part[0]] for place, part in enumerate(ids)]) + more
                for place, row in enumerate(rows):
                    if option < len(texts[row]):
                        found[row].append(float(own[place]))
        return found

    def _batches(self, conversations: Sequence[list[Message]], new_tokens: int,
                 what: str) -> Iterator[tuple[list[int], list[list[int]]]]:
        """(places, prompts) of conversations of like lengths, the longest first."""
        room = self.model.context - new_tokens
        if room < 1:
            raise ValueError(f"{self.name} has a context of {self.model.context} tokens, an answer may take "
                             f"{new_tokens}: evaluate a model with a longer context")
        encoded = [chat.encode(self.tokenizer, messages, room, reply=True) for messages in conversations]
        self.truncated += sum(own.cut > 0 for own in encoded)
        for rows in batches([len(own.ids) for own in encoded], self.batch_tokens, what):
            yield rows, [encoded[row].ids for row in rows]

    def _padded(self, prompts: Sequence[list[int]]) -> tuple[np.ndarray, np.ndarray]:
        """Tokens [B, T] and lengths [B]; rows are added up to a power of two, so that shapes are few."""
        width = min(-(-max(map(len, prompts)) // _PAD) * _PAD, self.model.context)
        tokens = np.full((1 << (len(prompts) - 1).bit_length(), width), self._end, np.int32)
        for row, prompt in zip(tokens, prompts):
            row[:len(prompt)] = prompt
        return tokens, np.array([*map(len, prompts), *[1] * (len(tokens) - len(prompts))], np.int32)


def batches(sizes: Sequence[int], batch_tokens: int, what: str) -> Iterator[list[int]]:
    """Places of like sizes, the largest first; together at most `batch_tokens`, where one is not larger by itself."""
    if not sizes:
        return
    order = sorted(range(len(sizes)), key=lambda place: (-sizes[place], place))
    with Progress(total=len(order), desc=what, unit="prompt") as progress:
        while order:
            longest = -(-sizes[order[0]] // _PAD) * _PAD
            count = max(1, min(64, batch_tokens // longest))
            rows, order = order[:count], order[count:]
            yield rows
            progress.update(len(rows))


@functools.partial(jax.jit, static_argnums=(1, 4))
def _prefill(params, model: ModelConfig, tokens_BT, lengths_B, room: int):
    """Scores [B, V] of what follows each prompt, and a cache with room for `room` more tokens."""
    B, T = tokens_BT.shape
    positions = jnp.broadcast_to(jnp.arange(T), (B, T))
    hidden, cache = decoder.hidden_states(params, model, tokens_BT, jnp.ones_like(tokens_BT), positions,
                                          decoder.empty_cache(model, B, T + room))
    last = jnp.take_along_axis(hidden, (lengths_B - 1)[:, None, None], axis=1)[:, 0]
    return decoder.logits(params, last), cache


@functools.partial(jax.jit, static_argnums=1, donate_argnums=4)
def _next(params, model: ModelConfig, tokens_BT, positions_BT, cache):
    hidden, cache = decoder.hidden_states(params, model, tokens_BT, jnp.ones_like(tokens_BT), positions_BT, cache)
    return decoder.logits(params, hidden[:, -1]), cache


@functools.partial(jax.jit, static_argnums=1)
def _rest(params, model: ModelConfig, tokens_BT, positions_BT, weights_BT, cache):
    """Σ log P of the tokens after each row's first; the cache is left as it was."""
    hidden, _ = decoder.hidden_states(params, model, tokens_BT[:, :-1], jnp.ones_like(tokens_BT[:, :-1]),
                                      positions_BT[:, :-1], cache)
    own = jax.nn.log_softmax(decoder.logits(params, hidden))
    return jnp.sum(jnp.take_along_axis(own, tokens_BT[:, 1:, None], axis=-1)[..., 0] * weights_BT[:, 1:], axis=1)


def _continued(params, model: ModelConfig, ids: Sequence[Sequence[int]], lengths: np.ndarray, cache) -> np.ndarray:
    width = max(2, max(map(len, ids)))
    tokens, weights = np.zeros((len(ids), width), np.int32), np.zeros((len(ids), width), np.float32)
    for place, own in enumerate(ids):
        tokens[place, :len(own)], weights[place, :len(own)] = own, 1
    return np.asarray(_rest(params, model, tokens, lengths[:, None] + np.arange(width), weights, cache))
