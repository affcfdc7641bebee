"""Constraints on answers."""

import ast
import random

import pytest

from slm.inference.constraints import OneOf, Pieces, SpanList


@pytest.fixture(scope="module")
def pieces(words):
    return Pieces(words)


def walk(constraint, choose):
    """Ids until the answer is whole."""
    made = []
    while len(allowed := constraint.allowed()):
        made.append(int(choose(allowed)))
        constraint.advance(made[-1])
        assert len(made) < 10_000
    return made


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_chosen_the_answer_is_a_list_of_spans(words, pieces, seed):
    text = "第３病日に３８．５℃の発熱と咳嗽が出現し，アスピリン１００ｍｇを内服した。it's\n「肺炎」と診断、鬱①㍑"
    constraint = SpanList(pieces, text)
    rng = random.Random(seed)
    answer = words.decode(walk(constraint, rng.choice))
    spans = constraint.spans()
    assert all(span in text for span in spans) and len(ast.literal_eval(answer)) == len(spans)
    assert len(set(spans)) == len(spans)


def test_an_answer_in_our_own_words_is_allowed_token_by_token(words, pieces):
    text = "発熱と咳嗽を認め、アスピリン１００ｍｇを内服した。"
    constraint = SpanList(pieces, text)
    for token in words.encode("['発熱', '咳嗽', 'アスピリン', '100mg']"):
        assert token in constraint.allowed()
        constraint.advance(token)
    assert constraint.spans() == ["発熱", "咳嗽", "アスピリン", "１００ｍｇ"] and not len(constraint.allowed())


def test_half_width_kana_and_fractions_are_spans_of_the_text_as_written(words, pieces):
    constraint = SpanList(pieces, "ﾊﾞｲﾀﾙは安定、ﾎﾟﾘｰﾌﾟあり、1½錠を内服した。")
    for token in words.encode("['バイタル', 'ポリープ', '1 1/2錠']"):
        assert token in constraint.allowed()
        constraint.advance(token)
    assert constraint.spans() == ["ﾊﾞｲﾀﾙ", "ﾎﾟﾘｰﾌﾟ", "1½錠"]


def test_a_span_is_not_given_twice_and_none_is_an_answer(words, pieces):
    constraint = SpanList(pieces, "発熱。")
    for token in words.encode("['発熱', '発熱"):
        constraint.advance(token)
    assert words.encode("'")[0] not in constraint.allowed()
    constraint = SpanList(pieces, "発熱。")
    for token in words.encode("[]"):
        constraint.advance(token)
    assert constraint.spans() == [] and not len(constraint.allowed())


def test_one_of_some_texts(words, pieces):
    for text in ("A", "C"):
        constraint = OneOf(pieces, ("A", "B", "C"))
        constraint.advance(words.encode(text)[0])
        assert not len(constraint.allowed())
    assert words.decode(walk(OneOf(pieces, ("肺炎", "発熱")), max)) in ("肺炎", "発熱")
