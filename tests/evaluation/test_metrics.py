import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.scoring import metrics
from slm.scoring.metrics import METRICS, kappa
from slm.tasks.reading import read_list
from slm.text.spans import Span

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/jmed_llm.json").read_text(encoding="utf-8"))
close = lambda value: pytest.approx(value, abs=1e-9, rel=0)


@pytest.mark.parametrize("pair", GOLDEN["kappa"], ids=lambda pair: "".join(pair["pred"]))
def test_kappa_as_the_reference(pair):
    assert kappa(pair["gold"], pair["pred"]) == close(pair["kappa"])
    assert kappa(pair["gold"], pair["pred"], "linear") == close(pair["kappa_linear"])


@pytest.mark.parametrize("case", GOLDEN["choice"], ids=lambda case: case["id"])
def test_choice_tasks_as_the_reference(case):
    predicted = ["None" if letter == "-" else letter for letter in case["read"]]
    headline = "linear_kappa" if case["linear"] else "kappa"
    assert METRICS[headline](list(case["gold"]), predicted) == close(case["kappa"])
    assert METRICS["accuracy"](list(case["gold"]), predicted) == close(case["accuracy"])


@pytest.mark.parametrize("pair", GOLDEN["f1"], ids=lambda pair: f"{pair['gold']}{pair['pred']}")
def test_f1_as_the_reference(pair):
    assert METRICS["exact_f1"]([pair["gold"]], [pair["pred"]]) == close(pair["exact_f1"])
    assert METRICS["partial_f1_reference"]([pair["gold"]], [pair["pred"]]) == close(pair["partial_f1"])


@pytest.mark.parametrize("case", GOLDEN["extraction"], ids=lambda case: case["id"])
def test_extraction_tasks_as_the_reference(case):
    gold, predicted = ([read_list(text)[0] for text in case[side]] for side in ("gold", "outputs"))
    assert METRICS["exact_f1"](gold, predicted) == close(case["exact_f1"])
    assert METRICS["partial_f1_reference"](gold, predicted) == close(case["partial_f1"])
    assert METRICS["partial_f1"](gold, predicted) == close(case["fixed_partial_f1"])


def test_unread_answers_lie_beyond_the_last_letter():
    # One answer of six is missed, by six places; by chance, pairs of A–F and of B–F, None, each at its distance.
    by_chance = sum(abs(gold - predicted) for gold in range(6) for predicted in range(1, 7)) / 6
    assert kappa([*"ABCDEF"], ["None", *"BCDEF"], "linear") == close(1 - 6 / by_chance)


def test_kappa_by_hand():
    # gold 2 A, 2 B; predicted 3 A, 1 B; 3 agree: (3/4 − (2·3 + 2·1)/16) / (1 − 8/16)
    assert kappa([*"AABB"], [*"AAAB"]) == close(0.5)


@pytest.mark.parametrize("weights", ["none", "linear"])
def test_kappa_is_undefined_with_one_label(weights):
    assert math.isnan(kappa([*"AAA"], [*"AAA"], weights))
    assert kappa([*"AAA"], [*"BBB"], weights) == 0
    assert kappa([*"AAB"], [*"AAA"], weights) == 0


LABELS = st.sampled_from(["A", "B", "C", "F", "None"])


@settings(deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40), st.sampled_from(["none", "linear"]))
def test_kappa_is_that_of_scikit_learn(pairs, weights):
    from sklearn.metrics import cohen_kappa_score
    gold, predicted = zip(*pairs)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # undefined
        theirs = cohen_kappa_score(gold, predicted, weights=None if weights == "none" else weights)
    np.testing.assert_allclose(kappa(gold, predicted, weights), theirs, atol=1e-12, rtol=0)


@pytest.mark.parametrize("gold, predicted, exact, partial, reference", [
    (["肺炎像", "発熱"], ["肺炎"], 0, 2 * (1 / 2 * 1) / (1 / 2 + 1), 0),  # either way: found, and finding
    (["肺炎"], ["肺炎像", "咳"], 0, 2 * (1 * 1 / 2) / (1 + 1 / 2), 0),
    (["a", "b", "c", "d"], ["a"], 0.4, 0.4, 1.6),  # the reference counts all four as found
    (["発熱"], ["発熱", ""], 2 / 3, 1, 2 / 3),
    (["発熱"], [""], 0, 0, 0),
    (["1"], [1, None, True], 0, 0, 0),
    (["1"], ["1", 1], 2 / 3, 2 / 3, 2 / 3),
    ([], [], 1, 1, 1),
    ([], ["a"], 0, 0, 0),
    (["a"], [], 0, 0, 0),
    (["ａ"], ["a"], 0, 0, 0),  # no normalisation
])
def test_f1_by_hand(gold, predicted, exact, partial, reference):
    assert metrics.exact_f1_rows([gold], [predicted])[0] == close(exact)
    assert metrics.partial_f1_rows([gold], [predicted])[0] == close(partial)
    assert metrics.partial_f1_reference_rows([gold], [predicted])[0] == close(reference)


ENTITIES = st.lists(st.text("abc", min_size=0, max_size=3) | st.integers(0, 2) | st.none(), max_size=6)


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(st.text("abc", min_size=1, max_size=3), max_size=6), ENTITIES), min_size=1))
def test_f1_lies_between_0_and_1_and_parts_never_count_less(rows):
    gold, predicted = zip(*rows)
    exact, partial = metrics.exact_f1_rows(gold, predicted), metrics.partial_f1_rows(gold, predicted)
    assert exact.shape == partial.shape == (len(rows),)
    assert np.all((exact >= 0) & (exact <= partial + 1e-12) & (partial <= 1 + 1e-12))
    assert METRICS["partial_f1"](gold, gold) == METRICS["exact_f1"](gold, gold) == 1


@pytest.mark.parametrize("name", METRICS)
def test_rows_that_do_not_match_are_refused(name):
    with pytest.raises(ValueError, match="1 predicted answers, 2 gold ones"):
        METRICS[name](["A", "B"], ["A"])
    with pytest.raises(ValueError, match="at least one"):
        METRICS[name]([], [])


def test_f1_of_spans_by_hand_is_over_all_rows_together():
    gold = [[Span(0, 2, "a"), Span(3, 5, "b")], [], [Span(1, 2, "a")]]
    predicted = [[Span(0, 2, "b"), Span(3, 5, "b"), Span(6, 7, "a")], [Span(0, 1, "a")], []]
    # 2 of 3 positions are found by 4 predictions, one of them with its label.
    assert METRICS["span_f1"](gold, predicted) == close(2 * 2 / (3 + 4))
    assert METRICS["label_f1"](gold, predicted) == close(2 * 1 / (3 + 4))
    assert metrics.span_counts(gold, predicted).tolist() == [[2, 2, 3], [0, 0, 1], [0, 1, 0]]
    assert METRICS["span_f1"]([[Span(0, 2, "a")]], [[Span(0, 1, "a")]]) == 0
    assert METRICS["label_f1"](gold, gold) == 1
    assert METRICS["label_f1"](gold[:1], [[*gold[0], *gold[0]]]) == 1  # a span counts once
    assert math.isnan(METRICS["span_f1"]([[]], [[]]))
