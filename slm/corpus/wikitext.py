"""Wikitext → running text."""

import html
import re
from typing import Any

_HIDDEN_LINK = re.compile(r"\s*(file|image|media|category|ファイル|画像|メディア|カテゴリ)\s*:", re.I)
_HIDDEN_TAGS = {"ref", "references", "table", "gallery", "math", "chem", "ce", "timeline", "imagemap", "score", "graph",
                "hiero", "syntaxhighlight", "source", "templatestyles", "templatedata", "categorytree", "inputbox"}
# Templates that are part of the sentence → the argument that holds their words; all others are removed.
_SPOKEN = {"仮リンク": "1", "ill2": "1", "lang": "2", "読み仮名": "1", "ruby": "1", "nowrap": "1", "要出典範囲": "1"}
# Comments, notes and innermost other templates are removed before the slow parsing (4.6 MB/s instead of 1.9).
_UNPARSED = re.compile(r"<!--.*?-->|<ref\b[^<>]*/>|<ref\b[^<>]*>.*?</ref\s*>", re.I | re.S)
_UNSPOKEN = re.compile(r"\{\{(?!\s*(?:" + "|".join(_SPOKEN) + r"|lang-[a-z-]+)\s*\|)[^{}]*\}\}", re.I)
_RAISED = {"sup": str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ"),
           "sub": str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")}
# Remains of unbalanced quotes, tables and tags, and magic words such as __TOC__.
_REMAINS = re.compile(
    r"'{2,}|__(?:[A-Z]+|[ぁ-んァ-ヶ一-龠]+)__|^[ \t]*\{?\|.*$"
    r"|</?(?:ref|div|span|small|big|center|font|nowiki|noinclude|includeonly|onlyinclude)\b[^<>]*>", re.M)


def plain_text(wikitext: str) -> tuple[str, tuple[str, ...]]:
    """The running text of a page, and warnings; headings and list items are lines of their own."""
    import mwparserfromhell
    wikitext, removed = _UNPARSED.sub("", wikitext), 1
    while removed:
        wikitext, removed = _UNSPOKEN.subn("", wikitext)
    try:
        code = mwparserfromhell.parse(wikitext, skip_style_tags=True)  # quotes are removed below, balanced or not
    except mwparserfromhell.parser.ParserError:
        return "", ("wikitext not parsed",)  # a bug of the parser: counted, but no reason to stop the run
    lines = (line.strip() for line in _REMAINS.sub("", _plain(code)).split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip(), ()


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
        case "Template":
            name = str(node.name).strip().lower()
            value = _SPOKEN.get(name, "1" if name.startswith("lang-") else "")
            return _plain(node.get(value).value).strip() if node.has(value) else ""
        case "Tag":
            return _plain_tag(node)
    return ""  # a comment, an argument of a template, a file


def _plain_tag(node: Any) -> str:
    tag = str(node.tag).strip().lower()
    if tag in _HIDDEN_TAGS:
        return ""
    if tag == "br":
        return "\n"
    text, raised = _plain(node.contents), _RAISED.get(tag, {})
    # 10<sup>6</sup> must not become 106: `normalize` spells the raised characters out.
    return text.translate(raised) if all(ord(character) in raised for character in text) else text
