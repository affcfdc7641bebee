"""What a corpus is made of: the files and TFDS folders that a config names, or the text the project brings."""

import dataclasses
import glob
import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from slm.corpus import sample
from slm.corpus.readers import FIELDS, Document, is_tfds, read

__all__ = ["FIELDS", "CorpusConfig", "CorpusJobConfig", "Document", "documents", "find", "fingerprint", "read"]


def find(patterns: Iterable[str]) -> list[Path]:
    """Files and TFDS folders of each pattern, sorted, each once; a pattern that finds none is an error."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]
        folders = {path for path in paths if is_tfds(path)}
        # A `**` also names the files inside a dataset, and the folders on the way.
        paths = [path for path in paths if path in folders or (path.is_file() and folders.isdisjoint(path.parents))]
        if not paths:
            raise FileNotFoundError(f"no file and no TFDS folder matches {pattern!r}: give an existing path or glob "
                                    f"(the current folder is {Path.cwd()})")
        found |= dict.fromkeys(paths)
    return list(found)


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Where the documents come from."""
    files: str = ""  # GLOB[,GLOB…]; empty: the text the project brings
    sample_megabytes: float = 4.0  # of it
    seed: int = 0  # of its generator
    validation_share: float = 0.05  # of documents, by a hash of their text

    def __post_init__(self):
        if not 0 < self.validation_share < 1:
            raise ValueError(f"corpus.validation_share={self.validation_share}: give a share between 0 and 1")


def documents(config: CorpusConfig) -> Iterator[Document]:
    """All documents that a config names, in order."""
    if not config.files:
        return (Document(**row) for row in sample.documents(config.sample_megabytes, config.seed))
    return (document for path in find(config.files.split(",")) for document in read(path))


def fingerprint(config: CorpusConfig) -> str:
    """A hash of the settings, and of the name and every byte of the files they read."""
    settings = dataclasses.asdict(config)
    patterns = settings.pop("files")
    parts = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for path in find(patterns.split(",")) if patterns else sample.files():
        inside = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        for name, each in inside if path.is_dir() else [(path.name, path)]:
            with open(each, "rb") as file:
                parts.update(name.encode() + hashlib.file_digest(file, "sha256").digest())
    return parts.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class CorpusJobConfig:
    """The corpus job."""
    job: str = "corpus"
    variant: str = "sample"
    corpus: CorpusConfig = CorpusConfig()
