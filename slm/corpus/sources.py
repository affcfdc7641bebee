"""Own text → documents: JSON Lines (plain, gz, zst), Parquet and plain text."""

import dataclasses
import glob
import gzip
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

from slm.corpus import sample

LONGEST_LINE = 8_000_000  # bytes; a longer line is a file without line ends, not a document


@dataclasses.dataclass(frozen=True)
class Document:
    """One text and where it comes from; `source` names the set it is counted and mixed with."""
    id: str
    text: str
    source: str
    license: str = "unknown"
    url: str = ""


FIELDS = tuple(field.name for field in dataclasses.fields(Document))


def find(patterns: Iterable[str]) -> list[Path]:
    """Files of each pattern, sorted, each once; a pattern that finds none is an error."""
    found: dict[Path, None] = {}
    for pattern in patterns:
        paths = sorted(glob.glob(pattern, recursive=True))
        if not paths:
            raise FileNotFoundError(f"no file matches {pattern!r}: give an existing path or glob (the current "
                                    f"folder is {Path.cwd()})")
        found |= dict.fromkeys(map(Path, paths))
    return list(found)


def read(path: Path) -> Iterator[Document]:
    """Documents of one file, its kind told by its name.

    Raises:
      ValueError: not UTF-8, not JSON, no `text`, a line too long or empty, a truncated file; the message
        names file, place and mend.
    """
    name = path.name.lower()
    base = name.removesuffix(".gz").removesuffix(".zst")
    if base.endswith((".jsonl", ".json", ".ndjson")):
        return _read_json_lines(path)
    if base.endswith(".parquet"):
        return _read_parquet(path)
    if base.endswith((".txt", ".md")):
        return _read_text(path)
    raise ValueError(f"{path}: cannot tell its kind; name it .jsonl, .jsonl.gz, .jsonl.zst, .parquet or .txt")


def _open(path: Path) -> io.BufferedIOBase:
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.lower().endswith(".zst"):
        import pyarrow  # late: for this format only
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"))
    return open(path, "rb")


def _read_json_lines(path: Path) -> Iterator[Document]:
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                yield _parse(line, f"{path}, line {number}", path)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} ends or breaks after line {number} ({error}): it was cut short or is not what its "
                         "name says; fetch it again") from None


def _parse(line: bytes, place: str, path: Path) -> Document:
    if len(line) > LONGEST_LINE:
        raise ValueError(f"{place} is longer than {LONGEST_LINE:,} bytes: JSON Lines holds one document a line; "
                         "split the document or the file")
    if not line.strip():
        raise ValueError(f"{place} is empty: JSON Lines holds one object a line; remove it (grep -v '^$')")
    text = _decode(line, place)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, a number of 5,000 digits, 100,000 brackets
        raise ValueError(f"{place} is not JSON ({error}): JSON Lines holds one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place} holds a {type(row).__name__}, not an object with a field 'text'")
    return _document(row, place, path)


def _document(row: dict, place: str, path: Path) -> Document:
    if not isinstance(row.get("text"), str):
        found = f"its 'text' is a {type(row['text']).__name__}" if "text" in row else f"found {sorted(row)}"
        raise ValueError(f"{place} has no string field 'text' ({found}): rename the column that holds the text")
    values = {name: str(row[name]) for name in FIELDS if row.get(name) is not None}
    return Document(**{"id": place, "source": path.name.split(".")[0], **values})


def _read_parquet(path: Path) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns = [name for name in FIELDS if name in file.schema_arrow.names]
        if "text" not in columns:
            raise ValueError(f"{path} has no column 'text' (found {file.schema_arrow.names}): rename the column "
                             "that holds the text")
        rows = 0
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            for row in batch.to_pylist():
                rows += 1
                yield _document(row, f"{path}, row {rows}", path)
    except (pyarrow.ArrowInvalid, OSError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}): fetch it again") from None


def _read_text(path: Path) -> Iterator[Document]:
    try:
        with _open(path) as file:
            content = file.read(LONGEST_LINE + 1)
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path} breaks off ({error}): fetch it again") from None
    if len(content) > LONGEST_LINE:
        raise ValueError(f"{path} is longer than {LONGEST_LINE:,} bytes: a text file is one document; cut it into "
                         "files, or into JSON Lines")
    yield Document(id=str(path), text=_decode(content, str(path)), source=path.parent.name or "text")


def _decode(content: bytes, place: str) -> str:
    try:
        return content.decode("utf-8-sig")  # a byte order mark is no text
    except UnicodeDecodeError as error:
        raise ValueError(f"{place} is not UTF-8 (byte 0x{content[error.start]:02X} at {error.start}): convert it, for "
                         "example with iconv -f CP932 -t UTF-8") from None


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
        with open(path, "rb") as file:
            parts.update(path.name.encode() + hashlib.file_digest(file, "sha256").digest())
    return parts.hexdigest()[:16]


@dataclasses.dataclass(frozen=True)
class CorpusJobConfig:
    """The corpus job."""
    job: str = "corpus"
    variant: str = "sample"
    corpus: CorpusConfig = CorpusConfig()
