"""What makes a document fit to train on: one function a rule, each returns the reason to drop it, or None.

A rule sees a `Page` (the cleaned text, with what several rules share computed once) and the `Profile` of its
source: what is junk on the web (short, without full stops, repeating its terms) is good style in a case report.
"""

import dataclasses
import functools
import hashlib
import re
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from slm.text.morphology import Morphology

VERSION = 1  # raise it when a rule keeps or drops other text

_HIRAGANA, _KATAKANA = re.compile("[ぁ-ゖゝゞ]"), re.compile("[ァ-ヺー-ヿ]")
_KANJI = re.compile("[々〆㐀-䶿一-鿿豈-﫿]")
_SENTENCE = re.compile(r"[^。!?\n]*[。!?]+[」』)]*|[^。!?\n]+")
_JAPANESE_STOP = re.compile(r"(?<=[ぁ-ヿ一-鿿)])\.(?=\s|[^0-9A-Za-z.]|$)")
_ENDED = re.compile(r"[。!?」』)]$")
_ELLIPSIS = re.compile(r"(?:…|\.\.\.|・・・)(?:続きを読む|もっと見る|詳細|>+|»)?$")
# UTF-8 read as Shift JIS (縺ゅ, 繧ｹ) or as Latin-1 (ã‚, â€), and what no decoder could read.
_MOJIBAKE = re.compile("[\ufffd\u0080-\u009f]|[縺繧繝][\u0080-\uffff]|ã[\u0080-\u00bf]|â€|Ã.")
_MARKUP = re.compile(
    r"</?(?:div|span|p|br|a|table|tr|td|li|ul|img|script|style|font|h[1-6])\b[^>]{0,200}>|&(?:nbsp|lt|gt|amp|quot|#\d+);"
    r"|\{\{[^{}]{0,500}\}\}|function\s*\(|var\s+\w+\s*=|@media\b|[{;]\s*[\w-]+\s*:\s*[^;{}]{1,40};")


@dataclasses.dataclass(frozen=True)
class Profile:
    """The numbers a kind of source is held to.

    Sources: Swallow v1 (language, letters, sentences), Gopher (repetition), llm-jp (compression).
    """
    japanese: float = 0.5  # least share of kana and kanji in what is not white space
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
    grammar: float = 0.05  # least mean attraction (nats) of neighbouring words
    repelling: float = 0.17  # of neighbours: those that repel each other by more than a nat
    warnings: tuple[str, ...] = ()  # of the source about its own documents
    mask_names: bool = True  # of persons and places of care, with dates of birth and addresses


_LOOSE = float("inf")
_ENOUGH = 200  # letters; a shorter text may be a list of terms

