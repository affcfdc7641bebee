"""Fine-tuning of label heads: it learns, resumes to the bit, is scored, evaluated and annotates."""

import csv
import dataclasses
import functools
import json
import re
import shutil

import jax
import numpy as np
import pytest

from slm import checkpoint, sharding
from slm.checkpoint import Checkpoints
from slm.data import sets
from slm.data.labelled import Window
from slm.data.sets import Access, SetConfig
from slm.evaluation import evaluate
from slm.evaluation.evaluate import EvaluateConfig
from slm.inference.engine import Engine
from slm.inference.labeller import Decision, Labeller, decode_spans
from slm.local import annotate
from slm.local.annotate import AnnotateConfig
from slm.local.instructions import Instruction
from slm.model import decoder
from slm.model.lora import LoraConfig
from slm.model.presets import PRESETS, LabelGroup
from slm.scoring import baselines
from slm.tasks.tables import TableConfig
from slm.text.tokenizer import load_tokenizer
from slm.train import decisions, held_out, sft, validation
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.sft import SftConfig

MODEL = dataclasses.replace(PRESETS["debug"], layers=1, width=32, query_heads=4, kv_heads=2, mlp_width=64, context=64)
DRUGS = ("アスピリン", "インスリン", "ワルファリン")
OPTIONS = ("熱がある", "熱はない")


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sharding, "make_mesh", functools.partial(sharding.make_mesh, devices=jax.devices()[:1]))
        patch.setattr(jax, "device_count", lambda: 1)
        yield


def note(number):
    """(text, letter, drugs): the letter depends on a word, the drugs stand after another."""
    drug = DRUGS[number % 3]
    return f"{number}番の患者。{'発熱あり' if number % 2 else '発熱なし'}。内服は{drug}です。", "BA"[number % 2], [drug]


