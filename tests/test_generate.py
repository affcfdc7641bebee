"""Generation and its samplers."""

import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm import checkpoint, generate
from slm.inference import engine
from slm.inference.engine import Engine, draw
from slm.inference.sampling import GREEDY, Sampler
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.text import chat

CONFIG = dataclasses.replace(PRESETS["debug"], vocabulary_size=97)
# Larger than at the start of a training, so that the likeliest token is clearly so.
PARAMS = jax.tree.map(lambda x: x * 5, decoder.initialize(CONFIG, jax.random.key(0)))
ENGINE = Engine(PARAMS, CONFIG)
PROMPTS = [[2, 5, 6, 7], [2], [2, 9, 9, 1, 4, 8, 3]]


@jax.jit
def all_scores(ids):
    hidden, _ = decoder.hidden_states(PARAMS, CONFIG, ids[None], jnp.ones_like(ids)[None], jnp.arange(32)[None])
    return decoder.logits(PARAMS, hidden[0])


def by_hand(prompt, new_tokens, end, penalty=1.0, penalize_prompt=True):
    """Greedy continuation without a cache; the padding lies in the future."""
    tokens = list(prompt)
    for _ in range(new_tokens):
        ids = np.zeros(32, int)
        ids[:len(tokens)] = tokens
        logits = np.array(all_scores(ids)[len(tokens) - 1])
        seen = sorted(set(tokens if penalize_prompt else tokens[len(prompt):]))
        logits[seen] = np.where(logits[seen] > 0, logits[seen] / penalty, logits[seen] * penalty)
        tokens.append(int(logits.argmax()))
        if tokens[-1] == end:
            tokens.pop()
            break
    return tokens[len(prompt):]


def test_ragged_batches_equal_each_prompt_alone_without_a_cache():
    expected = [by_hand(prompt, 12, end=2) for prompt in PROMPTS]
    assert ENGINE.generate(PROMPTS, 12, GREEDY, end=2) == expected
    for prompt, one in zip(PROMPTS, expected):
        assert ENGINE.generate([prompt], 12, GREEDY, end=2) == [one]


def test_a_row_ends_with_its_end_token():
    first = by_hand(PROMPTS[0], 12, end=-1)
    end = next(token for token in first[3:] if token not in first[:3])
    made = ENGINE.generate(PROMPTS, 12, GREEDY, end=end)
    assert made[0] == first[:first.index(end)]
    assert made == [by_hand(prompt, 12, end=end) for prompt in PROMPTS]


def test_sampling_repeats_with_its_seed():
    sampler = Sampler(temperature=1.0, top_k=50)
    one, two, other = (ENGINE.generate(PROMPTS, 20, sampler, end=2, seed=seed) for seed in (1, 1, 2))
    assert one == two != other


def draws(sampler, scores, seen=None, number=2000):
    scores = jnp.broadcast_to(jnp.asarray(scores, jnp.float32), (number, len(scores)))
    seen = jnp.broadcast_to(jnp.zeros(scores.shape[1], bool) if seen is None else jnp.asarray(seen), scores.shape)
    tokens = draw(scores, seen, jax.random.key(0), sampler.top_k, sampler.temperature, sampler.top_p,
                  sampler.repetition_penalty)
    return np.bincount(tokens, minlength=scores.shape[1]) / number


def test_samplers_keep_what_they_say():
    scores = np.log([0.5, 0.25, 0.15, 0.1])
    np.testing.assert_allclose(draws(Sampler(1.0, top_p=1.0), scores), [0.5, 0.25, 0.15, 0.1], atol=0.04)
    np.testing.assert_allclose(draws(Sampler(1.0, top_k=2, top_p=1.0), scores), [2 / 3, 1 / 3, 0, 0], atol=0.04)
    np.testing.assert_allclose(draws(Sampler(1.0, top_p=0.7), scores), [2 / 3, 1 / 3, 0, 0], atol=0.04)
    np.testing.assert_allclose(draws(Sampler(1.0, top_p=0.01), scores), [1, 0, 0, 0])
    np.testing.assert_allclose(draws(Sampler(0.5, top_p=1.0), scores),
                               np.square([0.5, 0.25, 0.15, 0.1]) / 0.345, atol=0.04)
    np.testing.assert_allclose(draws(Sampler(0.0), scores), [1, 0, 0, 0])
    np.testing.assert_allclose(draws(Sampler(0.0, repetition_penalty=2.0), [2.0, 1.5, -1.0], [True, False, False]),
                               [0, 1, 0])
    np.testing.assert_allclose(draws(Sampler(0.0, repetition_penalty=2.0), [-1.0, -1.5], [True, False]), [0, 1])


