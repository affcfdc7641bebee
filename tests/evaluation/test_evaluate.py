"""A model through the whole evaluation: answers, lines of the leaderboard, comparisons, refusals."""

import dataclasses
import functools
import json
import os
import re
import shutil
import types

import jax
import numpy as np
import pytest

from slm import benchmarks
from slm.checkpoint import Checkpoints
from slm.corpus.sources import CorpusConfig
from slm.evaluation import candidates, compare, evaluate, leaderboard
from slm.evaluation.compare import CompareConfig
from slm.evaluation.evaluate import EvaluateConfig
from slm.model import decoder
from slm.model.presets import PRESETS, LabelGroup
from slm.sample import tasks as sample_tasks
from slm.scoring import answer_modes
from slm.scoring.answer_modes import Answer
from slm.scoring.models import Checkpoint, LabelModel
from slm.tasks import annotated, benchmark, published, tables
from slm.tasks.benchmark import Provenance
from slm.tasks.jmed_llm import SOURCES
from slm.tasks.kinds import KINDS
from slm.tasks.tables import TableConfig
from slm.tasks.task import Item
from slm.text.normalize import normalize
from slm.text.spans import Span

MODEL = dataclasses.replace(PRESETS["debug"], context=512)


@pytest.fixture(scope="module")
def trained(products, tmp_path_factory):
    """A workdir as a training leaves it, with random parameters."""
    folder = tmp_path_factory.mktemp("runs") / "random"
    shutil.copytree(products / "tokenizer", folder / "tokenizer")
    checkpoints = Checkpoints(folder / "checkpoints", keep=1)
    params = jax.jit(functools.partial(decoder.initialize, MODEL))(jax.random.key(0))
    checkpoints.save(1, {"params": params}, {"tokenizer": "", "config": {
        "model": dataclasses.asdict(MODEL), "seed": 0}}, None)
    checkpoints.close()
    return folder


@pytest.fixture(scope="module")
def evaluated(trained, tmp_path_factory):
    config = EvaluateConfig(benchmark="sample", checkpoint=str(trained), limit=9, resamples=50)
    workdir = tmp_path_factory.mktemp("evaluated")
    result = evaluate.run(config, workdir)
    (workdir / "result.json").write_text(json.dumps(result))
    return config, workdir, result


def test_each_task_has_its_line_and_each_answer_is_kept(evaluated):
    _, workdir, result = evaluated
    assert list(result) == ["sample_choice", "sample_extraction", "sample_exam"]
    for name, line in result.items():
        assert set(line) == {"protocol", "readout", "n", "seeds", "unread", "truncated", "metrics", "baseline", "majority"}
        assert (line["protocol"], line["n"], line["seeds"]) == ("own test rows", 9, 1)
        for own in line["metrics"].values():
            assert set(own) == {"value", "low", "high"} and own["low"] <= own["value"] <= own["high"]
        assert set(line["baseline"]) == set(line["majority"]) == set(line["metrics"])
        first, *answers = (workdir / "answers" / f"{name}-seed-0.jsonl").read_text().splitlines()
        assert json.loads(first)["truncated"] == line["truncated"] and len(answers) == 9
        assert {"item", "raw", "value", "gold", "unread", "document"} <= set(json.loads(answers[0]))
    assert set(result["sample_choice"]["metrics"]) == {"kappa", "linear_kappa", "accuracy"}
    assert set(result["sample_extraction"]["metrics"]) == {"exact_f1", "partial_f1_reference", "partial_f1"}
    report = json.loads((workdir / "report.json").read_text())["tasks"]["sample_choice"]
    assert 0 <= report["calibration"]["ece"] <= 1 and (workdir / "reliability-sample_choice.png").stat().st_size > 1000
    assert "own test rows" in (workdir / "leaderboard.md").read_text()


def test_the_same_command_again_asks_nothing(evaluated, monkeypatch):
    config, workdir, result = evaluated
    monkeypatch.setattr(Checkpoint, "load", lambda *_: pytest.fail("it was asked again"))
    assert evaluate.run(config, workdir) == result