PROFILES = {
    # OSCAR's own warnings: what it calls adult is; its "noisy" and "short_sentences" repeat the rules here.
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


class Page:
    """A document as the rules see it; MeCab is paid once."""

    def __init__(self, text: str, morphology: Morphology, warnings: Iterable[str] = ()):
        self.text, self.warnings, self._morphology = text, warnings, morphology

    @functools.cached_property
    def letters(self) -> int:
        """How many characters are not white space."""
        return len(self.text) - sum(map(self.text.count, " \n\t\u3000"))

    @functools.cached_property
    def lines(self) -> list[str]:
        return [stripped for line in self.text.split("\n") if (stripped := line.strip())]

    @functools.cached_property
    def sentences(self) -> list[str]:
        stopped = _JAPANESE_STOP.sub("。", self.text) if "." in self.text else self.text
        return [stripped for sentence in _SENTENCE.findall(stopped) if (stripped := sentence.strip())]

    @functools.cached_property
    def tagged(self) -> tuple[list[str], list[str]]:
        return self._morphology.tag(self.text)

    @functools.cached_property
    def morphemes(self) -> list[str]:
        return self.tagged[0]

    @functools.cached_property
    def hashes(self) -> np.ndarray:
        """uint64 [morphemes], the same in every process."""
        return np.fromiter(map(_hash, self.morphemes), np.uint64, len(self.morphemes))

    def ngrams(self, n: int) -> np.ndarray:
        """uint64 [max(0, morphemes − n + 1)], a hash of each n morphemes in a row."""
        count = max(0, len(self.hashes) - n + 1)
        total = np.zeros(count, np.uint64)
        for i in range(n):
            total = total * np.uint64(0x100000001B3) + self.hashes[i:i + count]
        return total ^ (total >> np.uint64(29))  # the low bits of a product know little of the high ones


@functools.lru_cache(maxsize=500_000)
def _hash(morpheme: str) -> int:
    return int.from_bytes(hashlib.blake2b(morpheme.encode(), digest_size=8).digest(), "little")


Rule = Callable[[Page, Profile], str | None]


def warnings(page: Page, profile: Profile) -> str | None:
    return next((f"warned_{warning}" for warning in page.warnings if warning in profile.warnings), None)


def language(page: Page, profile: Profile) -> str | None:
    hiragana, katakana, kanji = (len(kind.findall(page.text)) for kind in (_HIRAGANA, _KATAKANA, _KANJI))
    japanese = hiragana + katakana + kanji
    if not page.letters or japanese < profile.japanese * page.letters:
        return "not_japanese"
    if hiragana < profile.hiragana * japanese and page.letters >= _ENOUGH:
        return "little_hiragana"
    if katakana > profile.katakana * japanese:
        return "mostly_katakana"
    return "short" if japanese < profile.letters else None


def noise(page: Page, profile: Profile) -> str | None:
    """Mojibake and markup."""
    spoilt = sum(map(len, _MOJIBAKE.findall(page.text))) * 3 + sum(map(len, _MARKUP.findall(page.text)))
    return "noise" if spoilt > profile.noise * page.letters else None


def sentences(page: Page, profile: Profile) -> str | None:
    lengths = [len(sentence) for sentence in page.sentences]
    low, high = profile.sentence_mean
    if not low <= sum(lengths) / max(1, len(lengths)) <= high or max(lengths, default=0) > profile.sentence_longest:
        return "sentence_length"
    for parts in (page.sentences, page.lines):
        if sum(bool(_ELLIPSIS.search(part)) for part in parts) > max(2, profile.ellipsis * len(parts)):
            return "ellipsis"
    return None


def incomplete(page: Page, profile: Profile) -> str | None:
    open_ended = sum(len(line) for line in page.lines if not _ENDED.search(line))
    return "incomplete_lines" if open_ended > profile.incomplete * max(1, sum(map(len, page.lines))) else None


def repeated_lines(page: Page, profile: Profile) -> str | None:
    for parts in (page.lines, page.sentences):
        again, seen = [], set()
        for part in parts:
            (again.append if part in seen else seen.add)(part)
        if len(again) > profile.repeated_lines * len(parts):
            return "repeated_lines"
        if sum(map(len, again)) > profile.repeated_lines * 2 / 3 * sum(map(len, parts)):
            return "repeated_lines"
    return None


def compression(page: Page, profile: Profile) -> str | None:
    data = page.text.encode()
    if len(data) < 1000:  # too short to tell repetition from a short alphabet
        return None
    ratio = len(zlib.compress(data, 6)) / len(data)
    low, high = profile.compression
    return "compresses_well" if ratio < low else "compresses_badly" if ratio > high else None


_COMMON = {2: 0.20, 3: 0.18, 4: 0.16}
_DUPLICATE = {5: 0.15, 6: 0.14, 7: 0.13, 8: 0.12, 9: 0.11, 10: 0.10}


def repetition(page: Page, profile: Profile) -> str | None:
    """Gopher's rules on n-grams of morphemes, by their characters (Rae et al. 2021, table A1)."""
    if not profile.repeated or len(page.morphemes) < 50:
        return None
    lengths = np.fromiter(map(len, page.morphemes), np.int64, len(page.morphemes))
    ends = np.concatenate([[0], np.cumsum(lengths)])
    for n, limit in _COMMON.items():
        _, first, counts = np.unique(page.ngrams(n), return_index=True, return_counts=True)
        top = counts.argmax()
        share = counts[top] * (ends[first[top] + n] - ends[first[top]]) / ends[-1]
        if counts[top] > 2 and share > limit * profile.repeated:
            return f"common_{n}_gram"
    for n, limit in _DUPLICATE.items():
        grams = page.ngrams(n)
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


def _too_many(hits: int, limit: float, page: Page) -> bool:
    """More than `limit` a thousand letters: three at least, or two in a text so short that they are dense."""
    dense = hits * 1000 > max(8.0, limit) * page.letters
    return hits * 1000 > limit * page.letters and (hits > 2 or (hits == 2 and dense))


def words(page: Page, profile: Profile) -> str | None:
    """Adult and gambling words that begin and end at a morpheme's border, at least two different ones."""
    found = list(_BAD_WORDS.finditer(page.text))
    if not _too_many(len(found), profile.words, page):
        return None
    allowed = [match.span() for match in _ALLOWED_WORDS.finditer(page.text)]
    borders = {0, *np.cumsum([len(morpheme) for morpheme in page.morphemes]).tolist()}
    hits = [match.group() for match in found if match.start() in borders and match.end() in borders
            and not any(start <= match.start() and match.end() <= end for start, end in allowed)]
    return "words" if len(set(hits)) > 1 and _too_many(len(hits), profile.words, page) else None


def advertising(page: Page, profile: Profile) -> str | None:
    hits = len(_ADVERTISING.findall(page.text))
    return "advertising" if _too_many(hits, profile.advertising, page) else None


def is_boilerplate(line: str) -> bool:
    """Whether a stripped line belongs to the page, not to the text: navigation, copyright, notices."""
    return 0 < len(line) < 120 and bool(_BOILERPLATE.search(line))


def boilerplate(page: Page, profile: Profile) -> str | None:
    spent = sum(len(line) for line in page.lines if is_boilerplate(line))
    return "boilerplate" if spent > profile.boilerplate * max(1, sum(map(len, page.lines))) else None


@dataclasses.dataclass(frozen=True, eq=False)
class Grammar:
    """How neighbouring words of a language attract each other: parts of speech, function words each on their own.

    Attributes:
      ids: part of speech, or part of speech and function word → row.
      attraction: float32 [words, words], pointwise mutual information in nats, within ±3; about 0 where rare.
    """
    ids: dict[str, int]
    attraction: np.ndarray

    @classmethod
    def learn(cls, texts: Iterable[str], morphology: Morphology) -> "Grammar":
        rows = [_words(*morphology.tag(text)) for text in texts]
        ids = {word: index for index, word in enumerate(sorted({word for row in rows for word in row}))}
        counts = np.zeros((len(ids), len(ids)))
        for row in rows:
            known = [ids[word] for word in row]
            np.add.at(counts, (known[:-1], known[1:]), 1)
        expected = counts.sum(1, keepdims=True) * counts.sum(0, keepdims=True) / counts.sum()
        attraction = np.log((counts + 0.1) / (expected + 0.1))
        return cls(ids, np.clip(attraction, -3, 3).astype(np.float32))

    def of(self, morphemes: list[str], tags: list[str]) -> np.ndarray:
        """float32 [pairs]: the attraction of each two neighbours that are both known."""
        row = [self.ids.get(word, -1) for word in _words(morphemes, tags)]
        left, right = np.array(row[:-1], np.int64), np.array(row[1:], np.int64)
        return self.attraction[left, right][(left >= 0) & (right >= 0)]


# ipadic's particles, auxiliaries, dependent and suffix verbs, symbols, dependent adjectives.
_FUNCTION_WORDS = {str(tag) for tag in (5, 6, 7, 8, 9, 10, *range(13, 26), 32, 33)}


def _words(morphemes: list[str], tags: list[str]) -> list[str]:
    return ["^", *(tag + morpheme.strip(" ") if tag in _FUNCTION_WORDS else tag
                   for morpheme, tag in zip(morphemes, tags))]


def grammar(page: Page, profile: Profile, language: Grammar) -> str | None:
    """Words of a sentence attract their neighbours; shuffled, listed, garbled and half-deleted ones often do not."""
    pairs = language.of(*page.tagged)
    if len(pairs) < 20:
        return None
    if pairs.mean() < profile.grammar or (pairs < -1).mean() > profile.repelling:
        return "no_grammar"
    return None


# What needs no MeCab comes first: it is cheaper, and on the web it drops most. Boilerplate is judged on the page as it
# came; a web page's is then taken out, and the others see what is left.
WHOLE_PAGE: tuple[Rule, ...] = (warnings, boilerplate)
CHEAP: tuple[Rule, ...] = (
    *WHOLE_PAGE, language, noise, sentences, incomplete, repeated_lines, compression, advertising)
MORPHEMIC: tuple[Rule, ...] = (words, repetition)
