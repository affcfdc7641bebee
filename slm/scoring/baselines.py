"""Cheap baselines on the same rows: a model that does not beat them has learned little.

Choice: logistic regression on character n-grams, one a tag; of two sentences, on how alike they are. Extraction: the
entities of the training rows, looked up. Tagging: the same, each labelled by the cues around it. Hyperparameters are
cross-validated on the training rows, grouped by document.
"""

import difflib
import random
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from slm.scoring import certainty, metrics
from slm.scoring.dictionary import Row, folded, look_up, precisions
from slm.tasks import annotated
from slm.tasks.task import Item, Task
from slm.text.spans import Span

Found = Sequence[list[tuple[int, int]]]  # [rows], (start, end) of what was found in a row's text

_FOLDS = 5
_C = 20  # inverse regularisation
_PRIORS = (0, 0.5, 1)  # a class's share is divided by its frequency to this power: kappa rewards rare classes
_PRECISIONS = (0, 0.1, 0.2, 0.3, 0.4, 0.5)
_PAIR = re.compile(r"^S1:(.*)\nS2:(.*)", re.MULTILINE)
_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+)?")
_TERM = re.compile(r"[一-龥々ァ-ヶーa-z]+")
_NEGATION = re.compile("な[いくかし]|無|ず|せん")
_RUN = re.compile(r"[一-龥々]+|[ァ-ヶー]+|[A-Za-z0-9.]+")


def baseline(task: Task, train: Sequence[Item], test: Sequence[Item]) -> list:
    """The baseline of the task's kind: `tfidf`, `dictionary`, `tagging`, or for an exam, which has no training rows,
    `chance`."""
    if task.kind == "choice":
        return tfidf(train, test, ordinal=task.metrics[0] == "linear_kappa")
    if task.kind == "tagging":
        return tagging(train, test)
    return dictionary(train, test) if task.kind == "extraction" else chance(test, task.kind, seed=0)


def majority(train: Sequence[Item], test: Sequence[Item], kind: str) -> list:
    """The answer commonest in training among rows of the same tag: a letter the item has, or a list of one entity.

    Without training rows it is counted on the answers of the test itself: an oracle, to be named so.
    An examination's items get as many letters as they have right ones, with commas between. Of tagging it is the
    commonest label, for the entities of the dictionary.
    """
    if kind == "tagging":
        return tagging(train or test, test, cues=False)

    def tag(item: Item) -> str:
        return "" if kind == "exam" else item.tag  # an examination's are branches of medicine

    counts: dict[str, Counter] = defaultdict(Counter)
    for item in train or test:
        counts[tag(item)].update(sorted(set(item.answer)))
    everything = sum(counts.values(), Counter())

    def ranked(item: Item) -> list[str]:
        of_tag = counts[tag(item)] or everything
        answers = [letter for letter, _ in item.options] if kind != "extraction" else of_tag
        return sorted(answers, key=lambda answer: (-of_tag[answer], answer))

    if kind == "extraction":
        return [ranked(item)[:1] for item in test]
    return [",".join(sorted(ranked(item)[:len(item.answer)])) for item in test]


def chance(test: Sequence[Item], kind: str, seed: int) -> list:
    """A letter the item has, each as likely. Of an extraction, one run of kanji, katakana or Latin of its text.

    An examination's items get as many letters as they have right ones, with commas between.
    """
    rng = random.Random(seed)
    if kind == "extraction":
        runs = [_RUN.findall(_text(item)) for item in test]
        return [[rng.choice(of_item)] if of_item else [] for of_item in runs]
    drawn = [rng.sample([letter for letter, _ in item.options], min(len(item.answer), len(item.options)))
             for item in test]
    return [",".join(sorted(letters)) for letters in drawn]


def tfidf(train: Sequence[Item], test: Sequence[Item], ordinal: bool = False) -> list[str]:
    """Letters by logistic regression on TF-IDF of character 1–4-grams, fitted for each tag.

    Letters are the classes even where each item has different options, whose texts are not read. A question that holds
    two sentences, `S1: …` and `S2: …`, is judged by the likeness of the two. How a letter is taken from the
    probabilities is what scored best on folds of the training rows.

    Args:
      ordinal: judged by linear kappa; the median of the letters may then beat the likeliest.

    Raises:
      ValueError: no training rows.
    """
    if not train:
        raise ValueError("the TF-IDF baseline has no training rows: use majority or chance where nothing is trained on")
    letters = sorted({letter for item in [*train, *test] for letter, _ in item.options})
    rules = [(power, median) for median in ((False, True) if ordinal else (False,)) for power in _PRIORS]
    best = rules[0]
    held_out = [(_shares(learn, asked, letters), asked) for learn, asked in _folds(train)]
    gold = [item.answer[0] for _, asked in held_out for item in asked]
    if len(set(gold)) > 1:
        scores = [metrics.kappa(gold, [letter for shares, _ in held_out for letter in _decide(*shares, letters, *rule)],
                                "linear" if ordinal else "none") for rule in rules]
        best = rules[int(np.argmax(scores))]
    return _decide(*_shares(train, test, letters), letters, *best)


