import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.evaluation.statistics import Interval, holm, interval, paired
from slm.scoring.metrics import COUNTS, METRICS
from slm.text.spans import Span

LETTERS = ["A", "B", "C", "None"]


def answers(rows, right, rng):
    """Gold letters, and predicted ones with a share that is right at least."""
    gold = rng.choice(LETTERS[:3], rows).tolist()
    return gold, [one if rng.random() < right else str(rng.choice(LETTERS)) for one in gold]


def entities(rows, rng):
    return [[f"{word}{word * n}" for n, word in enumerate(rng.choice([*"abcdef"], rng.integers(1, 5)))] for _ in range(rows)]


def spans(rows, rng):
    """Up to four of eight spans in each row, each with one of two labels."""
    return [[Span(start, start + 1, label) for start, label in zip(rng.permutation(8)[:rng.integers(0, 5)], "abab")]
            for _ in range(rows)]


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_as_row_by_row(metric):
    rng = np.random.default_rng(0)
    if metric in COUNTS:
        gold, *predictions = [spans(60, rng) for _ in range(3)]
    elif "f1" in metric:
        gold, predictions = entities(60, rng), [entities(60, rng), entities(60, rng)]
    else:
        gold, first = answers(60, 0.6, rng)
        predictions = [first, answers(60, 0.6, rng)[1]]
    clusters = [f"document {row // 3}" for row in range(60)]
    found = interval(metric, gold, predictions, clusters, resamples=200, seed=5)
    assert found.value == pytest.approx(np.mean([METRICS[metric](gold, predicted) for predicted in predictions]), abs=1e-12)
    statistics = []
    for documents in np.random.default_rng(5).integers(20, size=(200, 20)):
        rows = [3 * document + place for document in documents for place in range(3)]
        take = lambda some, rows=rows: [some[row] for row in rows]
        statistics.append(np.mean([METRICS[metric](take(gold), take(predicted)) for predicted in predictions]))
    assert [found.low, found.high] == pytest.approx(np.quantile(statistics, [0.025, 0.975]), abs=1e-12)


def test_intervals_of_one_document_a_row_are_the_binomial_ones():
    found = interval("accuracy", ["A"] * 400, [["A"] * 280 + ["B"] * 120], [str(row) for row in range(400)])
    half = 1.96 * math.sqrt(0.7 * 0.3 / 400)
    assert [found.value, found.low, found.high] == pytest.approx([0.7, 0.7 - half, 0.7 + half], abs=0.006)


def simulated(documents, rng, difference=0.0):
    """Documents of 1–4 rows which a model has all right or all wrong; a right share of 0.7 in the long run."""
    sizes = rng.integers(1, 5, documents)
    models = [np.repeat(rng.random(documents) < share, sizes) for share in (0.7, 0.7 + difference)]
    clusters = np.repeat(np.arange(documents), sizes).astype(str).tolist()
    return [1] * len(clusters), [model.astype(int).tolist() for model in models], clusters


def test_coverage():
    rng = np.random.default_rng(1)
    covered = {"documents": 0, "rows": 0}
    for _ in range(300):
        gold, (model, _), clusters = simulated(80, rng)
        for kind, names in (("documents", clusters), ("rows", [str(row) for row in range(len(gold))])):
            found = interval("accuracy", gold, [model], names, resamples=400)
            covered[kind] += found.low <= 0.7 <= found.high
    assert 0.91 <= covered["documents"] / 300 <= 0.98
    assert covered["rows"] / 300 < 0.85  # what drawing rows would promise and not hold


def test_p_values_are_those_of_chance_without_a_difference_and_small_with_one():
    rng = np.random.default_rng(2)
    small = {0.0: 0, 0.25: 0}
    for difference in small:
        for _ in range(200):
            gold, (one, other), clusters = simulated(80, rng, difference)
            small[difference] += paired("accuracy", gold, [one], [other], clusters, resamples=300)[1] < 0.05
    assert 0.01 <= small[0.0] / 200 <= 0.09
    assert small[0.25] / 200 > 0.8


def test_paired_looks_at_the_same_documents():
    rng = np.random.default_rng(3)
    gold, first = answers(200, 0.5, rng)
    second = [*gold[:20], *first[20:]]  # never worse
    clusters = [str(row) for row in range(200)]
    between, p = paired("kappa", gold, [second], [first], clusters)
    alone = interval("kappa", gold, [first], clusters)
    assert between.value == pytest.approx(METRICS["kappa"](gold, second) - METRICS["kappa"](gold, first), abs=1e-12)
    assert 0 < between.low < between.value < between.high
    assert between.high - between.low < (alone.high - alone.low) / 2
    assert 1 / 2001 <= p < 0.05
    back, same = paired("kappa", gold, [first], [second], clusters)
    assert [back.value, back.low, back.high] == pytest.approx([-between.value, -between.high, -between.low])
    assert same == p


