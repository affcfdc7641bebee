"""Files of conversations → rows; packed = each conversation alone."""

import bz2
import dataclasses
import gzip
import json
import random
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm.data import conversations
from slm.data.conversations import Packed, is_held_out, read_alpaca, read_messages
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.text import chat
from slm.text.normalize import normalize
from slm.train import objective

TALK = [{"role": "user", "content": "熱は？"}, {"role": "assistant", "content": "38.5℃です。"}]
LINE = json.dumps({"messages": TALK}, ensure_ascii=False).encode()
ALPACA = {"instruction": "短く答えてください。", "input": "熱は？", "output": "38.5℃です。"}


def packed_of(talks, words, length):
    return Packed((("here", talk) for talk in talks), words, length)


def write(path, *lines):
    content = b"".join(line + b"\n" for line in lines)
    path.write_bytes({".gz": gzip.compress, ".bz2": bz2.compress}.get(path.suffix, bytes)(content))
    return path


def messages(*turns):
    return json.dumps({"messages": [dict(zip(("role", "content"), turn)) for turn in turns]}).encode()


@pytest.mark.parametrize("name", ["talks.jsonl", "talks.jsonl.gz", "talks.jsonl.bz2"])
def test_messages_are_read_plain_or_compressed(tmp_path, name):
    longer = [{"role": "system", "content": "医師です。", "name": "x"}, *TALK, *TALK]
    path = write(tmp_path / name, LINE, json.dumps({"messages": longer, "id": 7}).encode())
    assert list(read_messages(path)) == [TALK, [{"role": "system", "content": "医師です。"}, *TALK, *TALK]]


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.jsonl.gz"])
def test_alpaca_is_read_with_and_without_input(tmp_path, name):
    rows = [ALPACA, ALPACA | {"input": ""}, ALPACA | {"input": None}, {"instruction": "熱は？", "output": ""}]
    path = write(tmp_path / name, *(json.dumps(row).encode() for row in rows))
    assert [[(turn["role"], turn["content"]) for turn in talk] for talk in read_alpaca(path)] == [
        [("user", "短く答えてください。\n\n熱は？"), ("assistant", "38.5℃です。")],
        [("user", "短く答えてください。"), ("assistant", "38.5℃です。")],
        [("user", "短く答えてください。"), ("assistant", "38.5℃です。")],
        [("user", "熱は？"), ("assistant", "")]]


BAD_LINES = {
    "empty": (b"", "is empty: JSON Lines holds one object a line"),
    "not JSON": (b"{'messages'", "is not JSON (Expecting property name"),
    "cut": (LINE[:-3], "is not JSON ("),
    "a list": (b"[1, 2]", "holds a list, not an object"),
    "too long": (b'{"x": "' + b"a" * 10_000_000 + b'"}', "is longer than 8,000,000 bytes"),
    "not UTF-8": (b'{"messages": "\x83\x74"}', "is not UTF-8 (byte 0x83 at 14)"),
}
BAD_MESSAGES = BAD_LINES | {
    "no messages": (b'{"text": "x"}', 'a conversation is a list of at least one {role, content}; a line is {"messages"'),
    "no turns": (b'{"messages": []}', "a conversation is a list of at least one"),
    "a string": ('{"messages": "熱は？"}'.encode(), "a conversation is a list of at least one"),
    "wrong role": (messages(("user", "x"), ("doctor", "y")), "a message has an unknown role: known roles are system, user, assistant"),
    "no content": (messages(("user", "x"), ("assistant", None)), "a message is {role, content}, both strings"),
    "no assistant": (messages(("system", "x"), ("user", "y")), "has no assistant turn to learn from: remove the line"),
    "a tool call": (json.dumps({"messages": [TALK[0], {"role": "assistant", "content": None, "tool_calls": [{}]}]}).encode(),
                    "tool calls are not supported: remove such conversations"),
    "a function call": (json.dumps({"messages": [*TALK, TALK[1] | {"function_call": {"name": "f"}}]}).encode(),
                        "tool calls are not supported"),
    "a tool's answer": (messages(("user", "x"), ("tool", "42"), ("assistant", "y")), "tool calls are not supported"),
    "tools": (json.dumps({"messages": TALK, "tools": [{}]}).encode(), "tool calls are not supported"),
    "a weight as text": (json.dumps({"messages": [TALK[0], TALK[1] | {"weight": "0"}]}).encode(),
                         "a turn of the assistant has a weight of type str that is neither the number 0"),
    "a weight of a half": (json.dumps({"messages": [TALK[0], TALK[1] | {"weight": 0.5}]}).encode(),
                           "a weight of type float that is neither"),
    "half a character": (messages(("user", "x"), ("assistant", "ab\ud83d")),
                         "has half a character (a lone surrogate) at 2 of a turn of the assistant"),
}
BAD_ALPACA = BAD_LINES | {
    "messages": (LINE, "has no Alpaca record: instruction, input (may be empty) and output must be strings"),
    "no columns": (b"{}", "has no Alpaca record"),
    "no output": (b'{"instruction": "x", "input": "y"}', "has no Alpaca record"),
    "a number": (b'{"instruction": "x", "output": 3}', "has no Alpaca record"),
    "a list of inputs": (b'{"instruction": "x", "input": ["y"], "output": "z"}', "has no Alpaca record"),
    "half a character": (json.dumps(ALPACA | {"input": "\udc00"}).encode(), "of a turn of the user"),
}