@pytest.fixture(scope="module")
def base(products, tmp_path_factory):
    """A base model that has learned nothing, and tables beside it."""
    folder = tmp_path_factory.mktemp("labels")
    shutil.copytree(products / "tokenizer", folder / "base" / "tokenizer")
    rng = np.random.default_rng(0)
    params = jax.tree.map_with_path(
        lambda path, x: np.ones(x.shape, np.float32) if path[-1].key == "scale" else np.float32(
            rng.normal(0, 0.02, x.shape)), jax.eval_shape(lambda key: decoder.initialize(MODEL, key), jax.random.key(0)))
    saved = Checkpoints(folder / "base" / "checkpoints")
    saved.save(3, {"params": params}, {"step": 3, "tokenizer": load_tokenizer(products / "tokenizer").fingerprint,
                                       "config": {"model": dataclasses.asdict(MODEL)}}, None)
    saved.close()
    for part, numbers in (("train", range(140)), ("test", range(140, 170))):
        with open(folder / f"fever-{part}.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["question", "optionA", "optionB", "answer"])
            table.writerows([f"熱は？\n「{note(number)[0]}」", *OPTIONS, note(number)[1]] for number in numbers)
        with open(folder / f"drugs-{part}.csv", "w", encoding="utf-8", newline="") as file:
            table = csv.writer(file)
            table.writerow(["tag", "question", "answer"])
            table.writerows(["drug", f"薬は？\n「{note(number)[0]}」", repr(note(number)[2])] for number in numbers)
    lines = [{"text": text, "entities": [{"start": text.find("発熱"), "end": text.find("発熱") + 2,
                                          "label": "present" if letter == "A" else "absent"}]}
             for text, letter, _ in map(note, range(140))]
    (folder / "fevers.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder / "base"


def settings(base, **changes):
    return SftConfig(**{
        "checkpoint": str(base), "head": "labels", "validation_share": 0.2, "batch_size": 2, "epochs": 0.0,
        "sets": (SetConfig("fever", "choice", str(base.parent / "fever-train.csv")),
                 SetConfig("drugs", "extraction", str(base.parent / "drugs-train.csv")),
                 SetConfig("fevers", "annotated", str(base.parent / "fevers.jsonl"))),
        "train": LoopConfig(steps=120, evaluate_every=60, save_every=60, tensorboard=False),
        "optimizer": OptimizerConfig(name="muon", learning_rate=1e-2, final_share=0.0), **changes})


@pytest.fixture(scope="module")
def trained(base, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("trained")
    return workdir, sft.run(settings(base), workdir)


def test_it_learns_a_label_and_spans_and_is_scored_beside_the_baseline(trained):
    workdir, result = trained
    scores = result["runs"][0]["scores"]
    assert scores["fever"]["value"] == scores["drugs"]["value"] == scores["fevers"]["value"] == 1.0
    assert scores["fever"]["rows"] == scores["drugs"]["rows"] > 15
    assert [score["metric"] for score in scores.values()] == ["kappa", "exact_f1", "label_f1"]
    validations = [json.loads(line) for line in (workdir / "seed-0/training/validation.jsonl").read_text().splitlines()]
    assert [line["step"] for line in validations] == [60, 120] and validations[-1]["scores"] == scores
    assert set(result["runs"][0]["calibration"]) == {"fever", "spans", "fevers"}


@pytest.mark.slow
def test_a_run_that_is_killed_and_resumed_is_the_same_to_the_bit(base, trained, tmp_path):
    class Killed(Exception):
        pass

    def save(self, step, *arguments):
        saved(self, step, *arguments)
        if step == 60:
            self.wait()
            raise Killed
    saved = Checkpoints.save
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(Checkpoints, "save", save)
        sft.run(settings(base), tmp_path)
    sft.run(settings(base), tmp_path)
    for one, other in zip(*(jax.tree.leaves(checkpoint.read(folder / "seed-0", labels=True)[0])
                            for folder in (tmp_path, trained[0]))):
        np.testing.assert_array_equal(one, other)


def test_texts_together_are_labelled_as_alone(trained):
    labeller = Labeller.load(trained[0] / "seed-0")
    texts = [note(number)[0] for number in range(5)] + ["", note(7)[0] * 20]
    spans = []
    for text, reading in zip(texts, labeller.read(texts)):
        alone, = labeller.read([text])
        np.testing.assert_allclose(alone.text, reading.text, atol=1e-4)
        spans.append([span[:3] for span in labeller.spans("spans", reading)])
        assert [span[:3] for span in labeller.spans("spans", alone)] == spans[-1]
    assert all(spans[:5]) and not spans[5]


def test_evaluation_asks_the_heads(trained, base, tmp_path):
    workdir, _ = trained
    folder = base.parent
    result = evaluate.run(EvaluateConfig(
        benchmark="tables", checkpoint=str(workdir / "seed-0"), resamples=50, tables=(
            TableConfig("fever", str(folder / "fever-test.csv"), train_file=str(folder / "fever-train.csv")),
            TableConfig("medicines", str(folder / "drugs-test.csv"), "extraction"))), tmp_path)
    assert result["fever"]["readout"] == result["medicines"]["readout"] == "labels"
    assert result["fever"]["metrics"]["kappa"]["value"] == result["medicines"]["metrics"]["exact_f1"]["value"] == 1.0
    assert "label heads, no prompt" in (tmp_path / "leaderboard.md").read_text()
    assert json.loads((tmp_path / "report.json").read_text())["tasks"]["fever"]["calibration"]["ece"] < 0.2


def test_annotation_writes_labels_and_spans_with_confidences(trained, tmp_path):
    records = tmp_path / "records.jsonl"
    records.write_text("".join(json.dumps({"text": note(number)[0]}) + "\n" for number in range(6)))
    config = AnnotateConfig(Instruction("labels", "", ""), records=str(records), checkpoint=str(trained[0]))
    assert annotate.run(config, tmp_path / "out")["done_now"] == 6
    lines = [json.loads(line) for line in (tmp_path / "out/annotations.jsonl").read_text().splitlines()]
    for number, line in enumerate(lines):
        text, letter, (drug,) = note(number)
        label, entity = line["labels"]["fever"], next(span for span in line["entities"] if span["group"] == "spans")
        assert (label["label"], label["text"]) == (letter, OPTIONS["AB".index(letter)]) and 0.5 < label["confidence"] <= 1
        assert (entity["text"], entity["label"]) == (drug, "drug") == (text[entity["start"]:entity["end"]], "drug")
        assert 0 < entity["confidence"] <= 1 and line["cut_tokens"] == 0
    assert annotate.run(config, tmp_path / "out")["done_now"] == 0


def test_what_does_not_fit_is_refused(base, trained, tmp_path):
    with pytest.raises(ValueError, match=r"has label heads and writes no text: name a model that does"):
        Engine.load(trained[0] / "seed-0")
    with pytest.raises(ValueError, match=r"base has no label heads: fine-tune one with --config=configs/sft\.py:classify"):
        Labeller.load(base)
    with pytest.raises(ValueError, match=r"head=labels and lora.rank=4 conflict"):
        settings(base, lora=LoraConfig(rank=4))
    talks = base.parent / "talks.jsonl"
    talks.write_text(json.dumps({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}))
    with pytest.raises(ValueError, match=r"sets.fevers is of kind annotated, whose answers are positions with labels"):
        sft.run(settings(base, head="tokens"), tmp_path)
    with pytest.raises(ValueError, match=r"sets.own is of kind messages, which has conversations and no labels"):
        sft.run(settings(base, sets=(SetConfig("own", "messages", str(talks)),)), tmp_path)


@pytest.mark.slow
def test_a_random_start_has_the_size_of_the_checkpoint(base, tmp_path):
    result = sft.run(settings(base, fresh=True, train=LoopConfig(steps=2, evaluate_every=2, tensorboard=False)), tmp_path)
    params, model, _ = checkpoint.read(tmp_path / "seed-0", labels=True)
    assert model.width == MODEL.width and result["runs"][0]["steps"] == 2
    began = checkpoint.read(base)[0]["embedding"]
    assert np.corrcoef(params["embedding"].ravel(), began.ravel())[0, 1] < 0.1


def test_a_few_of_each_task_are_asked_and_no_baseline_is_computed_before(base, monkeypatch):
    monkeypatch.setattr(baselines, "baseline", None)  # not called
    data = sft.pack(settings(base, scored_rows=3), base, MODEL, None, 64)
    assert {name: len(held.asked) for name, held in data.scored.items()} == {"fever": 3, "drugs": 3, "fevers": 3}
    entries = [entry for part in settings(base).sets[:2] for entry in sets.read(part, Access(), 0)]
    for limit, expected in ((3, {"fever": 3, "drugs": 1}), (0, {"fever": 140, "drugs": 140})):
        written = held_out.of(entries, entries, limit, by_tokens=True)
        assert {name: len(held.asked) for name, held in written.items()} == expected


def test_each_sets_share_of_the_loss_is_printed_and_a_small_one_warned_of(base, tmp_path, capsys):
    few = (dataclasses.replace(settings(base).sets[0], limit=8), settings(base).sets[1])
    sft.run(settings(base, sets=few, train=LoopConfig(steps=2, evaluate_every=2, tensorboard=False)), tmp_path)
    printed = capsys.readouterr().out
    assert "warning: sets.fever has under 5% of the loss" in printed and "warning: sets.drugs" not in printed
    assert len(re.findall(r"epochs, [0-9.]+% of the rows, [0-9.]+% of the loss", printed)) == 2


def test_the_best_validation_is_the_one_with_the_best_mean_score():
    scores = {"fever": {"value": 0.5}, "drugs": {"value": 0.9}}
    assert validation.rank({"bits_per_byte": 1.0, "scores": scores}) == pytest.approx(-0.7)
    assert validation.rank({"bits_per_byte": 1.0}) == 1.0 and validation.rank({"bits_per_byte": float("nan")}) == np.inf


# Decisions ----------------------------------------------------------------------------------------------------

def test_an_inside_follows_only_its_own_label():
    group = LabelGroup("spans", "tag", ("d", "m"))
    window = Window([0, 1, 2, 3], [(0, 0), (0, 1), (1, 2), (2, 3)])
    shares = np.log(np.array([[1, 0, 0, 0, 0], [.1, .1, .1, .6, .1], [.1, .1, .5, .05, .25], [.6, .1, .1, .1, .1]]) + 1e-9)
    span, = decode_spans(group, Decision(), window, shares)  # the likeliest second class, inside of d, cannot follow m
    assert span[:3] == (0, 2, "m") and span.confidence == pytest.approx(0.25)
    assert decode_spans(group, Decision(bias=(9.0, 0, 0, 0, 0)), window, shares) == []


def test_a_median_is_chosen_where_labels_have_an_order():
    shares = np.log(np.array([[.4, .1, .2, .3]]))
    assert Decision().choose(shares).tolist() == [0] and Decision(median=True).choose(shares).tolist() == [1]


def test_temperature_makes_probabilities_as_right_as_they_say():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 1, (4000, 3))
    gold = np.array([rng.choice(3, p=np.exp(row) / np.exp(row).sum()) for row in logits])
    assert decisions._temperature(3 * logits, gold) == pytest.approx(3, rel=0.15)
    shares = decisions._cooled(3 * logits, 3.0)
    assert decisions._ece(shares, gold) < 0.03 < 0.1 < decisions._ece(decisions._cooled(3 * logits, 1.0), gold)