def test_the_repetition_penalty_sees_the_prompt():
    prompts = [list(range(2, 22)), [*range(40, 60)], list(range(70, 90))]
    expected = [by_hand(prompt, 8, end=-1, penalty=3.0) for prompt in prompts]
    assert ENGINE.generate(prompts, 8, Sampler(0.0, top_p=1.0, repetition_penalty=3.0), end=-1) == expected
    assert expected != [by_hand(prompt, 8, -1, 3.0, penalize_prompt=False) for prompt in prompts]


@pytest.mark.parametrize("prompts, new, message", [([[]], 5, "a prompt is empty"),
                                                   ([[2] * 120], 20, "more than the model's context of 128")])
def test_impossible_requests_are_refused(prompts, new, message):
    with pytest.raises(ValueError, match=message):
        ENGINE.generate(prompts, new, GREEDY, end=2)


@pytest.mark.parametrize("wrong", [{"temperature": -1.0}, {"top_p": 0.0}, {"top_k": -1}, {"repetition_penalty": 0.0}])
def test_impossible_samplers_are_refused(wrong):
    with pytest.raises(ValueError, match="top_p is in"):
        Sampler(**wrong)


def test_settings_of_a_sampler_do_not_compile_again():
    ENGINE.generate(PROMPTS[:2], 3, GREEDY, end=2)
    compiled = engine._decode._cache_size()
    for sampler in (Sampler(0.7), Sampler(1.3, top_p=0.5), Sampler(0.7, repetition_penalty=1.2)):
        for new_tokens in (3, 20):
            ENGINE.generate(PROMPTS[:2], new_tokens, sampler, end=2)
    assert engine._decode._cache_size() == compiled


def test_small_batches_give_the_same_as_one():
    small = Engine(PARAMS, CONFIG, batch_tokens=64)
    assert small.generate(PROMPTS, 12, GREEDY, end=2) == ENGINE.generate(PROMPTS, 12, GREEDY, end=2)


@pytest.mark.parametrize("name", ["tuned", "tuned/seed-0", "tuned/seed-0/checkpoints/3"])
def test_a_fine_tuned_model_answers_by_the_name_of_its_fine_tuning(name, products, words, tmp_path):
    folder = tmp_path / "tuned" / "seed-0"
    model = dataclasses.replace(PRESETS["debug"], vocabulary_size=len(words))
    params = decoder.initialize(model, jax.random.key(0))
    saved = checkpoint.Checkpoints(folder / "checkpoints", keep=1)
    saved.save(3, {"params": params}, {"config": {"job": "sft", "model": dataclasses.asdict(model)}}, None)
    saved.close()
    shutil.copytree(products / "tokenizer", folder / "tokenizer")
    config = generate.GenerateConfig(checkpoint=str(tmp_path / name), prompts="発熱は？|咳は？", new_tokens=5, sampler=GREEDY)
    out = tmp_path / "out"
    out.mkdir(exist_ok=True)
    assert generate.run(config, out) == {"checkpoint": str(folder), "samples": str(out / "samples.jsonl"), "prompts": 2}
    prompts = [chat.encode(words, [{"role": "user", "content": text}], reply=True).ids for text in ("発熱は？", "咳は？")]
    answers = Engine(params, model).generate(prompts, 5, GREEDY, words.special("<|end|>"))
    lines = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert lines == [{"prompt": prompt, "text": words.decode(ids)} for prompt, ids in zip(("発熱は？", "咳は？"), answers)]
