"""The sources of a corpus: the files and TFDS folders that a config names, or the bundled sample."""

import dataclasses
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal

from slm import files, sample
from slm.corpus.readers import FIELDS, Document, is_tfds, read

__all__ = ["FIELDS", "SAMPLE", "CorpusConfig", "Document", "SourceConfig", "documents", "find", "fingerprint", "paths",
           "read", "read_part", "with_source"]

SAMPLE = "sample"  # among file patterns: the bundled sample text


def find(patterns: str) -> list[Path]:
    """Files and TFDS folders of `GLOB[,GLOB…]`, those of each glob sorted, each once; a path that exists is not a glob.

    Raises:
      FileNotFoundError: nothing matches a pattern.
      ValueError: a link below `**` leads back to a folder above it.
    """
    return list(dict.fromkeys(path for pattern in split(patterns) for path in _find(pattern)))


def split(patterns: str, exists: Callable[[str], bool] = os.path.exists) -> list[str]:
    """The parts of a list with commas; of several that join to a path that exists, that path, commas included."""
    parts, result = patterns.split(","), []
    while parts:
        joined = [",".join(parts[:size]) for size in range(1, len(parts) + 1)]
        named = [text for text in reversed(joined) if text and exists(text)]
        # As `data,2024/*.csv`: a glob whose folder has a comma.
        named += [text for text in joined if not named and "," in text and files.literal_folder(text)[0].count(",")]
        result.append(named[0] if named else parts[0])
        parts = parts[result[-1].count(",") + 1:]
    return result


def _find(pattern: str) -> list[Path]:
    paths = [Path(name) for name in files.matches(pattern)]
    folders = {path for path in paths if is_tfds(path)}
    # A `**` also names the files inside a dataset, and the folders on the way.
    paths = [path for path in paths if path in folders or (path.is_file() and folders.isdisjoint(path.parents))]
    if not paths:
        raise FileNotFoundError(f"no file matches {pattern!r}: give an existing path or glob, or a TFDS folder "
                                f"(the current folder is {Path.cwd()})")
    return paths


ProfileName = Literal["auto", "web", "encyclopedia", "literature", "clinical", "textbook"]


@dataclasses.dataclass(frozen=True)
class SourceConfig:
    """One set of documents in a mixture."""
    name: str
    files: str  # GLOB[,GLOB…], or "sample": the bundled sample text
    profile: ProfileName = "auto"
    license: str = ""  # of documents that state none
    weight: float = 1.0  # epochs of this source for each epoch of a source of weight 1


@dataclasses.dataclass(frozen=True)
class CorpusConfig:
    """Where the documents come from, and how they are processed."""
    files: str = ""  # GLOB[,GLOB…] of your own text; empty, or "sample" among them: the bundled sample text
    sources: tuple[SourceConfig, ...] = ()  # several sets instead, each with a profile, a licence and a weight
    sample_megabytes: float = 4.0  # of the sample text
    seed: int = 0  # of its generator
    validation_share: float = 0.05  # of documents, by a hash of their text
    # Whether the rules of `pipeline` run. Otherwise text is only normalised and exact duplicates are dropped, so that
    # bits per byte never depend on filters.
    curated: bool = False
    # The rules for `files`. auto: by the format (a Wikipedia dump or TFDS folder, OSCAR), otherwise clinical, so that
    # no file name and no field of a file switches off the masking of names.
    profile: ProfileName = "auto"
    forbidden_licenses: str = ""  # NAME[,NAME…]: NC, ND, SA, unknown, or any part of a licence's name
    mask: bool = True  # personal information
    facilities: str = ""  # GLOB[,GLOB…] of lists of facilities (hospitals, clinics) to mask, one a line
    near_duplicates: bool = True  # also drops near duplicates, all but the best of each cluster
    benchmarks: str = ""  # GLOB[,GLOB…] of CSV and JSON Lines: documents that hold one of their rows are dropped
    excerpts: bool = False  # of dropped documents, masked, in report.json and on the data card
    classifier: str = ""  # folder of a classifier from configs/quality.py, which scores every document
    threshold: float = 0.5  # documents with a lower score are dropped
    executor: Literal["local", "slurm", "ray"] = "local"
    executor_options: str = ""  # NAME=VALUE[,NAME=VALUE…] for datatrove's Slurm or Ray executor
    workers: int = 0  # processes, or tasks at a time on a cluster; 0: one a core, or no limit

    def __post_init__(self):
        if not 0 < self.validation_share < 1:
            raise ValueError(f"corpus.validation_share={self.validation_share}: give a share between 0 and 1")
        if self.files and self.sources:
            raise ValueError(f"corpus.files={self.files!r} and corpus.sources ({', '.join(self.weights)}) conflict: "
                             "give your files to one of the sources, or choose the variant :files")
        if self.facilities and not self.mask:
            raise ValueError(f"corpus.facilities={self.facilities!r} and corpus.mask=false conflict: set mask to true, "
                             "or leave the list out")
        if not self.curated and (only := [name for name in _CURATION if getattr(self, name)]):
            raise ValueError(f"corpus.{only[0]}={getattr(self, only[0])!r} needs corpus.curated=true")

    @property
    def weights(self) -> dict[str, float]:
        return {source.name: source.weight for source in self.sources}

    def sets(self) -> tuple[SourceConfig, ...]:
        """The sources; `files` are one without a name, whose documents keep the source they state."""
        return self.sources or (SourceConfig(name="", files=self.files or SAMPLE, profile=self.profile),)