@pytest.mark.parametrize("reader, good, bad, message", [
    *(pytest.param(read_messages, LINE, *case, id=f"messages, {name}") for name, case in BAD_MESSAGES.items()),
    *(pytest.param(read_alpaca, json.dumps(ALPACA).encode(), *case, id=f"alpaca, {name}")
      for name, case in BAD_ALPACA.items())])
def test_a_bad_line_is_refused_with_its_place(tmp_path, words, reader, good, bad, message):
    path = write(tmp_path / "rows.jsonl", good, bad, good)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 2") + ".*" + re.escape(message)) as caught:
        packed_of(reader(path), words, 64)
    assert "\n" not in str(caught.value) and list(tmp_path.iterdir()) == [path]


def test_a_role_that_is_no_string_is_refused_with_its_place(tmp_path):
    path = write(tmp_path / "rows.jsonl", LINE, messages((["user"], "x"), ("assistant", "y")))
    with pytest.raises(ValueError, match=re.escape(f"{path}, line 2")):
        list(read_messages(path))


def test_a_file_that_is_missing_or_breaks_off_is_named(tmp_path):
    with pytest.raises((FileNotFoundError, ValueError), match=r"nowhere\.jsonl"):
        list(read_messages(tmp_path / "nowhere.jsonl"))
    path = write(tmp_path / "rows.jsonl.gz", *[LINE] * 1000)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ValueError, match=re.escape(f"{path} ends or breaks after line ")):
        list(read_messages(path))


def test_what_is_held_out_is_the_same_in_every_run_and_of_one_text():
    texts = [f"患者{number}は発熱を訴えた。" for number in range(2000)]
    held_out = [is_held_out(text, 0.1) for text in texts]
    assert held_out == [is_held_out(text, 0.1) for text in texts]
    assert 150 < sum(held_out) < 250
    assert all(is_held_out(text, 0.3) for text, held in zip(texts, held_out) if held)  # a larger share holds the smaller
    wide = str.maketrans("0123456789", "０１２３４５６７８９")
    assert held_out == [is_held_out(text.translate(wide), 0.1) for text in texts]


# Packing ------------------------------------------------------------------------------------------------------

LENGTH = 96
MODEL = dataclasses.replace(PRESETS["debug"], width=32, query_heads=4, kv_heads=2, mlp_width=64)


def talks(number=40, seed=0):
    """Conversations of one to three exchanges, of which a few are longer than a row."""
    rng = random.Random(seed)
    phrases = ["患者は発熱と咳嗽を訴えた。", "熱は？", "38.5℃です。", "肺炎です。", "糖尿病とは、", "分かりません。", "抗菌薬を投与した。"]
    made = []
    for index in range(number):
        talk = [{"role": "system", "content": "医師です。"}] * rng.randint(0, 1)
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            talk += [{"role": "user", "content": f"{index}番、" + "".join(rng.choices(phrases, k=rng.randint(1, 2)))},
                     {"role": "assistant", "content": "".join(rng.choices(phrases, k=rng.randint(1, 2)))}]
        if index % 10 == 0:
            talk[-2]["content"] += phrases[0] * 12
        made.append(talk)
    return made


