"""Does time grow in proportion to the text? Seconds for n and 4n characters of texts that trap patterns.

    .venv/bin/python -m benchmarks.growth            # about a minute
    .venv/bin/python -m benchmarks.growth --characters=20000 --only=mask

A ratio near 4 is linear, near 16 quadratic. MeCab's own time is left out.
"""

import argparse
import functools
import time
from collections.abc import Callable

from slm.corpus import wiki_templates, wikitext
from slm.text import cleaning, filters, privacy
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.segmented_text import SegmentedText

UNITS = {
    "spaces": " ", "spaces, a letter": " " * 99 + "あ", "wide spaces": "\u3000", "tabs": "\t", "lines": "\n",
    "katakana": "アイウエオ", "kanji names": "山田太郎", "hiragana": "あいうえお", "names": "山田 太郎 ",
    "kana names": "ヤマダ タロウ ", "name titles": "山田様", "terms in names": "山田動脈", "facilities": "山田町",
    "labels": "氏名:", "titles": "様", "kin": "妻の", "capitals": "KAN ", "letters": "Ab ", "letter run": "aB",
    "digits": "0123456789", "phones": "03-5321-", "prices": "1,", "dates": "昭23・4・", "birth labels": "生年月日",
    "addresses": "東京都新宿区", "towns": "甲市乙町", "mails": "a.b@c.", "brackets": "(", "pairs": "()", "ruby": "《",
    "corner brackets": "「」", "pipes": "甲|", "full stops": "。", "dots": "...", "dashes": "-" * 30 + "\n",
    "notes of Aozora": "[#", "headers of Aozora": "-" * 30 + "\n【テキスト中に現れる記号について】\n",
    "templates": "{{", "template arguments": "{{a|", "tags": "<div ", "notes": "<ref>", "comments": "<!--",
    "entities": "&#1", "braces": "{a:", "code": "function ", "mojibake": "ã", "marks": "が\u3099",
    "a mark": "\u0301", "two marks": "\u0301\u0316", "superscripts": "⁶", "fractions": "½",
}


_tagged = functools.cache(Morphology().tag)


def _filtered(text: str) -> None:
    for profile in filters.PROFILES.values():
        for rule in filters.CHEAP:
            rule(SegmentedText(text, None, ()), profile)  # type: ignore[arg-type]  # these rules read no morphemes


STEPS: dict[str, Callable[[str], object]] = {
    "normalise": normalize, "clean encyclopedia": lambda text: cleaning.clean(text, "encyclopedia"),
    "clean literature": lambda text: cleaning.clean(text, "literature"),
    "mask": lambda text: privacy.mask(text, _tagged(text)), "filters": _filtered,
    "templates": lambda text: wiki_templates.without_templates(wikitext.without_notes(text)),
}


def measure(step: Callable[[str], object], text: str) -> float:
    """Seconds of this process; the least of three."""
    seconds = []
    if step is STEPS["mask"]:
        _tagged(text)
    for _ in range(3):
        started = time.process_time()
        step(text)
        seconds.append(time.process_time() - started)
        if seconds[-1] > 1:
            break
    return min(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--characters", type=int, default=8000)
    parser.add_argument("--only", default="", help="one step")
    parser.add_argument("--least", type=float, default=0.0, help="seconds; faster texts are not shown")
    arguments = parser.parse_args()
    print(f"| step | text | ms for {arguments.characters:,} | for {4 * arguments.characters:,} | ratio |")
    print("|---|---|---:|---:|---:|")
    for name, step in STEPS.items():
        for unit_name, unit in UNITS.items() if arguments.only in ("", name) else ():
            seconds = []
            for size in (arguments.characters, 4 * arguments.characters):
                text = f"甲{(unit * (size // len(unit) + 1))[:size]}乙"  # so that nothing is stripped at the ends
                seconds.append(measure(step, text if name in ("normalise", "templates") else normalize(text)))
            few, many = seconds
            if many >= arguments.least:
                ratio = many / max(few, 1e-6)
                print(f"| {name} | {unit_name} | {few * 1000:.1f} | {many * 1000:.1f} | {ratio:.1f} |", flush=True)


if __name__ == "__main__":
    main()