_CURATION = ("forbidden_licenses", "excerpts", "facilities", "benchmarks", "classifier", "executor_options")
_NOT_IN_FINGERPRINT = ("files", "sources", "executor", "executor_options", "workers")


def documents(config: CorpusConfig) -> Iterator[Document]:
    """All documents that a config names, in order."""
    for source in config.sets():
        for path in paths(source):
            for document in read_part(config, path):
                yield with_source(document, source)


def paths(source: SourceConfig) -> list[Path]:
    """The files of a source; `sample` stands for the bundled sample text."""
    patterns = source.files.split(",")
    rest = ",".join(pattern for pattern in patterns if pattern != SAMPLE)
    return [Path(SAMPLE)] * (SAMPLE in patterns) + (find(rest) if rest else [])


def read_part(config: CorpusConfig, path: Path, part: int = 0, parts: int = 1) -> Iterator[Document]:
    """Every `parts`-th document of a file, from the `part`-th on."""
    if path != Path(SAMPLE):
        return read(path, part, parts)
    rows = itertools.islice(sample.documents(config.sample_megabytes, config.seed), part, None, parts)
    return (Document(row["id"], row["text"], row["source"], row["license"], row["url"], profile="textbook"
                     if row["source"] == "sample-textbook" else "clinical") for row in rows)


def with_source(document: Document, source: SourceConfig) -> Document:
    """`document` with the name of a source of a mixture, and with its licence if the document has none."""
    if source.name:
        document = dataclasses.replace(document, source=source.name)
    if source.license and document.license in ("", "unknown"):
        document = dataclasses.replace(document, license=source.license)
    return document


def fingerprint(config: CorpusConfig) -> str:
    """A hash of the settings, and of the name and every byte of the files they read."""
    settings = {name: value for name, value in dataclasses.asdict(config).items() if name not in _NOT_IN_FINGERPRINT}
    parts = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for source in config.sets():
        # Without the weight: another mixture of the same documents is the same corpus.
        parts.update(repr((source.name, source.profile, source.license)).encode())
        for path in paths(source):
            _hash_files(parts, sample.files() if path == Path(SAMPLE) else [path])
    for patterns in filter(None, (config.facilities, config.benchmarks, config.classifier)):
        _hash_files(parts, find(patterns) if patterns != config.classifier else [Path(patterns)])
    return parts.hexdigest()[:16]


def _hash_files(parts: "hashlib._Hash", paths: Iterable[Path]) -> None:
    for path in paths:
        inside = sorted((file.relative_to(path).as_posix(), file) for file in path.rglob("*") if file.is_file())
        for name, each in inside if path.is_dir() else [(path.name, path)]:
            with open(each, "rb") as file:
                parts.update(f"{each.parent.name}/{name}".encode() + hashlib.file_digest(file, "sha256").digest())
