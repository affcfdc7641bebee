import random

import pytest

from slm.scoring import baselines, metrics
from slm.tasks import annotated, tables
from slm.tasks.task import Item

YES_NO = (("A", "はい"), ("B", "いいえ"))
GRADES = tuple(zip("ABCDEF", ("同一", "酷似", "類似", "関連", "近縁", "無関係")))


def choice(question, answer, options=YES_NO, tag="", document=""):
    return Item("x:0", question, (answer,), options, tag, document)


def entities(text, *answer, tag="d", ask="次の文で病変や症状は？"):
    return Item("x:0", f"{ask}\n{text}", answer, (), tag)


def posts(rows, seed, tag="fever", wet="高熱", dry="平熱"):
    """Posts of which one word in the middle decides the letter."""
    rng, fill = random.Random(seed), "今日は朝から駅で友人と会い昼に"
    found = []
    for _ in range(rows):
        answer = rng.choice("AB")
        around = "".join(rng.sample(fill, 8))
        found.append(choice(f"次の投稿は？\n「{around[:4]}{wet if answer == 'A' else dry}{around[4:]}」", answer, tag=tag))
    return found


def pairs(rows, seed):
    """Two sentences of 20 characters of the same 36, the letter says how many of them differ."""
    rng = random.Random(seed)
    found = []
    for _ in range(rows):
        pool = rng.sample("患者は右肺の腫瘤を指摘され当院へ紹介入した検査で異常なく退後も良好に経過中", 36)
        first, grade = pool[:20], rng.randrange(6)
        second = list(first)
        for place in rng.sample(range(20), 3 * grade):
            second[place] = rng.choice(pool[20:])
        found.append(choice(f"類似度は？\nS1: {''.join(first)}\nS2: {''.join(second)}", "ABCDEF"[grade], GRADES))
    return found


def test_majority_is_by_tag_and_among_the_letters_an_item_has():
    train = [choice("a", "B", tag="T"), choice("b", "B", tag="T"), choice("c", "A", tag="T"), choice("d", "A", tag="N")]
    test = [choice("e", "A", tag="T"), choice("f", "B", tag="N"), choice("g", "A", (("A", "x"), ("C", "y")), "T")]
    assert baselines.majority(train, test, "choice") == ["B", "A", "A"]
    assert baselines.majority(train, [choice("h", "A", tag="new")], "choice") == ["A"]  # a tie: the first


def test_majority_without_training_rows_is_counted_on_the_test():
    test = [choice("a", "B"), choice("b", "B"), choice("c", "A")]
    assert baselines.majority([], test, "choice") == ["B"] * 3
    assert baselines.majority([], [entities("咳", "咳"), entities("咳と熱", "咳", "熱")], "extraction") == [["咳"]] * 2


def test_majority_of_extraction_is_one_entity_of_the_tag():
    train = [entities("咳と熱", "咳", "熱"), entities("咳", "咳"), entities("丸薬", "丸薬", tag="m")]
    test = [entities("なし", tag="d"), entities("なし", tag="m"), entities("なし", tag="other")]
    assert baselines.majority(train, test, "extraction") == [["咳"], ["丸薬"], ["咳"]]


def test_an_examination_gets_as_many_letters_as_it_wants():
    options = tuple((letter, letter) for letter in "abcde")
    test = [Item("x:0", "?", ("a", "c"), options), Item("x:1", "?", ("c",), options), Item("x:2", "?", ("12",))]
    assert baselines.majority([], test, "exam") == ["a,c", "c", ""]
    drawn = [baselines.chance(test, "exam", seed) for seed in range(200)]
    assert all(len(set(two.split(","))) == 2 and one in "abcde" and none == "" for two, one, none in drawn)
    assert len({two for two, _, _ in drawn}) == 10


def test_chance_is_uniform_over_the_letters_an_item_has():
    test = [choice("a", "A"), choice("b", "A", (("B", "x"), ("D", "y"), ("E", "z")))] * 3000
    drawn = baselines.chance(test, "choice", seed=0)
    assert drawn == baselines.chance(test, "choice", seed=0) != baselines.chance(test, "choice", seed=1)
    for start, letters in ((0, "AB"), (1, "BDE")):
        counts = [drawn[start::2].count(letter) / 3000 for letter in letters]
        assert sum(counts) == 1 and counts == pytest.approx([1 / len(letters)] * len(letters), abs=0.03)


