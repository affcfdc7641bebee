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

    def classify(self, texts: Sequence[tuple[str, Sequence[str]]]) -> list[dict[str, np.ndarray]]:
        """For each (text, names of groups): {group: log-probabilities [labels]}, calibrated."""
        windows = [labelled.windows(self.tokenizer, text, self.model_config.context, cut_middle=True)[0]
                   for text, _ in texts]
        asked = [[self._number(name) for name in names] for _, names in texts]
        results: list[dict[str, np.ndarray]] = [{} for _ in texts]
        for index, logits in self._logits(windows, asked):
            for position, name in enumerate(texts[index][1]):
                results[index][name] = self._log_shares(name, logits[position])
        return results

    def chosen(self, name: str, log_shares: np.ndarray) -> str:
        """The label that the group's decision takes."""
        return self.groups[name].labels[int(self.decision(name).choose(log_shares))]

    def tag(self, texts: Sequence[str], name: str) -> list[list[Found]]:
        """The spans of a group in each text, in order."""
        spans: list[list[Found]] = [[] for _ in texts]
        for index, window, log_shares in self.tag_log_shares(texts, name):
            spans[index] += decode_spans(self.groups[name], self.decision(name), window, log_shares)
        return [sorted(of_text) for of_text in spans]

    def tag_log_shares(self, texts: Sequence[str], name: str) -> list[tuple[int, Window, np.ndarray]]:
        """(index of the text, a window of it, log-probabilities [tokens, classes]) of all windows."""
        windows = [(index, window) for index, text in enumerate(texts)
                   for window in labelled.windows(self.tokenizer, text, self.model_config.context, cut_middle=False)]
        number = self._number(name)
        logits = dict(self._logits([window for _, window in windows], [[number]] * len(windows), everywhere=True))
        return [(index, window, self._log_shares(name, logits[position]))
                for position, (index, window) in enumerate(windows)]

    def decision(self, name: str) -> Decision:
        return self.decisions.get(name, Decision())

    def _number(self, name: str) -> int:
        if name not in self.groups:
            raise ValueError(f"this model has no labels for {name!r}: it has {', '.join(self.groups)}")
        return list(self.groups).index(name)

    def _log_shares(self, name: str, logits: np.ndarray) -> np.ndarray:
        columns = label_heads.columns(self.model_config, self._number(name))
        scaled = logits[..., columns].astype(np.float64) / self.decision(name).temperature
        scaled -= scaled.max(-1, keepdims=True)
        return scaled - np.log(np.exp(scaled).sum(-1, keepdims=True))

    def _logits(self, windows: Sequence[Window], asked: Sequence[Sequence[int]], everywhere: bool = False
                ) -> Iterator[tuple[int, np.ndarray]]:
        """(index, logits [positions, C]) of windows: of each token, or of each group that is asked."""
        order = sorted(range(len(windows)), key=lambda index: len(windows[index].ids))
        while order:
            length = -(-max(len(windows[order[-1]].ids), max(map(len, asked))) // _MULTIPLE) * _MULTIPLE
            rows = [order.pop() for _ in range(min(len(order), max(1, self.batch_tokens // length)))]
            count = 1 << (len(rows) - 1).bit_length()
            batch = {name: np.zeros((count, length), np.int32)
                     for name in ("inputs", "segments", "positions", "groups")}
            batch["positions"][:] = np.arange(length)
            for row, index in enumerate(rows):
                ids, numbers = windows[index].ids, asked[index]
                size = max(len(ids), len(numbers))  # as in training, where a group's answer needs a position
                batch["inputs"][row] = self.tokenizer.end_of_document
                batch["inputs"][row, :len(ids)] = ids
                batch["segments"][row, :size] = 1
                batch["groups"][row, :len(numbers)] = numbers
                if everywhere:
                    batch["groups"][row] = numbers[0]
            logits = np.asarray(_forward(self._params, self.model_config, batch))
            for row, index in enumerate(rows):
                yield index, logits[row, :len(windows[index].ids) if everywhere else len(asked[index])]


@functools.partial(jax.jit, static_argnums=1)
def _forward(params: decoder.Params, model_config: ModelConfig, batch: dict) -> jax.Array:
    return label_heads.logits(params, model_config, batch)


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
