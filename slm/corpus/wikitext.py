"""Wikitext → running text."""

import html
import re
from collections import Counter
from typing import Any

from slm.corpus.wiki_templates import formula, raised, without_templates

_HIDDEN_LINK = re.compile(r"\s*(file|image|media|category|ファイル|画像|メディア|カテゴリ)\s*:", re.I)
_HIDDEN_TAGS = {"ref", "references", "table", "gallery", "math", "timeline", "imagemap", "score", "graph",
                "hiero", "syntaxhighlight", "source", "templatestyles", "templatedata", "categorytree", "inputbox"}
# Comments and notes are removed, and templates replaced, before the slow parsing (4.6 MB/s instead of 1.9).
_UNPARSED = (  # each with its end: what is never closed is not searched for
    (re.compile("<!--.*?-->", re.S), re.compile("-->")),
    (re.compile(r"<ref\b[^<>]*/>", re.I), re.compile("/>")),
    (re.compile(r"<ref\b[^<>]*>.*?</ref\s*>", re.I | re.S), re.compile(r"</ref\s*>", re.I)),
    (re.compile(r"\{\{\{[^{}]*\}\}\}(?!\})"), re.compile(r"\}\}\}")))
# The parser looks for the end of each of these again, in quadratic time if they have none; an article has few of them.
_OPENED, _MOST_UNCLOSED = re.compile(r"<(?!br|hr|wbr|li)[a-z]|\[(?:https?:)?//", re.I), 2000
# Remains of unbalanced quotes, tables and tags, and magic words such as __TOC__.
_REMAINS = re.compile(
    r"'{2,}|__(?:[A-Z]+|[ぁ-んァ-ヶ一-龠]+)__|^[ \t]*\{?\|.*$"
    r"|</?(?:ref|div|span|small|big|center|font|nowiki|noinclude|includeonly|onlyinclude)\b[^<>]*>", re.M)


def without_notes(wikitext: str) -> str:
    """Wikitext without comments, notes and the arguments of templates."""
    for pattern, end in _UNPARSED:
        last = max((match.end() for match in end.finditer(wikitext)), default=0)
        wikitext = pattern.sub("", wikitext[:last]) + wikitext[last:]
    return wikitext


def plain_text(wikitext: str) -> tuple[str, tuple[str, ...], Counter[str]]:
    """The running text of a page, warnings, and the dropped templates; headings and list items are separate lines."""
    import mwparserfromhell
    wikitext, dropped = without_templates(without_notes(wikitext))
    unclosed = len(_OPENED.findall(wikitext)) - wikitext.count("</") - wikitext.count("/>") - wikitext.count("]")
    if unclosed > _MOST_UNCLOSED:
        return "", ("wikitext not parsed",), dropped
    try:
        code = mwparserfromhell.parse(wikitext, skip_style_tags=True)  # quotes are removed below, balanced or not
    except mwparserfromhell.parser.ParserError:
        return "", ("wikitext not parsed",), dropped  # a bug of the parser: counted, but no reason to stop the run
    lines = (line.strip() for line in _REMAINS.sub("", _plain(code)).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), (), dropped


def _plain(code: Any) -> str:
    return "" if code is None else "".join(map(_plain_node, code.nodes))


def _plain_node(node: Any) -> str:
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
        case "Tag":
            return _plain_tag(node)
    return ""  # a comment, a template that is not closed, its argument, a file


def _plain_tag(node: Any) -> str:
    tag = str(node.tag).strip().lower()
    if tag in _HIDDEN_TAGS:
        return ""
    if tag == "br":
        return "\n"
    text = _plain(node.contents)
    # 10<sup>6</sup> must not become 106: `normalize` spells the raised characters out.
    return formula(text) if tag in ("ce", "chem") else raised(text, tag) if tag in ("sup", "sub") else text
