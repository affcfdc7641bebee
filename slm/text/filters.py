"""The quality rules for documents: each rule is a function that returns the reason to drop a document, or None.

A rule gets a `SegmentedText` (the cleaned text) and the `Profile` of its source: what is junk on the web (short,
without full stops, repeating its terms) is good style in a case report.
"""

import bisect
import dataclasses
import re
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from slm.text.bigram_pmi import BigramPMI
from slm.text.segmented_text import SegmentedText

VERSION = 1  # raise it when a rule keeps or drops other text

_HIRAGANA, _KATAKANA = re.compile("[ぁ-ゖゝゞ]"), re.compile("[ァ-ヺー-ヿ]")
_KANJI = re.compile("[々〆㐀-䶿一-鿿豈-﫿]")
_ENDED = re.compile(r"[。!?」』)]$")
_ELLIPSIS = re.compile(r"(?:…|\.\.\.|・・・)(?:続きを読む|もっと見る|詳細|>+|»)?$")
# UTF-8 decoded as Shift JIS (縺ゅ, 繧ｹ) or as Latin-1 (ã‚, â€), and undecodable bytes.
_MOJIBAKE = re.compile("[\ufffd\u0080-\u009f]|[縺繧繝][\u0080-\uffff]|ã[\u0080-\u00bf]|â€|Ã.")
_MARKUP = re.compile(
    r"</?(?:div|span|p|br|a|table|tr|td|li|ul|img|script|style|font|h[1-6])\b[^>]{0,200}>|&(?:nbsp|lt|gt|amp|quot|#\d+);"
    r"|\{\{[^{}]{0,500}\}\}|function\s*\(|var\s+\w+\s*=|@media\b|[{;]\s*[\w-]+\s*:\s*[^;{}]{1,40};")


@dataclasses.dataclass(frozen=True)
class Profile:
    """The limits that the rules apply to a kind of source.

    Sources: Swallow v1 (language, letters, sentences), Gopher (repetition), llm-jp (compression).
    """
    japanese: float = 0.5  # least share of kana and kanji among non-space characters
    hiragana: float = 0.2
    katakana: float = 0.5  # largest share
    letters: int = 400  # Japanese ones
    sentence_mean: tuple[float, float] = (20, 90)  # characters
    sentence_longest: float = 200
    ellipsis: float = 0.2  # of sentences, and of lines, that end in …
    incomplete: float = 0.5  # of characters, in lines that end without a full stop
    repeated_lines: float = 0.3  # of lines; two thirds of it by characters
    repeated: float = 1.0  # of Gopher's limits for n-grams of morphemes; 0: off
    compression: tuple[float, float] = (0.30, 0.70)  # zlib's size over UTF-8 bytes
    boilerplate: float = 0.2  # of characters
    words: float = 1.0  # adult and gambling words a thousand characters
    advertising: float = 3.0  # phrases a thousand characters
    noise: float = 0.05  # of characters: mojibake and markup
    grammar: float = 0.05  # least mean PMI (nats) of neighbouring words
    repelling: float = 0.17  # largest share of neighbours with a PMI below -1
    warnings: tuple[str, ...] = ()  # of the source about its own documents, which drop them
    mask_names: bool = True  # of persons and facilities, with dates of birth and addresses


_LOOSE = float("inf")
_ENOUGH = 200  # letters; a shorter text may be a list of terms

