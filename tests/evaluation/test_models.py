"""Our checkpoints' three calls."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from slm.inference.constraints import OneOf, Pieces
from slm.inference.engine import Engine
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.scoring.models import Checkpoint
from slm.text import chat

MODEL = dataclasses.replace(PRESETS["debug"], context=256)


def asked(text):
    return [{"role": "system", "content": "一文字で答える。"}, {"role": "user", "content": text}]


PROMPTS = [asked("発熱はあるか。"), asked("患者は65歳男性。胸痛を主訴に来院した。" * 4 + "診断は何か。"), asked("咳嗽"), asked("薬は？\n")]


@pytest.fixture(scope="module")
def model(words):
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    params = jax.tree.map(lambda x: x * 4 if x.ndim > 1 else x, params)  # so that it has opinions
    return Checkpoint(Engine(params, MODEL, batch_tokens=1024), words, "random")


@pytest.fixture(scope="module")
def scores(model):
    """ids → log P of each next token, by one plain forward pass of the whole text."""
    @jax.jit
    def forward(tokens):
        shape = tokens[None].shape
        hidden, _ = decoder.hidden_states(model.engine.params, MODEL, tokens[None], np.ones(shape, np.int32),
                                          np.arange(len(tokens))[None])
        return jax.nn.log_softmax(decoder.logits(model.engine.params, hidden))[0]

    def padded(ids):  # one shape, one compile; what comes later is not seen
        return np.asarray(forward(np.array(ids + [0] * (MODEL.context - len(ids)), np.int32)))[:len(ids)]
    return padded


def test_log_likelihoods_equal_one_whole_forward_pass(model, words, scores):
    options = ["A", "肺炎です。", "はい"]
    found = model.log_likelihoods([(prompt, options[:2 + place % 2]) for place, prompt in enumerate(PROMPTS)])
    for place, (prompt, own) in enumerate(zip(PROMPTS, found)):
        ids = chat.encode(words, prompt, reply=True).ids
        for text, value in zip(options[:2 + place % 2], own, strict=True):
            more = words.encode(text)
            table = scores(ids + more)
            expected = sum(table[len(ids) - 1 + index, token] for index, token in enumerate(more))
            assert value == pytest.approx(expected, abs=1e-4)


def test_greedy_answers_are_the_likeliest_tokens_one_by_one(model, words, scores):
    answers = model.generate(PROMPTS, 6)
    end = words.special("<|end|>")
    for prompt, answer in zip(PROMPTS, answers):
        ids, made = chat.encode(words, prompt, reply=True).ids, []
        while len(made) < 6 and (token := int(scores(ids + made)[-1].argmax())) != end:
            made.append(token)
        assert answer == words.decode(made)


def test_constrained_letters_are_the_likeliest_by_log_likelihood(model, words):
    letters = ("A", "B", "C", "D")
    pieces = Pieces(words)
    written = model.generate_constrained(PROMPTS, [OneOf(pieces, letters) for _ in PROMPTS], 4)
    by_likelihood = model.log_likelihoods([(prompt, letters) for prompt in PROMPTS])
    assert [words.decode(ids) for ids in written] == [letters[int(np.argmax(own))] for own in by_likelihood]


def test_long_prompts_are_cut_and_counted(model, words):
    before = model.truncated
    long = asked("患者は発熱と咳嗽を訴えた。" * 100 + "診断は？")
    assert model.generate([long, PROMPTS[0]], 4)[1] == model.generate([PROMPTS[0]], 4)[0]
    assert model.truncated == before + 1