def test_another_model_in_the_same_place_is_asked_anew(evaluated, tmp_path, monkeypatch):
    config, workdir, _ = evaluated
    shutil.copytree(workdir, tmp_path / "copy")
    monkeypatch.setattr(evaluate, "_identity", lambda *_: "another")
    asked = []
    monkeypatch.setattr(Checkpoint, "load", lambda *_: asked.append(1) or object())
    with pytest.raises(AttributeError):  # there is no model to ask
        evaluate.run(config, tmp_path / "copy")
    assert asked


def test_another_hugging_face_model_in_the_same_folder_is_another_model(tmp_path):
    config = EvaluateConfig(benchmark="sample", backend="hugging_face", model=str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(b"0" * 2_000_000)
    os.utime(weights, ns=(0, 0))
    identities = {evaluate._identity(config, str(tmp_path)), evaluate._identity(config, str(tmp_path))}
    assert len(identities) == 1
    (tmp_path / "config.json").write_text("[]")
    identities.add(evaluate._identity(config, str(tmp_path)))
    weights.write_bytes(b"1" * 2_000_000)
    os.utime(weights, ns=(0, 0))  # the content counts, not the time
    identities.add(evaluate._identity(config, str(tmp_path)))
    assert len(identities) == 3


class Scripted:
    """A model with the same answers for everyone; it counts what it is asked."""
    name, template, truncated, asked = "scripted", "a script", 0, 0

    def __init__(self, *answers):
        self.answers = answers

    def generate(self, conversations, max_tokens):
        self.asked += len(conversations)
        return [self.answers[index % len(self.answers)] for index in range(len(conversations))]


def test_the_likeliest_letters_are_chosen():
    item = Item("x", "?", ("b", "c"), (("a", "1"), ("b", "2"), ("c", "3")))
    values = [-3.0, -1.0, -2.0]
    assert answer_modes.from_log_likelihoods(KINDS["choice"], item, values).value == "b"
    assert answer_modes.from_log_likelihoods(KINDS["exam"], item, values).value == "b,c"
    assert answer_modes.from_log_likelihoods(KINDS["choice"], item, [-1.0, -1.0, -2.0]).value == "a"
    assert answer_modes.from_log_likelihoods(KINDS["choice"], item, [-1.0, float("nan"), -2.0]).unread


def test_thoughts_are_left_out_whatever_answers():
    task = sample_tasks.tasks()["sample_choice"]
    answers = answer_modes.answers(Scripted("<think>Aかも</think>B"), task, task.items[:2], "free")
    assert [(answer.raw, answer.value) for answer in answers] == [("<think>Aかも</think>B", "B")] * 2


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "own.csv"
    file.write_text("question,optionA,optionB,answer\n" + "".join(f"問{n}はどちらか。,左{n},右{n},B\n" for n in range(4)))
    return EvaluateConfig(benchmark="tables", tables=(TableConfig("own", str(file)),), choice="free", backend="openai",
                          model="m", base_url="http://127.0.0.1:1/v1", resamples=20)


def test_own_tables_are_read_as_a_person_reads(table, tmp_path, monkeypatch):
    model = Scripted("As an AI, I think B", "選択肢Aは誤りで、正解はBである。", "b", "わからない")
    monkeypatch.setitem(evaluate.BACKENDS, "openai", lambda *_: model)
    result = evaluate.run(table, tmp_path)
    assert result["own"]["metrics"]["accuracy"]["value"] == 0.75 and result["own"]["unread"] == 1
    assert "\nPrompts in: a script.\n" in (tmp_path / "leaderboard.md").read_text()


def test_kept_answers_of_a_served_model_are_named_with_their_time(table, tmp_path, monkeypatch, capsys):
    model = Scripted("B")
    monkeypatch.setitem(evaluate.BACKENDS, "openai", lambda *_: model)
    evaluate.run(table, tmp_path)
    assert "answers from" not in capsys.readouterr().err
    evaluate.run(table, tmp_path)
    assert model.asked == 4
    assert re.search(r"reusing answers from \d{4}-\d\d-\d\d \d\d:\d\d of m at http://127\.0\.0\.1:1/v1: .* remove "
                     + re.escape(str(tmp_path / "answers")), capsys.readouterr().err)
    evaluate.run(dataclasses.replace(table, base_url="http://127.0.0.1:2/v1"), tmp_path)
    assert model.asked == 8


class Spans(benchmark.Benchmark):
    """Two texts whose entities are to be found, and a third to learn from."""
    name = "spans"
    texts = tuple(annotated.AnnotatedText(f"s:{row}", text, entities, f"d{row}") for row, (text, entities) in enumerate([
        ("胸水はない", (Span(0, 2, "negative"),)), ("結節と腫瘤", (Span(0, 2, "positive"), Span(3, 5, "positive"))),
        ("腫瘤", (Span(0, 2, "positive"),))]))

    def tasks(self, settings, provenance, folds):
        return {"spans": annotated.task("spans", [annotated.item(text) for text in self.texts[:2]])}

    def training(self, settings, task, provenance, fold=None):
        return [annotated.item(text) for text in self.texts[2:]]


class Head:
    groups = types.MappingProxyType({"spans": LabelGroup("spans", "tag", ("negative", "positive"), reads="question")})

    def read(self, texts):
        return texts

    def spans(self, name, reading):
        return [(0, 2, "positive", 0.75)]


def test_a_head_answers_with_spans(table, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmarks.REGISTRY, "spans", Spans())
    monkeypatch.setitem(evaluate.BACKENDS, "openai", lambda *_: LabelModel(Head(), "scripted"))
    config = dataclasses.replace(table, benchmark="spans", tables=())
    line = evaluate.run(config, tmp_path)["spans"]
    assert line["readout"] == "labels"
    assert {name: row["value"] for name, row in line["metrics"].items()} == {"span_f1": 0.8, "label_f1": 0.4}
    assert line["baseline"]["label_f1"] == line["majority"]["label_f1"] == 0.5  # the one entity that was learned
    by_label = json.loads((tmp_path / "report.json").read_text())["tasks"]["spans"]["by_label"]
    assert {label: (row["entities"], row["value"], row["baseline"]) for label, row in by_label.items()} == {
        "negative": (1, 0, 0), "positive": (2, 0.5, 2 / 3)}
    _, first, _ = (json.loads(line) for line in (tmp_path / "answers" / "spans-seed-0.jsonl").read_text().splitlines())
    assert (first["value"], json.loads(first["raw"])) == (["0-2:positive"], [[0, 2, "positive", 0.75]])
    (tmp_path / "result.json").write_text(json.dumps({"spans": line}))
    assert compare.run(CompareConfig(runs=f"{tmp_path},{tmp_path}", resamples=20), tmp_path / "compared")[
        str(tmp_path)]["spans"]["difference"] == 0


def test_a_model_without_a_head_is_not_asked_for_spans(table, tmp_path, monkeypatch):
    monkeypatch.setitem(benchmarks.REGISTRY, "spans", Spans())
    monkeypatch.setitem(evaluate.BACKENDS, "openai", lambda *_: Scripted("胸水"))
    with pytest.raises(ValueError, match="scripted has no label heads, which the task spans of kind tagging needs"):
        evaluate.run(dataclasses.replace(table, benchmark="spans", tables=()), tmp_path)


def test_no_question_is_written_down(evaluated):
    _, workdir, _ = evaluated
    texts = [item.question[:30] for task in sample_tasks.tasks().values() for item in task.items]
    for path in workdir.rglob("*.json*"):
        content = path.read_text()
        assert not any(text in content or json.dumps(text)[1:-1] in content for text in texts), path


def test_right_answers_score_one_and_wrong_ones_by_hand():
    items = tuple(tables.Item(f"t:{row}", f"質問{row}", (letter,), (("A", "はい"), ("B", "いいえ")))
                  for row, letter in enumerate("AABB"))
    task = tables.task("own", "choice", items, "kappa")
    right = [Answer(item.id, item.answer[0], item.answer[0]) for item in items]
    wrong = [Answer(item.id, "A", "A") for item in items]
    line, report = leaderboard.line(task, [right, wrong], "P0", "free", 3, ["A", "A", "B", "A"], ["A"] * 4, 200, 0)
    assert line["metrics"]["accuracy"]["value"] == 0.75 and line["metrics"]["kappa"]["value"] == 0.5
    assert line["majority"] == {"kappa": 0, "linear_kappa": 0, "accuracy": 0.5}
    assert line["baseline"]["accuracy"] == 0.75 and line["baseline"]["kappa"] == 0.5
    assert (line["n"], line["seeds"], line["truncated"]) == (4, 2, 3) and report["by_seed"] == [1, 0]
    assert report["against_baseline"]["value"] == 0


def test_a_run_equals_itself_and_a_better_one_is_told(evaluated, tmp_path, capsys):
    _, workdir, _ = evaluated
    better = tmp_path / "better"
    shutil.copytree(workdir, better)
    for path in (better / "answers").glob("sample_choice*"):
        first, *lines = path.read_text().splitlines()
        rows = [json.loads(line) for line in lines]
        path.write_text("\n".join([first, *(json.dumps(row | {"value": row["gold"][0]}) for row in rows)]))
    found = compare.run(CompareConfig(runs=f"{workdir},{better}", resamples=200), tmp_path)
    own = found[str(better)]
    assert own["sample_exam"]["difference"] == own["sample_extraction"]["difference"] == 0
    assert own["sample_exam"]["p"] == 1
    assert own["sample_choice"]["difference"] < -0.3 and own["sample_choice"]["p"] < 0.1
    assert own["sample_choice"]["p_holm"] >= own["sample_choice"]["p"]
    assert "sample_choice" in (tmp_path / "leaderboard.md").read_text()


def test_bits_per_byte_by_source_equal_a_sum_over_one_document(trained, tmp_path, words):
    text = "患者は65歳男性。発熱と咳嗽を主訴に来院した。"
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": text, "source": "own"}, ensure_ascii=False) + "\n")
    config = EvaluateConfig(benchmark="text", checkpoint=str(trained),
                            corpus=CorpusConfig(files=str(tmp_path / "text.jsonl")))
    found = evaluate.run(config, tmp_path)["own"]
    model = Checkpoint.load(trained).engine
    end = words.end_of_document
    ids = [end, *words.encode(text), end]
    shape = (1, len(ids) - 1)
    hidden, _ = jax.jit(functools.partial(decoder.hidden_states, config=model.model_config))(
        model.params, tokens_BT=np.array([ids[:-1]]), segments_BT=np.ones(shape, np.int32),
        positions_BT=np.arange(shape[1])[None])
    table = jax.nn.log_softmax(decoder.logits(model.params, hidden))[0]
    bits = -sum(float(table[place, token]) for place, token in enumerate(ids[1:])) / np.log(2)
    size = len(normalize(text).encode())
    assert found["bits_per_byte"] == pytest.approx(bits / size, rel=1e-4)
    assert (found["bytes"], found["tokens"], found["documents"]) == (size, len(ids) - 1, 1)


def test_without_a_checkpoint_the_newest_fine_tuned_one_or_a_command_that_makes_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"configs/sft\.py"):
        candidates.find("checkpoint", "", "")
    for name, job in (("old", "sft"), ("new", "sft"), ("base", "pretrain")):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        (folder / "config.json").write_text(json.dumps({"config": {"job": job, "seed": 0}}))
        (folder / "result.json").write_text(json.dumps({
            "provenance": Provenance("P2", {"jmed_llm": ("crade",)}).to_json(),
            "runs": [{"seed": 3, "fold": None, "workdir": "x"}]}))
    found = candidates.find("checkpoint", "", "")
    assert found.name == "runs/new" and found.models == {(3, None): "runs/new/seed-3"}
    assert found.provenance == Provenance("P2", {"jmed_llm": ("crade",)})


@pytest.mark.parametrize("settings, words", [
    ({"tasks": "sample_choice,pulse"}, "no task pulse"),
    ({"rows": "held_out"}, "held_out"),
    ({"benchmark": "tables"}, "no tables"),
    ({"backend": "openai"}, "base_url"),
    ({"backend": "hugging_face", "model": "x"}, "conflict"),
    ({"benchmark": "tables", "tables": (TableConfig("own", "missing.csv"),)}, "missing.csv"),
])
def test_what_cannot_be_is_refused_in_a_sentence(trained, tmp_path, settings, words):
    with pytest.raises((ValueError, FileNotFoundError), match=words):
        evaluate.run(EvaluateConfig(**{"benchmark": "sample", "checkpoint": str(trained), **settings}), tmp_path)


def test_published_rows_name_our_tasks_and_metrics():
    for own in published.rows().values():
        assert set(own) == set(SOURCES)
        assert own["mrner_disease"].keys() == {"partial_f1_reference", "exact_f1"}
        assert own["jcsts"].keys() == {"linear_kappa", "accuracy"}
