import grain.python as grain
import numpy as np
import pytest

from slm.data import loader, stream


@pytest.fixture(scope="module")
def rows(products, words):
    return {source: loader.Rows(tokens, 64, words.end_of_document)
            for source, tokens in stream.streams(products / "stream", "train").items()}


@pytest.fixture(scope="module")
def case(products):
    return stream.streams(products / "stream", "train")["sample-case"]


@pytest.mark.parametrize("length", [1, 7, 64, 1024])
def test_every_token_is_predicted_once_from_the_one_before(case, words, length):
    rows = loader.Rows(case, length, words.end_of_document)
    read = [rows[i] for i in range(len(rows))]
    counted = [row["targets"][row["loss_mask"] == 1] for row in read]
    np.testing.assert_array_equal(np.concatenate(counted), case[0:len(case)])
    inputs = np.concatenate([row["inputs"][row["loss_mask"] == 1] for row in read])
    np.testing.assert_array_equal(inputs, np.concatenate([[words.end_of_document], case[0:len(case) - 1]]))


def test_segments_and_positions_restart_where_a_document_does(case, words):
    rows = loader.Rows(case, 1024, words.end_of_document)
    starts = set(case.starts.tolist())
    for index in range(len(rows)):
        row = rows[index]
        assert row["segments"][0] == 1 and row["positions"][0] == 0
        for t in range(1, int(row["loss_mask"].sum())):
            begins = index * 1024 + t in starts
            assert row["segments"][t] == row["segments"][t - 1] + begins
            assert row["positions"][t] == (0 if begins else row["positions"][t - 1] + 1)
    assert (row["segments"][row["loss_mask"] == 0] == 0).all()


def test_a_copied_row_repeats_its_first_half_as_one_segment(rows):
    copied, mixture = loader.with_copies(rows, None, 0.25)
    plain = rows["sample-case"][3]
    row = copied["sample-case, copied"][3]
    np.testing.assert_array_equal(row["targets"][:32], plain["targets"][:32])
    np.testing.assert_array_equal(row["targets"][32:], plain["targets"][:32])
    np.testing.assert_array_equal(row["inputs"], [plain["inputs"][0], *row["targets"][:-1]])
    assert set(row["segments"]) == {1} and row["positions"].tolist() == list(range(64))
    assert sum(weight for name, weight in mixture.items() if name.endswith(", copied")) == pytest.approx(
        sum(mixture.values()) / 4)
    assert loader.with_copies(rows, None, 0) == (rows, None)


def row_keys(batch):
    return [row.tobytes() for row in batch["targets"]]


def test_an_epoch_reads_each_row_once_and_the_next_in_another_order(rows):
    total = sum(map(len, rows.values()))
    batches = loader.training(rows, 1, seed=0)
    first = [row_keys(batches[i])[0] for i in range(total)]
    second = [row_keys(batches[i])[0] for i in range(total, 2 * total)]
    everything = sorted(source[i]["targets"].tobytes() for source in rows.values() for i in range(len(source)))
    assert sorted(first) == sorted(second) == everything
    assert first != second
    assert row_keys(loader.training(rows, 1, seed=1)[0]) != first[:1]


@pytest.mark.parametrize("mixture", [None, {"sample-prose": 3, "sample-textbook": 1, "sample-case": 1,
                                            "sample-nursing": 1, "sample-exam": 1}])
def test_processes_share_the_batches_of_one(rows, mixture):
    alone = loader.training(rows, 8, 0, mixture)
    shared = [loader.training(rows, 8, 0, mixture, process, 4) for process in range(4)]
    for step in (0, 3, 1000):
        parts = [key for dataset in shared for key in row_keys(dataset[step])]
        assert sorted(parts) == sorted(row_keys(alone[step]))


def test_the_mixture_is_kept(rows):
    weights = {"sample-prose": 4.0, "sample-textbook": 1.0, "sample-case": 1.0, "sample-nursing": 1.0, "sample-exam": 1.0}
    prose = {rows["sample-prose"][i]["targets"].tobytes() for i in range(len(rows["sample-prose"]))}
    batches = loader.training(rows, 8, 0, weights)
    drawn = [key in prose for step in range(50) for key in row_keys(batches[step])]
    assert np.mean(drawn) == pytest.approx(0.5, abs=0.01)
    assert loader.epochs(rows, 400, weights)["sample-prose"] == pytest.approx(200 / len(prose), rel=0.01)
    with pytest.raises(ValueError, match="name each source"):
        loader.training(rows, 8, 0, {"sample-prose": 1.0})
    with pytest.raises(ValueError, match="8 rows cannot be shared by 3 processes"):
        loader.training(rows, 8, 0, None, 0, 3)


def test_iteration_goes_on_from_any_step(rows):
    batches = loader.training(rows, 4, seed=0)
    iterator = loader.iterate(batches, 17)
    for step in range(17, 22):
        assert row_keys(next(iterator)) == row_keys(batches[step])
    grain.experimental.assert_equal_output_after_checkpoint(batches[:20].to_iter_dataset())


def test_validation_counts_each_target_once(rows, case):
    batches = list(loader.validation(rows["sample-case"], 8))
    assert all(batch["targets"].shape == (8, 64) for batch in batches)
    assert sum(batch["loss_mask"].sum() for batch in batches) == len(case)
    limited = list(loader.validation(rows["sample-case"], 8, limit=3))
    assert len(limited) == 1 and limited[0]["loss_mask"].sum() == 3 * 64
