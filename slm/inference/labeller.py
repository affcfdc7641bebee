"""A model with label heads ready to answer: the label of a text, and the labelled spans in it, with probabilities."""

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from slm import checkpoint
from slm.data import labelled
from slm.data.labelled import Window
from slm.model import decoder, label_heads
from slm.model.presets import LabelGroup, ModelConfig
from slm.text.tokenizer import Tokenizer

_MULTIPLE = 32  # of a padded row: few shapes, so few compiles


@dataclasses.dataclass(frozen=True)
class Decision:
    """How a group's answer is taken from its logits; chosen on held-out texts.

    Attributes:
      temperature: logits are divided by it, so that probabilities are as often right as they say (Guo et al. 2017).
      bias: added to each class's log-probability before one is chosen; empty: none.
      median: of labels in order, the median of their probabilities is chosen in place of the likeliest.
    """
    temperature: float = 1.0
    bias: tuple[float, ...] = ()
    median: bool = False

    def choose(self, log_shares: np.ndarray) -> np.ndarray:
        """The chosen class of each row of log-probabilities [..., C]."""
        biased = log_shares + np.asarray(self.bias or 0.0)
        if not self.median:
            return biased.argmax(-1)
        shares = np.exp(biased - biased.max(-1, keepdims=True))
        return (np.cumsum(shares / shares.sum(-1, keepdims=True), -1) < 0.5).sum(-1)


class Found(NamedTuple):
    """A labelled span, in characters of the text as written, and how sure the model is of its least certain token."""
    start: int
    end: int
    label: str
    confidence: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """A text that a model has read.

    Attributes:
      text: logits [C] that the text is classified by.
      windows: with logits [tokens, C] that it is tagged by.
      cut: tokens left out of its middle where it is classified.
    """
    text: np.ndarray
    windows: list[tuple[Window, np.ndarray]]
    cut: int


