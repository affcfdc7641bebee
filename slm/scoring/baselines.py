"""Cheap baselines on the same rows: a model that does not beat them has learned little.

Choice: logistic regression on character n-grams, one a tag; of two sentences, on how alike they are. Extraction: the
entities of the training rows, looked up. Hyperparameters are cross-validated on the training rows, grouped by document.
"""

import difflib
import random
import re
import unicodedata
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence, Set

import numpy as np

from slm.scoring import metrics
from slm.tasks.task import Item, Task

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
    """The baseline of the task's kind: `tfidf`, `dictionary`, or for an exam, which has no training rows, `chance`."""
    if task.kind == "choice":
        return tfidf(train, test, ordinal=task.metrics[0] == "linear_kappa")
    return dictionary(train, test) if task.kind == "extraction" else chance(test, task.kind, seed=0)


def majority(train: Sequence[Item], test: Sequence[Item], kind: str) -> list:
    """The answer commonest in training among rows of the same tag: a letter the item has, or a list of one entity.

    Without training rows it is counted on the answers of the test itself: an oracle, to be named so.
    An examination's items get as many letters as they have right ones, with commas between.
    """
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
    answers: dict[int, list[str]] = {}
    for tag in {item.tag for item in test}:
        rows = [item for item in train if item.tag == tag]
        folds = [(_precisions(learn), asked) for learn, asked in _folds(rows)]
        gold = [item.answer for _, asked in folds for item in asked]
        precision: float = _PRECISIONS[0]
        if gold:
            scores = [metrics.METRICS["exact_f1"](gold, [entities for known, asked in folds
                                                         for entities in _look_up(known, least, asked)])
                      for least in _PRECISIONS]
            precision = _PRECISIONS[int(np.argmax(scores))]
        rows_of_tag = [index for index, item in enumerate(test) if item.tag == tag]
        answers |= zip(rows_of_tag, _look_up(_precisions(rows), precision, [test[index] for index in rows_of_tag]))
    return [answers[index] for index in range(len(test))]


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


def _precisions(rows: Iterable[Item]) -> dict[str, float]:
    """{entity, folded: in what share of the rows that contain it it is an entity}."""
    folded = [(_folded(_text(item)), {_folded(entity)[0] for entity in item.answer} - {""}) for item in rows]
    heads = _heads(set().union(*(entities for _, entities in folded)))
    met: Counter[str] = Counter()
    right: Counter[str] = Counter()
    for (text, offsets), entities in folded:
        surfaces = {text[start:end] for start, end in _matches(text, offsets, heads)}
        met.update(surfaces)
        right.update(surfaces & entities)
    # One more row without: what was met once says less than what was met often.
    return {entity: right[entity] / (met[entity] + 1) for entity in met}


def _look_up(precisions: dict[str, float], least: float, asked: Iterable[Item]) -> list[list[str]]:
    heads = _heads({entity for entity, precision in precisions.items() if precision >= least})
    answers = []
    for item in asked:
        text = _text(item)
        folded, offsets = _folded(text)
        surfaces = [text[offsets[start]:offsets[end]] for start, end in _matches(folded, offsets, heads)]
        answers.append(list(dict.fromkeys(surfaces)))
    return answers


def _folded(text: str) -> tuple[str, list[int]]:
    """(text without difference of width and case, where in `text` each of its characters is from, the end included)."""
    # Decomposed one by one: a half-width voiced kana is two characters, the full-width one becomes the same two.
    characters = [(folded, index) for index, character in enumerate(text)
                  for folded in unicodedata.normalize("NFKD", character).lower()]
    return "".join(folded for folded, _ in characters), [*(index for _, index in characters), len(text)]


def _heads(entities: Set[str]) -> dict[str, list[str]]:
    """{first character: entities that begin with it, the longest first}."""
    heads = defaultdict(list)
    for entity in sorted(entities, key=lambda entity: (-len(entity), entity)):
        heads[entity[0]].append(entity)
    return heads


def _matches(folded: str, offsets: Sequence[int], heads: dict[str, list[str]]) -> Iterable[tuple[int, int]]:
    """(start, end) of entities in folded text, the longest at each position, that begin and end with a character."""
    def inside(index: int) -> bool:
        return 0 < index < len(folded) and (offsets[index] == offsets[index - 1]
                                            or unicodedata.combining(folded[index]) > 0)

    start = 0
    while start < len(folded):
        fits = (entity for entity in heads.get(folded[start], ()) if folded.startswith(entity, start)
                and not inside(start) and not inside(start + len(entity)))
        entity = next(fits, None)
        if entity:
            yield start, start + len(entity)
        start += len(entity) if entity else 1
