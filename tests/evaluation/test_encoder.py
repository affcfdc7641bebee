"""The encoder to compare with, on a tiny random BERT and a miniature of JMED-LLM with invented rows."""

import csv
import dataclasses
import json
import random
import shutil
import sys

import numpy as np
import pytest

from benchmarks import encoder
from slm.model.presets import LabelGroup
from slm.tasks import jmed_llm
from slm.tasks.jmed_llm import SOURCES
from slm.text.spans import Span

KANA = "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほ"
DISEASES, DRUGS = ("肺炎", "胃癌", "ＨＬＶ", "心不全"), ("鎮痛剤", "ＡＣＥ", "抗菌薬")
GROUP = LabelGroup("spans", "tag", ("d", "m"))


def kana(rng, length=30):
    return "".join(rng.choices(KANA, k=length))


def note(rng):
    """A text of kana, and the diseases and the drugs that are written into it."""
    written = [rng.sample(DISEASES, rng.randint(0, 2)), rng.sample(DRUGS, rng.randint(0, 2))]
    parts = sorted((word for words in written for word in words), key=lambda _: rng.random())
    return kana(rng, 12) + "".join(part + kana(rng, 8) for part in parts), written


def rows(name, kind, number, rng):
    """Of a choice the letter is A where the text says 有; of an extraction each text is asked for two tags."""
    for _ in range(number):
        if kind == "choice":
            state, text = rng.choice("有無"), kana(rng)
            question = f"S1: {text}\nS2: {kana(rng)}" if name == "JCSTS" else f"ありますか？\n「{text[:9]}{state}{text[9:]}」"
            yield ["", f"以下の文は？\n{question}", "ある", "ない", "AB"["有無".index(state)]]
        else:
            text, written = note(rng)
            for tag, entities in zip(("d", "m-key"), written):
                yield [tag, f"{tag}を抽出せよ。\n「{text}」", repr(entities)]


