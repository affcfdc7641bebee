"""Texts with labels: which groups tasks ask for, where entities and tokens stand, and how rows are packed."""

import numpy as np
import pytest

from slm.data import labelled
from slm.data.labelled import LabelRows, Tokens, Window
from slm.model.presets import LabelGroup
from slm.tasks import tables
from slm.tasks.task import Item
from slm.text.normalize import normalize
from slm.text.offsets import encode_with_spans
from slm.text.spans import Span

YES_NO = (("A", "ある"), ("B", "ない"))
NOTE = "発熱あり。㎎単位のｱｽﾋﾟﾘﾝを内服、½錠。発熱は続く。"


def choice(number, asked, text, answer, tag="", options=YES_NO):
    return Item(f"own:{number}", f"{asked}\n「{text}」" if text else asked, (answer,), options, tag)


def task(*items, kind="choice", name="own"):
    return tables.task(name, kind, tuple(items))


@pytest.mark.parametrize("text", [NOTE, "", "a", "½½ １０⁶/μL", "㌔グラム𠮷野"])
def test_tokens_spell_the_text_as_written(words, text):
    ids, spans = encode_with_spans(words, text)
    assert ids == words.encode(text) and len(ids) == len(spans)
    covered = sorted({index for start, end in spans for index in range(start, end)})
    assert covered == list(range(len(text)))
    for index, (start, end) in zip(ids, spans):
        assert normalize(text[start:end]).find(words.decode([index]).strip("\ufffd")) >= 0


def test_one_group_for_each_tag_and_one_text_for_all_its_questions():
    own = task(choice(0, "熱は？", "発熱あり", "A", "fever"), choice(1, "咳は？", "発熱あり", "B", "cough"),
               choice(2, "熱は？", "平熱", "B", "fever"))
    groups = labelled.groups([own])
    assert [(group.name, group.labels, group.texts, group.reads) for group in groups] == [
        ("own/fever", ("A", "B"), ("ある", "ない"), "text"), ("own/cough", ("A", "B"), ("ある", "ない"), "text")]
    texts = labelled.labelled(own, groups)
    assert [(text.text, text.labels) for text in texts] == [
        ("発熱あり", {"own/fever": "A", "own/cough": "B"}), ("平熱", {"own/fever": "B"})]


def test_where_wordings_differ_all_of_the_question_is_read():
    own = task(choice(0, "「熱」は有害事象？", "熱あり", "A"), choice(1, "「咳」は有害事象？", "熱あり", "B"))
    group, = labelled.groups([own])
    assert group.reads == "question"
    assert [text.text for text in labelled.labelled(own, [group])] == [item.question for item in own.items]


def test_the_same_question_twice_about_a_text_makes_two_texts():
    own = task(choice(0, "熱は？", "発熱", "A"), choice(1, "熱は？", "発熱", "B"))
    assert [text.labels for text in labelled.labelled(own, labelled.groups([own]))] == [{"own": "A"}, {"own": "B"}]


def test_options_that_differ_from_row_to_row_are_refused():
    other = choice(1, "次は？", "", "A", options=(("A", "肺炎"), ("B", "胃炎")))
    with pytest.raises(ValueError, match="the options of own differ from row to row"):
        labelled.groups([task(choice(0, "次は？", "", "A"), other)])


def test_entities_are_found_wherever_they_stand_the_longest_first():
    item = Item("own:0", f"病名は？\n「{NOTE}」", ("発熱", "ｱｽﾋﾟﾘﾝを内服", "内服"), tag="d")
    own = task(item, kind="extraction")
    group, = labelled.groups([own])
    text, = labelled.labelled(own, [group])
    assert (group.name, group.labels) == ("spans", ("d",))
    assert [(NOTE[start:end], kind) for start, end, kind in text.spans["spans"]] == [
        ("発熱", "d"), ("ｱｽﾋﾟﾘﾝを内服", "d"), ("発熱", "d")]


