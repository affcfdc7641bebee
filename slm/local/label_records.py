"""Annotation by a model with label heads: the labels of each record and the labelled spans in it, with confidences."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slm import checkpoint
from slm.inference.labeller import Labeller, Reading
from slm.local.records import Record
from slm.model.presets import LabelGroup
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
    tags = [group.name for group in labeller.groups.values() if group.kind == "tag"]
    for batch in _batches(records):
        texts = [normalize(record.text) for record in batch]
        for record, text, reading in zip(batch, texts, labeller.read(texts)):
            line: dict[str, Any] = {"id": record.id, "sha256": record.sha256, "cut_tokens": reading.cut}
            if classifies:
                line["labels"] = {group.name: _label(labeller, group, reading) for group in classifies}
            if tags:
                line["entities"] = [
                    {"text": text[span.start:span.end], "start": span.start, "end": span.end, "group": name,
                     "label": span.label, "confidence": round(span.confidence, 4)}
                    for name in tags for span in labeller.spans(name, reading)]
            yield line | {"finish": "stop"}


def _label(labeller: Labeller, group: LabelGroup, reading: Reading) -> dict[str, Any]:
    log_shares = labeller.log_shares(group.name, reading.text)
    label = labeller.chosen(group.name, log_shares)
    number = group.labels.index(label)
    return {"label": label, **({"text": group.texts[number]} if group.texts else {}),
            "confidence": round(float(np.exp(log_shares[number])), 4)}


def _batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    left = iter(records)
    while batch := list(itertools.islice(left, _TOGETHER)):
        yield batch
