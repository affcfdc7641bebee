import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slm.scoring import calibration
from slm.scoring.calibration import brier, ece, reliability


def test_brier_by_hand():
    first, second = np.array([0.7, 0.2, 0.1]), np.array([0.5, 0.5])
    # 0.3² + 0.2² + 0.1², and 0.5² + 0.5²
    assert brier([first, second], [0, 1]) == pytest.approx((0.14 + 0.5) / 2)
    assert brier([np.array([0.0, 1.0])], [1]) == 0
    assert brier([np.array([0.0, 1.0])], [0]) == 2


def test_brier_is_least_for_the_true_probabilities():
    truth = np.array([0.6, 0.3, 0.1])
    rights = np.random.default_rng(0).choice(3, 2000, p=truth)
    score = lambda options: brier([np.array(options)] * 2000, rights)
    assert score(truth) < min(score([0.8, 0.15, 0.05]), score([1 / 3] * 3))


def test_bins_by_hand():
    found = reliability([0.0, 0.2, 0.25, 0.9, 1.0], [0, 1, 0, 1, 1], bins=5)
    assert [(some.count, round(some.low, 9), round(some.high, 9)) for some in found] == [
        (2, 0, 0.2), (1, 0.2, 0.4), (0, 0.4, 0.6), (0, 0.6, 0.8), (2, 0.8, 1)]
    assert [some.accuracy for some in found if some.count] == [0.5, 0, 1]
    assert [some.confidence for some in found if some.count] == pytest.approx([0.1, 0.25, 0.95])
    assert math.isnan(found[2].accuracy) and math.isnan(found[2].confidence)
    # 2/5 · |0.5 − 0.1| + 1/5 · |0 − 0.25| + 2/5 · |1 − 0.95|
    assert ece([0.0, 0.2, 0.25, 0.9, 1.0], [0, 1, 0, 1, 1], bins=5) == pytest.approx(0.23)


def test_tenths_belong_to_the_bin_below():
    confidence = [place / 10 for place in range(1, 11)]
    assert [some.count for some in reliability(confidence, [1] * 10)] == [1] * 10


def test_ece_of_a_calibrated_and_a_boastful_model():
    rng = np.random.default_rng(0)
    confidence = rng.uniform(0.3, 1, 20_000)
    assert ece(confidence, rng.random(20_000) < confidence) < 0.015
    assert ece(confidence, rng.random(20_000) < confidence - 0.2) == pytest.approx(0.2, abs=0.015)


@settings(deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1), st.integers(1, 20))
def test_every_answer_is_in_one_bin(pairs, bins):
    confidence, correct = zip(*pairs)
    found = reliability(confidence, correct, bins)
    assert len(found) == bins
    assert sum(some.count for some in found) == len(pairs)
    assert sum(some.count * some.accuracy for some in found if some.count) == pytest.approx(sum(correct))
    overall = abs(np.mean(confidence) - np.mean(correct))
    assert overall - 1e-9 <= ece(confidence, correct, bins) <= 1
    assert ece(confidence, correct, 1) == pytest.approx(overall)


def test_refusals():
    half = np.array([0.5, 0.5])
    with pytest.raises(ValueError, match=r"item 1 are .* add up to 1"):
        brier([half, np.array([0.5, 0.4])], [0, 0])
    with pytest.raises(ValueError, match="item 0 are"):
        brier([np.array([math.nan, 1.0])], [0])
    with pytest.raises(ValueError, match="right option of item 0 is 2, it has 2"):
        brier([half], [2])
    with pytest.raises(ValueError, match="probabilities of 1 items, right options of 0"):
        brier([half], [])
    with pytest.raises(ValueError, match=r"confidence of item 1 is 1\.5"):
        ece([0.5, 1.5], [1, 1])
    with pytest.raises(ValueError, match="confidence of item 0 is nan"):
        ece([math.nan], [1])
    with pytest.raises(ValueError, match="confidence of 0 items"):
        reliability([], [])


def test_figure(tmp_path):
    bins = reliability([0.15, 0.55, 0.6, 0.95], [0, 1, 0, 1])
    calibration.figure(bins, tmp_path / "jcsts v1.0", "較正：JCSTS")
    assert (tmp_path / "jcsts v1.0.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "jcsts v1.0.svg").read_text()