def table(path, kind, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", encoding="utf-8", newline="") as file:
        options = ["optionA", "optionB"] if kind == "choice" else []
        csv.writer(file).writerows([["tag", "question", *options, "answer"], *lines])


@pytest.fixture(scope="module")
def jmed(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("JMED-LLM"), random.Random(0)
    for task, source in SOURCES.items():
        tests = []
        for name in source.sets:
            lines = list(rows(name, source.kind, 240 if task in ("smdis", "nrner") else 4, rng))
            if not (path := folder / "datasets" / "all" / f"{name}.csv").exists():
                table(path, source.kind, lines)
            with open(path, encoding="utf-8") as file:
                tests += [line for line in [*csv.reader(file)][1:] if not source.tags or line[0] in source.tags]
        table(folder / "datasets" / f"{task}.csv", source.kind, tests[:40 if len(tests) > 40 else 1])
    return folder


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    """A BERT whose tokens are characters, made small and of common width: a span's text is not its tokens'."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    folder = tmp_path_factory.mktemp("bert")
    signs = dict.fromkeys(KANA + "".join((*DISEASES, *DRUGS)) + "有無以下文：「」？acdehklmvy-")
    words = tokenizers.Tokenizer(tokenizers.models.WordPiece(
        {sign: number for number, sign in enumerate(("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *signs))}, unk_token="[UNK]"))
    words.normalizer = tokenizers.normalizers.Sequence([tokenizers.normalizers.NFKC(), tokenizers.normalizers.Lowercase()])
    words.pre_tokenizer = tokenizers.pre_tokenizers.Split(tokenizers.Regex("."), "isolated")
    words.post_processor = tokenizers.processors.TemplateProcessing("[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]",
                                         sep_token="[SEP]").save_pretrained(folder)
    torch.manual_seed(0)
    transformers.BertForMaskedLM(transformers.BertConfig(
        vocab_size=len(words.get_vocab()), hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        max_position_embeddings=42, hidden_dropout_prob=0.0)).save_pretrained(folder)
    return folder


def ask(model, jmed, workdir, tasks="smdis,nrner", *more):
    encoder.main([f"--model={model}", f"--data_dir={jmed}", f"--tasks={tasks}", f"--workdir={workdir}", *more])


def test_it_learns_a_choice_and_an_extraction(bert, jmed, tmp_path, capsys):
    ask(bert, jmed, tmp_path, "smdis,nrner", "--epochs=8", "--learning_rate=0.005")
    printed = capsys.readouterr().out.splitlines()
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["protocol"] == "P2" and report["seed"] == "0"
    for name, metric in (("smdis", "kappa"), ("nrner", "exact_f1")):
        scores = report["scores"][name]
        assert scores["encoder"] > 0.9 and scores["metric"] == metric and scores["rows"] == 40
        assert scores["learned"] > 5 * scores["held_out"] > 0 and len(scores["held_out_scores"]) == 8
        assert f"| {name} | {metric} | {scores['encoder']:.3f} | {scores['baseline']:.3f} | 40 |" in printed


def test_the_epoch_that_is_kept_is_the_best_on_held_out_rows(bert, jmed):
    task = jmed_llm.training(jmed, "smdis", "P2")
    learned, held_out = encoder.split(task)
    assert not {item.document for item in learned.items} & {item.document for item in held_out.items}
    model, answers, values = encoder.Encoder(bert, task, 0), [], iter((0.1, 0.9, float("nan"), 0.9))

    def score():
        answers.append(model._logits(model._examples(held_out)))
        return next(values)

    assert model.fit(learned, 4, 0.001, score) == [0.1, 0.9, 0.0, 0.9]
    assert not np.array_equal(answers[1], answers[3])
    np.testing.assert_array_equal(model._logits(model._examples(held_out)), answers[1])


def test_the_seed_decides_all_that_is_drawn(bert, jmed):
    learned, held_out = encoder.split(jmed_llm.training(jmed, "nrner", "P2"))
    learned = dataclasses.replace(learned, items=learned.items[:40])

    def logits(seed):
        model = encoder.Encoder(bert, learned, seed)
        assert model.fit(learned, 2, 0.001, None) == []
        return np.concatenate(model._logits(model._examples(held_out)))

    first = logits(1)
    np.testing.assert_array_equal(logits(1), first)
    assert not np.array_equal(logits(2), first)


# Texts --------------------------------------------------------------------------------------------------------

def test_entities_come_out_as_written_wherever_a_window_ends(bert, jmed, monkeypatch):
    """What is learned, taken for the model's answer, gives the answers of the file."""
    task = jmed_llm.training(jmed, "nrner", "P2")
    model = encoder.Encoder(bert, task, 0)
    for limit in (40, 7, 6, 5):
        model._limit = limit
        classes = [(ids, np.maximum(of_tokens, 0)) for ids, of_tokens in model._examples(task)]
        assert max(len(ids) for ids, _ in classes) == limit
        right = iter(classes)
        monkeypatch.setattr(model, "_logits", lambda windows, right=right: [
            np.eye(5)[of_tokens] for (ids, _), (asked, of_tokens) in zip(windows, right) if ids == asked])
        answers = model.answers(task)
        assert [set(entities) for entities in answers] == [set(item.answer) for item in task.items]
    assert {"ＨＬＶ", "ＡＣＥ"} <= {entity for entities in answers for entity in entities}


def test_options_are_read_where_they_differ_from_row_to_row(bert, jmed):
    task = jmed_llm.training(jmed, "smdis", "P2")
    first, second, *_ = task.items
    other = dataclasses.replace(second, options=(("A", "はい"), ("B", "いえ"), ("C", "え")))

    def made(*items):
        asked = dataclasses.replace(task, items=items)
        model = encoder.Encoder(bert, asked, 0)
        model._limit = 99
        return asked, model, [len(ids) for ids, _ in model._examples(asked)]

    size = len(first.question) + 2  # [CLS] and [SEP]
    assert made(first, second)[2] == [size] * 2
    assert made(first, dataclasses.replace(other, tag="x"))[2] == [size] * 2
    asked, model, sizes = made(first, other)
    assert sizes == [size + len("|A. ある|B. ない"), size + len("|A. はい|B. いえ|C. え")]
    # A letter that a row does not have is never its answer; one that no row had is the last resort.
    model._logits = lambda _: [np.array([0.0, 1.0, 2.0])] * 2
    assert model.answers(asked) == ["B", "C"]
    unseen = dataclasses.replace(first, options=(("A", "ある"), ("D", "ない")), answer=("D",))
    assert model.answers(dataclasses.replace(asked, items=(unseen, unseen))) == ["A", "A"]


# Refusals -----------------------------------------------------------------------------------------------------

def changed(bert, tmp_path, change):
    folder = tmp_path / "changed"
    shutil.copytree(bert, folder)
    change(folder)
    return folder


def refused(capsys, *asked):
    with pytest.raises(SystemExit) as stopped:
        ask(*asked)
    message = str(stopped.value)
    assert message.startswith("error: ") and "\n" not in message
    return message


def drop_tensors(folder):
    from safetensors.numpy import load_file, save_file
    tensors = load_file(folder / "model.safetensors")
    save_file({name: values for name, values in tensors.items() if ".layer.1." not in name},
              folder / "model.safetensors", metadata={"format": "pt"})


def break_tensors(folder):
    from safetensors.numpy import load_file, save_file
    tensors = load_file(folder / "model.safetensors")
    save_file({name: values * np.nan for name, values in tensors.items()}, folder / "model.safetensors",
              metadata={"format": "pt"})


def without_fast_tokenizer(folder):
    """A BERT of characters as its library for Japanese has them."""
    signs = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(signs), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps({
        "tokenizer_class": "BertJapaneseTokenizer", "word_tokenizer_type": "basic", "subword_tokenizer_type": "character"}))


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def more_tokens(folder):
    text = (folder / "tokenizer.json").read_text(encoding="utf-8").replace('"vocab": {', '"vocab": {"龍": 500, ')
    (folder / "tokenizer.json").write_text(text.replace('"vocab":{', '"vocab":{"龍":500,'), encoding="utf-8")


@pytest.mark.parametrize("change, says", [
    (pickled, "holds no safetensors"), (shutil.rmtree, "holds no safetensors"),
    (without_fast_tokenizer, "has no fast tokenizer but BertJapaneseTokenizer"),
    (drop_tensors, "lacks 16 tensors that its config.json asks for, bert.encoder.layer.1."),
    (break_tensors, "nrner: the loss is nan in epoch 1"),
    (more_tokens, "give files of one model"),
    (lambda folder: (folder / "model.safetensors").write_bytes(b"{"), "is not an encoder that transformers can load"),
    (lambda folder: (folder / "config.json").write_text("{"), "is not an encoder that transformers can load"),
    (lambda folder: (folder / "config.json").unlink(), "is not an encoder that transformers can load")],
    ids=lambda value: getattr(value, "__name__", ""))
def test_another_folder_is_refused_in_a_sentence(bert, jmed, tmp_path, capsys, change, says):
    folder = changed(bert, tmp_path, change)
    message = refused(capsys, folder, jmed, tmp_path / "out", "nrner")
    assert says in message and (str(folder) in message or "nrner" in says)
    assert not (tmp_path / "out").exists()


def test_choices_do_without_a_fast_tokenizer(bert, jmed, tmp_path):
    model = encoder.Encoder(changed(bert, tmp_path, without_fast_tokenizer), jmed_llm.training(jmed, "smdis", "P2"), 0)
    assert not model._tokenizer.is_fast and len(model.answers(jmed_llm.test(jmed)["smdis"])) == 40


def test_tasks_are_checked_before_the_first_is_trained(bert, jmed, tmp_path, capsys):
    assert "JMED-LLM has no task 'x'" in refused(capsys, bert, jmed, tmp_path, "smdis,x")
    assert "held-out" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        ask(bert, jmed, tmp_path, "smdis", "--epochs=0")
    assert "--epochs=0: give 1 or more" in capsys.readouterr().err


def test_without_torch_the_error_names_the_extra(bert, jmed, monkeypatch):
    task = jmed_llm.training(jmed, "smdis", "P2")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeError, match=r"pip install 'slm\[hugging_face\]'"):
        encoder.Encoder(bert, task, 0)


# Spans --------------------------------------------------------------------------------------------------------

def test_spans_are_as_long_as_their_label_goes_on():
    outside, d, in_d, m, in_m = range(5)

    def decode(*classes):
        return encoder.decode(GROUP, [(at, at + 1) for at in range(len(classes))], classes)

    assert decode(outside, d, in_d, in_d, outside, m) == [Span(1, 4, "d"), Span(5, 6, "m")]
    assert decode(d, d, in_d, m, in_m) == [Span(0, 1, "d"), Span(1, 3, "d"), Span(3, 5, "m")]
    assert decode(outside, in_d, in_d, in_m) == [Span(1, 3, "d"), Span(3, 4, "m")]  # a beginning was missed
    # A special token between two windows interrupts no span.
    assert encoder.decode(GROUP, [(0, 1), (0, 0), (1, 2)], [d, outside, in_d]) == [Span(0, 2, "d")]