@pytest.fixture(scope="module")
def packed(words):
    return packed_of(talks(), words, LENGTH)


def pieces_of(row):
    """[(ids, loss_mask, place)] of the conversations of a row, read back from what the model gets."""
    found = []
    for segment in range(1, row["segments"].max(initial=0) + 1):
        place = np.flatnonzero(row["segments"] == segment)
        ids = [*row["inputs"][place].tolist(), int(row["targets"][place[-1]])]
        found.append((ids, [False, *(row["loss_mask"][place] == 1).tolist()], place))
    return found


def test_each_conversation_is_whole_in_one_row(words, packed):
    encoded = [chat.encode(words, talk, limit=LENGTH + 1) for talk in talks()]
    found = []
    for row in packed:
        used = np.flatnonzero(row["segments"])
        assert used.tolist() == list(range(len(used)))  # without gaps, from the beginning
        assert not row["loss_mask"][len(used):].any() and not row["segments"][len(used):].any()
        for ids, loss_mask, place in pieces_of(row):
            np.testing.assert_array_equal(np.diff(place), 1)
            np.testing.assert_array_equal(row["positions"][place], np.arange(len(place)))
            np.testing.assert_array_equal(row["targets"][place[:-1]], row["inputs"][place[1:]])
            found.append((ids, loss_mask))
    assert sorted(found) == sorted((one.ids, one.loss_mask) for one in encoded)
    assert len(packed) < len(encoded) * 0.6 and max(row["segments"].max() for row in packed) >= 3


def test_weights_are_on_what_the_assistant_said_and_on_nothing_else(words, packed):
    learned = []
    for row in packed:
        assert set(np.unique(row["loss_mask"])) <= {0, 1}
        learned += words.pieces(row["targets"][row["loss_mask"] == 1])
    expected = [piece for talk in talks() for turn in talk if turn["role"] == "assistant"
                for piece in [*words.pieces(words.encode(turn["content"])), "<|end|>"]]
    assert sorted(learned) == sorted(expected)
    assert len(expected) == packed.learned


def test_counts(words, packed):
    encoded = [chat.encode(words, talk, limit=LENGTH + 1) for talk in talks()]
    assert packed.conversations == 40 and packed.cut == sum(one.cut > 0 for one in encoded) == 4
    assert packed.tokens == sum((row["segments"] > 0).sum() for row in packed) == sum(len(one.ids) - 1 for one in encoded)
    assert packed.bytes == sum(len(normalize(turn["content"]).encode()) for talk in talks() for turn in talk
                               if turn["role"] == "assistant")


def test_the_digest_is_of_the_conversations(words, packed):
    assert packed_of(talks(), words, LENGTH).digest() == packed.digest()
    for other in (talks(seed=1), talks()[::-1], talks()[1:]):
        assert packed_of(other, words, LENGTH).digest() != packed.digest()


@pytest.mark.parametrize("seed", range(20))
def test_first_fit_leaves_nothing_out_and_fills_no_row_too_full(seed):
    rng = random.Random(seed)
    lengths = [rng.choice([1, 2, rng.randint(1, 50), 50]) for _ in range(rng.choice([0, 1, 3, 500]))]
    rows = conversations.first_fit(lengths, 50, open_rows=8)
    assert sorted(number for row in rows for number in row) == list(range(len(lengths)))
    assert all(0 < sum(lengths[number] for number in row) <= 50 for row in rows)


def test_conversations_that_just_fit(words):
    size = len(chat.encode(words, TALK).ids)
    assert len(packed_of([TALK] * 3, words, 3 * (size - 1))) == 1
    assert len(packed_of([TALK] * 3, words, 3 * (size - 1) - 1)) == 2
    assert packed_of([TALK], words, size - 1).cut == 0 and packed_of([TALK], words, size - 2).cut == 1


