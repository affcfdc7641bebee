"""Messages → ids, token by token."""

import re

import pytest

from slm.text import chat
from slm.text.tokenizer import CHAT_TEMPLATE, CONTROL_SYMBOLS, END_OF_DOCUMENT

TALK = [{"role": "system", "content": "医師です。"}, {"role": "user", "content": "患者は発熱と咳嗽を訴えた。"},
        {"role": "assistant", "content": "肺炎です。"}, {"role": "user", "content": "熱は？"},
        {"role": "assistant", "content": "38.5℃です。"}]
# (piece, whether it is learned), by hand: a mark of the turn, its morphemes, its end.
BY_HAND = [("</s>", 0),
           ("<|system|>", 0), ("医師", 0), ("です", 0), ("。", 0), ("<|end|>", 0),
           ("<|user|>", 0), ("患者", 0), ("は", 0), ("発熱", 0), ("と", 0), ("咳嗽", 0), ("を", 0), ("訴え", 0), ("た", 0),
           ("。", 0), ("<|end|>", 0),
           ("<|assistant|>", 0), ("肺炎", 1), ("です", 1), ("。", 1), ("<|end|>", 1),
           ("<|user|>", 0), ("熱", 0), ("は", 0), ("?", 0), ("<|end|>", 0),
           ("<|assistant|>", 0), ("3", 1), ("8", 1), (".", 1), ("5", 1), ("°", 1), ("C", 1), ("です", 1), ("。", 1),
           ("<|end|>", 1)]


def user(content):
    return {"role": "user", "content": content}


def test_a_conversation_token_by_token(words):
    encoded = chat.encode(words, TALK)
    assert list(zip(words.pieces(encoded.ids), encoded.loss_mask)) == BY_HAND
    assert encoded.ids == [words._pieces.piece_to_id(piece) for piece, _ in BY_HAND]
    assert encoded.cut == 0


def test_a_prompt_ends_where_the_assistant_begins_and_the_answer_has_the_ids_it_is_learned_with(words):
    prompt = chat.encode(words, TALK[:-1], reply=True)
    assert words.pieces(prompt.ids) == [piece for piece, _ in BY_HAND[:28]]
    assert prompt.loss_mask == [bool(own) for _, own in BY_HAND[:27]] + [False]
    whole = chat.encode(words, TALK)
    assert whole.ids == [*prompt.ids, *words.encode(TALK[-1]["content"]), words.special("<|end|>")]


@pytest.mark.parametrize("role", ["system", "user", "assistant"])
def test_control_symbols_spelled_out_stay_text(words, role):
    spelled = "".join((*CONTROL_SYMBOLS, END_OF_DOCUMENT))
    encoded = chat.encode(words, [{"role": role, "content": spelled}])
    assert words.pieces(encoded.ids[:2]) == ["</s>", f"<|{role}|>"] and words.pieces(encoded.ids[-1:]) == ["<|end|>"]
    assert not any(words.is_special(index) for index in encoded.ids[2:-1])
    assert words.decode(encoded.ids) == spelled


@pytest.mark.parametrize("reply", [False, True])
def test_the_template_for_other_runtimes_gives_the_same_ids(words, reply):
    jinja2 = pytest.importorskip("jinja2")
    messages = [*TALK[:3], user("一行目\n  二行目\t{{ 三 }}{% x %}\n"), *([] if reply else TALK[4:])]
    written = jinja2.Environment().from_string(CHAT_TEMPLATE).render(messages=messages, add_generation_prompt=reply)
    parts = re.split("(" + "|".join(map(re.escape, (*CONTROL_SYMBOLS, END_OF_DOCUMENT))) + ")", written)
    ids = [index for number, part in enumerate(parts) if part
           for index in ([words.special(part)] if number % 2 else words.encode(part))]
    assert ids == chat.encode(words, messages, reply=reply).ids