def test_chance_of_extraction_is_a_part_of_the_text():
    test = [entities("右肺に腫瘤、CTで浸潤", "腫瘤")] * 100 + [entities("はい", "x")]
    drawn = baselines.chance(test, "extraction", seed=0)
    assert {found for answer in drawn[:-1] for found in answer} == {"右肺", "腫瘤", "CT", "浸潤"}
    assert drawn[-1] == []


def test_tfidf_finds_the_word_that_decides_for_each_tag():
    train = posts(120, 0) + posts(120, 1, "cold", wet="平熱", dry="高熱")  # the other way round
    test = posts(30, 2) + posts(30, 3, "cold", wet="平熱", dry="高熱")
    answers = baselines.tfidf(train, test)
    assert metrics.accuracy([item.answer[0] for item in test], answers) > 0.95


def test_tfidf_learns_from_every_tag_what_has_none_of_its_own():
    test = posts(30, 2, tag="new")
    answers = baselines.tfidf(posts(120, 0), test)
    assert metrics.accuracy([item.answer[0] for item in test], answers) > 0.95


def test_tfidf_reads_the_line_that_asks_apart():
    """Each row has a long text of its own, in which both names occur."""
    rng = random.Random(0)

    def rows(number):
        found = []
        for name, answer in rng.choices([("発疹", "A"), ("高血圧", "B")], k=number):
            words = [*rng.choices("患者は右肺の腫瘤を指摘され当院へ紹介入院した", k=300), *rng.choices(["発疹", "高血圧"], k=6)]
            found.append(choice(f"「{name}」は副作用か？\n{''.join(rng.sample(words, len(words)))}", answer))
        return found
    test = rows(20)
    assert baselines.tfidf(rows(40), test) == [item.answer[0] for item in test]


def test_tfidf_answers_with_letters_the_item_has():
    train = [choice(f"文{n}", "CAAB"[n % 4], tuple(zip("ABC", "abc"))) for n in range(40)]
    answers = baselines.tfidf(train, [choice("文", "B", (("B", "b"), ("D", "d"))), choice("文", "D", (("D", "d"), ("E", "e")))])
    assert answers[0] == "B" and answers[1] in "DE"
    assert baselines.tfidf([choice("文", "A")], [choice("字", "B"), choice("字", "B", (("B", "x"),))]) == ["A", "B"]
    with pytest.raises(ValueError, match="use majority or chance"):
        baselines.tfidf([], train)


def test_a_rare_class_is_given_where_kappa_rewards_it():
    """One letter in ten, and a hint at it that is right in three of ten rows: the other letter is always likelier."""
    def rows(number, seed):
        rng = random.Random(seed)
        found = []
        for _ in range(number):
            answer = "A" if rng.random() < 0.1 else "B"
            hint = rng.random() < (0.8 if answer == "A" else 0.2)
            found.append(choice("疑" if hint else "無", answer, document=str(rng.random())))
        return found
    test = rows(500, 1)
    answers = baselines.tfidf(rows(500, 0), test)
    assert answers == ["A" if item.question == "疑" else "B" for item in test]
    assert metrics.kappa([item.answer[0] for item in test], answers) > 0.2


@pytest.mark.slow
def test_pairs_are_judged_by_their_likeness():
    train, test = pairs(300, 0), pairs(100, 1)
    gold = [item.answer[0] for item in test]
    assert metrics.kappa(gold, baselines.tfidf(train, test, ordinal=True), "linear") > 0.8
    # The n-grams of both together tell less.
    alone = [[choice(item.question.replace("S2:", "2."), item.answer[0], GRADES) for item in items]
             for items in (train, test)]
    assert metrics.kappa(gold, baselines.tfidf(*alone, ordinal=True), "linear") < 0.5


def test_the_median_lies_between_the_extremes():
    shares, frequencies = baselines.np.array([[0.4, 0.0, 0.25, 0.0, 0.35]]), baselines.np.ones((1, 5))
    assert baselines._decide(shares, frequencies, "ABCDE", 0, False) == ["A"]
    assert baselines._decide(shares, frequencies, "ABCDE", 0, True) == ["C"]


def test_folds_keep_documents_together():
    rows = [choice(str(n), "A", document=f"d{n % 7}") for n in range(40)]
    parts = baselines._folds(rows)
    assert sorted(item.question for _, asked in parts for item in asked) == sorted(item.question for item in rows)
    for learn, asked in parts:
        assert len(learn) + len(asked) == len(rows)
        assert not {item.document for item in learn} & {item.document for item in asked}
    assert baselines._folds(rows[:1]) == baselines._folds([]) == []


