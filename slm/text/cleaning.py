"""Raw text of a source → clean text, by profile."""

import re

from slm.text.filters import is_boilerplate
from slm.text.normalize import normalize

_END_MATTER = re.compile(r"^\W{0,4}(?:脚注|注釈|注|出典|参考文献|関連文献|文献|外部リンク|関連項目)\W{0,4}$",
                         re.MULTILINE)
_EMPTY_BRACKETS = re.compile(r"\([\s、,;:・/]*\)|「」|『』")
_WIKI_LINE = re.compile(r"^(?:(?:Category|カテゴリ|ファイル|File|画像):|thumb\||\[\[).*\n?", re.MULTILINE)
_AOZORA_HEADER = re.compile(r"^-{20,}\n【テキスト中に現れる記号について】.*?^-{20,}\n", re.MULTILINE | re.DOTALL)
_AOZORA_FOOTER = re.compile(r"\n底本:.*\Z", re.DOTALL)
_AOZORA_NOTE = re.compile(r"\[#[^\]\n]{0,1000}\]")
_RUBY = re.compile(r"《[^》\n]{1,20}》|\|(?=[^\n《]{1,10}《)")
_BLANK_LINES = re.compile(r"\n{3,}")


def clean(text: str, profile: str) -> str:
    """Normalised text without the markup and apparatus of its kind of source.

    Raises:
      ValueError: from `normalize`.
    """
    text = normalize(text)
    if profile == "encyclopedia":
        text = _WIKI_LINE.sub("", _EMPTY_BRACKETS.sub("", text))
        if end := _END_MATTER.search(text):
            text = text[:end.start()]
    elif profile == "literature":
        # Ruby repeats the text next to it; notes describe the printed page.
        text = _AOZORA_FOOTER.sub("", _RUBY.sub("", _AOZORA_NOTE.sub("", _AOZORA_HEADER.sub("", text))))
    # Not by a pattern, which would scan a run of spaces from each of them.
    return _BLANK_LINES.sub("\n\n", "\n".join(line.rstrip(" \t") for line in text.split("\n"))).strip()


def without_boilerplate(text: str) -> str:
    """A web page's text without navigation, copyright lines and the like."""
    return "\n".join(line for line in text.split("\n") if not is_boilerplate(line.strip())).strip()
