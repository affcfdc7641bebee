"""What a row of a file says of a text, also one level down → a document with source, licence and address."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FIELDS = ("id", "text", "source", "license", "url")
METADATA = ("metadata", "meta")
LICENSE = re.compile(r"licen[cs]e|\brights\b", re.I)  # in names of fields
_OSCAR_LICENSE = "unknown (annotations: CC0-1.0)"
_OLD = {"annotation", "annotations"}  # of OSCAR 22.01, in its own files and on the hub


@dataclasses.dataclass(frozen=True)
class Document:
    """One text and where it comes from; `source` names the set it is counted and mixed with."""
    id: str
    text: str
    source: str
    license: str = "unknown"
    url: str = ""
    # For the pipeline; not kept in the corpus.
    warnings: tuple[str, ...] = ()  # of the source about the document
    # Of `filters.PROFILES`: another one only where the format is that of a public source, never by a field or a name.
    profile: str = "clinical"
    dropped_templates: Mapping[str, int] = dataclasses.field(default_factory=dict, compare=False)  # of a wiki's page
    location: str = dataclasses.field(default="", compare=False)  # file and line, for messages


def of_row(row: dict, location: str, path: Path) -> Document:
    """The document of a row with `text`; the other fields are its own or those of its `metadata` or `meta`.

    Raises:
      ValueError: no `text`, or metadata that name a licence and cannot be read.
    """
    if not isinstance(row.get("text"), str):
        actual = f"its 'text' is a {type(row['text']).__name__}" if "text" in row else f"it has {len(row)} fields"
        raise ValueError(f"{location} has no string field 'text' ({actual}): rename the column that holds the text")
    metadata = _metadata(row, location)
    oscar = isinstance(metadata.get("warc_headers"), dict)  # as the Hugging Face hub has it

    def field(name: str, default: str) -> str:
        value = row[name] if row.get(name) is not None else metadata.get(name)
        # Half a character in a name or an address costs that character, not the document.
        usable = isinstance(value, str | int | float)
        return str(value).encode("utf-8", "replace").decode() if usable else default
    return Document(
        field("id", location), row["text"], field("source", _release(metadata) if oscar else path.name.split(".")[0]),
        _licenses({**row, "text": "", "": metadata}) or (_OSCAR_LICENSE if oscar else "unknown"),
        field("url", str(metadata["warc_headers"].get("warc-target-uri", "")) if oscar else ""),
        warnings=_annotations(metadata), profile="web" if oscar else "clinical", location=location)


def _metadata(row: dict, location: str) -> dict:
    """What a row says about its text one level down: Dolma, llm-jp, datatrove's writer, OSCAR on the hub."""
    metadata: dict = {}
    for name in METADATA:
        value = row.get(name)
        if isinstance(value, str) and value.strip():
            try:
                value = json.loads(value)
            except (ValueError, RecursionError):
                if LICENSE.search(value):  # it may forbid the use
                    raise ValueError(f"{location} names a licence in {name!r}, which is text but not JSON: write it "
                                     "as an object, or put the licence into a field 'license'") from None
        metadata |= value if isinstance(value, dict) else {}
    return metadata


def _licenses(row: dict) -> str:
    """Every licence that a row names, at any level, each once; empty if there is none."""
    names: dict[str, None] = {}
    waiting: list[tuple[bool, Any]] = [(False, row)]  # whether a licence's field holds the value
    while waiting:
        named, value = waiting.pop()
        if isinstance(value, dict):
            waiting += [(named or bool(LICENSE.search(str(name))), part) for name, part in reversed(value.items())]
        elif isinstance(value, list):
            waiting += [(named, part) for part in reversed(value)]
        elif named and isinstance(value, str) and value.strip():
            names[value.strip().encode("utf-8", "replace").decode()] = None
    return "; ".join(name for name in names if name != "unknown" or len(names) == 1)


def _annotations(metadata: dict) -> tuple[str, ...]:
    """The warnings of a crawl about a text; `harmful_pp` is a perplexity, not a verdict, so it is not a warning."""
    values = [metadata.get(name) or [] for name in ("quality_warnings", "categories", "annotation", "annotations")]
    return tuple(str(name) for value in values for name in (value if isinstance(value, list) else [value]))


def _release(metadata: dict) -> str:
    return "oscar-2201" if "quality_warnings" not in metadata and _OLD & metadata.keys() else "oscar-2301"


def of_oscar(row: dict, location: str) -> Document:
    """A line of OSCAR 22.01 or 23.01. Its CC0 covers metadata and annotations only: it claims no right to the text."""
    headers, metadata = row["warc_headers"], row.get("metadata") or {}
    if not (isinstance(row.get("content"), str) and isinstance(headers, dict) and isinstance(metadata, dict)):
        kinds = {name: type(row.get(name)).__name__ for name in ("content", "warc_headers", "metadata")}
        raise ValueError(f"{location} has 'warc_headers' but is not OSCAR's (a string 'content', objects "
                         f"'warc_headers' and 'metadata'; it has {kinds}): download it again, or rename its fields to "
                         "id, text and url")
    return Document(id=str(headers.get("warc-record-id", location)), text=row["content"], source=_release(metadata),
                    license=_licenses(metadata) or _OSCAR_LICENSE, url=str(headers.get("warc-target-uri", "")),
                    warnings=_annotations(metadata), profile="web", location=location)