def dictionary(train: Sequence[Item], test: Sequence[Item]) -> list[list[str]]:
    """Entities of training rows of the same tag that stand in the question: the longest first, without overlaps.

    Width and case do not matter; what is returned is as the question has it. An entity is looked for if it was one in
    a large enough part of the training rows that have it; how large scored best on folds of the training rows.
    """
    def strings(item: Item, spans: Iterable[tuple[int, int]]) -> list[str]:
        return list(dict.fromkeys(_text(item)[start:end] for start, end in spans))

    def score(items: Sequence[Item], found: Found) -> float:
        return metrics.METRICS["exact_f1"]([item.answer for item in items], list(map(strings, items, found)))

    answers: dict[int, list[str]] = {}
    for tag in {item.tag for item in test}:
        rows = [item for item in train if item.tag == tag]
        rows_of_tag = [index for index, item in enumerate(test) if item.tag == tag]
        asked = [test[index] for index in rows_of_tag]
        found = _looked_up(rows, asked, lambda item: (_text(item), item.answer), score)
        answers |= zip(rows_of_tag, map(strings, asked, found))
    return [answers[index] for index in range(len(test))]


def tagging(train: Sequence[Item], test: Sequence[Item], cues: bool = True) -> list[list[str]]:
    """Entities of training rows that stand in the question, found as in `dictionary`, with labels.

    Args:
      cues: an entity has the label that it has most often in training, unless a cue around it says otherwise
        (`certainty.py`); only labels of training are given, and only those of certainty are overruled. False: every
        entity has the commonest label of all.
    """
    def entities(item: Item) -> Row:
        return item.question, [item.question[span.start:span.end] for span in annotated.spans(item.answer)]

    def score(items: Sequence[Item], found: Found) -> float:
        return metrics.METRICS["span_f1"]([annotated.spans(item.answer) for item in items], found)

    counts: dict[str, Counter] = defaultdict(Counter)
    for item in train:
        for span in annotated.spans(item.answer):
            counts[folded(item.question[span.start:span.end])][span.kind] += 1
    everything = sum(counts.values(), Counter())

    def label(text: str, start: int, end: int) -> str:
        if not cues:
            return _commonest(everything)
        known = _commonest(counts[folded(text[start:end])])
        cue = certainty.label(text, start, end)
        return cue if cue and cue in everything and known in certainty.LABELS else known

    return [[annotated.write_span(Span(start, end, label(item.question, start, end))) for start, end in spans]
            for item, spans in zip(test, _looked_up(train, test, entities, score))]


def _commonest(counts: Counter) -> str:
    return min(counts, key=lambda label: (-counts[label], label))


def _looked_up(train: Sequence[Item], test: Sequence[Item], row: Callable[[Item], Row],
               score: Callable[[Sequence[Item], Found], float]) -> Found:
    """(start, end) of known entities in the text of each item; the least precision is what folds of `train` score best.

    Args:
      row: the text of an item, and the entities in it.
      score: of items and what was found in them.
    """
    def found(known: dict[str, float], least: float, items: Iterable[Item]) -> Found:
        return look_up(known, least, (row(item)[0] for item in items))

    folds = [(precisions(map(row, learn)), asked) for learn, asked in _folds(train)]
    held_out = [item for _, asked in folds for item in asked]
    precision: float = _PRECISIONS[0]
    if held_out:
        scores = [score(held_out, [spans for known, asked in folds for spans in found(known, least, asked)])
                  for least in _PRECISIONS]
        precision = _PRECISIONS[int(np.argmax(np.nan_to_num(scores)))]
    return found(precisions(map(row, train)), precision, test)


def _folds(rows: Sequence[Item]) -> list[tuple[list[Item], list[Item]]]:
    """(rows to learn from, rows held out), neither empty; a document is in one of them."""
    names = [item.document or item.question for item in rows]
    ordered = sorted(set(names), key=lambda name: (zlib.crc32(name.encode()), name))
    fold = {name: index % _FOLDS for index, name in enumerate(ordered)}
    parts = [([item for item, name in zip(rows, names) if fold[name] != number],
              [item for item, name in zip(rows, names) if fold[name] == number]) for number in range(_FOLDS)]
    return [part for part in parts if all(part)]


