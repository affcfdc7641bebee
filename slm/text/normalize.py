"""Text normalisation: NFKC that preserves the meaning of clinical notation.

Plain NFKC turns `10⁶/μL` into `106/μL` and `½錠` into `1⁄2錠`. Superscripts, subscripts and fractions are spelled out
first, and characters with a special meaning to the tokenizer are replaced.
"""

import functools
import re
import unicodedata

VERSION = 2  # part of every fingerprint: raise it when `normalize` returns another text

# Between morphemes in segmented text; `normalize` replaces it, so it never occurs in a document.
BOUNDARY = "\u241f"

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿⁱ", "0123456789+-=()ni")
SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎", "0123456789+-=()")
FRACTIONS = "¼½¾⅐⅑⅒⅓⅔⅕⅖⅗⅘⅙⅚⅛⅜⅝⅞↉"
_FRACTION = re.compile(f"(?:(?<=([0-9０-９])))?([{FRACTIONS}])(?=([0-9０-９{FRACTIONS}])?)")
_SUPERSCRIPT_RUN = re.compile("([⁰¹²³⁴-⁹⁺⁻⁼⁽⁾ⁿⁱ]+)([0-9０-９]?)")
_SUBSCRIPT_RUN = re.compile("([0-9０-９]?)([₀-₎]+)([0-9０-９]?)")
# A digit beside a fraction or script, or a character with the marks, selectors and empty characters behind it.
_SPELLED = f"[{FRACTIONS}⁰¹²³⁴-⁹⁺⁻⁼⁽⁾ⁿⁱ₀-₎]"
_MARKS = "".join(chr(code) for code in range(0x300, 0x20000) if unicodedata.combining(chr(code)))
_BEHIND = f"[{re.escape(_MARKS)}ﾞﾟ\u1160-\u11ff\ufe00-\ufe0f\u200b\ufeff\U000e0100-\U000e01ef]*"
_PARTS = re.compile(f"\r\n|[0-9０-９]?(?:{_SPELLED}{_BEHIND}[0-9０-９]?)+{_BEHIND}|.{_BEHIND}", re.DOTALL)
_NEEDS_SPELLING = re.compile(f"[{FRACTIONS}⁰¹²³⁴-⁹⁺⁻⁼⁽⁾ⁿⁱ₀-₎]")

# Squared units hide a superscript that NFKC would flatten (㎡ → m2); circled numbers run together
# with adjacent digits (①2 → 12).
_BEFORE = {ord(unit): spelling for unit, spelling in zip("㎟㎠㎡㎢㎣㎤㎥㎦", (
    "mm^2", "cm^2", "m^2", "km^2", "mm^3", "cm^3", "m^3", "km^3"))}
_BEFORE |= {ord("㎨"): "m/s^2", ord("㎯"): "rad/s^2"}
_BEFORE |= {0x2460 + i: f"({i + 1})" for i in range(20)}
_BEFORE |= {0xFF5E: "〜"}  # the full-width tilde is the wave dash of another keyboard
# Radicals that PDFs have in place of the kanji they look like: of the CJK Radicals Supplement NFKC maps two, and it
# maps four Kangxi radicals to old forms. Unicode's EquivalentUnifiedIdeograph, where the kanji is in JIS X 0208.
_BEFORE |= dict(zip(map(ord, (
    "⺁⺄⺆⺈⺊⺌⺍⺎⺐⺒⺓⺔⺗⺙⺛⺜⺝⺠⺧⺩⺫⺬⺴⺶"
    "⺻⺼⻁⻄⻆⻏⻑⻗⻘⻝⻣⻤⻨⻩⻫⻭⻯⻱⻲⻳⼾⾭⿈⿊")), (
    "厂乙冂刀卜小小兀尢巳幺彑心攵旡日月民牛王目示冗羊"
    "聿肉虎西角邑長雨青食骨鬼麦黄斉歯竜龜亀亀戸青黄黒")))
