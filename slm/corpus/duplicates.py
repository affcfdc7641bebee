"""Near-duplicates by datatrove's disk-based MinHash over n-grams of morphemes, and the choice of the one to keep."""

import contextlib
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from datatrove.data import Document as Item
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupSignature,
)
from datatrove.utils.hashing import HashConfig
from datatrove.utils.word_tokenizers import WordTokenizer

from slm.corpus.steps import DUPLICATES
from slm.text.morphology import Morphology
from slm.text.segmented_text import SegmentedText

# 14 bands of 8 hashes: a pair whose 5-grams overlap by s (Jaccard) is found with probability 1 − (1 − s⁸)¹⁴.
CONFIG = MinhashConfig(n_grams=5, num_buckets=14, hashes_per_bucket=8,
                       hash_config=HashConfig(precision=64, hash_fc="sha1"))
_CHUNK = 4096  # n-grams hashed at a time: 112 hashes each
_LINES = 1024  # signatures read at a time


class MeCabTokenizer(WordTokenizer):
    """MeCab as datatrove's word tokenizer."""

    def word_tokenize(self, text: str) -> list[str]:
        return Morphology().split(text)

    def sent_tokenize(self, text: str) -> list[str]:
        return re.findall("[^。]*。?", text)[:-1]

    def span_tokenize(self, text: str) -> list[tuple[int, int]]:
        return [match.span() for match in re.finditer("[^。]+。?|。", text)]


class Signatures(MinhashDedupSignature):
    """datatrove's first stage, on the morphemes that the rules have read already."""
    name = "minhash"
    _segmented: SegmentedText

    def __init__(self, folder: Path):
        super().__init__(str(folder), CONFIG, language=MeCabTokenizer())

    def run(self, data: Iterator[Item], rank: int = 0, world_size: int = 1):
        def remembered():
            for doc in data:
                self._segmented = doc.metadata["segmented"]
                yield doc
        return super().run(remembered(), rank, world_size)

    def track_time(self, unit: str | None = None):
        return contextlib.nullcontext()  # datatrove's would also count the steps before this one

    def get_shingles(self, text: str) -> np.ndarray:
        with self.stats.time_stats:
            return np.unique(self._segmented.ngrams(self.config.n_grams)).reshape(-1, 1)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """As datatrove's, but a bounded number of n-grams at a time: a novel would take a gigabyte."""
        with self.stats.time_stats:
            parts = [super(Signatures, self).get_signature(shingles[start:start + _CHUNK])
                     for start in range(0, len(shingles), _CHUNK)]
            return np.min(np.array(parts, np.uint64), axis=0).tolist()


def _raise_file_limit() -> None:
    """datatrove opens a file of every task at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Pairs(MinhashDedupBuckets):
    """datatrove's second stage: documents that share a band of hashes.

    A process that runs it imports this module, and with it `steps`, which silences datatrove's log.
    """
    name = "pairs"

    def __init__(self, signatures: Path, folder: Path):
        super().__init__(str(signatures), str(folder), config=CONFIG, lines_to_buffer=_LINES)

    def run(self, data: None = None, rank: int = 0, world_size: int = 1):
        _raise_file_limit()
        return super().run(data, rank, world_size)


class Clusters(MinhashDedupCluster):
    """datatrove's third stage: clusters of documents that are nearly the same."""
    name = "clusters"

    def __init__(self, pairs: Path, folder: Path):
        super().__init__(str(pairs), str(folder), config=CONFIG, save_cluster_id=True, lines_to_buffer=_LINES)

    def run(self, data: None = None, rank: int = 0, world_size: int = 1):
        _raise_file_limit()
        return super().run(data, rank, world_size)


class Choose(PipelineStep):
    """Names the documents to drop: copies of the same text, then all of a cluster but the best.

    The best has the highest score; of equals the longest text, then the first. Writes a uint8 array `RANK.npy` for
    each task, one number a document: 0 keep, 1 duplicate, 2 near-duplicate.
    """
    type, name = "DEDUP", "choose"

    def __init__(self, kept: Path, clusters: Path | None, folder: Path, tasks: int):
        super().__init__()
        self.kept, self.clusters, self.folder, self.tasks = kept, clusters, folder, tasks

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:
        facts = [np.load(self.kept / f"{task:05d}.npy") for task in range(self.tasks)]
        starts = np.concatenate([[0], np.cumsum([len(part) for part in facts])])
        every = np.concatenate(facts)
        reasons = np.zeros(len(every), np.uint8)
        reasons[_copies(every["digest"])] = _code("duplicate")
        if self.clusters:
            cluster = np.full(len(every), -1, np.int64)
            for task in range(self.tasks):
                path = self.clusters / f"{task:06d}.clusters"
                if path.exists():
                    table = np.fromfile(path, "<u4").reshape(-1, 2)
                    cluster[starts[task] + table[:, 0].astype(np.int64)] = table[:, 1]
            reasons[_worse(cluster, every, reasons == 0)] = _code("near_duplicate")
        self.folder.mkdir(parents=True, exist_ok=True)
        for task in range(self.tasks):
            np.save(self.folder / f"{task:05d}.npy", reasons[starts[task]:starts[task + 1]])


def _code(reason: str) -> int:
    return next(code for code, name in DUPLICATES.items() if name == reason)


def _copies(digests: np.ndarray) -> np.ndarray:
    """Indices of the documents whose text has occurred before."""
    _, first = np.unique(digests, return_index=True)
    return np.delete(np.arange(len(digests)), first)


def _worse(cluster: np.ndarray, facts: np.ndarray, undecided: np.ndarray) -> np.ndarray:
    """Indices of all members of each cluster but its best."""
    members = np.flatnonzero((cluster >= 0) & undecided)
    quality = np.nan_to_num(facts["quality"][members], nan=0.0)
    order = members[np.lexsort((members, -facts["length"][members].astype(np.int64), -quality, cluster[members]))]
    later = np.r_[False, cluster[order][1:] == cluster[order][:-1]] if len(order) else np.zeros(0, bool)
    return order[later]