PROFILES = {
    # OSCAR's warnings; its "noisy" and "short_sentences" repeat the rules of this file.
    "web": Profile(warnings=("adult", "mixed_adult", "gambling", "cryptojacking", "malware", "phishing")),
    # An article is edited text: lists and short leads are its style. Its persons are public.
    "encyclopedia": Profile(japanese=0.4, hiragana=0.05, katakana=0.8, letters=20, sentence_mean=(8, 150),
                            sentence_longest=_LOOSE, incomplete=1.0, repeated=2.0, compression=(0.15, 1.2), words=10.0,
                            grammar=-0.2, repelling=0.31, mask_names=False),
    "literature": Profile(hiragana=0.2, letters=100, sentence_mean=(4, 300), sentence_longest=_LOOSE, ellipsis=1.0,
                          incomplete=1.0, repeated=2.0, compression=(0.15, 1.2), words=3.0, grammar=0.0,
                          repelling=0.25, mask_names=False),
    # Case reports, notes, examination items: terms in katakana and Latin letters, fragments, the same phrase again.
    "clinical": Profile(japanese=0.05, hiragana=0.03, katakana=0.9, letters=5, sentence_mean=(2, 400),
                        sentence_longest=_LOOSE, ellipsis=0.3, incomplete=1.0, repeated_lines=0.6, repeated=4.0,
                        compression=(0.12, 1.5), advertising=4.0, grammar=0.0, repelling=0.21),
    "textbook": Profile(japanese=0.4, hiragana=0.1, letters=60, sentence_mean=(8, 200), sentence_longest=_LOOSE,
                        incomplete=1.0, repeated=2.0, compression=(0.15, 1.2), grammar=0.0, mask_names=False),
}


Rule = Callable[[SegmentedText, Profile], str | None]


def warnings(document: SegmentedText, profile: Profile) -> str | None:
    return next((f"warned_{warning}" for warning in document.warnings if warning in profile.warnings), None)


def language(document: SegmentedText, profile: Profile) -> str | None:
    hiragana, katakana, kanji = (len(script.findall(document.text)) for script in (_HIRAGANA, _KATAKANA, _KANJI))
    japanese = hiragana + katakana + kanji
    if not document.letters or japanese < profile.japanese * document.letters:
        return "not_japanese"
    if hiragana < profile.hiragana * japanese and document.letters >= _ENOUGH:
        return "little_hiragana"
    if katakana > profile.katakana * japanese:
        return "mostly_katakana"
    return "short" if japanese < profile.letters else None


def noise(document: SegmentedText, profile: Profile) -> str | None:
    """Mojibake and markup."""
    garbled = sum(map(len, _MOJIBAKE.findall(document.text))) * 3 + sum(map(len, _MARKUP.findall(document.text)))
    return "noise" if garbled > profile.noise * document.letters else None


def sentences(document: SegmentedText, profile: Profile) -> str | None:
    lengths = [len(sentence) for sentence in document.sentences]
    low, high = profile.sentence_mean
    if not low <= sum(lengths) / max(1, len(lengths)) <= high or max(lengths, default=0) > profile.sentence_longest:
        return "sentence_length"
    for parts in (document.sentences, document.lines):
        if sum(bool(_ELLIPSIS.search(part)) for part in parts) > max(2, profile.ellipsis * len(parts)):
            return "ellipsis"
    return None


def incomplete(document: SegmentedText, profile: Profile) -> str | None:
    open_ended = sum(len(line) for line in document.lines if not _ENDED.search(line))
    return "incomplete_lines" if open_ended > profile.incomplete * max(1, sum(map(len, document.lines))) else None


def repeated_lines(document: SegmentedText, profile: Profile) -> str | None:
    for parts in (document.lines, document.sentences):
        distinct = set(parts)
        if len(parts) - len(distinct) > profile.repeated_lines * len(parts):
            return "repeated_lines"
        characters = sum(map(len, parts))
        if characters - sum(map(len, distinct)) > profile.repeated_lines * 2 / 3 * characters:
            return "repeated_lines"
    return None


def compression(document: SegmentedText, profile: Profile) -> str | None:
    data = document.text.encode()
    if len(data) < 1000:  # too short to tell repetition from a short alphabet
        return None
    ratio = len(zlib.compress(data, 6)) / len(data)
    low, high = profile.compression
    return "compresses_well" if ratio < low else "compresses_badly" if ratio > high else None


