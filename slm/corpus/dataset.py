"""The corpus on disk: a TFDS dataset in ArrayRecord, written and read without TensorFlow."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from slm.corpus.sources import FIELDS, Document
from slm.files import write_json
from slm.text.normalize import normalize

NAME = "corpus"
VERSION = 3  # raise it when the same documents make another corpus
SPLITS = ("train", "validation")
REPORT_FILE = "report.json"
_DOCUMENTS_A_SHARD = 100_000


def split_of(text: str, validation_share: float) -> str:
    """The split of a normalised text, by its hash: it does not change when other documents come or go."""
    position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "validation" if position < validation_share else "train"


def digest(text: str) -> bytes:
    """Sixteen bytes that identify a text."""
    return hashlib.sha256(text.encode()).digest()[:16]


def features():
    """The features of a document; `quality` is a classifier's score, NaN without a classifier."""
    import tensorflow_datasets as tfds  # late: it takes longer to import than a small corpus to write
    return tfds.features.FeaturesDict(
        {name: tfds.features.Text() for name in FIELDS} | {"quality": tfds.features.Scalar(np.float32)})


def write(documents: Iterable[Document], folder: Path, validation_share: float) -> dict:
    """Normalises, drops empty texts and exact duplicates, and writes the rest as a TFDS dataset.

    Returns:
      The report, also in `report.json`: documents and characters in and out, drops by reason, splits, sources, and
      how often each template of a wiki that shows no text was dropped.

    Raises:
      ValueError: a text with a lone surrogate, or a split without documents.
    """
    folder.mkdir(parents=True, exist_ok=True)
    feature = features()
    shards = {split: _Shards(folder, split) for split in SPLITS}
    seen: set[bytes] = set()
    count: Counter[str] = Counter()
    dropped: Counter[str] = Counter()
    by_source: Counter[str] = Counter()
    templates: Counter[str] = Counter()
    for document in documents:
        try:
            text = normalize(document.text)
        except ValueError as error:
            location = document.location or f"document {count['documents_in'] + 1:,}"
            raise ValueError(f"{location}: {error}") from None
        count["documents_in"] += 1
        count["characters_in"] += len(document.text)
        templates.update(document.dropped_templates)
        key = digest(text)
        if not text.strip() or key in seen:
            dropped["empty" if not text.strip() else "duplicate"] += 1
            continue
        seen.add(key)
        split = split_of(text, validation_share)
        row = {name: getattr(document, name) for name in FIELDS}
        shards[split].add(feature.serialize_example({**row, "text": text, "quality": np.nan}))
        count["documents_out"] += 1
        count["characters_out"] += len(text)
        count["bytes_out"] += len(text.encode())
        by_source[document.source] += 1
    count |= to_tfds(folder, {split: shards[split].close() for split in SPLITS}, validation_share)
    report = {**count, "dropped": dict(dropped), "dropped_templates": dict(templates.most_common()),
              "by_source": {source: {"documents_out": number} for source, number in by_source.items()}}
    write_json(folder / REPORT_FILE, report)
    return report


def to_tfds(folder: Path, shards: Mapping[str, Sequence[tuple[Path, int]]], validation_share: float) -> dict[str, int]:
    """Turns ArrayRecord files into a TFDS dataset: renames them as TFDS does, and writes its metadata.

    Args:
      shards: split → files of `folder`, each with its number of documents.

    Returns:
      {"documents_SPLIT": number of documents}.

    Raises:
      ValueError: a split without documents.
    """
    import tensorflow_datasets as tfds
    counts = {f"documents_{split}": sum(length for _, length in shards[split]) for split in SPLITS}
    for split in SPLITS:
        if not counts[f"documents_{split}"]:
            raise ValueError(f"the corpus of {sum(counts.values())} documents leaves none for {split} (validation "
                             f"share {validation_share}): give more documents, or another corpus.validation_share")
    infos = []
    for split in SPLITS:
        template = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(folder), template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name=NAME, split=split, filetype_suffix="array_record")
        number, size = len(shards[split]), 0
        for index, (path, _) in enumerate(shards[split]):
            target = Path(template.sharded_filepath(shard_index=index, num_shards=number))
            if not target.exists():  # renamed by a run that was killed
                path.rename(target)
            size += target.stat().st_size
        infos.append(tfds.core.SplitInfo(name=split, shard_lengths=[length for _, length in shards[split]],
                                         num_bytes=size, filename_template=template))
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features(), version="1.0.0", check_data=False,
        description="Documents for pretraining of Japanese clinical language models.", split_infos=infos)
    return counts


def read(folder: Path, split: str) -> Sequence[dict[str, bytes]]:
    """A split's documents by index; texts are UTF-8 bytes, as TFDS returns them."""
    import tensorflow_datasets as tfds
    return tfds.builder_from_directory(folder).as_data_source(split)


class _Shards:
    """The ArrayRecord files of one split; `to_tfds` renames them, as their names contain their number."""

    def __init__(self, folder: Path, split: str):
        self._folder, self._split = folder, split
        self._files: list[tuple[Path, int]] = []
        self._writer: array_record_module.ArrayRecordWriter | None = None

    def add(self, record: bytes) -> None:
        if self._writer is None or self._files[-1][1] == _DOCUMENTS_A_SHARD:
            self.close()
            path = self._folder / f"{NAME}-{self._split}.array_record-{len(self._files):05d}.writing"
            self._files.append((path, 0))
            self._writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        self._writer.write(record)
        path, length = self._files[-1]
        self._files[-1] = path, length + 1

    def close(self) -> list[tuple[Path, int]]:
        """Closes the file; returns all of them, each with its number of documents."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None
        return self._files
