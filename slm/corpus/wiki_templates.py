"""Wikipedia's inline templates → the text they show: `10{{sup|4}}/μL`, `{{val|12.5|u=g/dL}}`, `{{chem|CO|2}}`."""

import re
from collections import Counter
from collections.abc import Callable

_DEEPEST = 40  # levels of templates inside templates, as in MediaWiki; deeper ones are dropped
_SUPERSCRIPT = str.maketrans("0123456789+-−=()ni", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁻⁼⁽⁾ⁿⁱ")
_SUBSCRIPT = str.maketrans("0123456789+-−=()", "₀₁₂₃₄₅₆₇₈₉₊₋₋₌₍₎")
Arguments = dict[str, str]  # "1", "2", … and the named ones

# Templates of which one argument is shown as it is.
_SHOWN = {name: index for index, names in {
    "1": """ill2 nowrap ナウラップ 要出典範囲 ruby ルビ 読み仮名 読み仮名_ruby不使用 small smaller big larger large
        小文字 nobold noitalic bold strong em underline 下線 strike s italic italics var mvar math unicode ipa
        ipa2 visible_anchor vanchor vanc abbr abbrlink tooltip cjkv 拡張漢字 サロゲートペア 環境依存文字
        機種依存文字 特殊文字 jis外 外字 異体字 quote quotation cquote blockquote indent hidden flag flagcountry
        nihongo lc uc lcfirst ucfirst center left right mono 等幅 code kbd samp key overline 上線 傍点 圏点 黒 赤
        red green blue gray 補助漢字 jis2004 jis90 ふりがな 振り仮名 bigger nobr nobreak smallcaps sc tt circa c.
        赤字 太字 斜体 小 大 illm uline visible_anchors キーワード 強調 upright roman serif sans-serif script
        mathcal pre poem 引用 gene species taxon 学名 snamei sname""",
    "2": """lang llang color font_color fontcolor colour colored background 背景色 resize fs audio fontsize font-size
        size 色 文字色""",
    "3": "colors"}.items() for name in names.split()}
_SIGNS = {"nbsp": "\u00a0", "spaces": " ", "space": " ", "ndash": "–", "mdash": "—", "snd": " – ", "·": "・",
          "・": "・", "=": "=", "x": "×", "times": "×", "±": "±", "pm": "±", "%": "%", "℃": "℃", "°c": "℃"}
_RANGE = {"to": "–", "-": "–", "–": "–", "and": "と", "or": "または", "x": "×", "×": "×", "by": "×", "+/-": "±",
          "±": "±", "〜": "〜", "から": "から"}


def raised(text: str, tag: str = "sup") -> str:
    """`text` in superscript (`sup`) or subscript (`sub`) characters; as it is if Unicode does not have them all."""
    table = {"sup": _SUPERSCRIPT, "sub": _SUBSCRIPT}.get(tag, {})
    return text.translate(table) if all(ord(character) in table for character in text) else text


def without_templates(wikitext: str) -> tuple[str, Counter[str]]:
    """Wikitext with the text that its templates show, and how often each template that shows none was dropped."""
    dropped: Counter[str] = Counter()
    levels: list[list[str]] = [[]]
    for part in re.split(r"(\{\{|\}\})", wikitext):
        if part == "{{":
            levels.append([])
        elif part == "}}" and len(levels) > 1:
            inside = "".join(levels.pop())
            levels[-1].append(_shown(inside, dropped) if len(levels) <= _DEEPEST else "")
        else:
            levels[-1].append(part)
    return "&#123;&#123;".join(map("".join, levels)), dropped  # a template that is never closed is text


def _shown(inside: str, dropped: Counter[str]) -> str:
    name, arguments = _parse(inside)
    if name in _SIGNS:
        return _SIGNS[name]
    if name in _SPELLED:
        text = _SPELLED[name](arguments)
    elif name.startswith(("lang-", "ipa-")) or name.endswith("範囲"):
        text = arguments.get("1", "")
    elif name.endswith("フォント") or name.startswith("transl"):  # JIS2004フォント: a kanji that few fonts have
        text = next((value for key, value in reversed(arguments.items()) if key.isdigit()), "")
    else:
        text = arguments.get(_SHOWN.get(name, ""), "")
    if not text and name:
        # A name is short and has no sign of markup; other beginnings may be a text.
        dropped[name if len(name) <= 60 and not re.search(r"[\n<>\[\]{}=]", name) else "?"] += 1
    return text


def _parse(inside: str) -> tuple[str, Arguments]:
    """The name in lower case with _ for spaces, and the arguments; | inside [[…]] does not separate them."""
    hidden = re.sub(r"\[\[[^\[\]]*\]\]", lambda link: link[0].replace("|", "\0"), inside)
    head, *parts = (part.replace("\0", "|") for part in hidden.split("|"))
    name, colon, first = head.partition(":")  # a function, such as formatnum:125000, or Template:Sup
    if colon and name.strip().lower() in ("template", "テンプレート"):
        name, colon = first, ""
    arguments: Arguments = {"1": first.strip()} if colon else {}
    position = len(arguments)
    for part in parts:
        # = inside a tag or an address is not the sign behind an argument's name.
        key, equals, value = part.partition("=") if re.match(r"[^<>\[\]=/]{1,40}=", part) else ("", "", part)
        position += not equals
        arguments[key.strip() if equals else str(position)] = value.strip()
    return re.sub(r"[\s_]+", "_", name.strip().lower()), arguments


def _positional(arguments: Arguments) -> list[str]:
    return [value for key, value in arguments.items() if key.isdigit()]


def _value(arguments: Arguments) -> str:
    """{{val|12.5|0.3|e=6|u=g/dL}}: 12.5±0.3×10⁶ g/dL."""
    number, *errors = _positional(arguments) or [""]
    text = number + ("±" + errors[0] if len(errors) == 1 and errors[0][:1] not in ("+", "(") else "/".join(errors))
    text += "×10" + raised(arguments["e"]) if arguments.get("e") else ""
    unit = next((arguments[key] for key in ("u", "ul") if arguments.get(key)), "")
    per = next((arguments[key] for key in ("up", "upl") if arguments.get(key)), "")
    unit = unit + ("/" + per if per else "")
    unit = "" if not unit else unit if unit[0] in "%°℃" else " " + unit
    return arguments.get("p", "") + text + arguments.get("s", "") + unit


def _grouped(arguments: Arguments) -> str:
    """{{formatnum:125000}}: 125,000; with R as written by a program."""
    number, *flags = [*_positional(arguments), ""]
    if {"R", "NOSEP"} & {*flags}:
        return number.replace(",", "") if "R" in flags else number
    whole, point, rest = number.replace(",", "").partition(".")
    return f"{int(whole):,}{point}{rest}" if re.fullmatch("-?[0-9]{1,400}", whole) else number


def _converted(arguments: Arguments) -> str:
    """{{convert|10|to|20|kg|lb}}: 10–20 kg, the quantity as its author gave it."""
    parts, text = _positional(arguments), ""
    while len(parts) > 2 and parts[1] in _RANGE:
        text, parts = text + parts[0] + _RANGE[parts[1]], parts[2:]
    text += " ".join(parts[:2])
    if len(parts) > 3 and re.match(r"[\d.]", parts[2]) and not re.match(r"[\d.]", parts[3]):  # 5 ft 10 in
        text += " " + " ".join(parts[2:4])
    return text


def _elements(arguments: Arguments) -> str:
    """{{chem|SO|4|2-}}: SO₄²⁻."""
    text = ""
    for part in _positional(arguments):
        charge = re.fullmatch(r"\d*[+−-]", part) or (not text and part.isdigit())  # before an element: its mass
        text += raised(part, "sup" if charge else "sub" if re.fullmatch("[0-9.]+", part) else "")
    return text


def formula(text: str) -> str:
    """Chemistry as {{chem2}} and <ce> write it, with raised digits: SO4(2-) → SO₄²⁻, 2H2O → 2H₂O."""
    text = re.sub(r"\^\{?(\d*[+−-]?)\}?|_\{?(\d+)\}?|\((\d*[+−-])\)", lambda match: raised(match[1] or match[3] or "")
                  + raised(match[2] or "", "sub"), text.replace("->", "→"))
    text = re.sub(r"(?<=[A-Za-z)\]])\d+", lambda match: raised(match[0], "sub"), text)
    return re.sub(r"(?<=[A-Za-z)\]₀-₉])[+−-](?![A-Za-z0-9])", lambda match: raised(match[0]), text)


def _fraction(arguments: Arguments) -> str:
    """{{frac|1|1|2}}: 1 1/2."""
    *whole, above, below = ["", *_positional(arguments)][-3:] if len(arguments) > 1 else ["1", arguments.get("1", "")]
    return " ".join(filter(None, (*whole, f"{above}/{below}")))


def _dated(arguments: Arguments) -> str:
    parts = [part for part in _positional(arguments) if part.isdigit()]
    if not parts:  # as 2020-01-02
        return arguments.get("1", "")
    return "".join(number + unit for number, unit in zip(parts, "年月日"))


_SPELLED: dict[str, Callable[[Arguments], str]] = {}
for _names, _spell in (
        ("sup smallsup 上付き", lambda arguments: raised(arguments.get("1", ""))),
        ("sub smallsub 下付き", lambda arguments: raised(arguments.get("1", ""), "sub")),
        ("su sup_sub", lambda arguments: raised(arguments.get("b", arguments.get("2", "")), "sub")
         + raised(arguments.get("p", arguments.get("1", "")))),
        ("e exp", lambda arguments: "×10" + raised(arguments.get("1", "")) if arguments.get("1") else ""),
        ("10^", lambda arguments: "10" + raised(arguments.get("1", "")) if arguments.get("1") else ""),
        ("val valu", _value), ("formatnum nts ntsh num formatnumber", _grouped),
        ("convert cvt 換算 単位換算 conv", _converted), ("chem 化学式", _elements), ("gaps", lambda arguments: "".join(
            _positional(arguments)) + (" " + arguments["u"] if "u" in arguments else "")),
        ("chem2 ce", lambda arguments: formula("".join(_positional(arguments)))),
        ("frac sfrac fraction 分数", _fraction),
        ("ubl unbulleted_list hlist plainlist flatlist", lambda arguments: "、".join(_positional(arguments))),
        ("us$ usd ドル", lambda arguments: "$" + arguments["1"] if "1" in arguments else ""),
        ("jpy yen 円", lambda arguments: arguments["1"] + "円" if "1" in arguments else ""),
        ("eur euro €", lambda arguments: "€" + arguments["1"] if "1" in arguments else ""),
        ("simplenuclide2 nuclide2 核種", lambda arguments: raised(arguments.get("2", "")) + arguments.get("1", "")),
        ("simplenuclide nuclide", lambda arguments: "-".join(_positional(arguments)[:2])),
        ("radic sqrt", lambda arguments: "√" + arguments["1"] if "1" in arguments else ""),
        ("生年月日と年齢 生年月日 birth_date birth_date_and_age 年月日 dts start_date end_date 日付", _dated),
        ("仮リンク 日本語版にない記事リンク ill interlanguage_link",
         lambda arguments: arguments.get("label", arguments.get("1", "")))):
    _SPELLED |= dict.fromkeys(_names.split(), _spell)