_COMMON = {2: 0.20, 3: 0.18, 4: 0.16}
_DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def repetition(document: SegmentedText, profile: Profile) -> str | None:
    """Gopher's rules on n-grams of morphemes, by their characters (Rae et al. 2021, table A1)."""
    if not profile.repeated or len(document.morphemes) < 50:
        return None
    lengths = np.fromiter(map(len, document.morphemes), np.int64, len(document.morphemes))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for n, limit in _COMMON.items():
        _, first, counts = np.unique(document.ngrams(n), return_index=True, return_counts=True)
        top = counts.argmax()
        share = counts[top] * (ends[first[top] + n] - ends[first[top]]) / ends[-1]
        if counts[top] > 2 and share > limit * profile.repeated:
            return f"common_{n}_gram"
    for n, limit in _DUPLICATE.items():
        grams = document.ngrams(n)
        _, first = np.unique(grams, return_index=True)
        again = np.ones(len(grams), bool)
        again[first] = False
        edges = np.zeros(len(lengths) + 1, np.int64)
        starts = np.flatnonzero(again)
        np.add.at(edges, starts, 1)
        np.add.at(edges, starts + n, -1)
        covered = np.cumsum(edges[:-1]) > 0
        if lengths[covered].sum() > min(0.9, limit * profile.repeated) * ends[-1]:
            return f"duplicate_{n}_grams"
    return None


def _list(*names: str) -> list[str]:
    lines = [line for name in names
             for line in (Path(__file__).parent / "words" / f"{name}.txt").read_text(encoding="utf-8").splitlines()]
    return sorted((line for line in lines if line and not line.startswith("#")), key=len, reverse=True)


_BAD_WORDS = re.compile("|".join(map(re.escape, _list("adult", "gambling"))))
_ALLOWED_WORDS = re.compile("|".join(map(re.escape, _list("allowed"))))
_ADVERTISING = re.compile("|".join(_list("advertising")))
_BOILERPLATE = re.compile("|".join(_list("boilerplate")))


def _too_many(hits: int, limit: float, document: SegmentedText) -> bool:
    """More than `limit` a thousand letters: at least three, or two in a text so short that they are dense."""
    dense = hits * 1000 > max(8.0, limit) * document.letters
    return hits * 1000 > limit * document.letters and (hits > 2 or (hits == 2 and dense))


def words(document: SegmentedText, profile: Profile) -> str | None:
    """Adult and gambling words that begin and end at a morpheme's border, at least two different ones."""
    matches = list(_BAD_WORDS.finditer(document.text))
    if not _too_many(len(matches), profile.words, document):
        return None
    allowed = [(0, 0), *(match.span() for match in _ALLOWED_WORDS.finditer(document.text))]  # in order, apart
    borders = {0, *np.cumsum([len(morpheme) for morpheme in document.morphemes]).tolist()}
    hits = [match.group() for match in matches if match.start() in borders and match.end() in borders
            and match.end() > allowed[bisect.bisect(allowed, match.start(), key=lambda span: span[0]) - 1][1]]
    return "words" if len(set(hits)) > 1 and _too_many(len(hits), profile.words, document) else None


def advertising(document: SegmentedText, profile: Profile) -> str | None:
    hits = len(_ADVERTISING.findall(document.text))
    return "advertising" if _too_many(hits, profile.advertising, document) else None


def is_boilerplate(line: str) -> bool:
    """Whether a stripped line belongs to the web page, not to the text: navigation, copyright, notices."""
    return 0 < len(line) < 120 and bool(_BOILERPLATE.search(line))


def boilerplate(document: SegmentedText, profile: Profile) -> str | None:
    characters = sum(len(line) for line in document.lines if is_boilerplate(line))
    return "boilerplate" if characters > profile.boilerplate * max(1, sum(map(len, document.lines))) else None


def grammar(document: SegmentedText, profile: Profile, language: BigramPMI) -> str | None:
    """Neighbouring words attract each other in a sentence, but often not in shuffled, listed or garbled text."""
    pairs = language.of(*document.tagged)
    if len(pairs) < 20:
        return None
    if pairs.mean() < profile.grammar or (pairs < -1).mean() > profile.repelling:
        return "no_grammar"
    return None


# Rules without MeCab come first: they are cheaper, and drop most of the web. Boilerplate is judged on the whole page;
# then `steps.Strip` removes it from web pages, and the other rules see the rest.
BEFORE_STRIPPING: tuple[Rule, ...] = (warnings, boilerplate)
CHEAP: tuple[Rule, ...] = (
    *BEFORE_STRIPPING, language, noise, sentences, incomplete, repeated_lines, compression, advertising)
MORPHEMIC: tuple[Rule, ...] = (words, repetition)
