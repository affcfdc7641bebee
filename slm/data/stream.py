"""Segmented shards → one flat stream of uint16 tokens with document offsets, a set for each split and source.

Every document is followed by the end-of-document token. A token takes two bytes, rows may have any length without
repacking, and a position is one integer on any number of hosts.
"""

import bisect
import hashlib
import itertools
import json
import re
from collections import defaultdict
from pathlib import Path

import numpy as np
from array_record.python import array_record_module

from slm import parallel
from slm.corpus.dataset import SPLITS
from slm.files import copy_folder, read_json, write_json, write_text, written_aside
from slm.text.tokenizer import load_tokenizer
from slm.tokenization import segmented

MANIFEST_FILE, TOKENIZER = "manifest.json", "tokenizer"
VERSION = 3  # raise it when the same shards and tokenizer give another folder
_BLOCK = 4096  # tokens a record
_DOCUMENTS = 65536  # documents a record of offsets


def write(segmented_folder: Path, tokenizer_folder: Path, folder: Path, processes: int = 0) -> None:
    """Encodes every segmented shard; existing shards are kept, so that a killed run resumes.

    The tokenizer is copied to `folder`/tokenizer, so that a training reads only this folder.

    Raises:
      ValueError: the shards were segmented with another dictionary, or the vocabulary exceeds 65,536 pieces.
    """
    copy_folder(tokenizer_folder, folder / TOKENIZER)
    tokenizer = load_tokenizer(tokenizer_folder)
    dictionary = read_json(segmented_folder / segmented.MANIFEST_FILE)["dictionary"]
    expected = tokenizer.morphology.fingerprint if tokenizer.morphology else None
    if dictionary != expected:
        raise ValueError(f"{segmented_folder} was segmented with the dictionary {dictionary}, but the tokenizer "
                         f"{tokenizer_folder} uses {expected}: segment the corpus with the tokenizer's dictionary")
    if len(tokenizer) > 2**16:
        raise ValueError(f"{tokenizer_folder} has {len(tokenizer)} pieces, but a uint16 stream holds 65536: train "
                         "a smaller vocabulary")
    work = [(shard, tokenizer_folder, folder, split) for split in SPLITS
            for shard in segmented.shards(segmented_folder, split)]
    sets: dict[str, dict[str, list]] = {split: defaultdict(list) for split in SPLITS}
    for (_, _, _, split), by_source in zip(work, parallel.run(_write_shard, work, "tokenise", processes)):
        for source, shard in sorted(by_source.items()):
            sets[split][source].append(shard)
    manifest = {"tokenizer": tokenizer.fingerprint, "vocabulary_size": len(tokenizer),
                "end_of_document": tokenizer.end_of_document, "sets": sets}
    write_json(folder / MANIFEST_FILE, manifest)


def _write_shard(shard: Path, tokenizer_folder: Path, folder: Path, split: str) -> dict[str, dict]:
    """Writes a shard's tokens, one file a source; returns {source: its entry of the manifest}."""
    record = folder / f"{shard.stem}.json"
    if record.exists():
        return read_json(record)
    tokenizer = load_tokenizer(tokenizer_folder)
    tokens, documents = defaultdict(list), defaultdict(list)
    for document in segmented.read(shard):
        ids = np.asarray([*tokenizer.encode_morphemes(document.morphemes), tokenizer.end_of_document], np.uint16)
        tokens[document.source].append(ids)
        documents[document.source].append((len(ids), sum(len(m.encode()) for m in document.morphemes)))
    entries = {}
    for source in tokens:
        path = folder / split / _slug(source) / shard.name
        flat, table = np.concatenate(tokens[source]), np.asarray(documents[source], np.int64)
        _write_records(path, flat, _BLOCK)
        offsets = path.with_suffix(".offsets.array_record")
        _write_records(offsets, np.stack([np.cumsum(table[:, 0]) - table[:, 0], table[:, 1]], axis=1), _DOCUMENTS)
        entries[source] = {"path": str(path.relative_to(folder)), "tokens": len(flat), "documents": len(table),
                           "bytes": int(table[:, 1].sum()), "size": path.stat().st_size,
                           "offsets": str(offsets.relative_to(folder)), "offsets_size": offsets.stat().st_size}
    write_text(record, json.dumps(entries, ensure_ascii=False))
    return entries


def _write_records(path: Path, rows: np.ndarray, length: int) -> None:
    with written_aside(path) as aside:
        writer = array_record_module.ArrayRecordWriter(str(aside), "group_size:1,uncompressed")
        for start in range(0, len(rows), length):
            writer.write(rows[start:start + length].tobytes())
        writer.close()


def _slug(source: str) -> str:
    """A folder name; a hash distinguishes sources that differ only in the replaced characters."""
    safe = re.sub(r"[^0-9A-Za-z_-]+", "-", source)[:64]
    return safe if safe == source else f"{safe}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"


class Stream:
    """The tokens of one set as one long array.

    Attributes:
      starts: int64 [documents], the position of each document's first token; ascending.
      bytes: UTF-8 bytes of the normalised text, the denominator of bits per byte.
    """

    def __init__(self, folder: Path, shards: list[dict]):
        for shard in shards:
            segmented.refuse_truncated(folder / shard["path"], shard["size"])
            segmented.refuse_truncated(folder / shard["offsets"], shard["offsets_size"])
        self._readers = [array_record_module.ArrayRecordReader(str(folder / shard["path"])) for shard in shards]
        self._first = [0, *itertools.accumulate(shard["tokens"] for shard in shards)]
        self.bytes = sum(shard["bytes"] for shard in shards)
        self.starts = np.concatenate([
            first + _read_offsets(folder / shard["offsets"]) for first, shard in zip(self._first, shards)])

    def __len__(self) -> int:
        return self._first[-1]

    def __getitem__(self, span: slice) -> np.ndarray:
        """Tokens `span.start` … `span.stop`, uint16; shorter at the stream's end."""
        start, stop = span.start, min(span.stop, len(self))
        parts = []
        while start < stop:
            shard = bisect.bisect_right(self._first, start) - 1
            local, end = start - self._first[shard], min(stop, self._first[shard + 1]) - self._first[shard]
            blocks = range(local // _BLOCK, (end - 1) // _BLOCK + 1)
            tokens = np.frombuffer(b"".join(self._readers[shard].read(list(blocks))), np.uint16)
            parts.append(tokens[local - blocks[0] * _BLOCK:end - blocks[0] * _BLOCK])
            start = self._first[shard] + end
        return parts[0] if len(parts) == 1 else np.concatenate(parts or [np.zeros(0, np.uint16)])


def _read_offsets(path: Path) -> np.ndarray:
    reader = array_record_module.ArrayRecordReader(str(path))
    return np.frombuffer(b"".join(reader.read_all()), np.int64).reshape(-1, 2)[:, 0]


def read_manifest(folder: Path) -> dict:
    """The manifest of the stream in `folder`.

    Raises:
      FileNotFoundError: the folder holds no token stream.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        raise FileNotFoundError(f"{folder} holds no token stream ({path} is missing): name the folder that --prepare "
                                "printed, copied whole to this machine")
    return read_json(path)


def fingerprint(folder: Path) -> str:
    """A hash of the manifest: the same on every machine the stream is copied to."""
    return hashlib.sha256((folder / MANIFEST_FILE).read_bytes()).hexdigest()[:16]


def streams(folder: Path, split: str) -> dict[str, Stream]:
    """{source: its stream} of one split.

    Raises:
      ValueError: a truncated or missing shard.
    """
    return {source: Stream(folder, shards) for source, shards in sorted(read_manifest(folder)["sets"][split].items())}