_BEFORE |= dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))  # variation selectors
# Blocks that hold all combining marks, quick to search: 31 in a row.
_BLOCKS = ("[\u0300-\u1fff\u20d0-\u20f0\u2cef-\u2dff\u302a-\u302f\u3099\u309a\ua66f-\uabed\ufb1e\ufe20-\ufe2f"
           "\uff9e\uff9f\U000101fd-\U0001e94a]")
_MAYBE_MARKS = re.compile(_BLOCKS + _BLOCKS + "{30}")
_AFTER = str.maketrans({
    "\u2044": "/", "\u2215": "/",  # fraction slash, division slash
    "\u2212": "-",                 # minus sign
    "\u2581": "_",                 # SentencePiece's space
    BOUNDARY: " ",
    "\ufeff": None, "\u200b": None,  # byte order mark, zero-width space
    "\u0085": "\n", "\u2028": "\n", "\u2029": "\n", "\r": "\n",
})


def normalize(text: str) -> str:
    """Canonical form of `text`: idempotent, NFKC except for clinical notation, lines ended by `\\n`.

    Raises:
      ValueError: `text` holds a lone surrogate, which UTF-8 cannot encode.
    """
    if text.isascii():
        return text.replace("\r\n", "\n").replace("\r", "\n")
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text has a lone surrogate (U+{ord(text[error.start]):04X}) at character {error.start}: "
            "it was cut or decoded wrongly; decode the source again as UTF-8") from None
    if _NEEDS_SPELLING.search(text):
        text = _FRACTION.sub(_spell_fraction, text)
        text = _SUPERSCRIPT_RUN.sub(_spell_superscript, text)
        text = _SUBSCRIPT_RUN.sub(_spell_subscript, text)
    text = _nfkc(text.translate(_BEFORE)).replace("\r\n", "\n").translate(_AFTER)
    # A removed character may have kept two others from composing (a base, U+200B, a voiced mark).
    return _nfkc(text)


def _nfkc(text: str) -> str:
    """NFKC; a grapheme joiner splits longer runs of combining marks, which Unicode sorts in quadratic time."""
    text = unicodedata.normalize("NFKC", _with_short_runs(text))
    return _with_short_runs(text)  # a mark may become two


def _with_short_runs(text: str) -> str:
    """The Stream-Safe Text Format of UAX #15: at most 30 combining marks in a row."""
    if not _MAYBE_MARKS.search(text):
        return text
    return _thirty_marks().sub("\\g<0>\u034f", text)


@functools.cache  # twenty milliseconds
def _thirty_marks() -> re.Pattern[str]:
    marks = (chr(code) for code in range(0x300, 0x1E950)
             if unicodedata.combining(unicodedata.normalize("NFKD", chr(code))[0]))
    mark = f"[{''.join(map(re.escape, marks))}]"
    return re.compile(f"{mark}{{30}}(?={mark})")


def aligned(text: str) -> list[tuple[str, str]]:
    """(part of `text`, what it becomes) of the shortest parts that are normalised on their own, in order.

    A letter keeps its marks, and a fraction or a superscript the digits beside it. The parts of either side, joined,
    are `text` and `normalize(text)`.
    """
    pairs = [(part, normalize(part)) for part in _PARTS.findall(text)]
    return pairs if "".join(part for _, part in pairs) == normalize(text) else [(text, normalize(text))]


def _spell_fraction(match: re.Match) -> str:
    before, fraction, after = match.groups()
    return " " * bool(before) + unicodedata.normalize("NFKC", fraction) + " " * bool(after)


def _spell_superscript(match: re.Match) -> str:
    run, after = match.groups()
    return "^" + run.translate(SUPERSCRIPTS) + " " * bool(after) + after


def _spell_subscript(match: re.Match) -> str:
    """SpO₂ → SpO2, as people type it; between digits with an underscore (log₂10 → log_2 10)."""
    before, run, after = match.groups()
    marked = "_" * bool(before or after)
    return before + marked + run.translate(SUBSCRIPTS) + " " * bool(after) + after
