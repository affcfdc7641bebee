"""Weights of a corpus' sources become the mixture of a training."""

from slm.data.loader import weighted


def test_weights_count_reads_not_shares():
    rows = {"a": range(100), "b": range(10)}
    assert weighted({"a": 1.0, "b": 4.0}, rows) == {"a": 100.0, "b": 40.0}  # of 140 rows, each of b is read four times
    assert weighted({"a": 1.0, "b": 1.0}, rows) is None
    assert weighted({}, rows) is None


