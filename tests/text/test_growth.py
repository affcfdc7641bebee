"""Texts that trap patterns take time in proportion to their length. Bounds are minutes below what quadratic time takes,
and a hundred times what linear time does."""

import time

import pytest

from slm.text import cleaning, filters, names, normalize, privacy
from slm.text.segmented_text import SegmentedText


@pytest.fixture
def seconds():
    """At most twenty seconds of this process."""
    started = time.process_time()
    yield
    assert time.process_time() - started < 20


def test_clean_long_runs(seconds):
    assert cleaning.clean("甲" + " " * 300_000 + "乙" + "\t" * 300_000, "web") == "甲" + " " * 300_000 + "乙"
    assert cleaning.clean("甲[#" * 50_000, "literature") == "甲[#" * 50_000
    assert cleaning.clean("甲[#改ページ]乙", "literature") == "甲乙"


def test_normalise_runs_of_marks(seconds):
    for run in ("\u0301\u0316", "\u0316\u200b\u0301\ufe00", "ﾞ\u0316"):
        text = normalize.normalize("か" + run * 100_000)
        assert normalize.normalize(text) == text and len(text) > 200_000


def test_thirty_marks_are_left_alone():
    text = "か" + "\u0316" * 15 + "\u0301" * 15
    assert normalize.normalize(text) == text and "\u034f" in normalize.normalize(text + "\u0301")


def test_filter_long_numbers(seconds):
    document = SegmentedText("甲" + "0123456789" * 20_000, None)
    assert filters.advertising(document, filters.PROFILES["clinical"]) is None
    for text, hits in (("2.5kg減30%OFF1,980円から", 3), ("税込1,980円、先着100名", 2), ("1,980円から" * 3, 3)):
        assert len(filters._ADVERTISING.findall(text)) == hits


@pytest.mark.parametrize("unit", [("山田", "太郎"), ("山田", "動脈"), ("山田", "", "太郎")])
def test_long_runs_of_names(unit, seconds):
    tags = {"山田": "43", "太郎": "44", "動脈": "44", "": "36"}
    morphemes = ["甲", *(part or " " for part in unit * 20_000), "様"]
    spans = names.persons_and_facilities("".join(morphemes), morphemes, ["38", *(tags[part] for part in unit * 20_000), "51"])
    assert len(list(spans)) < 2


def test_a_surname_before_a_space_at_the_end():
    assert list(names.persons_and_facilities("佐藤 ", ["佐藤", " "], ["43", "36"])) == [(0, 2, "name")]


@pytest.mark.parametrize("unit", ["03-5321-", "生年月日", "昭23・4・", "東京都新宿区", "氏名:", "ヤマダ タロウ ", "(", "患者ID 0"])
def test_mask_long_runs(unit, seconds):
    privacy.mask(unit * 20_000, ([unit * 20_000], ["36"]))
