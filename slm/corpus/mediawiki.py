"""Dumps of Wikipedia and other MediaWikis → articles as running text."""

import io
import re
import urllib.parse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from slm.corpus.documents import Document
from slm.corpus.wikitext import plain_text
from slm.files import BROKEN, open_compressed, reason

LONGEST_PAGE = 64_000_000  # bytes of a page
_PROJECTS = ("wikipedia", "wikibooks", "wikiversity", "wikisource", "wikinews", "wikiquote", "wikivoyage", "wiktionary")


def read(path: Path, part: int, parts: int) -> Iterator[Document]:
    """The articles of a MediaWiki dump (pages-articles), without redirects, talk, template and category pages.

    The title is not added to the text: an article opens with it, and TFDS's Wikipedia does not add it either.
    """
    from xml.etree.ElementTree import ParseError
    from xml.parsers.expat import ErrorString

    import mwxml  # late: for this format only
    from mwxml.element_iterator import ElementIterator
    from mwxml.errors import MalformedXML
    articles, last = 0, "the start"
    try:
        with open_compressed(path) as file:
            pages = _Pages(file)
            root = ElementIterator.from_file(pages)
            dump = mwxml.Dump.from_element(root)
            project, host = _project(dump.site_info, path)
            for page in dump:
                if page.namespace == 0 and not page.redirect:
                    if articles % parts == part:
                        text, warnings, dropped = plain_text("".join(revision.text or "" for revision in page))
                        if not project:  # another wiki, a hospital's perhaps: neither public nor of a known licence,
                            dropped = Counter({"?": dropped.total()} if dropped else {})  # and a name may be a text
                        rest: dict[str, Any] = {"warnings": warnings, "dropped_templates": dropped,
                                                "location": f"{path}, page {page.id}"}
                        if project:
                            license = "unknown" if project == "wikinews" else "CC-BY-SA-4.0"
                            yield article(str(page.id), text, page.title, project, license, host, **rest)
                        else:
                            yield Document(str(page.id), text, path.name.split(".")[0], **rest)
                    articles += 1
                last, pages.read_bytes = f"page {page.id}", 0
                root.element.clear()  # else the emptied elements of all pages pile up under the root
    except OverflowError:
        raise ValueError(f"{path} has more than {LONGEST_PAGE:,} bytes in one page after {last}: give a dump of "
                         "current articles (pages-articles), not of their history") from None
    except (*BROKEN, ParseError, MalformedXML) as error:
        # The messages of the XML libraries quote the file.
        why = reason(error) if isinstance(error, BROKEN) else ErrorString(getattr(error, "code", 0)) or "it is no dump"
        raise ValueError(f"{path} ends or breaks after {last} ({why}): it was cut short or is not a Wikipedia XML "
                         "dump (pages-articles); download it again") from None


def article(identifier: str, text: str, title: str, project: str, license: str, host: str, **rest: Any) -> Document:
    """A page of a Wikimedia project; `host` is ja.wikipedia.org or the like."""
    url = f"https://{host}/wiki/{urllib.parse.quote(title.replace(' ', '_'))}"
    return Document(identifier, text, project, license, url, profile="encyclopedia", **rest)


class _Pages:
    """The file of a dump, which counts the bytes that the XML parser reads since the page before."""

    def __init__(self, file: io.BufferedIOBase):
        self._file, self.read_bytes = file, 0

    def read(self, size: int = -1) -> bytes:
        if self.read_bytes > LONGEST_PAGE:
            raise OverflowError
        content = self._file.read(size)
        self.read_bytes += len(content)
        return content


def _project(site: Any, path: Path) -> tuple[str, str]:
    """The Wikimedia project of a dump and its host, by the address of its main page; empty for any other wiki."""
    if match := re.match(rf"https?://(([a-z-]+)\.({'|'.join(_PROJECTS)})\.org)/", site.base or ""):
        return match[3], match[1]
    project = (site.name or "").lower()
    if project not in _PROJECTS:
        return "", ""
    suffix = project.replace("wikipedia", "wiki")  # jawiki, jawikibooks
    language = re.match(rf"([a-z_]+){suffix}(?:-|$)", path.name) or re.match(rf"([a-z_]+){suffix}$", site.dbname or "")
    return project, f"{language[1] if language else 'ja'}.{project}.org"