class Labeller:
    """Answers the label groups of a model. Texts of similar length are computed together."""

    def __init__(self, params: decoder.Params, model_config: ModelConfig, tokenizer: Tokenizer,
                 decisions: Mapping[str, Decision] | None = None, batch_tokens: int = 8192):
        self.model_config, self.tokenizer, self.batch_tokens = model_config, tokenizer, batch_tokens
        self.groups = {group.name: group for group in model_config.label_groups}
        self.decisions = dict(decisions or {})
        self._params = params

    @classmethod
    def load(cls, workdir: Path, batch_tokens: int = 8192) -> "Labeller":
        """A fine-tuning's newest checkpoint."""
        params, model_config, tokenizer = checkpoint.read(workdir, labels=True)
        decisions = checkpoint.read_about(workdir).get("decisions", {})
        return cls(jax.tree.map(jnp.asarray, decoder.unrolled(params)), model_config, tokenizer,
                   {name: Decision(**values | {"bias": tuple(values["bias"])}) for name, values in decisions.items()},
                   batch_tokens)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """What all groups are answered from: each text is tokenised once, and passed through the model once."""
        limit = self.model_config.context
        kinds = {group.kind for group in self.groups.values()}
        windows: list[Window] = []
        parts: list[tuple[int, int, int]] = []  # of each text: the window it is classified by, those it is tagged by
        cut = []
        for text in texts:
            tokens = labelled.Tokens.of(self.tokenizer, text)
            first = len(windows)
            windows += tokens.windows(limit) if "tag" in kinds else []
            last = len(windows)
            if "classify" in kinds and last - first != 1:  # a text of one window is classified by it
                windows.append(tokens.whole(limit))
            parts.append((len(windows) - 1, first, last))
            cut.append(max(0, len(tokens.ids) - limit + 1) if "classify" in kinds else 0)
        logits = dict(self._logits(windows))
        return [Reading(logits[whole][0], [(windows[index], logits[index][1]) for index in range(first, last)], size)
                for (whole, first, last), size in zip(parts, cut)]

    def log_shares(self, name: str, logits: np.ndarray) -> np.ndarray:
        """Log-probabilities of a group's classes from logits of all classes [..., C], calibrated."""
        if name not in self.groups:
            raise ValueError(f"this model has no labels for {name!r}: it has {', '.join(self.groups)}")
        columns = label_heads.columns(self.model_config, list(self.groups).index(name))
        scaled = logits[..., columns].astype(np.float64) / self.decision(name).temperature
        return scaled - np.logaddexp.reduce(scaled, axis=-1, keepdims=True)

    def chosen(self, name: str, log_shares: np.ndarray) -> str:
        """The label that the group's decision takes."""
        return self.groups[name].labels[int(self.decision(name).choose(log_shares))]

    def spans(self, name: str, reading: Reading) -> list[Found]:
        """The spans of a group in a text, in order."""
        return [span for window, logits in reading.windows
                for span in decode_spans(self.groups[name], self.decision(name), window, self.log_shares(name, logits))]

    def decision(self, name: str) -> Decision:
        return self.decisions.get(name, Decision())

    def _logits(self, windows: Sequence[Window]) -> Iterator[tuple[int, tuple[np.ndarray, np.ndarray]]]:
        """(index, logits of the text [C] and of its tokens [tokens, C]) of windows."""
        order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
        while order:
            length = -(-len(windows[order[-1]].ids) // _MULTIPLE) * _MULTIPLE
            most = 1 << max(0, (self.batch_tokens // length).bit_length() - 1)
            rows = [order.pop() for _ in range(min(len(order), most))]
            count = 1 << (len(rows) - 1).bit_length()
            batch = {"inputs": np.full((count, length), self.tokenizer.end_of_document, np.int32),
                     "segments": np.zeros((count, length), np.int32),
                     "positions": np.broadcast_to(np.arange(length, dtype=np.int32), (count, length))}
            for row, index in enumerate(rows):
                size = len(windows[index].ids)
                batch["inputs"][row, :size], batch["segments"][row, :size] = windows[index].ids, 1
            texts, tokens = map(np.asarray, _forward(self._params, self.model_config, batch))
            for row, index in enumerate(rows):
                yield index, (texts[row], tokens[row, :len(windows[index].ids)])


@functools.partial(jax.jit, static_argnums=1)
def _forward(params: decoder.Params, model_config: ModelConfig, batch: dict) -> tuple[jax.Array, jax.Array]:
    return label_heads.all_logits(params, model_config, batch)


def decode_spans(group: LabelGroup, decision: Decision, window: Window, log_shares: np.ndarray) -> list[Found]:
    """The likeliest classes in which an inside follows only its own label (Viterbi), as spans."""
    classes = np.arange(group.classes)
    inside = (classes > 0) & (classes % 2 == 0)
    allowed = ~inside[None, :] | (classes[:, None] == classes[None, :]) | (classes[:, None] == classes[None, :] - 1)
    step = np.where(allowed, 0.0, -np.inf)
    scores = (log_shares + np.asarray(decision.bias or 0.0))[1:]  # the first token is no part of the text
    if not len(scores):
        return []
    best = np.where(inside, -np.inf, scores[0])
    back = []
    for row in scores[1:]:
        paths = best[:, None] + step
        back.append(paths.argmax(0))
        best = paths.max(0) + row
    path = [int(best.argmax())]
    for previous in reversed(back):
        path.append(int(previous[path[-1]]))
    found: list[Found] = []
    for token, chosen in enumerate(reversed(path), 1):
        if not chosen:
            continue
        start, end = window.spans[token]
        confidence = float(np.exp(log_shares[token, chosen]))
        if chosen % 2:
            found.append(Found(start, end, group.labels[chosen // 2], confidence))
        else:
            found[-1] = found[-1]._replace(end=end, confidence=min(found[-1].confidence, confidence))
    return found