def test_no_difference_has_p_1():
    gold, predicted = answers(50, 0.5, np.random.default_rng(4))
    assert paired("linear_kappa", gold, [predicted], [predicted, predicted], [str(row // 2) for row in range(50)]) == (
        Interval(0, 0, 0), 1)


def test_p_by_hand():
    # Two documents, the first model right in one of them: differences of the resamples are 0, 1/2 and 1, about 1/2.
    between, p = paired("accuracy", ["A", "A"], [["A", "B"]], [["B", "B"]], ["x", "y"], resamples=4000)
    assert (between.value, between.low, between.high) == (0.5, 0, 1)
    assert p == pytest.approx(0.5, abs=0.03)  # 0 and 1 are as far from 1/2 as that from 0: half of the resamples


def test_ties_count_as_being_as_far():
    better = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0])  # 9 right and 6: 0.3 in the sample, and 1.0 − 0.4 in a resample
    first, second = ["A"] * 9 + ["B"], ["B"] * 3 + ["A"] * 6 + ["B"]
    _, p = paired("accuracy", ["A"] * 10, [first], [second], [str(row) for row in range(10)], resamples=500, seed=8)
    differences = better[np.random.default_rng(8).integers(10, size=(500, 10))].sum(1)  # in tenths
    assert p == (1 + np.count_nonzero(abs(differences - 3) >= 3)) / 501


def test_seeds_are_averaged():
    rng = np.random.default_rng(6)
    gold, first = answers(100, 0.8, rng)
    others = [answers(100, 0.8, rng)[1] for _ in range(2)]
    clusters = [str(row) for row in range(100)]
    assert interval("kappa", gold, [first, first], clusters) == interval("kappa", gold, [first], clusters)
    many = interval("kappa", gold, [first, *others], clusters)
    assert many.value == pytest.approx(np.mean([METRICS["kappa"](gold, some) for some in (first, *others)]))
    assert paired("kappa", gold, [*others, first], others, clusters)[0].value == pytest.approx(
        many.value - interval("kappa", gold, others, clusters).value)


def test_repeatable():
    gold, predicted = answers(100, 0.8, np.random.default_rng(7))
    clusters = [str(row // 2) for row in range(100)]
    first, again, other = (interval("kappa", gold, [predicted], clusters, seed=seed) for seed in (0, 0, 1))
    assert first == again != other
    assert first.value == other.value


def test_what_cannot_be_known_is_nan():
    alone = interval("accuracy", ["A", "A"], [["A", "B"]], ["x", "x"])
    assert alone.value == 0.5 and math.isnan(alone.low) and math.isnan(alone.high)
    undefined = interval("kappa", ["A", "A"], [["A", "A"]], ["x", "y"])
    assert all(map(math.isnan, (undefined.value, undefined.low, undefined.high)))
    assert math.isnan(paired("kappa", ["A", "A"], [["A", "A"]], [["A", "A"]], ["x", "y"])[1])
    sometimes = interval("kappa", ["A", "B"], [["A", "B"]], ["x", "y"])  # resamples of one label are left out
    assert sometimes == Interval(1, 1, 1)


def test_refusals():
    with pytest.raises(ValueError, match="no metric f1: choose one of accuracy, exact_f1"):
        interval("f1", ["A"], [["A"]], ["x"])
    with pytest.raises(ValueError, match="1 documents for 2 rows"):
        interval("kappa", ["A", "B"], [["A", "B"]], ["x"])
    with pytest.raises(ValueError, match="1 predicted answers, 2 gold ones"):
        interval("kappa", ["A", "B"], [["A"]], ["x", "y"])
    with pytest.raises(ValueError, match="no predictions"):
        paired("kappa", ["A", "B"], [["A", "B"]], [], ["x", "y"])
    with pytest.raises(ValueError, match=r"the p-value of b is 1\.5"):
        holm({"a": 0.1, "b": 1.5})


def test_holm_by_hand():
    assert holm({"a": 0.01, "b": 0.04, "c": 0.03, "d": 0.005}) == pytest.approx({"a": 0.03, "b": 0.06, "c": 0.06, "d": 0.02})
    assert holm({"a": 0.9, "b": 0.8}) == {"a": 1, "b": 1}
    assert holm({}) == {}
    skipped = holm({"a": math.nan, "b": 0.02, "c": 0.5})
    assert list(skipped) == ["a", "b", "c"] and math.isnan(skipped["a"]) and skipped["b"] == pytest.approx(0.04)


@settings(deadline=None)
@given(st.dictionaries(st.text("abc"), st.floats(0, 1), max_size=8))
def test_holm_keeps_the_order_and_lies_between_none_and_bonferroni(p_values):
    adjusted = holm(p_values)
    assert list(adjusted) == list(p_values)
    for name, p in p_values.items():
        assert p <= adjusted[name] <= min(1, len(p_values) * p)
        assert all(adjusted[name] <= adjusted[other] for other in p_values if p < p_values[other])
