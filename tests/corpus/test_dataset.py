import json
import sys

import pytest

from slm.corpus import dataset
from slm.corpus.sources import Document


def documents(*texts):
    return [Document(str(i), text, "s") for i, text in enumerate(texts)]


def test_duplicates_after_normalisation_are_dropped_and_counted(tmp_path):
    texts = [f"文書{i}" for i in range(60)]
    report = dataset.write(documents(*texts, "ＡＢＣ", "ABC", " \n", ""), tmp_path, 0.2)
    assert report["documents_in"] == 64
    assert report["dropped"] == {"duplicate": 1, "empty": 2}
    assert report["documents_out"] == 61 == report["documents_train"] + report["documents_validation"]
    assert report["documents_in"] == report["documents_out"] + sum(report["dropped"].values())
    assert json.loads((tmp_path / "report.json").read_text()) == report
    read = {split: [row["text"].decode() for row in dataset.read(tmp_path, split)] for split in dataset.SPLITS}
    assert sorted(read["train"] + read["validation"]) == sorted([*texts, "ABC"])
    assert "tensorflow" not in sys.modules


def test_the_report_counts_dropped_templates_of_every_document(tmp_path):
    pages = [Document(str(i), f"記事{i % 50}", "w", dropped_templates={"main": 2}) for i in range(60)]
    assert dataset.write(pages, tmp_path, 0.2)["dropped_templates"] == {"main": 120}


def test_the_split_is_by_hash_and_never_by_position():
    texts = [f"文書{i}" for i in range(2000)]
    splits = [dataset.split_of(text, 0.05) for text in texts]
    assert 0.03 < splits.count("validation") / 2000 < 0.07
    assert splits[::-1] == [dataset.split_of(text, 0.05) for text in reversed(texts)]
    # A larger share only adds to the validation split.
    assert all(dataset.split_of(text, 0.1) == "validation" for text, s in zip(texts, splits) if s == "validation")


def test_a_lone_surrogate_is_refused_with_its_document(tmp_path):
    with pytest.raises(ValueError, match=r"document 2: the text has a lone surrogate"):
        dataset.write(documents("一つ", "\ud800"), tmp_path, 0.5)


def test_an_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="leaves none for validation"):
        dataset.write(documents("一つ"), tmp_path, 0.0001)
