"""Bits per byte of texts, by source."""

import dataclasses
import functools
import math
from collections import defaultdict
from pathlib import Path
from typing import cast

import jax
import numpy as np

from slm.corpus import sources
from slm.corpus.sources import CorpusConfig
from slm.data.loader import Batch, Rows
from slm.data.stream import Stream
from slm.evaluation.candidates import Candidate
from slm.files import markdown_table
from slm.model.presets import ModelConfig
from slm.scoring.models import Checkpoint
from slm.text.normalize import normalize
from slm.train import step, validation
from slm.train.step import StepConfig


@dataclasses.dataclass
class _Text:
    """The documents of a source as a stream in memory; see `data.stream.Stream`."""
    documents: list[np.ndarray] = dataclasses.field(default_factory=list)
    bytes: int = 0

    @functools.cached_property
    def _tokens(self) -> np.ndarray:
        return np.concatenate(self.documents)

    @functools.cached_property
    def starts(self) -> np.ndarray:
        return np.cumsum([0, *map(len, self.documents[:-1])])

    def __len__(self) -> int:
        return len(self._tokens)

    def __getitem__(self, span: slice) -> np.ndarray:
        return self._tokens[span]


@functools.partial(jax.jit, static_argnames="model_config")
def _sums(params, batch: Batch, model_config: ModelConfig) -> tuple:
    config = StepConfig(loss_chunk=math.gcd(model_config.context, 64))
    return step.evaluate(params, batch, config=config, model=model_config)


def run(candidate: Candidate, config: CorpusConfig, workdir: Path, batch_tokens: int) -> dict:
    """{source: {bits_per_byte, bytes, tokens, documents, seeds}} of every document that the config names.

    The model sees at most its context. Bits are per byte of the normalised text, so any two models compare.
    """
    values: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, dict] = {}
    for path in candidate.models.values():
        model = Checkpoint.load(Path(path))
        params, model_config, end = model.engine.params, model.engine.model_config, model.tokenizer.end_of_document
        texts: dict[str, _Text] = defaultdict(_Text)
        for document in sources.documents(config):
            text = normalize(document.text)
            texts[document.source].documents.append(np.array([*model.tokenize(text), end], np.int32))
            texts[document.source].bytes += len(text.encode())
        measured = validation.measure(
            functools.partial(_sums, params, model_config=model_config),
            {name: Rows(cast(Stream, text), model_config.context, end) for name, text in texts.items()},
            {name: text.bytes / len(text) for name, text in texts.items()},
            max(1, batch_tokens // model_config.context))
        for name, value in measured["bits_per_byte_by_source"].items():
            values[name].append(value)
            counts[name] = {"bytes": texts[name].bytes, "tokens": len(texts[name]),
                            "documents": len(texts[name].documents)}
    result = {name: {"bits_per_byte": sum(seeds) / len(seeds), **counts[name], "seeds": len(seeds)}
              for name, seeds in values.items()}
    print(markdown_table(["source", "bits per byte", "documents", "bytes"], [
        [name, f"{line['bits_per_byte']:.4f}", f"{line['documents']:,}", f"{line['bytes']:,}"]
        for name, line in result.items()]), end="")
    return result