def _shares(train: Sequence[Item], asked: Sequence[Item], letters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """(probabilities, frequencies in training), each [asked, letters]. What an item has no option for is 0."""
    from sklearn.linear_model import LogisticRegression
    shares, frequencies = np.zeros((2, len(asked), len(letters)))
    for tag in sorted({item.tag for item in asked}):
        known = [item for item in train if item.tag == tag] or train
        rows = [index for index, item in enumerate(asked) if item.tag == tag]
        classes, counts = np.unique([item.answer[0] for item in known], return_counts=True)
        columns = np.ix_(rows, [letters.index(letter) for letter in classes])
        frequencies[columns] = counts / len(known)
        shares[columns] = 1
        if len(classes) > 1:
            learn, judge = _features(known, [asked[index] for index in rows])
            model = LogisticRegression(C=_C, max_iter=1000).fit(learn, [item.answer[0] for item in known])
            shares[columns] = model.predict_proba(judge)
    # An option never seen in training is the last resort, not impossible.
    shares = np.maximum(shares, 1e-9)
    valid = [[letter in dict(item.options) for letter in letters] for item in asked]
    return shares * valid, np.maximum(frequencies, 1e-3)


def _decide(shares, frequencies, letters: Sequence[str], power: float, median: bool) -> list[str]:
    weighted = shares / frequencies**power
    if median:
        below = np.cumsum(weighted / weighted.sum(1, keepdims=True), axis=1) < 0.5
        return [letters[index] for index in below.sum(1)]
    return [letters[index] for index in weighted.argmax(1)]


def _features(train: Sequence[Item], asked: Sequence[Item]):
    """Matrices [train, features] and [asked, features]."""
    from scipy import sparse
    from sklearn.preprocessing import StandardScaler
    pairs = [[_PAIR.search(item.question) for item in items] for items in (train, asked)]
    if all(map(all, pairs)):
        learn, judge = ([(_plain(pair[1]), _plain(pair[2])) for pair in matches if pair] for matches in pairs)
        vectorizer = _vectorizer(2 * len(learn)).fit([sentence for pair in learn for sentence in pair])
        scaler = StandardScaler()
        return scaler.fit_transform(_likeness(learn, vectorizer)), scaler.transform(_likeness(judge, vectorizer))
    # The first line asks, and may name what it asks about: a few words that would be lost among the rest.
    texts = [([item.question for item in items], [item.question.partition("\n")[0] for item in items])
             for items in (train, asked)]
    learned, judged = [], []
    for learn, judge in zip(*texts):
        vectorizer = _vectorizer(len(learn))
        learned.append(vectorizer.fit_transform(learn))
        judged.append(vectorizer.transform(judge))
    return sparse.hstack(learned).tocsr(), sparse.hstack(judged).tocsr()


def _vectorizer(rows: int):
    from sklearn.feature_extraction.text import TfidfVectorizer
    return TfidfVectorizer(analyzer="char", ngram_range=(1, 4), sublinear_tf=True, min_df=2 if rows >= 20 else 1)


def _likeness(pairs: Sequence[tuple[str, str]], vectorizer) -> np.ndarray:
    """[pairs, features] of how alike two sentences are."""
    first, second = (vectorizer.transform(sentences) for sentences in zip(*pairs))
    cosines = np.asarray(first.multiply(second).sum(1)).ravel()
    return np.array([[cosine, *_overlaps(*pair)] for cosine, pair in zip(cosines, pairs)])


def _overlaps(one: str, other: str) -> list[float]:
    features = []
    for size in (1, 2, 3, 4):
        first, second = ({text[i:i + size] for i in range(len(text) - size + 1)} for text in (one, other))
        common = len(first & second)
        features += [common / max(number, 1) for number in (
            len(first | second), min(len(first), len(second)), max(len(first), len(second)))]
    matcher = difflib.SequenceMatcher(None, one, other, autojunk=False)
    longest = max(block.size for block in matcher.get_matching_blocks())
    short, long = sorted((len(one), len(other)))
    numbers, terms = ([sorted(pattern.findall(text)) for text in (one, other)] for pattern in (_NUMBER, _TERM))
    return [*features, matcher.ratio(), longest / max(short, 1), short / max(long, 1), np.log1p(short + long),
            numbers[0] == numbers[1], any(numbers),
            len({*terms[0]} & {*terms[1]}) / max(len({*terms[0], *terms[1]}), 1),
            bool(_NEGATION.search(one)) == bool(_NEGATION.search(other))]


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).strip().lower()


def _text(item: Item) -> str:
    """What entities are looked for in: not the first line, which asks."""
    return item.question.partition("\n")[2] or item.question
