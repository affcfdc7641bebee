"""Annotation by a model with label heads: the labels of each record and the labelled spans in it, with confidences."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slm import checkpoint
from slm.inference.labeller import Labeller
from slm.local.records import Record
from slm.text.normalize import normalize

_TOGETHER = 128  # records, so that texts of similar length are computed together


def identity(name: str) -> tuple[Path, str]:
    """(the workdir of a checkpoint, a hash of what is in it)."""
    workdir, step = checkpoint.resolve(name)
    return workdir, checkpoint.content_hash(workdir, step or checkpoint.read_about(workdir)["step"])


def lines(labeller: Labeller, records: Iterable[Record]) -> Iterator[dict[str, Any]]:
    """A line for each record, in order: {id, sha256, cut_tokens, labels, entities, finish}.

    `labels` is {group: {label, text, confidence}}, `entities` a list of {text, start, end, group, label, confidence} in
    characters of the normalised record. A group appears in one of them, by its kind.
    """
    classifies = [group for group in labeller.groups.values() if group.kind == "classify"]
    tags = [group for group in labeller.groups.values() if group.kind == "tag"]
    room = labeller.model_config.context - 1
    for batch in _batches(records):
        texts = [normalize(record.text) for record in batch]
        names = [group.name for group in classifies]
        shares = labeller.classify([(text, names) for text in texts]) if names else []
        spans = {group.name: labeller.tag(texts, group.name) for group in tags}
        for index, (record, text) in enumerate(zip(batch, texts)):
            line: dict[str, Any] = {"id": record.id, "sha256": record.sha256, "cut_tokens": 0}
            if classifies:  # tagging reads all of a long record, in windows
                line["cut_tokens"] = max(0, len(labeller.tokenizer.encode(text)) - room)
                line["labels"] = {}
                for group in classifies:
                    label = labeller.chosen(group.name, shares[index][group.name])
                    number = group.labels.index(label)
                    line["labels"][group.name] = {
                        "label": label, **({"text": group.texts[number]} if group.texts else {}),
                        "confidence": round(float(np.exp(shares[index][group.name][number])), 4)}
            if tags:
                line["entities"] = [
                    {"text": text[span.start:span.end], "start": span.start, "end": span.end, "group": name,
                     "label": span.label, "confidence": round(span.confidence, 4)}
                    for name in spans for span in spans[name][index]]
            yield line | {"finish": "stop"}


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    left = iter(records)
    while batch := list(itertools.islice(left, _TOGETHER)):
        yield batch
