"""Cues of certainty; the sentences are made up."""

import csv
import re
import time

import pytest

from slm.scoring import certainty


@pytest.mark.parametrize("text, expected", [
    ("明らかな【胸水】は認めません。", "negative"),
    ("【胸水】や腹水はみられません。", "negative"),
    ("【転移】を指摘できず、経過を見ます。", "negative"),
    ("【圧痛】(−)、腫脹(+)", "negative"),
    ("圧痛(−)、【腫脹】(+)", "positive"),
    ("【腫大】は認めていない。", "negative"),
    ("【肺炎】の可能性は低い。", "negative"),
    ("【肺炎】が疑われます。", "suspicious"),
    ("【肺炎】の可能性があります。", "suspicious"),
    ("【肺炎】は否定できません。", "suspicious"),  # not a denial
    ("【肺炎】は否定的です。", "negative"),
    ("【肺炎】かもしれません。", "suspicious"),
    ("【肺炎】でしょうか。", "suspicious"),
    ("R/O【肺炎】", "suspicious"),
    ("【肺炎】を疑う所見はありません。", "negative"),  # the doubt is denied
    ("【腫瘤】を認め、肺炎を疑います。", "positive"),  # the nearest cue, of the own clause
    ("腫瘤を認め、【肺炎】を疑います。", "suspicious"),
    ("【リンパ節】が腫大しており、転移を疑います。", None),
    ("【石灰化】は陳旧性肺炎を疑います。", None),  # what is doubted is something else
    ("石灰化は【陳旧性肺炎】を疑います。", "suspicious"),
    ("【腫瘤】の大きさは3.5cm。胸水は認めません。", None),  # another sentence
    ("【腫瘤】は著変ありません。", None),
    ("家族歴:父が【肺癌】。", "general"),
    ("家族歴:父が肺癌で死亡し、【肺炎】", None),
    ("【血栓症】の予防に内服中。", "general"),
    ("【肺炎】", None),
])
def test_the_cue_of_the_clause(text, expected):
    start, end = text.index("【"), text.index("】") - 1
    assert certainty.label(text.replace("【", "").replace("】", ""), start, end) == expected


def test_the_table_of_cues():
    with open(certainty._CUES, encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    assert {row["side"] for row in rows} == {"after", "before"}
    assert {row["label"] for row in rows} == {*certainty.LABELS, "end"}
    for row in rows:
        assert re.compile(row["cue"]).groups == 0 and not re.fullmatch(row["cue"], ""), row


def test_a_long_line_takes_no_longer():
    text = "は" * 4000
    started = time.perf_counter()
    for start in range(0, 4000, 10):
        certainty.label(text, start, start + 1)
    assert time.perf_counter() - started < 2
