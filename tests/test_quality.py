import dataclasses
import functools
import gzip
import json
import multiprocessing
import random
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor

import dill
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slm import sample
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.quality import labels, linear, scorer, transformer
from slm.quality.labels import Example, excerpt
from slm.quality.scorer import load
from slm.quality.training import QualityConfig, measures, run
from slm.text.normalize import normalize

RAGGED = ["", "痛", "発熱", " \n", "患者は72歳の女性。" * 40, "CRP 3.2mg/dL", "血圧は" * 2000]


def junk(text, seed):
    """The same characters in another order."""
    characters = list(text)
    random.Random(seed).shuffle(characters)
    return "".join(characters)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Documents of the sample, and their characters shuffled: as reference and poor files, and as labels."""
    folder = tmp_path_factory.mktemp("quality")
    documents = list(sample.documents(0.4, seed=0))
    poor = [document | {"text": junk(document["text"], index)} for index, document in enumerate(documents)]
    write(folder / "good.jsonl", documents)
    write(folder / "poor.jsonl.gz", poor)
    write(folder / "labels.jsonl.gz", [row | {"label": label} for label, rows in ((1, documents), (0, poor)) for row in rows])
    return folder


def write(path, rows):
    with (gzip.open if path.suffix == ".gz" else open)(path, "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def configure(files, products, model, **settings):
    if model == "transformer":
        settings = {"tokenizer": str(products / "tokenizer"), "preset": "debug", "epochs": 2, "learning_rate": 3e-3} | settings
    return QualityConfig(model=model, labels=str(files / "labels.jsonl.gz"), held_out_share=0.2, **settings)


@pytest.fixture(scope="module", params=["linear", pytest.param("transformer", marks=pytest.mark.slow)])
def trained(request, files, products, tmp_path_factory):
    """(config, report, scorer) of each model."""
    config = configure(files, products, request.param)
    report = run(config, tmp_path_factory.mktemp(request.param))
    return config, report, load(report["classifier"])


def test_clean_text_is_told_from_junk(trained):
    _, report, score = trained
    assert report["roc_auc"] > 0.97 and report["average_precision"] > 0.97 and report["f1"] > 0.9
    fresh = [sample.generate(index, seed=9)["text"] for index in range(30)]
    assert np.mean(score(fresh) > score([junk(text, 7) for text in fresh])) > 0.9
    assert {"sample-case", "sample-exam"} <= set(report["good_mean_score_by_source"])
    assert report["good_training"] + report["good_held_out"] == report["poor_training"] + report["poor_held_out"]


def test_scores_are_probabilities_in_order_whatever_the_batch(trained):
    _, _, score = trained
    texts = [*RAGGED, *(sample.generate(index, seed=3)["text"] for index in range(70))]
    together = score(texts)
    assert together.dtype == np.float32 and together.shape == (len(texts),)
    assert together.min() >= 0 and together.max() <= 1
    np.testing.assert_allclose(together, np.concatenate([score([text]) for text in texts]), atol=1e-5)
    np.testing.assert_allclose(together[::-1], score(texts[::-1]), atol=1e-5)
    assert together[0] == together[3] == 0 and score([]).shape == (0,)


def test_a_rerun_gives_the_same_classifier(trained, tmp_path):
    config, report, score = trained
    again = run(config, tmp_path)
    assert again["fingerprint"] == report["fingerprint"] == score.fingerprint
    same = [name for name in report if name not in ("train_seconds", "megabytes_per_second", "classifier")]
    assert {name: again[name] for name in same} == {name: report[name] for name in same}
    np.testing.assert_array_equal(load(again["classifier"])(RAGGED), score(RAGGED))
    other = run(dataclasses.replace(config, seed=1), tmp_path)  # in the same workdir: it takes the place of the first
    assert other["fingerprint"] != report["fingerprint"]


def test_scorers_travel_to_other_processes(trained):
    _, _, score = trained
    packed = dill.dumps(score)
    assert len(packed) < 1000
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        elsewhere = pool.submit(dill.loads(packed), RAGGED).result()
    np.testing.assert_allclose(elsewhere, score(RAGGED), atol=1e-6)


def test_length_alone_says_nothing_to_the_linear_model(files, products, tmp_path):
    score = load(run(configure(files, products, "linear"), tmp_path)["classifier"])
    text = sample.generate(0, seed=5)["text"][:120]
    np.testing.assert_allclose(score([text]), score([text * 10]), atol=0.02)


def test_scores_of_n_grams_by_hand(tmp_path):
    weights = np.random.default_rng(0).normal(size=1 << linear._BITS).astype(np.float32)
    np.savez(tmp_path / linear.FILE, weights=weights, bias=0.25)

    def by_hand(text):
        grams = [text[start:start + size] for size in (1, 2, 3) for start in range(len(text) - size + 1)]
        mean = np.mean([weights[linear._hashes(gram)[len(gram) - 1][0]] for gram in grams])
        return 1 / (1 + np.exp(-0.25 - mean))
    texts = ["a", "ab", "𠮷野家", "abc", "糖尿病性網膜症", "x"]
    np.testing.assert_allclose(linear.read(tmp_path)(texts), [by_hand(text) for text in texts], rtol=1e-6)


def test_padding_and_a_mean_over_the_tokens_by_hand():
    model = dataclasses.replace(PRESETS["debug"], vocabulary_size=50)
    decoder_params = decoder.initialize(model, jax.random.key(0))
    params = {"decoder": decoder_params, "weights": jnp.linspace(-1, 1, model.width), "bias": jnp.float32(0.5)}
    rows = [[2, 4, 5], [2], list(range(1, 45))]
    states = jax.jit(functools.partial(decoder.hidden_states, decoder_params, model))
    expected = []
    for row in rows:
        tokens = jnp.array(row)[None]
        hidden, _ = states(tokens, jnp.ones_like(tokens), jnp.arange(len(row))[None])
        expected.append(hidden[0].mean(0) @ params["weights"] + 0.5)
    np.testing.assert_allclose(transformer._logits_of(params, model, rows), expected, rtol=1e-4)


def test_measures_equal_those_by_hand():
    def example(good, source):
        return Example("", good, source, b"")
    held_out = [example(True, "a"), example(True, "a"), example(True, "b"), example(False, "a"), example(False, "b")]
    found = measures(held_out, np.float32([0.9, 0.4, 0.6, 0.7, 0.1]), threshold=0.5)
    assert found == {
        "threshold": 0.5, "precision": 2 / 3, "recall": 2 / 3, "f1": 2 / 3,  # kept: .9, .6 and the poor .7
        "roc_auc": pytest.approx(4 / 6),  # pairs (good, poor) in order: 2 + 1 + 1
        "average_precision": pytest.approx((1 + 2 / 3 + 3 / 4) / 3),
        "good_dropped_share": pytest.approx(1 / 3), "poor_dropped_share": 0.5,
        "good_mean_score_by_source": {"a": pytest.approx(0.65), "b": pytest.approx(0.6)}}


def test_bootstrapped_labels_are_those_of_the_files(files):
    places = str(files / "good.jsonl"), str(files / "poor.jsonl.gz")
    found = labels.bootstrapped(*places, most=10_000)
    assert found == labels.labelled(str(files / "labels.jsonl.gz"), most=10_000)
    fewer = labels.bootstrapped(*places, most=30)
    for good in (True, False):
        side = [example for example in found if example.good == good]
        assert [example for example in fewer if example.good == good] == side[:30]  # the smallest hashes


def test_a_text_counts_once_and_not_in_both_classes(tmp_path):
    texts = [f"{index}人目の患者" for index in range(60)]
    write(tmp_path / "good.jsonl", [{"text": text} for text in [*texts[:40], *texts[:10], "  "]])
    write(tmp_path / "poor.jsonl", [{"text": text} for text in texts[35:]])
    found = labels.bootstrapped(str(tmp_path / "good.jsonl"), str(tmp_path / "poor.jsonl"), most=100)
    assert sorted(example.text for example in found) == sorted(texts[:35] + texts[40:])


def test_an_excerpt_is_the_beginning_of_the_normalised_text():
    text = "Ｓｐｏ２ ９５％、10⁶/μL。" * 500
    assert excerpt(text) == normalize(text)[:labels.LENGTH]
    assert excerpt(normalize(text)) == excerpt(text)


@pytest.mark.slow
def test_a_pretrained_checkpoint_is_the_start(files, products, words, tmp_path):
    from slm.checkpoint import Checkpoints
    model = dataclasses.replace(PRESETS["debug"], vocabulary_size=len(words), scan_layers=True)
    params = decoder.initialize(model, jax.random.key(3))
    checkpoints = Checkpoints(tmp_path / "pretrained" / "checkpoints")
    checkpoints.save(1, {"params": params}, {"config": {"model": dataclasses.asdict(model)}}, None)
    checkpoints.close()
    (tmp_path / "pretrained" / "tokenizer").symlink_to(products / "tokenizer")
    config = configure(files, products, "transformer", checkpoint=str(tmp_path / "pretrained"), documents=40, epochs=1,
                       learning_rate=1e-9)
    report = run(dataclasses.replace(config, tokenizer=""), tmp_path)
    with np.load(f"{report['classifier']}/{transformer.FILE}") as file:
        np.testing.assert_allclose(file["decoder/embedding"], params["embedding"], atol=1e-6)
        assert not any("head" in name for name in file.files)


def good_and_poor(good, poor):
    return [{"text": f"{index}人目", "label": int(index < good)} for index in range(good + poor)]


@pytest.mark.parametrize("rows, message", [
    ([{"text": "a", "label": "1"}], r"labels.jsonl, line 1 has a label of type str that is neither the number 1 \(good\) nor 0"),
    ([{"text": "a", "label": 1}, {"text": "a", "label": 2}], "line 2 has a label of type int that is neither"),
    ([{"text": "a", "label": True}], "line 1 has a label of type bool that is neither"),
    ([{"label": 1}], "line 1 has no string 'text'"),
    ([{"text": "\ud800", "label": 1}], "line 1: the text has a lone surrogate"),
    (good_and_poor(50, 0), "hold 50 good and 0 poor documents .* at least 20 of each are needed"),
    (good_and_poor(50, 7), "hold 50 good and 7 poor documents"),
])
def test_labels_that_cannot_be_learned_from_are_refused(tmp_path, rows, message):
    (tmp_path / "labels.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(ValueError, match=message):
        run(QualityConfig(labels=str(tmp_path / "labels.jsonl")), tmp_path)


def test_files_that_cannot_be_read_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("{\n")
    with pytest.raises(ValueError, match=r"a.jsonl, line 1 is not JSON"):
        labels.labelled(str(tmp_path / "a.jsonl"), 100)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b'{"text": "a", "label": 1}\n' * 999)[:-9])
    with pytest.raises(ValueError, match=r"b.jsonl.gz ends or breaks after line"):
        labels.labelled(str(tmp_path / "b.jsonl.gz"), 100)
    with pytest.raises(FileNotFoundError, match="give an existing path"):
        labels.labelled(str(tmp_path / "c.jsonl"), 100)


@pytest.mark.parametrize("settings, message", [
    ({}, "give labels alone, or reference and poor together"),
    ({"labels": "a", "reference": "b", "poor": "c"}, "give labels alone"),
    ({"labels": "a", "poor": "c"}, "give labels alone"),
    ({"reference": "b"}, "reference and poor together"),
    ({"threshold": 1.0}, "threshold=1.0: give a number between 0 and 1"),
    ({"held_out_share": 0.0}, "held_out_share=0.0"),
    ({"documents": 3}, "documents=3: give at least 20"),
    ({"epochs": 0}, "epochs=0"),
])
def test_settings_that_conflict_are_refused(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        run(QualityConfig(**settings), tmp_path)


@pytest.mark.parametrize("settings, error, message", [
    ({"tokenizer": ""}, ValueError, "give the workdir of a pretraining as checkpoint, or"),
    ({"checkpoint": "somewhere"}, ValueError, "checkpoint='somewhere' and tokenizer="),
    ({"preset": "huge"}, ValueError, "preset='huge': choose one of debug, laptop"),
    ({"tokenizer": "", "checkpoint": "nowhere"}, FileNotFoundError, "no checkpoint"),
    ({"tokenizer": "nowhere"}, FileNotFoundError, "is not a tokenizer"),
])
def test_a_transformer_needs_a_start(files, products, tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        run(configure(files, products, "transformer", **settings), tmp_path)
    assert not (tmp_path / "classifier").exists()


def test_too_small_a_share_held_out_is_refused(tmp_path):
    write(tmp_path / "labels.jsonl", good_and_poor(25, 25))
    with pytest.raises(ValueError, match=r"good and .* poor are held out, at least 2 of each are needed"):
        run(QualityConfig(labels=str(tmp_path / "labels.jsonl"), held_out_share=0.001), tmp_path)


def test_folders_without_a_fitting_classifier_are_refused(files, products, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no quality classifier .*configs/quality.py"):
        load(tmp_path / "nowhere")
    config = configure(files, products, "linear")
    folder = tmp_path / "classifier"
    run(config, tmp_path)
    stale = load(folder)
    run(dataclasses.replace(config, seed=1), tmp_path)
    scorer._loaded.cache_clear()  # as in another process
    with pytest.raises(ValueError, match="was trained again meanwhile"):
        stale(["発熱"])
    settings = json.loads((folder / "classifier.json").read_text())
    (folder / "classifier.json").write_text(json.dumps(settings | {"normalizer": 0}))
    with pytest.raises(ValueError, match="is a classifier of normalizer 0, now it is"):
        load(folder)


def test_linear_scoring_needs_numpy_alone(files, products, tmp_path):
    run(configure(files, products, "linear"), tmp_path)
    code = (f"import sys; from slm.quality.scorer import load; print(load({str(tmp_path / 'classifier')!r})(['発熱'])[0] > 0, "
            "*[name for name in ('jax', 'sklearn', 'scipy', 'MeCab') if name in sys.modules])")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
