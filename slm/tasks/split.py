"""Which rows of the full sets of JMED-LLM may be trained on: not the test rows, nor what repeats their documents.

A row is about a document: a case report, a nursing note, a post. Other rows ask other things about the same one, and
some documents are near copies of others, so taking out the test rows alone leaves their documents in the training data.
"""

import hashlib
import math
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

TESTS = {"CRADE": ("crade",), "JMMLU-Med": ("jmmlu_med",), "CRNER": ("mrner_disease", "mrner_medicine"),
         "RRNER": ("mrner_disease", "mrner_medicine"), "NRNER": ("nrner",), "RRTNM": ("rrtnm",), "SMDIS": ("smdis",),
         "JCSTS": ("jcsts",)}  # set → the tests that were drawn from it
# The case reports of CRADE are those of CRNER, and its questions quote the answers of the extraction tests.
_JOINT = ("CRADE", "CRNER", "RRNER", "NRNER")

_N = 5  # characters
_NEAR = 0.5
_LEAST = 16  # 5-grams: 20 characters in a row, more than most stock phrases have
_QUOTED = re.compile(r"\n(「.*」)[^\S\n]*(?:\n|\Z)", re.DOTALL)
_PAIR = re.compile(r"\nS1: (.*)\nS2: (.*)")


@dataclass(frozen=True)
class Assignment:
    """What a row may be used for.

    Attributes:
      split: train is what is left for training on this task alone.
      joint: whether it is also left when CRADE and the extraction tasks are trained together: no test of either has its
        document. Near duplicates across tasks are not looked for here; `leaks` finds them.
      fold: of the cross-validation over all rows; rows of one document are in one fold.
    """
    split: Literal["test", "shares_test_document", "near_duplicate", "train"]
    joint: bool
    fold: int


def document(question: str) -> str:
    """The text that a question is about, in a form that is equal for equal texts: NFKC, without white space.

    It is the text in 「…」 on separate lines; the two sentences of a pair, one after the other; else all of it.
    """
    if pair := _PAIR.search(question):
        return _canonical(pair[1] + pair[2])
    start = question.find("\n「")
    quoted = _QUOTED.match(question, start) if start >= 0 else None
    return _canonical((quoted[1] if quoted else question).strip("「」"))


def fold(document: str, folds: int = 5) -> int:
    """0 … folds-1, of the SHA-256 of the document."""
    return int(hashlib.sha256(_canonical(document).encode()).hexdigest(), 16) % folds


def assign(sets: Mapping[str, Sequence[str]], tests: Mapping[str, Sequence[str]]) -> dict[str, list[Assignment]]:
    """The assignment of each row.

    Two documents are near duplicates if the one with fewer 5-grams has a half of them in common with the other.

    Args:
      sets: the questions of full sets, {"CRADE": …}.
      tests: the questions of tests, {"crade": …}; all of `TESTS` that concern `sets`.

    Raises:
      ValueError: an unknown set, or a test that is missing.
    """
    return {name: _assign(name, questions, tests) for name, questions in sets.items()}


def leaks(texts: Iterable[tuple[str, str]], tests: Mapping[str, Sequence[str]]) -> list[tuple[str, str, str]]:
    """Test documents in training texts, whatever the white space and the width of the characters.

    A text holds a test document if a stretch of it, at most twice as long as the document, has a half of the document's
    5-grams; or if a half of the 5-grams of the text's own document are the test document's. Either way there are at
    least 16 in common, or all of a test document that has fewer: half of a short post is a phrase that anyone writes.

    Args:
      texts: (name, text); the text may be a question, a conversation, or anything else.
      tests: the questions of the tests, by task.

    Returns:
      (name, task, row of the test, counted from 0), for each row whose document is found.
    """
    rows = defaultdict(list)
    for task, questions in tests.items():
        for row, question in enumerate(questions):
            rows[document(question)].append((task, str(row)))
    index = _Index(rows)
    return [(name, *row) for name, text in texts for test_document in index.held(text) for row in rows[test_document]]


def _assign(name: str, questions: Sequence[str], tests: Mapping[str, Sequence[str]]) -> list[Assignment]:
    scored = frozenset(question for test in _tests([name], tests) for question in tests[test])
    index = _Index(map(document, scored))
    group = _tests(_JOINT if name in _JOINT else [name], tests)
    foreign = {document(question) for test in group for question in tests[test]}
    near: dict[str, bool] = {}

    def assignment(question: str) -> Assignment:
        text = document(question)
        if question in scored:
            return Assignment("test", False, fold(text))
        if text in index:
            return Assignment("shares_test_document", False, fold(text))
        if text not in near:
            near[text] = index.near(text)
        return Assignment("near_duplicate" if near[text] else "train", not near[text] and text not in foreign,
                          fold(text))

    return [assignment(question) for question in questions]


def _tests(names: Iterable[str], tests: Mapping[str, Sequence[str]]) -> list[str]:
    for name in names:
        if name not in TESTS:
            raise ValueError(f"the set {name} is unknown: the sets are {', '.join(TESTS)}")
    wanted = list(dict.fromkeys(test for name in names for test in TESTS[name]))
    missing = [test for test in wanted if test not in tests]
    if missing:
        raise ValueError(f"the questions of {', '.join(missing)} are missing, without which {', '.join(names)} cannot "
                         f"be split: give the tests {', '.join(wanted)}")
    return wanted


class _Index:
    """The 5-grams of documents."""

    def __init__(self, documents: Iterable[str]):
        self._sizes: dict[str, int] = {}
        self._holders: dict[str, list[str]] = defaultdict(list)  # 5-gram → documents
        for each in documents:
            if each in self._sizes:
                continue
            grams = set(_grams(each))
            self._sizes[each] = len(grams)
            for gram in grams:
                self._holders[gram].append(each)

    def __contains__(self, document: str) -> bool:
        return document in self._sizes

    def near(self, document: str) -> bool:
        grams = set(_grams(document))
        return any(count >= _NEAR * min(len(grams), self._sizes[other])
                   for other, count in self._common(grams).items())

    def held(self, text: str) -> list[str]:
        of_document = set(_grams(document(text)))
        parts = self._common(of_document)
        whole = _canonical(text)
        documents = []
        for other, count in self._common(set(_grams(whole))).items():
            size = self._sizes[other]
            least = min(size, _LEAST)
            need = max(least, math.ceil(_NEAR * size))
            if parts[other] >= max(least, _NEAR * len(of_document)) or (count >= need and _stretch(whole, other, need)):
                documents.append(other)
        return documents

    def _common(self, grams: set[str]) -> Counter[str]:
        return Counter(holder for gram in grams for holder in self._holders.get(gram, ()))


def _stretch(text: str, document: str, need: int) -> bool:
    """Whether some stretch of the text has so many different 5-grams of the document."""
    wanted, width = set(_grams(document)), 2 * len(document)
    positions = [(position, gram) for position, gram in enumerate(_grams(text)) if gram in wanted]
    inside: Counter[str] = Counter()
    first = 0
    for position, gram in positions:
        inside[gram] += 1
        while positions[first][0] <= position - width:
            left = positions[first][1]
            inside[left] -= 1
            if not inside[left]:
                del inside[left]
            first += 1
        if len(inside) >= need:
            return True
    return False


def _grams(text: str) -> Iterator[str]:
    """The 5-grams of a text in order; a shorter text is one."""
    return (text[position:position + _N] for position in range(max(len(text) - _N + 1, 1)))


def _canonical(text: str) -> str:
    return re.sub(r"\s+", "", unicodedata.normalize("NFKC", text))
