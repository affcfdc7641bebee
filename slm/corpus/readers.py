"""One file or dataset folder → documents: JSON Lines (yours or OSCAR's), Parquet, text, Wikipedia's XML dump, TFDS.

Several tasks can share a big file: each parses the documents whose index in the file is its part modulo the number of
parts, and only skips over the others.
"""

import codecs
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm.corpus import documents, mediawiki
from slm.corpus.documents import FIELDS, Document
from slm.files import BROKEN, open_compressed, reason

LONGEST_LINE = 8_000_000  # bytes; a longer line is a file without line ends, not a document
LONGEST_ARRAY = 256_000_000  # bytes of a JSON array, which is parsed whole
_BATCH_ROWS, _BATCH_BYTES = 1024, 64_000_000  # of Parquet, read at a time


def read(path: Path, part: int = 0, parts: int = 1) -> Iterator[Document]:
    """Documents of one file or TFDS folder whose index is `part` modulo `parts`; the file name decides the format.

    Raises:
      ValueError: not UTF-8, not JSON, no `text`, a line too long or empty, a truncated file; the message names file,
        location and fix. Lines of other parts are not parsed, only checked for their length.
    """
    if not 0 <= part < parts:
        raise ValueError(f"{path}: part {part} of {parts}: give a part from 0 to {parts - 1}, of at least one")
    if path.is_dir():
        return _read_tfds(path, part, parts)
    name = path.name.lower()
    base = name.removesuffix(".gz").removesuffix(".bz2").removesuffix(".zst")
    if base.endswith((".jsonl", ".json", ".ndjson")):
        return _read_json_lines(path, part, parts)
    if base.endswith(".parquet"):
        return _read_parquet(path, part, parts)
    if base.endswith((".txt", ".md")):
        return _read_text(path, part)
    if re.search(r"\.xml(-p\d+p\d+)?$", base):  # a big dump also comes in pieces: ….xml-p1p114794.bz2
        return mediawiki.read(path, part, parts)
    raise ValueError(f"{path} has no known format: name it .jsonl, .parquet, .txt or .xml (and .gz, .bz2 or .zst "
                     "if compressed), or give a TFDS folder")


def is_tfds(path: Path) -> bool:
    """Whether `path` is the folder of a TFDS dataset."""
    return (path / "features.json").is_file() and (path / "dataset_info.json").is_file()


def json_objects(path: Path, part: int = 0, parts: int = 1, skip_blank: bool = False) -> Iterator[tuple[str, dict]]:
    """(location, object) of each line of JSON Lines, or item of a JSON array, whose index is `part` modulo `parts`.

    Raises:
      ValueError: as `read`.
    """
    number = 0
    try:
        with open_compressed(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if number == 1 and line.removeprefix(codecs.BOM_UTF8).lstrip()[:1] == b"[":
                    yield from _array(line + file.read(LONGEST_ARRAY + 1), path, part, parts)
                    return
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE:,} bytes: JSON Lines holds "
                                     "one document a line; split the document or the file")
                if (number - 1) % parts == part and not (skip_blank and not line.strip()):
                    yield f"{path}, line {number}", _parse(line, f"{path}, line {number}")
    except BROKEN as error:
        raise ValueError(f"{path} ends or breaks after line {number} ({reason(error)}): it was cut short or is not "
                         "what its name says; download it again") from None


