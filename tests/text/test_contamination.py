"""Benchmark items are found in text, cut, labelled and re-punctuated; stock phrases and other text are not."""

import pytest

from slm.text.contamination import Index

# Written for this test, in the shape of examination items.
ITEMS = [
    "58歳の男性。3日前から右上腹部の鈍い痛みが続くため来院した。眼球結膜に軽い黄染を認める。次に行うべき検査はどれか。"
    "\n腹部超音波検査\n上部消化管内視鏡検査\n胸部エックス線撮影",
    "甲状腺機能低下症でみられる所見として誤っているのはどれか。\n徐脈\n便秘\n体重減少\n粘液水腫",
    *(f"{disease}について正しい記載を含む選択肢を次の中から一つ選べ。\n{disease}の頻度は高い" for disease in
      ("腎盂腎炎", "急性虫垂炎", "気管支喘息", "大動脈解離", "関節リウマチ", "くも膜下出血")),
]
HOST = "以下は講義の記録である。{}以上の内容を各自で復習しておくこと。次回は循環器の講義を予定している。"


@pytest.fixture(scope="module")
def index():
    return Index.build(("exam", item) for item in ITEMS)


@pytest.mark.parametrize("change", [
    lambda item: item,
    lambda item: item[: len(item) * 2 // 3],
    lambda item: item[len(item) // 3:],
    lambda item: item.replace("。", "、").replace("、", " ，"),
    lambda item: "".join(f"\n{'abcde'[i % 5]}. {line}" for i, line in enumerate(item.split("\n"))),
    lambda item: item.replace("3", "３").replace("\n", ""),
], ids=["whole", "beginning", "end", "punctuation", "labels", "width"])
@pytest.mark.parametrize("item", ITEMS[:2])
def test_a_planted_item_is_found(index, item, change):
    from slm.text.normalize import normalize
    assert index.find(normalize(HOST.format(change(item)))) == "exam"


@pytest.mark.parametrize("text", [
    HOST.format("肝機能の評価について述べた。"), "", "肺炎", "の" * 2000,
    HOST.format("〜について正しい記載を含む選択肢を次の中から一つ選べ。"),  # of six items: a stock phrase
])
def test_other_text_is_clean(index, text):
    assert index.find(text) is None


def test_saved_and_loaded_finds_the_same(index, tmp_path):
    index.save(tmp_path / "index.npz")
    loaded = Index.load(tmp_path / "index.npz")
    assert loaded.names == ["exam"]
    assert loaded.find(HOST.format(ITEMS[0])) == "exam"


def test_the_benchmark_with_most_hits_is_named():
    index = Index.build([("a", ITEMS[0]), ("b", ITEMS[1])])
    assert (index.find(ITEMS[0]), index.find(ITEMS[1])) == ("a", "b")


def test_nothing_to_look_for():
    assert Index.build([]).find(ITEMS[0]) is None
    assert Index.build([("short", "肺炎")]).find(ITEMS[0]) is None
