"""Documents with their morpheme boundaries, in ArrayRecord shards: MeCab runs once for each corpus and dictionary.

Any number of vocabularies are trained on a shard set, and any number of token streams are built from it. Curation has
run MeCab before, with ipadic and before masking; its boundaries are not those of the final text under the tokenizer's
dictionary, so they are not reused.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from array_record.python import array_record_module

from slm import parallel
from slm.corpus import dataset
from slm.files import read_json, write_json, written_aside
from slm.text.morphology import Morphology
from slm.text.normalize import BOUNDARY

MANIFEST_FILE = "manifest.json"
VERSION = 1  # raise it when the same corpus and dictionary give other shards
_SHARD_BYTES, _MOST_SHARDS = 4_000_000, 1024
_READ_AHEAD = 256


class SegmentedDocument(NamedTuple):
    id: str
    source: str
    morphemes: list[str]


def write(corpus: Path, user_dictionary: Path | None, folder: Path, processes: int = 0) -> None:
    """Segments every document of `corpus` with MeCab into the shards of `folder`.

    Existing shards are kept, so that a killed run resumes.
    """
    total = read_json(corpus / dataset.REPORT_FILE)["bytes_out"]
    number = max(1, min(_MOST_SHARDS, -(-total // _SHARD_BYTES)))
    work = [(corpus, user_dictionary, folder, split, index, number)
            for split in dataset.SPLITS for index in range(number)]
    shards = parallel.run(_write_shard, work, "segment", processes)
    write_json(folder / MANIFEST_FILE, {"dictionary": Morphology(user_dictionary).fingerprint, "shards": dict(shards)})


def _write_shard(corpus: Path, user_dictionary: Path | None, folder: Path, split: str, index: int,
                 number: int) -> tuple[str, int]:
    path = folder / f"{split}-{index:05d}-of-{number:05d}.array_record"
    if not path.exists():
        morphology = Morphology(user_dictionary)
        documents = dataset.read(corpus, split)
        with written_aside(path) as aside:
            writer = array_record_module.ArrayRecordWriter(str(aside), "group_size:16")
            for position in range(index, len(documents), number):
                row = documents[position]
                record = {"id": row["id"].decode(), "source": row["source"].decode(),
                          "text": BOUNDARY.join(morphology.split(row["text"].decode()))}
                writer.write(json.dumps(record, ensure_ascii=False).encode())
            writer.close()
    return path.name, path.stat().st_size


def shards(folder: Path, split: str) -> list[Path]:
    """The shard files of a split.

    Raises:
      ValueError: a shard is missing or has another size than its manifest says.
    """
    manifest = read_json(folder / MANIFEST_FILE)
    names = [name for name in manifest["shards"] if name.startswith(f"{split}-")]
    for name in names:
        refuse_truncated(folder / name, manifest["shards"][name])
    return [folder / name for name in names]


def read(shard: Path) -> Iterator[SegmentedDocument]:
    """The documents of one shard, in order."""
    reader = array_record_module.ArrayRecordReader(str(shard))
    for start in range(0, reader.num_records(), _READ_AHEAD):
        for record in reader.read(list(range(start, min(start + _READ_AHEAD, reader.num_records())))):
            row = json.loads(record)
            yield SegmentedDocument(row["id"], row["source"], row["text"].split(BOUNDARY))
    reader.close()


def refuse_truncated(path: Path, size: int) -> None:
    """Raises a `ValueError` unless the file has the size its manifest states."""
    actual = f"{path.stat().st_size} bytes" if path.exists() else "no such file"
    if actual != f"{size} bytes":
        raise ValueError(f"{path} is truncated or missing: its manifest says {size} bytes, on disk is {actual}; "
                         f"remove {path.parent} and run the same command to build it again")