def _array(content: bytes, path: Path, part: int, parts: int) -> Iterator[tuple[str, dict]]:
    if len(content) > LONGEST_ARRAY:
        raise ValueError(f"{path} is a JSON array of more than {LONGEST_ARRAY:,} bytes: write it as JSON Lines, for "
                         "example with jq -c '.[]'")
    try:
        items = json.loads(_decode(content, str(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} begins with [ but is not a JSON array ({error}): give JSON Lines, one object a line, "
                         "or one array of objects") from None
    for number, item in enumerate(items, 1):
        if not isinstance(item, dict):
            raise ValueError(f"{path}, item {number} is a {type(item).__name__}, not an object with named fields")
        if (number - 1) % parts == part:
            yield f"{path}, item {number}", item


def _read_json_lines(path: Path, part: int, parts: int) -> Iterator[Document]:
    for location, row in json_objects(path, part, parts):
        is_oscar = "warc_headers" in row
        yield documents.of_oscar(row, location) if is_oscar else documents.of_row(row, location, path)


def _parse(line: bytes, location: str) -> dict:
    if not line.strip():
        raise ValueError(f"{location} is empty: JSON Lines holds one object a line; remove it (grep -v '^$')")
    text = _decode(line, location)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, a number of 5,000 digits, 100,000 brackets
        raise ValueError(f"{location} is not JSON ({error}): JSON Lines holds one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f"{location} holds a {type(row).__name__}, not an object with named fields")
    return row


def _read_parquet(path: Path, part: int, parts: int) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet
    try:
        schema = pyarrow.parquet.read_schema(path)
        columns = [name for name in schema.names if name in FIELDS + documents.METADATA
                   or documents.LICENSE.search(f"{name} {schema.field(name).type}")]  # also inside a structure
        if "text" not in columns:
            raise ValueError(f"{path} has no column 'text' (it has {len(schema.names)} columns): rename the column "
                             "that holds the text")
        # Equal texts stay one text until a row is read: a small file may repeat a long one a million times.
        file = pyarrow.parquet.ParquetFile(path, read_dictionary=[
            name for name in columns if schema.field(name).type in (pyarrow.string(), pyarrow.large_string())])
        start = 0
        for group in range(file.metadata.num_row_groups):
            facts = file.metadata.row_group(group)
            size = sum(chunk.total_uncompressed_size for chunk in map(facts.column, range(facts.num_columns))
                       if chunk.path_in_schema.split(".")[0] in columns)
            if size > LONGEST_LINE * max(1, facts.num_rows):
                raise ValueError(f"{path}, row group {group + 1} unfolds to {size:,} bytes for {facts.num_rows:,} "
                                 f"rows, more than {LONGEST_LINE:,} a row: split its documents")
            rows = max(1, min(_BATCH_ROWS, _BATCH_BYTES * facts.num_rows // max(1, size)))
            for batch in file.iter_batches(batch_size=rows, row_groups=[group], columns=columns):
                sizes = [len(text) for column in batch.columns if pyarrow.types.is_dictionary(column.type)
                         for text in column.dictionary.cast(pyarrow.large_binary()).to_pylist() if text]
                if max(sizes, default=0) > LONGEST_LINE:
                    raise ValueError(f"{path}, one of the rows from {start + 1} on has a text of {max(sizes):,} bytes, "
                                     f"more than {LONGEST_LINE:,}: split it")
                for index in range((part - start) % parts, len(batch), parts):
                    row = batch.slice(index, 1).to_pylist()[0]
                    yield documents.of_row(row, f"{path}, row {start + index + 1}", path)
                start += len(batch)
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}): download it again") from None


def _read_text(path: Path, part: int) -> Iterator[Document]:
    if part:  # one document, of index 0
        return
    try:
        with open_compressed(path) as file:
            content = file.read(LONGEST_LINE + 1)
    except BROKEN as error:
        raise ValueError(f"{path} breaks off ({reason(error)}): download it again") from None
    if len(content) > LONGEST_LINE:
        raise ValueError(f"{path} is longer than {LONGEST_LINE:,} bytes: a text file is one document; split it into "
                         "files, or into JSON Lines")
    yield Document(str(path), _decode(content, str(path)), path.parent.name or "text", location=str(path))


def _decode(content: bytes, location: str) -> str:
    try:
        return content.decode("utf-8-sig")  # without a byte order mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{location} is not UTF-8 (byte 0x{content[error.start]:02X} at {error.start}): convert it, "
                         "for example with iconv -f CP932 -t UTF-8") from None


def _decoded(value: Any, location: str) -> Any:
    """The texts of a TFDS row, also inside its metadata; no numbers."""
    if isinstance(value, dict):
        return {name: _decoded(part, location) for name, part in value.items()}
    if isinstance(value, bytes) or not hasattr(value, "__iter__"):
        return _decode(value, location) if isinstance(value, bytes) else None
    return [_decoded(part, location) for part in value if isinstance(part, (bytes, dict))]


def _read_tfds(path: Path, part: int, parts: int) -> Iterator[Document]:
    if not is_tfds(path):
        raise ValueError(f"{path} is a folder without features.json and dataset_info.json: give a TFDS folder (such "
                         "as …/wikipedia/20230601.ja/1.0.0), or the files in it (such as FOLDER/*.jsonl)")
    import tensorflow_datasets as tfds  # late: it takes a second to import
    try:
        builder = tfds.builder_from_directory(path)
        features, splits = set(builder.info.features), sorted(builder.info.splits)
        if "text" not in features or "train" not in splits:
            raise ValueError(f"{path} has {len(features)} features and the splits {splits}: prepare it with "
                             "a feature 'text' and a split 'train'")
        # The fields show that a corpus was built by slm; other splits of another dataset may be a benchmark.
        is_corpus = features >= set(FIELDS) and "validation" in splits
        start = 0
        for split in ("train", "validation") if is_corpus else ("train",):
            rows = builder.as_data_source(split)
            for index in range((part - start) % parts, len(rows), parts):
                location = f"{path}, {split} {index + 1}"
                row = _decoded(rows[index], location)
                if features == {"title", "text"} and builder.name == "wikipedia":
                    language = re.search(r"\.([a-z-]+)$", builder.info.config_name or "")
                    yield mediawiki.article(location, row["text"], row["title"], "wikipedia", "CC-BY-SA",
                                   f"{language[1] if language else 'ja'}.wikipedia.org", location=location)
                else:
                    yield documents.of_row({"source": builder.name} | row, location, path)
            start += len(rows)
    except NotImplementedError:
        raise ValueError(f"{path} is in the format {builder.info.file_format.value}, which cannot be read by index "
                         "without TensorFlow: prepare it again with builder.download_and_prepare(file_format="
                         "'array_record')") from None
    except (OSError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole TFDS folder ({error}): download or prepare it again"
                         ) from None
