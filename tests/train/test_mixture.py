"""Weights of a corpus' sources become the mixture of a training."""

from slm.train.pretrain import _weighted


def test_weights_count_reads_not_shares():
    rows = {"a": range(100), "b": range(10)}
    assert _weighted({"a": 1.0, "b": 4.0}, rows) == {"a": 100.0, "b": 40.0}  # of 140 rows, each of b is read four times
    assert _weighted({"a": 1.0, "b": 1.0}, rows) is None
    assert _weighted({}, rows) is None


