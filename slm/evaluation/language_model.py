"""Bits per byte of texts, by source."""

import functools
import math
from pathlib import Path

import jax
import numpy as np

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig
from slm.data.loader import Batch, Rows
from slm.evaluation.candidates import Candidate
from slm.evaluation.models import Checkpoint
from slm.model.presets import ModelConfig
from slm.text.normalize import normalize
from slm.train import step, validation
from slm.train.step import StepConfig


class _Text:
    """The documents of a source as a stream in memory; see `data.stream.Stream`."""

    def __init__(self):
        self._ids: list[np.ndarray] = []
        self.bytes = 0

    def add(self, ids: list[int], size: int) -> None:
        self._ids.append(np.asarray(ids, np.int32))
        self.bytes += size

    def whole(self) -> "_Text":
        sizes = [len(own) for own in self._ids]
        self.starts = np.cumsum([0, *sizes[:-1]])
        self._flat = np.concatenate(self._ids)
        return self

    def __len__(self) -> int:
        return len(self._flat)

    def __getitem__(self, span: slice) -> np.ndarray:
        return self._flat[span]


def _sums(model: Checkpoint, batch: Batch) -> tuple:
    return _of_batch(model.engine.params, batch, model=model.engine.model_config)


@functools.partial(jax.jit, static_argnames="model")
def _of_batch(params, batch, model: ModelConfig):
    return step.evaluate(params, batch, config=StepConfig(loss_chunk=math.gcd(model.context, 64)), model=model)


def run(candidate: Candidate, config: CorpusConfig, workdir: Path, batch_tokens: int) -> dict:
    """{source: {bits_per_byte, bytes, tokens, documents, seeds}} of the texts that the config names, every document.

    The model sees its context at most; what is measured is text as it is normalised, so figures of any two models
    compare.
    """
    by_source: dict[str, list[float]] = {}
    counts: dict[str, dict] = {}
    for place in candidate.models.values():
        model = Checkpoint.load(Path(place))
        texts: dict[str, _Text] = {}
        number: dict[str, int] = {}
        for document in sources.documents(config):
            text = normalize(document.text)
            ids = [*model.tokenize(text), model.tokenizer.end_of_document]
            texts.setdefault(document.source, _Text()).add(ids, len(text.encode()))
            number[document.source] = number.get(document.source, 0) + 1
        context = model.engine.model_config.context
        rows = {name: Rows(own.whole(), context, model.tokenizer.end_of_document) for name, own in texts.items()}
        measured = validation.measure(
            functools.partial(_sums, model), rows, {name: own.bytes / len(own) for name, own in texts.items()},
            max(1, batch_tokens // context))
        for name, value in measured["bits_per_byte_by_source"].items():
            by_source.setdefault(name, []).append(value)
            counts[name] = {"bytes": texts[name].bytes, "tokens": len(texts[name]), "documents": number[name]}
    found = {name: {"bits_per_byte": sum(own) / len(own), **counts[name], "seeds": len(own)}
             for name, own in by_source.items()}
    lines = ["| source | bits per byte | documents | bytes |", "|---|---:|---:|---:|"]
    lines += [f"| {name} | {own['bits_per_byte']:.4f} | {own['documents']:,} | {own['bytes']:,} |"
              for name, own in found.items()]
    print("\n".join(lines))
    return found