def test_an_item_is_answered_by_its_group_or_the_only_one_that_fits():
    fever, cough = (LabelGroup(f"mine/{tag}", "classify", ("A", "B")) for tag in ("fever", "cough"))
    item = choice(0, "熱は？", "発熱", "A", "fever")
    assert labelled.group_of([fever, cough], task(item, name="mine"), item) is fever
    assert labelled.group_of([cough], task(item), item) is cough
    with pytest.raises(ValueError, match="own:0 asks for labels of 'own/fever', which this model does not have"):
        labelled.group_of([fever, cough], task(item), item)


def test_windows_hold_every_token_once_and_end_with_sentences(words):
    text = "体温は36.5℃。脈拍は80。" * 8
    ids, spans = encode_with_spans(words, text)
    tokens = Tokens.of(words, text)
    made = tokens.windows(24)
    assert len(made) > 2 and all(len(window.ids) <= 24 for window in made)
    assert [index for window in made for index in window.ids[1:]] == ids
    assert [span for window in made for span in window.spans[1:]] == spans
    assert all(text[window.spans[-1][1] - 1] == "。" for window in made)
    assert {window.ids[0] for window in made} == {words.end_of_document}
    assert tokens.whole(len(ids) + 1).ids == [words.end_of_document, *ids]
    cut = tokens.whole(24)
    assert cut.ids[1:] == ids[:12] + ids[-11:]


def test_tags_begin_with_the_token_where_a_span_begins():
    group = LabelGroup("spans", "tag", ("d", "m"))
    window = Window([0, 5, 6, 7, 8], [(0, 0), (0, 2), (2, 3), (3, 5), (5, 6)])
    assert labelled.tag_classes(group, window, [Span(2, 5, "m"), Span(0, 2, "d")]) == [0, 1, 3, 4, 0]


def test_rows_pack_texts_whole_with_a_position_for_each_answer(words):
    own = task(*(choice(number, f"{tag}は？", f"発熱{number}", "AB"[number % 2], tag)
                 for number in range(30) for tag in ("熱", "咳", "痛み")))
    groups = labelled.groups([own])
    rows = LabelRows(labelled.labelled(own, groups), groups, words, 32, tag_weight=8)
    assert rows.conversations == 30 and rows.learned == rows.weight == 90
    texts = 0
    for index in range(len(rows)):
        row = rows[index]
        for segment in range(1, row["segments"].max() + 1):
            here = np.flatnonzero(row["segments"] == segment)
            answered = here[row["loss_mask"][here] > 0]
            assert answered.tolist() == here[:3].tolist() and sorted(row["groups"][answered]) == [0, 1, 2]
            assert len(set(row["targets"][answered])) == 1
            assert row["positions"][here].tolist() == list(range(len(here)))
            texts += 1
    assert texts == 30


def test_a_text_of_fewer_tokens_than_answers_is_read_again(words):
    own = task(*(choice(number, f"{tag}は？", "熱", "A", tag) for number, tag in enumerate("abcdef")))
    groups = labelled.groups([own])
    rows = LabelRows(labelled.labelled(own, groups), groups, words, 32, tag_weight=8)
    size = len(words.encode("熱")) + 1
    assert rows.learned == 6 and {len(segment["inputs"]) for segment in rows._segments} == {size}
    assert len(rows._segments) == -(-6 // size) > 1


def test_all_tags_of_a_text_weigh_as_much_as_is_set(words):
    items = [Item(f"own:{number}", f"病名は？\n「{'発熱。' * number}」", ("発熱",)) for number in (1, 5)]
    own = task(*items, kind="extraction")
    groups = labelled.groups([own])
    rows = LabelRows(labelled.labelled(own, groups), groups, words, 64, tag_weight=8)
    weights = [sum(segment["loss_mask"]) for segment in rows._segments]
    assert weights == pytest.approx([8, 8])
