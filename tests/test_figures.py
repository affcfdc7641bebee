"""The figures: drawn from made-up workdirs, and looked at as far as a program can look."""

import csv
import dataclasses
import importlib.util
import itertools
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

from slm import config as configs
from slm import figures
from slm.checkpoint import Checkpoints
from slm.model.presets import PRESETS, parameter_count
from slm.report import architecture, embedding_space, evaluation_figures, figures_job, training_curves
from slm.report.figures_job import FiguresConfig

pytestmark = pytest.mark.filterwarnings("error::UserWarning")  # a glyph that the font lacks is one
MODEL = PRESETS["debug"]
LINE = {"metrics": {"kappa": {"value": 0.4, "low": 0.3, "high": 0.5}, "accuracy": {"value": 0.6, "low": 0.5, "high": 0.7}},
        "baseline": {"kappa": 0.25}, "majority": {"kappa": 0.0}, "n": 100, "seeds": 2}


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = value if isinstance(value, list) else [value]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


def steps(count):
    return [{"step": step, "loss": 9 / step ** 0.3} for step in range(1, count + 1)]


def validations(*sources):
    return [{"step": step, "loss": 3 / step ** 0.1, "bits_per_byte": 1.5 - step / 100, "bits_per_byte_by_source": {
        source: 1 + index - step / 50 for index, source in enumerate(sources)}} for step in (10, 20)]


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A folder with runs/ as the jobs leave them, but for checkpoints; the current folder."""
    monkeypatch.chdir(tmp_path)
    corpus = tmp_path / "runs" / "products" / "corpus-1"
    write(corpus / "report.json", {"by_source": {"看護記録": {"characters_out": 900}, "論文": {"characters_out": 100}},
                                   "dropped": {"短い": 3}, "documents_in": 10})
    base = tmp_path / "runs" / "base"
    write(base / "config.json", {"config": {"job": "pretrain", "rows": {"batch_size": 2, "seq_len": 64}}})
    write(base / "metrics.jsonl", steps(20))
    (base / "metrics.jsonl").open("a").write('{"step": 21, "lo')  # which is being written
    write(base / "validation.jsonl", validations("百科事典", "notes"))
    write(base / "result.json", {"corpus": "runs/products/corpus-1"})
    tuned = tmp_path / "runs" / "tuned"
    write(tuned / "config.json", {"config": {"job": "sft"}})
    for seed in range(3):
        write(tuned / f"seed-{seed}" / "training" / "metrics.jsonl", steps(20))
        write(tuned / f"seed-{seed}" / "training" / "validation.jsonl", validations("crade", "問診"))
    leaderboard = tmp_path / "runs" / "leaderboard"
    write(leaderboard / "config.json", {"config": {"job": "evaluate", "benchmark": "jmed_llm"}})
    write(leaderboard / "report.json", {"model": "模型", "protocol": "P1", "tasks": {
        "smdis": {"headline": "kappa", "second": "accuracy"}, "own": {"headline": "kappa", "second": "accuracy"}}})
    write(leaderboard / "result.json", {"smdis": LINE, "own": LINE | {"metrics": {"kappa": dict.fromkeys(("value", "low", "high"))}}})
    answers = [{"log_likelihoods": {"A": 0.0, "B": -1.0}, "gold": ["A" if index % 4 else "B"]} for index in range(20)]
    write(leaderboard / "answers" / "smdis-seed-0.jsonl", [{"asked": ""}, *answers, {"log_likelihoods": None, "gold": ["A"]}])
    return tmp_path


@pytest.fixture
def trained(runs, products):
    """The same, with a checkpoint and a tokenizer in runs/base."""
    base = runs / "runs" / "base"
    shutil.copytree(products / "tokenizer", base / "tokenizer")
    saved = Checkpoints(base / "checkpoints", keep=1)
    table = np.random.default_rng(0).normal(size=(MODEL.vocabulary_size, MODEL.width)).astype(np.float32)
    others = {"head": np.zeros((3, 5), np.float32)}  # is not read
    saved.save(20, {"params": {"embedding": table, **others}}, {"tokenizer": "", "config": {"model": dataclasses.asdict(MODEL)}}, None)
    saved.close()
    return runs


def svg(path) -> str:
    """Its texts; matplotlib writes each beside the outlines of its letters."""
    return Path(path).read_text(encoding="utf-8")


def check(result, *texts):
    png, vector = result["files"][:2]
    assert Path(png).read_bytes().startswith(b"\x89PNG") and Path(png).stat().st_size > 10_000
    for text in texts:
        assert f"<!-- {text} -->" in svg(vector), text
    assert not list(Path(png).parent.glob("*.writing"))


def test_all_figures_are_drawn_and_what_is_not_there_is_told(runs, capsys):
    result = figures_job.run(FiguresConfig(preset="debug"), Path("drawn"))
    check(result["corpus"], "1  看護記録  90.0%", "Corpus: 1,000 characters", "短い")
    check(result["architecture"], f"debug: {parameter_count(MODEL):,} parameters")
    check(result["training"], "百科事典", "Tokens (thousands)", "Bits per byte", "seed 2", "問診")
    check(result["leaderboard"], "smdis", "模型, P1", "gpt-4o-2024-08-06 (P0, published)", "baseline, same rows")
    check(result["reliability"], "20 answers, ECE 0.019", "Probability of the chosen letter")
    assert set(result["skipped"]) == {"embedding"}  # no checkpoint yet
    assert "embedding is left out" in capsys.readouterr().err
    assert result["training"]["pretrain"]["tokens"] == 20 * 2 * 64 and result["training"]["sft"]["models"] == 3
    assert result["reliability"]["tasks"]["smdis"]["ece"] == pytest.approx(0.75 - 1 / (1 + np.exp(-1)), abs=1e-9)


def test_without_runs_only_the_architecture_is_drawn(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    result = figures_job.run(FiguresConfig(), tmp_path / "drawn")
    assert result["architecture"]["preset"] == "ncvc_slm_1"
    assert set(result["skipped"]) == {"corpus", "training", "embedding", "leaderboard", "reliability"}
    said = capsys.readouterr().err
    for job in ("corpus", "pretrain", "evaluate"):
        assert f"python -m slm.main --config=configs/{job}.py" in said
    with pytest.raises(FileNotFoundError, match="--config=configs/evaluate"):
        figures_job.run(FiguresConfig(figure="leaderboard"), tmp_path / "drawn")


@pytest.mark.parametrize("wrong, message", [
    ({"pretrain": "nowhere"}, "nowhere is missing"), ({"sft": "runs/base"}, r"runs/base holds no \*\*/training"),
    ({"evaluate": "runs/base"}, "runs/base holds no report.json"), ({"corpus": "runs/base"}, "name a corpus")])
def test_what_is_named_must_be_there(runs, wrong, message):
    if "corpus" in wrong:
        write(runs / "runs" / "base" / "result.json", {})
    figure = {"pretrain": "training", "sft": "training", "evaluate": "leaderboard", "corpus": "corpus"}[next(iter(wrong))]
    for which in (figure, "all") if "corpus" in wrong else (figure,):  # all: the corpus is drawn first
        with pytest.raises(FileNotFoundError, match=message):
            figures_job.run(FiguresConfig(figure=which, preset="debug", **wrong), Path("drawn"))


def test_settings_are_checked_and_the_config_file_has_each_figure():
    for wrong in ({"preset": "nano"}, {"words": 1}, {"seed": -1}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            FiguresConfig(**wrong)
    path = Path(figures_job.__file__).parents[2] / "configs" / "figures.py"
    spec = importlib.util.spec_from_file_location("figures_config", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for name in ("all", *figures_job.FIGURES):
        assert configs.freeze(FiguresConfig, module.get_config(name)) == FiguresConfig(variant=name, figure=name)


@pytest.mark.parametrize("model", [*PRESETS.values(), dataclasses.replace(
    PRESETS["slm_1b"], vocabulary_size=262_144, layers=128, width=16_384, query_heads=128, mlp_width=53_248)],
    ids=lambda model: f"{model.preset}-{model.layers}")
def test_no_text_of_the_architecture_covers_another_or_leaves_the_page(model):
    assert sum(architecture.parts(model).values()) == parameter_count(model)
    figure = architecture.figure(model)
    figure.draw_without_rendering()
    renderer, page = figure.canvas.get_renderer(), figure.bbox
    texts = [text for text in figure.axes[0].texts if text.get_text()]
    boxes = [(text.get_text(), text.get_window_extent(renderer)) for text in texts]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), (one, other)
    for name, box in boxes:
        assert page.x0 < box.x0 and box.x1 < page.x1 and page.y0 < box.y0 and box.y1 < page.y1, name
    # A box's text stays inside it: a rectangle that holds a text's middle holds all of it.
    frames = [patch.get_window_extent(renderer) for patch in figure.axes[0].patches]
    for name, box in boxes:
        middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        for frame in frames:
            if frame.contains(*middle):
                assert frame.x0 <= box.x0 and box.x1 <= frame.x1 and frame.y0 <= box.y0 and box.y1 <= frame.y1, name


def test_smoothing_is_a_mean_around_each_step():
    values = np.arange(300.0)
    values[150] = np.nan
    smooth = training_curves.smooth(values)  # windows of 3 steps to each side
    assert smooth[0] == pytest.approx(1.5) and smooth[50] == pytest.approx(50) and smooth[150] == pytest.approx(150)
    assert np.isnan(training_curves.smooth(np.full(3, np.nan))).all()


def test_same_kind_against_chance_by_hand():
    points = embedding_space.unit_rows(np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1.0]]))
    found = embedding_space.same_kind(points, ["drug", "drug", "disease", "other"], neighbours=1)
    assert (found["same_kind"], found["neighbours"]) == (0.5, 1)
    assert found["chance"] == pytest.approx((1 / 3 + 1 / 3) / 4)
    assert found["by_kind"]["drug"] == {"words": 2, "same_kind": 1.0, "chance": pytest.approx(1 / 3)}
    assert embedding_space.same_kind(points, ["drug"] * 4)["same_kind"] == 1.0


def test_spread_points_lie_far_from_each_other():
    flat = np.array([[0, 0], [1, 0], [10, 0], [4, 0]])
    assert embedding_space.spread(flat, [0, 1, 2, 3]) == [0, 2, 3, 1] and embedding_space.spread(flat, []) == []


def test_words_are_single_tokens_of_their_kind(words, tmp_path):
    (tmp_path / "drugs.txt").write_text("頭痛\n生理食塩水\n", encoding="utf-8")
    chosen = embedding_space.choose(words, str(tmp_path / "drugs.txt"), 20, seed=0)
    assert all(words.encode(word) == [index] for index, word, _ in chosen)
    assert len({index for index, _, _ in chosen}) == len(chosen)
    kinds = {word: kind for _, word, kind in chosen}
    assert kinds.get("頭痛", "other") == "other"  # the project's own list goes first: it is a symptom
    assert set(kinds.values()) == set(embedding_space.KINDS)
    assert chosen == embedding_space.choose(words, str(tmp_path / "drugs.txt"), 20, seed=0)


def test_embedding_space_repeats_and_says_what_it_lacks(trained, monkeypatch, capsys):
    monkeypatch.setattr(embedding_space, "_umap", lambda points, seed: {"UMAP, 15 neighbours": points[:, :2]})
    settings = FiguresConfig(figure="embedding", words=12, labels=15)
    first = figures_job.run(settings, Path("drawn"))["embedding"]
    check(first, "disease (12)", "t-SNE 1 (no unit)", "UMAP, 15 neighbours", "t-SNE, perplexity 15")
    rows = list(csv.DictReader(Path(first["files"][2]).read_text(encoding="utf-8").splitlines()))
    assert set(rows[0]) == {"token", "word", "kind", "tsne_x", "tsne_y", "umap_x", "umap_y"}
    assert len(rows) == sum(own["words"] for own in first["by_kind"].values())
    assert 0 <= first["same_kind"] < 0.6 and "by chance" in capsys.readouterr().out  # of random rows
    table = embedding_space.embedding(trained / "runs" / "base", None)
    assert table.shape == (MODEL.vocabulary_size, MODEL.width)
    flat, = embedding_space._tsne(embedding_space.unit_rows(table[[int(row["token"]) for row in rows]]), 0).values()
    np.testing.assert_allclose(flat, [[float(row["tsne_x"]), float(row["tsne_y"])] for row in rows], atol=1e-4)
    written = sum(f"<!-- {row['word']} -->" in svg(first["files"][1]) for row in rows)
    assert 5 <= written <= 30  # in each of two panels at most 15 are written


def test_few_words_lower_the_perplexity_and_no_umap_is_told(capsys, monkeypatch):
    points = embedding_space.unit_rows(np.random.default_rng(0).normal(size=(20, 8)))
    assert list(embedding_space._tsne(points, 0)) == ["t-SNE, perplexity 6.33"]
    monkeypatch.setitem(__import__("sys").modules, "umap", None)
    assert embedding_space._umap(points, 0) == {}
    said = capsys.readouterr().err
    assert "for only 20 words the perplexity is 6.3 instead of 15" in said and "pip install 'slm[figures]'" in said


def test_an_evaluation_without_probabilities_has_no_reliability(runs):
    shutil.rmtree(runs / "runs" / "leaderboard" / "answers")
    with pytest.raises(figures.NothingToPlot, match="likelihood"):
        evaluation_figures.reliability(runs / "r", runs / "runs" / "leaderboard")


def test_a_glyph_that_the_font_lacks_would_be_seen(tmp_path):
    figure = figures.blank(2, 1)
    figure.text(0.1, 0.5, "糖尿病 カリウム ／ − × → ≥ θ √ ·")
    figures.save(figure, tmp_path / "there")
    figure.text(0.1, 0.1, "\U00020000")
    with warnings.catch_warnings(), pytest.raises(UserWarning, match="missing"):
        warnings.simplefilter("error")
        figures.save(figure, tmp_path / "lacking")