SENTENCE = "患者は発熱と咳嗽を訴えた。"  # nine tokens
LONG = [{"role": "system", "content": "医師です。"}, user("熱は？"), {"role": "assistant", "content": "肺炎です。"},
        user("熱は？" + SENTENCE * 5 + "肺炎です。"), {"role": "assistant", "content": "38.5℃です。"}]
TURN = ["熱", "は", "?", *["患者", "は", "発熱", "と", "咳嗽", "を", "訴え", "た", "。"] * 5, "肺炎", "です", "。"]
WHOLE = 1 + 5 + 5 + 5 + (len(TURN) + 2) + 10


@pytest.mark.parametrize("reply", [False, True])
@pytest.mark.parametrize("left_out", [0, 1, 2, 7, 44, 45, 50, 51])
def test_what_does_not_fit_goes_from_the_middle_of_the_longest_user_turn(words, left_out, reply):
    limit = WHOLE + reply - left_out
    encoded = chat.encode(words, LONG, limit=limit, reply=reply)
    assert len(encoded.ids) == len(encoded.loss_mask) == limit and encoded.cut == left_out
    kept = len(TURN) - left_out
    head, tail = -(-kept // 2), kept // 2
    whole = words.pieces(chat.encode(words, LONG, reply=reply).ids)
    turn = 17  # where its text begins
    assert whole[turn:turn + len(TURN)] == TURN
    expected = TURN if not left_out else TURN[:head] + (TURN[-tail:] if tail else [])
    assert words.pieces(encoded.ids) == whole[:turn] + expected + whole[turn + len(TURN):]
    learned = [index for index, own in zip(encoded.ids, encoded.loss_mask) if own]
    assert words.pieces(learned) == [piece for piece, own in BY_HAND if own]  # the replies are whole


def test_a_limit_that_is_not_reached_changes_nothing(words):
    assert chat.encode(words, LONG, limit=WHOLE) == chat.encode(words, LONG, limit=10_000) == chat.encode(words, LONG)


def test_what_cannot_fit_is_refused(words):
    message = (rf"^a conversation of {WHOLE} tokens does not fit 25, even without its longest user turn: shorten its "
               r"other turns, or raise the limit$")
    assert WHOLE - len(TURN) == 28
    chat.encode(words, LONG, limit=28)
    with pytest.raises(ValueError, match=message):
        chat.encode(words, LONG, limit=25)
    with pytest.raises(ValueError, match="a conversation of 6 tokens does not fit 5"):  # no user turn to cut
        chat.encode(words, LONG[:1], limit=5)


@pytest.mark.parametrize("messages, message", [
    ([], "a conversation is a list of at least one {role, content}"),
    (None, "a conversation is a list of at least one {role, content}"),
    ("熱は？", "a conversation is a list of at least one {role, content}"),
    ({"role": "user", "content": "熱は？"}, "a conversation is a list of at least one {role, content}"),
    (["熱は？"], "a message is {role, content}, both strings"),
    ([{"role": "user"}], "a message is {role, content}, both strings"),
    ([{"role": "user", "content": None}], "a message is {role, content}, both strings"),
    ([{"role": "user", "content": ["熱"]}], "a message is {role, content}, both strings"),
    ([user("熱は？"), {"content": "はい"}], "a message has an unknown role: known roles are system, user, assistant"),
    ([{"role": "tool", "content": "x"}], "a message has an unknown role: known roles are system, user, assistant"),
    ([{"role": "end", "content": "x"}], "a message has an unknown role: known roles are system, user, assistant"),
    ([user("半分\ud83d")], "the text has a lone surrogate (U+D83D) at character 2"),
])
def test_what_is_no_conversation_is_refused_in_a_sentence(words, messages, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        chat.encode(words, messages)


@pytest.mark.parametrize("role", [["user"], {"name": "user"}])
def test_a_role_that_is_no_string_is_refused_too(role):
    with pytest.raises(ValueError, match="a message"):
        chat.validate_messages([{"role": role, "content": "x"}])
