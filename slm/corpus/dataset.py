"""The corpus on disk: a TFDS dataset in ArrayRecord, written and read without TensorFlow."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from array_record.python import array_record_module

from slm.corpus.sources import FIELDS, Document
from slm.text.normalize import normalize

NAME = "corpus"
SPLITS = ("train", "validation")
REPORT_FILE = "report.json"
_DOCUMENTS_A_SHARD = 100_000


def split_of(text: str, validation_share: float) -> str:
    """The split of a normalised text: by its hash, so that it never moves when other documents come or go."""
    position = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64
    return "validation" if position < validation_share else "train"


def write(documents: Iterable[Document], folder: Path, validation_share: float) -> dict:
    """Normalises, drops empty texts and exact duplicates, and writes the rest as a TFDS dataset.

    Returns:
      The report, also in `report.json`: documents and characters in and out, drops by reason, splits, sources.
    """
    import tensorflow_datasets as tfds  # late: it takes longer to import than a small corpus to write
    folder.mkdir(parents=True, exist_ok=True)
    features = tfds.features.FeaturesDict({name: tfds.features.Text() for name in FIELDS})
    shards = {split: _Shards(folder, split) for split in SPLITS}
    seen: set[bytes] = set()
    count, dropped, by_source = Counter(), Counter(), Counter()
    for document in documents:
        try:
            text = normalize(document.text)
        except ValueError as error:
            raise ValueError(f"document {document.id!r} of {document.source!r}: {error}") from None
        count["documents_in"] += 1
        count["characters_in"] += len(document.text)
        digest = hashlib.sha256(text.encode()).digest()[:16]
        if not text.strip() or digest in seen:
            dropped["empty" if not text.strip() else "duplicate"] += 1
            continue
        seen.add(digest)
        split = split_of(text, validation_share)
        row = {name: getattr(document, name) for name in FIELDS}
        shards[split].add(features.serialize_example({**row, "text": text}))
        count["documents_out"] += 1
        count["characters_out"] += len(text)
        count["bytes_out"] += len(text.encode())
        count[f"documents_{split}"] += 1
        by_source[document.source] += 1
    for split in SPLITS:
        if not count[f"documents_{split}"]:
            raise ValueError(f"the corpus of {count['documents_out']} documents leaves none for {split} (validation "
                             f"share {validation_share}): give more documents, or another corpus.validation_share")
    tfds.folder_dataset.write_metadata(
        data_dir=folder, features=features, version="1.0.0", check_data=False,
        description="Documents for pretraining: normalised, exact duplicates dropped.",
        split_infos=[shards[split].close(tfds) for split in SPLITS])
    report = {**count, "dropped": dict(dropped), "by_source": dict(by_source)}
    (folder / REPORT_FILE).write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return report


def read(folder: Path, split: str) -> Sequence[dict[str, bytes]]:
    """A split's documents by index; the values are UTF-8 bytes, as TFDS gives them."""
    import tensorflow_datasets as tfds
    return tfds.builder_from_directory(folder).as_data_source(split)


class _Shards:
    """The ArrayRecord files of one split; their names tell how many there are, so they are set at the end."""

    def __init__(self, folder: Path, split: str):
        self._folder, self._split = folder, split
        self._lengths: list[int] = []
        self._writer = None

    def add(self, record: bytes) -> None:
        if self._writer is None or self._lengths[-1] == _DOCUMENTS_A_SHARD:
            self._finish()
            self._lengths.append(0)
            self._writer = array_record_module.ArrayRecordWriter(
                str(self._path(len(self._lengths) - 1)), "group_size:1")
        self._writer.write(record)
        self._lengths[-1] += 1

    def close(self, tfds):
        """Names the files for good; returns their `SplitInfo`."""
        self._finish()
        template = tfds.core.ShardedFileTemplate(
            data_dir=tfds.core.Path(self._folder), template="{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
            dataset_name=NAME, split=self._split, filetype_suffix="array_record")
        number = len(self._lengths)
        size = 0
        for index in range(number):
            path = self._path(index).rename(template.sharded_filepath(shard_index=index, num_shards=number))
            size += path.stat().st_size
        return tfds.core.SplitInfo(name=self._split, shard_lengths=self._lengths, num_bytes=size,
                                   filename_template=template)

    def _path(self, index: int) -> Path:
        return self._folder / f"{NAME}-{self._split}.array_record-{index:05d}.writing"

    def _finish(self) -> None:
        if self._writer is not None:
            self._writer.close()