def test_entities_are_found_longest_first_without_overlaps_and_as_written():
    train = [entities("肺癌と多発肝転移、ＣＴで多発腫瘤。ﾊﾞｾﾄﾞｳ病", "肺癌", "多発", "肝転移", "多発肝転移", "ＣＴ", "ﾊﾞｾﾄﾞｳ病")]
    test = [entities("多発肝転移あり、Ctは肺癌、肺癌。バセドウ病"), entities("ハセドウ病"), entities("異常なし", ask="肺癌は？"),
            entities("肺癌", tag="m")]
    assert baselines.dictionary(train, test) == [["多発肝転移", "Ct", "肺癌", "バセドウ病"], [], [], []]


def test_a_match_does_not_cut_a_character():
    train = [entities("ハ", "ハ"), entities("m", "m")]
    assert baselines.dictionary(train, [entities("ﾊﾞとバと㎜とハ")]) == [["ハ"]]
    assert baselines.dictionary([], [entities("咳")]) == [[]]


def test_words_that_are_seldom_entities_are_dropped():
    train = [entities(f"患者{n}は咳、胸部に異常なし", "咳", *(["胸部"] if n == 0 else [])) for n in range(20)]
    assert baselines.dictionary(train, [entities("胸部は正常、咳あり")]) == [["咳"]]


def test_the_floor_is_of_the_kind():
    train, test = pairs(60, 0), pairs(20, 1)
    ordinal = tables.task("t", "choice", tuple(test), "linear_kappa")
    assert baselines.baseline(ordinal, train, test) == baselines.tfidf(train, test, ordinal=True)
    found = [entities("咳あり", "咳")]
    assert baselines.baseline(tables.task("t", "extraction", tuple(found), "exact_f1"), found, found) == [["咳"]]


def test_the_majority_of_an_examination_is_one_whatever_the_branch_of_medicine():
    options = tuple((letter, letter) for letter in "abc")
    items = [Item(f"112A{place}", "", answer, options, tag) for place, (answer, tag) in enumerate(
        [(("a",), "x"), (("b",), "y"), (("a",), "y"), (("a", "b"), "z"), (("7",), "x")])]
    items[-1] = Item("112A4", "", ("7",), (), "x")
    assert baselines.majority([], items, "exam") == ["a", "a", "a", "a,b", ""]


def tagged(text, *entities):
    """A text with an entity in each of 【…】, in the order of the labels."""
    spans, plain = [], ""
    for part in text.split("【"):
        entity, closed, rest = part.rpartition("】")
        if closed:
            spans.append(f"{len(plain)}-{len(plain) + len(entity)}:{entities[len(spans)]}")
        plain += entity + rest
    return Item("x:0", plain, tuple(spans), document=plain)


TAGGED = [tagged("【腫瘤】を認めます。", "positive"), tagged("【腫瘤】があり、【肺癌】を疑います。", "positive", "suspicious"),
          tagged("【胸水】はありません。", "negative"), tagged("【腹水】です。", "positive"),
          tagged("【胸水】を認めます。\n【腫瘤】を認めます。", "positive", "positive"), tagged("病期は【T2】です。", "unspecified")]


def test_entities_are_tagged_by_the_cues_around_them():
    test = [tagged("【胸水】と【腫瘤】を認めません。\n【ＴUMOR】なし", *"xxx"), tagged("【腹水】の【肺癌】を。【T2】を疑います。", *"xxx")]
    train = [*TAGGED, tagged("【tumor】です。", "positive")]
    assert baselines.tagging(train, test) == [
        ["0-2:negative", "3-5:negative", "13-18:negative"], ["0-2:positive", "3-5:suspicious", "7-9:unspecified"]]
    assert baselines.tagging(train, test, cues=False) == [
        ["0-2:positive", "3-5:positive", "13-18:positive"], ["0-2:positive", "3-5:positive", "7-9:positive"]]
    task = annotated.task("t", test)
    assert baselines.baseline(task, train, test) == baselines.tagging(train, test)
    assert baselines.majority(train, test, "tagging") == baselines.tagging(train, test, cues=False)
    assert baselines.tagging([], test) == [[], []]


def test_cues_give_only_labels_that_training_rows_have():
    train = [tagged("【咳】と【アスピリン】", "symptom", "drug"), tagged("【アスピリン】", "drug"), tagged("【アスピリン】", "drug")]
    test = [tagged("【咳】はなく、【アスピリン】は中止した。", *"xx")]
    assert baselines.tagging(train, test) == [["0-1:symptom", "5-10:drug"]]
    assert baselines.tagging([tagged("【咳】です", "positive")], [tagged("【咳】はない", "x")]) == [["0-1:positive"]]
