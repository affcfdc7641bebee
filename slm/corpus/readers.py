"""One file or dataset folder → documents: JSON Lines (own or OSCAR's), Parquet, text, Wikipedia's XML dump, TFDS.

A document's index is its place in the file, so several tasks can share a big file: each takes the indices that are
its part modulo the number of parts, and pays little for the others.
"""

import bz2
import dataclasses
import gzip
import html
import io
import json
import re
import urllib.parse
import zlib
from collections.abc import Iterator
from pathlib import Path

LONGEST_LINE = 8_000_000  # bytes; a longer line is a file without line ends, not a document
_BUFFER = 1 << 20  # bytes decompressed at a time
_BROKEN = (EOFError, OSError, zlib.error)  # what a compressed file that is cut or garbled raises


@dataclasses.dataclass(frozen=True)
class Document:
    """One text and where it comes from; `source` names the set it is counted and mixed with."""
    id: str
    text: str
    source: str
    license: str = "unknown"
    url: str = ""
    # What the pipeline reads besides; not kept in the corpus, and never taken from a file's fields or name.
    warnings: tuple[str, ...] = ()  # what the source itself says against the document
    profile: str = "clinical"  # of `filters.PROFILES`: another one only where the format is that of a public source


FIELDS = ("id", "text", "source", "license", "url")