def drawn(model, spread):
    """Parameters of numpy's: compiling `decoder.initialize` takes longer than these tests."""
    rng = np.random.default_rng(0)
    return jax.tree.map_with_path(
        lambda path, x: np.ones(x.shape, np.float32) if path[-1].key == "scale" else np.float32(
            rng.normal(0, spread, x.shape)), jax.eval_shape(lambda key: decoder.initialize(model, key), jax.random.key(0)))


@pytest.fixture(scope="module")
def params():
    return drawn(MODEL, 0.12)  # larger than at the start of a training, so that what a token attends to weighs


def token_losses(params, rows):
    """nll [B, T] without the training's chunks, and the training's own (Σ nll, Σ weight)."""
    return jax.device_get(_token_losses(params, rows))


@jax.jit
def _token_losses(params, rows):
    hidden, _ = decoder.hidden_states(params, MODEL, rows["inputs"], rows["segments"], rows["positions"])
    scores = jax.nn.log_softmax(decoder.logits(params, hidden), axis=-1)
    losses = -jnp.take_along_axis(scores, rows["targets"][..., None], axis=-1)[..., 0]
    return losses, objective.sums(params, MODEL, rows, 0.0, LENGTH)[1]


def stack(rows):
    """40 rows, whatever there are: one program for all."""
    blank = {name: np.zeros_like(value) for name, value in rows[0].items()}
    return {name: np.stack([row[name] for row in (*rows, *[blank] * (40 - len(rows)))]) for name in blank}


def test_packed_equals_each_conversation_alone(words, packed, params):
    rows = list(packed)
    packed_losses, (nll, weight) = token_losses(params, stack(rows))
    together = {tuple(ids): packed_losses[number, place] for number, row in enumerate(rows)
                for ids, _, place in pieces_of(row)}
    alone = [packed_of([talk], words, LENGTH)[0] for talk in talks()]
    losses, (nll_alone, weight_alone) = token_losses(params, stack(alone))
    assert float(weight) == float(weight_alone) == packed.learned
    assert float(nll) == pytest.approx(float(nll_alone), rel=1e-4)
    weights = stack(alone)["loss_mask"]
    assert float(nll_alone) == pytest.approx(float((losses * weights).sum()), rel=1e-4)  # the sum by hand
    for number, row in enumerate(alone):
        (ids, _, place), = pieces_of(row)
        np.testing.assert_allclose(together[tuple(ids)], losses[number, place], atol=1e-4)
    # What this would look like if conversations saw those before them:
    blurred = [row | {"segments": (row["segments"] > 0).astype(np.int32)} for row in rows]
    assert np.abs(token_losses(params, stack(blurred))[0] - packed_losses).max() > 0.1


def test_changing_one_conversation_leaves_the_others_as_they_were(packed, params):
    row = max(packed, key=lambda row: row["segments"].max())
    before, _ = token_losses(params, stack([row]))
    for segment in range(1, row["segments"].max() + 1):
        own = row["segments"] == segment
        changed = {**row, "inputs": np.where(own, (row["inputs"] + 7) % 3072, row["inputs"])}
        after, _ = token_losses(params, stack([changed]))
        others = (row["segments"] > 0) & ~own
        np.testing.assert_array_equal(after[0][others], before[0][others])
        assert not np.allclose(after[0][own], before[0][own], atol=1e-2)


def test_conversations_that_weigh_alike_have_one_in_all_whatever_they_say(words):
    talks = [[TALK[0], {"role": "assistant", "content": "はい。" * count}] for count in (1, 9)]
    alike = Packed((("here", talk) for talk in talks), words, 128, alike=True)
    row, = (alike[index] for index in range(len(alike)))
    assert [row["loss_mask"][row["segments"] == segment].sum() for segment in (1, 2)] == pytest.approx([1, 1])
    assert alike.weight == pytest.approx(2)
    plain = packed_of(talks, words, 128)
    assert plain.weight == plain.learned == alike.learned and alike.digest() == plain.digest()