def read(path: Path, part: int = 0, parts: int = 1) -> Iterator[Document]:
    """Documents of one file or TFDS folder whose index is `part` modulo `parts`; the kind is told by the name.

    Raises:
      ValueError: not UTF-8, not JSON, no `text`, a line too long or empty, a truncated file; the message
        names file, place and mend. A line of another part is only measured, not parsed.
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
        return _read_wikipedia(path, part, parts)
    raise ValueError(f"{path}: cannot tell its kind; name it .jsonl, .parquet, .txt or .xml (and .gz, .bz2 or .zst "
                     "if compressed), or give a TFDS folder")


def is_tfds(path: Path) -> bool:
    """Whether `path` is the folder of a TFDS dataset."""
    return (path / "features.json").is_file() and (path / "dataset_info.json").is_file()


def _open(path: Path) -> io.BufferedIOBase:
    if path.suffix.lower() in (".gz", ".bz2", ".zst") and not path.stat().st_size:
        raise EOFError("it has no bytes")  # the libraries would take it for a whole file
    if path.name.lower().endswith(".gz"):
        return gzip.open(path, "rb")
    if path.name.lower().endswith(".bz2"):
        return bz2.open(path, "rb")
    if path.name.lower().endswith(".zst"):
        import pyarrow  # late: for this format only
        return io.BufferedReader(pyarrow.input_stream(str(path), compression="zstd"), _BUFFER)
    return open(path, "rb")


def json_objects(path: Path, part: int = 0, parts: int = 1) -> Iterator[tuple[str, dict]]:
    """(place, object) of each line of a JSON Lines file, plain or compressed, whose index is `part` modulo `parts`."""
    number = 0
    try:
        with _open(path) as file:
            while line := file.readline(LONGEST_LINE + 1):
                number += 1
                if len(line) > LONGEST_LINE:
                    raise ValueError(f"{path}, line {number} is longer than {LONGEST_LINE:,} bytes: JSON Lines holds "
                                     "one document a line; split the document or the file")
                if (number - 1) % parts == part:
                    yield f"{path}, line {number}", _parse(line, f"{path}, line {number}")
    except _BROKEN as error:
        raise ValueError(f"{path} ends or breaks after line {number} ({error}): it was cut short or is not what its "
                         "name says; fetch it again") from None


def _read_json_lines(path: Path, part: int, parts: int) -> Iterator[Document]:
    for place, row in json_objects(path, part, parts):
        yield _oscar(row, place) if "warc_headers" in row else _document(row, place, path)


def _parse(line: bytes, place: str) -> dict:
    if not line.strip():
        raise ValueError(f"{place} is empty: JSON Lines holds one object a line; remove it (grep -v '^$')")
    text = _decode(line, place)
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:  # not JSON, a number of 5,000 digits, 100,000 brackets
        raise ValueError(f"{place} is not JSON ({error}): JSON Lines holds one object a line") from None
    if not isinstance(row, dict):
        raise ValueError(f"{place} holds a {type(row).__name__}, not an object with named fields")
    return row


def _document(row: dict, place: str, path: Path) -> Document:
    if not isinstance(row.get("text"), str):
        found = f"its 'text' is a {type(row['text']).__name__}" if "text" in row else f"found {sorted(row)}"
        raise ValueError(f"{place} has no string field 'text' ({found}): rename the column that holds the text")
    values = {name: str(row[name]) for name in FIELDS if row.get(name) is not None}
    # Half a character in a name or an address costs that character, not the document.
    values = {name: value if name == "text" else value.encode("utf-8", "replace").decode()
              for name, value in values.items()}
    return Document(**{"id": place, "source": path.name.split(".")[0], **values})


def _oscar(row: dict, place: str) -> Document:
    """A line of OSCAR 23.01. Its CC0 covers metadata and annotations only: OSCAR claims no right to the crawled text.

    `harmful_pp` is a perplexity, not a verdict, so it makes no warning.
    """
    headers, metadata = row["warc_headers"], row.get("metadata") or {}
    if not (isinstance(row.get("content"), str) and isinstance(headers, dict) and isinstance(metadata, dict)):
        kinds = {name: type(row.get(name)).__name__ for name in ("content", "warc_headers", "metadata")}
        raise ValueError(f"{place} has 'warc_headers' but is not OSCAR's (a string 'content', objects 'warc_headers' "
                         f"and 'metadata'; found {kinds}): fetch it again, or rename its fields to id, text and url")
    warnings = [name for key in ("quality_warnings", "categories") for name in metadata.get(key) or []]
    return Document(id=str(headers.get("warc-record-id", place)), text=row["content"], source="oscar-2301",
                    license="unknown (annotations: CC0-1.0)", url=str(headers.get("warc-target-uri", "")),
                    warnings=tuple(map(str, warnings)), profile="web")


def _read_parquet(path: Path, part: int, parts: int) -> Iterator[Document]:
    import pyarrow
    import pyarrow.parquet
    try:
        file = pyarrow.parquet.ParquetFile(path)
        columns = [name for name in FIELDS if name in file.schema_arrow.names]
        if "text" not in columns:
            raise ValueError(f"{path} has no column 'text' (found {file.schema_arrow.names}): rename the column "
                             "that holds the text")
        start = 0
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            mine = range((part - start) % parts, len(batch), parts)
            for index, row in zip(mine, batch.take(pyarrow.array(mine, pyarrow.int64())).to_pylist()):
                yield _document(row, f"{path}, row {start + index + 1}", path)
            start += len(batch)
    except (pyarrow.ArrowInvalid, OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a whole Parquet file ({error}): fetch it again") from None


def _read_text(path: Path, part: int) -> Iterator[Document]:
    if part:  # one document, of index 0
        return
    try:
        with _open(path) as file:
            content = file.read(LONGEST_LINE + 1)
    except _BROKEN as error:
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


def _read_tfds(path: Path, part: int, parts: int) -> Iterator[Document]:
    if not is_tfds(path):
        raise ValueError(f"{path} is a folder without features.json and dataset_info.json: give a TFDS folder (such "
                         "as …/wikipedia/20230601.ja/1.0.0), or the files in it (such as FOLDER/*.jsonl)")
    import tensorflow_datasets as tfds  # late: it takes a second to import
    try:
        builder = tfds.builder_from_directory(path)
        features, found = set(builder.info.features), sorted(builder.info.splits)
        if "text" not in features or "train" not in found:
            raise ValueError(f"{path} has the features {sorted(features)} and the splits {found}: prepare it with a "
                             "feature 'text' and a split 'train'")
        # A corpus of ours is told by its fields; the other splits of another's dataset may be a benchmark.
        ours = features >= set(FIELDS) and "validation" in found
        start = 0
        for split in ("train", "validation") if ours else ("train",):
            rows = builder.as_data_source(split)
            for index in range((part - start) % parts, len(rows), parts):
                place = f"{path}, {split} {index + 1}"
                row = {name: _decode(value, place) for name, value in rows[index].items() if isinstance(value, bytes)}
                if features == {"title", "text"} and builder.name == "wikipedia":
                    language = re.search(r"\.([a-z-]+)$", builder.info.config_name or "")
                    article = _of_wikipedia(row["title"], language, "CC-BY-SA")
                    yield dataclasses.replace(_document(row, place, path), **article)
                else:
                    yield _document({"source": builder.name} | row, place, path)
            start += len(rows)
    except NotImplementedError:
        raise ValueError(f"{path} is in the format {builder.info.file_format.value}, which cannot be read by index "
                         "without TensorFlow: prepare it again with builder.download_and_prepare(file_format="
                         "'array_record')") from None
    except (OSError, RuntimeError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a whole TFDS folder ({error}): fetch or prepare it again") from None


def _of_wikipedia(title: str, language: re.Match | None, license: str) -> dict[str, str]:
    host = f"{language[1] if language else 'ja'}.wikipedia.org"
    return {"source": "wikipedia", "license": license, "profile": "encyclopedia",
            "url": f"https://{host}/wiki/{urllib.parse.quote(title.replace(' ', '_'))}"}


def _read_wikipedia(path: Path, part: int, parts: int) -> Iterator[Document]:
    """The articles of a pages-articles dump: neither redirects nor talk, template and category pages.

    The title is no line of the text: TFDS's Wikipedia has none either, and an article opens with its title.
    """
    from xml.etree.ElementTree import ParseError

    import mwxml  # late: for this format only
    from mwxml.element_iterator import ElementIterator
    from mwxml.errors import MalformedXML
    language = re.match(r"([a-z]+)wiki-", path.name)
    articles, last = 0, "the start"
    try:
        with _open(path) as file:
            root = ElementIterator.from_file(file)
            for page in mwxml.Dump.from_element(root):
                if page.namespace == 0 and not page.redirect:
                    if articles % parts == part:
                        text, warnings = _plain_text("".join(revision.text or "" for revision in page))
                        yield Document(id=str(page.id), text=text, warnings=warnings,
                                       **_of_wikipedia(page.title, language, "CC-BY-SA-4.0"))
                    articles += 1
                last = f"page {page.id}"
                root.element.clear()  # or the pages read so far, though emptied, pile up under the root
    except (*_BROKEN, ParseError, MalformedXML) as error:
        raise ValueError(f"{path} ends or breaks after {last} ({error}): it was cut short or is not a Wikipedia XML "
                         "dump (pages-articles); fetch it again") from None


_HIDDEN_LINK = re.compile(r"\s*(file|image|media|category|ファイル|画像|メディア|カテゴリ)\s*:", re.I)
_HIDDEN_TAGS = {"ref", "references", "table", "gallery", "math", "chem", "ce", "timeline", "imagemap", "score", "graph",
                "hiero", "syntaxhighlight", "source", "templatestyles", "templatedata", "categorytree", "inputbox"}
# Templates that stand for words of the sentence, and which of their values those are; all others go.
_SPOKEN = {"仮リンク": "1", "ill2": "1", "lang": "2", "読み仮名": "1", "ruby": "1", "nowrap": "1", "要出典範囲": "1"}
# Comments, notes and innermost plain templates go before parsing, which takes the time (so 4.6 MB/s, not 1.9).
_UNPARSED = re.compile(r"<!--.*?-->|<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>", re.I | re.S)
_UNSPOKEN = re.compile(r"\{\{(?!\s*(?:" + "|".join(_SPOKEN) + r"|lang-[a-z-]+)\s*\|)[^{}]*\}\}", re.I)
_RAISED = {"sup": str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ"),
           "sub": str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")}
# What unbalanced quotes, tables and tags, and magic words such as __TOC__, leave in the text.
_LEFT_OVER = re.compile(
    r"'{2,}|__(?:[A-Z]+|[ぁ-んァ-ヶ一-龠]+)__|^[ \t]*\{?\|.*$"
    r"|</?(?:ref|div|span|small|big|center|font|nowiki|noinclude|includeonly|onlyinclude)\b[^<>]*>", re.M)


def _plain_text(wikitext: str) -> tuple[str, tuple[str, ...]]:
    """What a page says in running text, and warnings; headings and list items are lines of their own."""
    import mwparserfromhell
    wikitext, found = _UNPARSED.sub("", wikitext), 1
    while found:
        wikitext, found = _UNSPOKEN.subn("", wikitext)
    try:
        code = mwparserfromhell.parse(wikitext, skip_style_tags=True)  # quotes are taken out below, balanced or not
    except mwparserfromhell.parser.ParserError:
        return "", ("wikitext not parsed",)  # a fault of the parser: not worth the run, but to be counted
    lines = (line.strip() for line in _LEFT_OVER.sub("", _plain(code)).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), ()


def _plain(code) -> str:
    return "" if code is None else "".join(map(_plain_node, code.nodes))


def _plain_node(node) -> str:
    match type(node).__name__:  # by name, as the library is imported late
        case "Text":
            return node.value
        case "HTMLEntity":
            return html.unescape(str(node))
        case "Heading":
            return _plain(node.title)
        case "Wikilink" if not _HIDDEN_LINK.match(str(node.title)):
            return _plain(node.title if node.text is None else node.text).removeprefix(":")
        case "ExternalLink":
            return _plain(node.title if node.brackets else node.url)
        case "Template":
            name = str(node.name).strip().lower()
            value = _SPOKEN.get(name, "1" if name.startswith("lang-") else "")
            return _plain(node.get(value).value).strip() if node.has(value) else ""
        case "Tag":
            return _plain_tag(node)
    return ""  # a comment, a template's argument, a file


def _plain_tag(node) -> str:
    tag = str(node.tag).strip().lower()
    if tag in _HIDDEN_TAGS:
        return ""
    if tag == "br":
        return "\n"
    text, raised = _plain(node.contents), _RAISED.get(tag, {})
    # 10<sup>6</sup> must not become 106: `normalize` spells the raised characters out.
    return text.translate(raised) if all(ord(character) in raised for character in text) else text
