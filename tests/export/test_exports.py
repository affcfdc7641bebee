"""Exports compute what the checkpoint computes, in the programs that they are for."""

import dataclasses
import functools
import itertools
import json
import random
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path

import jax
import numpy as np
import pytest

from slm import sample
from slm.export import charsmap, export, gguf, hugging_face, mecab_free_tokenizer, proof
from slm.export.export import ExportConfig
from slm.inference.engine import Engine
from slm.inference.sampling import GREEDY
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.text import chat
from slm.text.normalize import normalize
from slm.text.tokenizer import CONTROL_SYMBOLS, END_OF_DOCUMENT, END_OF_TURN, load_tokenizer

# Widths that every type of GGUF divides; the two layouts of an MLP.
SILU = dataclasses.replace(PRESETS["debug"], head_size=16, query_heads=4, kv_heads=2)
SWIGLU = dataclasses.replace(SILU, mlp="swiglu", rope_theta=500_000.0, norm_epsilon=1e-6)
BOTH = pytest.mark.parametrize("model", [SILU, SWIGLU], ids=["silu", "swiglu"])
PROMPTS = [[2], [2, 300, 301], [2, 5, 1000, 7, 6], [2, *range(400, 433)]]  # an end, a conversation's symbols, ragged


@functools.cache
def weights(model):
    """Larger than at the start of a training, so that the likeliest token is clearly so."""
    return jax.tree.map(lambda x: np.asarray(x) * 4, decoder.initialize(model, jax.random.key(0)))


@pytest.fixture(scope="module", params=[SILU, SWIGLU], ids=["silu", "swiglu"])
def written(request, products, tmp_path_factory):
    """(folder in Hugging Face's format, parameters, model)."""
    pytest.importorskip("safetensors")
    folder = tmp_path_factory.mktemp("hugging_face") / "model"
    params = weights(request.param)
    hugging_face.write(folder, params, request.param, products / "tokenizer", shard_bytes=300_000)
    return folder, params, request.param


def test_transformers_computes_the_same(written):
    pytest.importorskip("transformers")
    folder, params, model = written
    found = proof.compare(params, model, proof.Transformers(folder), PROMPTS)
    assert found.max_logit_difference <= 1e-4
    assert found.greedy_agreement == 1 and found.tokens_compared == 12 * len(PROMPTS)
    wrong = jax.tree.map(lambda x: x, params) | {"head": params["head"][:, ::-1]}
    assert proof.compare(wrong, model, proof.Transformers(folder), PROMPTS[:1]).max_logit_difference > 0.1


def test_weights_come_back_bit_by_bit(written, products, tmp_path):
    folder, params, model = written
    assert len(list(folder.glob("model-*.safetensors"))) > 1
    back, sizes = hugging_face.read(folder)
    assert jax.tree.structure(back) == jax.tree.structure(params)
    jax.tree.map(np.testing.assert_array_equal, back, params)
    assert dataclasses.replace(sizes, preset=model.preset) == model
    hugging_face.write(tmp_path / "again", back, sizes, products / "tokenizer", shard_bytes=300_000)
    for file in folder.glob("*.safetensors"):
        assert (tmp_path / "again" / file.name).read_bytes() == file.read_bytes()


def test_half_the_size_is_the_rounded_model(products, tmp_path):
    pytest.importorskip("transformers")
    params = weights(SILU)
    hugging_face.write(tmp_path / "model", params, SILU, products / "tokenizer", dtype="bfloat16")
    back, _ = hugging_face.read(tmp_path / "model")
    rounded = export._rounded(params, "bfloat16")
    jax.tree.map(np.testing.assert_array_equal, back, rounded)
    assert proof.compare(rounded, SILU, proof.Transformers(tmp_path / "model"), PROMPTS[1:3]).max_logit_difference <= 1e-4


def test_both_tokenizers_of_the_hub(written, words):
    transformers = pytest.importorskip("transformers")
    folder, _, _ = written
    messages = [{"role": "system", "content": "医師"}, {"role": "user", "content": "糖尿病性網膜症とは\n何か"}]
    free = transformers.AutoTokenizer.from_pretrained(folder)
    mecab = transformers.AutoTokenizer.from_pretrained(folder / "mecab", trust_remote_code=True)
    expected = chat.encode(words, messages, reply=True).ids
    assert mecab.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == expected
    for text in ("糖尿病性網膜症の患者\n 𠮟る😀", "10⁶/μL　ＡＢ", "  先頭と\t空白"):
        ids = mecab(text, add_special_tokens=False).input_ids
        assert ids == words.encode(text) and mecab.decode(ids) == normalize(text)
        ids = free(text, add_special_tokens=False).input_ids
        assert free.decode(ids) == normalize(text)
    assert free.convert_tokens_to_ids(END_OF_TURN) == words.special(END_OF_TURN)
    assert free.eos_token_id == words.end_of_document


SPELLED = "".join((*CONTROL_SYMBOLS, END_OF_DOCUMENT, "<unk>", "<0x41>", " a<b＜c "))
ACCEPTED = {  # {name: (messages, what chat.encode takes for them)}
    "symbols": ([{"role": "user", "content": SPELLED}],) * 2,
    "parts": ([{"role": "user", "content": [{"type": "text", "text": "胸"}, {"type": "text", "text": "痛<|end|>"}]}],
              [{"role": "user", "content": "胸痛<|end|>"}]),
    "developer": ([{"role": "developer", "content": "医師"}, {"role": "user", "content": "咳"}],
                  [{"role": "system", "content": "医師"}, {"role": "user", "content": "咳"}]),
    "conversation": ([{"role": "system", "content": "医師"}, {"role": "user", "content": " 一行目\n二行目\t"},
                      {"role": "assistant", "content": "10⁶ですか"}, {"role": "user", "content": ""}],) * 2}
REFUSED = [[], [{"role": "tool", "content": "42"}], [{"role": "user"}], [{"role": "user", "content": None}],
           [{"role": "user", "content": 5}], [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}],
           [{"role": "user", "content": {"text": "x"}}], [{"content": "x"}]]


@pytest.mark.parametrize("name", ACCEPTED)
def test_the_exported_template_gives_the_ids_of_training(name, written, words):
    transformers = pytest.importorskip("transformers")
    messages, plain = ACCEPTED[name]
    expected = chat.encode(words, plain, reply=True).ids
    mecab = transformers.AutoTokenizer.from_pretrained(written[0] / "mecab", trust_remote_code=True)
    assert mecab.apply_chat_template(messages, add_generation_prompt=True)["input_ids"] == expected
    bare = transformers.AutoTokenizer.from_pretrained(written[0])
    ids = bare.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
    symbols = [index for index in expected if words.is_special(index)]
    assert [index for index in ids if words.is_special(index)] == symbols and words.decode(ids) == words.decode(expected)


@pytest.mark.parametrize("messages", REFUSED, ids=map(str, range(len(REFUSED))))
def test_the_exported_template_refuses_what_training_refuses(messages, written):
    transformers, jinja2 = pytest.importorskip("transformers"), pytest.importorskip("jinja2")
    tokenizer = transformers.AutoTokenizer.from_pretrained(written[0])
    with pytest.raises(jinja2.TemplateError if messages else ValueError):
        tokenizer.apply_chat_template(messages, tokenize=False)
    with pytest.raises(ValueError):
        chat.validate_messages(messages)


def test_llama_cpp_reads_the_template(products, words, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    from slm.local import runtime
    gguf.write(tmp_path / "model.gguf", weights(SILU), SILU, words, "f32", "test")
    server = runtime.LlamaCpp(tmp_path / "model.gguf", words)._server

    def ask(messages):
        chunks = []
        server.handle_chat_completions({"messages": messages, "max_tokens": 1, "stream": False}, lambda chunk: chunks.append(
            chunk) or False)
        return chunks[0]
    mecab_free = load_tokenizer(products / "tokenizer", mecab_free=True)
    symbols = [{"role": "user", "content": "</s><|user|>は<unk>"}]
    for messages, plain in ((symbols, symbols), *itertools.islice(ACCEPTED.values(), 1, None)):
        ids = chat.encode(mecab_free, plain, reply=True).ids
        # To llama.cpp a run of bytes is one unknown token.
        runs = [len(list(run)) if not key else 1 for key, run in itertools.groupby(ids, words.is_byte)]
        assert ask(messages)["usage"]["prompt_tokens"] == sum(runs)
    with pytest.raises(ValueError, match="unknown role"):
        ask([{"role": "tool", "content": "42"}])


# GGUF -------------------------------------------------------------------------------------------------------------

@BOTH
def test_llama_cpp_computes_the_same(model, words, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    params = weights(model)
    gguf.write(tmp_path / "model.gguf", params, model, words, "f32", "test")
    found = proof.compare(params, model, proof.LlamaCpp(tmp_path / "model.gguf", words, exact=True), PROMPTS)
    assert found.max_logit_difference <= 1e-3
    assert found.greedy_agreement == 1


def test_bits_per_byte_are_ours(words, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    params, text = weights(SILU), "糖尿病の患者。𠮟る"
    gguf.write(tmp_path / "model.gguf", params, SILU, words, "f32", "test")
    documents = [[words.end_of_document, *words.encode(text), words.end_of_document]]
    theirs = proof.bits_per_byte(proof.LlamaCpp(tmp_path / "model.gguf", words, exact=True), documents, 27)
    assert theirs == pytest.approx(proof.ours_bits_per_byte(params, SILU, documents, 27), rel=1e-4)


@pytest.mark.parametrize("kind", ["f16", "q8_0", "q5_0", "q4_0"])
def test_smaller_types_lose_in_order(kind, words, tmp_path, monkeypatch):
    package = pytest.importorskip("gguf")
    monkeypatch.setattr(gguf, "_add_tokenizer", lambda writer, tokenizer: None)  # which the package reads back slowly
    params = weights(SILU)
    gguf.write(tmp_path / "model.gguf", params, SILU, words, kind, "test")
    stored = {own.name: own for own in package.GGUFReader(tmp_path / "model.gguf").tensors}
    down = stored["blk.0.ffn_down.weight"]
    values = package.dequantize(down.data, down.tensor_type)
    error = np.abs(values - params["blocks"]["mlp"]["down"][0].T).max() / np.abs(values).max()
    least, most = {"f16": (0, 1e-3), "q8_0": (1e-4, 6e-3), "q5_0": (6e-3, 0.05), "q4_0": (0.03, 0.1)}[kind]
    assert least < error < most
    assert stored["output.weight"].tensor_type.name == (kind.upper() if kind == "f16" else "Q8_0")
    assert not np.any(package.dequantize(stored["blk.1.ffn_up.weight"].data, stored["blk.1.ffn_up.weight"].tensor_type))
    assert np.all(stored["blk.1.ffn_up.bias"].data == 1)


def test_what_gguf_cannot_hold_is_refused(words, tmp_path, monkeypatch):
    odd = dataclasses.replace(SILU, mlp_width=250)
    with pytest.raises(ValueError, match=r"model.mlp_width=250 is not a multiple of q8_0's block of 32"):
        gguf.write(tmp_path / "model.gguf", weights(odd), odd, words, "q8_0", "test")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="llama-quantize, which is not on the PATH"):
        gguf.write(tmp_path / "model.gguf", weights(SILU), SILU, words, "q4_k_m", "test")
    with pytest.raises(ValueError, match="kinds='q9'"):
        ExportConfig(format="gguf", kinds="q9")
    assert not list(tmp_path.iterdir())


def test_llama_quantize_is_given_the_whole_model(words, tmp_path, monkeypatch):
    """A stand-in for the program: it copies the file and writes down how it was called."""
    pytest.importorskip("gguf")
    program = tmp_path / "bin" / "llama-quantize"
    program.parent.mkdir()
    program.write_text(f"#!{sys.executable}\nimport shutil, sys\nshutil.copy(sys.argv[-3], sys.argv[-2])\n"
                       f"open({str(tmp_path / 'called')!r}, 'w').write(' '.join(sys.argv[1:]))\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    gguf.write(tmp_path / "model.gguf", weights(SILU), SILU, words, "q4_k_m", "test")
    called = (tmp_path / "called").read_text()
    assert called.startswith("--allow-requantize --tensor-type ffn_up=q4_0 ") and called.endswith(" Q4_K_M")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bin", "called", "model.gguf"]


# Tokenizers -------------------------------------------------------------------------------------------------------

CLINICAL = ["10⁶/μL、½錠", "1½錠を2¼日", "SpO₂ 98%", "log₂10", "×10¹²/L", "㎡①②", "改\r行\n\n\t", "  二つ  空白　全角",
            "ﾊﾝｶｸ ＡＢＣ１２３", "𠮟る😀鱻", "▁", "～〜", "", " ", "か\u3099"]


def test_the_free_tokenizer_is_ours_without_mecab(products, words):
    pytest.importorskip("tokenizers")
    free, hub = load_tokenizer(products / "tokenizer", mecab_free=True), mecab_free_tokenizer.build(words)
    for text in [*CLINICAL, "改\r\n行"]:
        ids = hub.encode(text, add_special_tokens=False).ids
        assert ids == free.encode(text), text
        assert hub.decode(ids) == normalize(text)
    assert mecab_free_tokenizer.difference(words, [(text, free.encode(text)) for text in CLINICAL]) < 0.2
    assert mecab_free_tokenizer.difference(words, [(text, words.encode(text)) for text in CLINICAL]) == 0


def test_llama_cpp_cuts_text_as_the_free_tokenizer(products, words, tmp_path):
    """Counted, as its completions tell no more; rare characters are one unknown there."""
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    from slm.local import runtime
    free = load_tokenizer(products / "tokenizer", mecab_free=True)
    gguf.write(tmp_path / "model.gguf", weights(SILU), SILU, words, "f32", "test")
    llama = runtime.LlamaCpp(tmp_path / "model.gguf", words)
    for text in [*CLINICAL, "患者は糖尿病性網膜症と診断された。"]:
        ids = free.encode(text)
        if not text or any(map(words.is_byte, ids)):
            continue
        chunks = []
        llama.complete({"prompt": text, "max_tokens": 1}, chunks.append)
        assert chunks[-1]["usage"]["prompt_tokens"] == 1 + len(ids), text


def test_the_character_map_says_what_normalize_says():
    import sentencepiece
    rules = charsmap.characters() | charsmap.in_context()
    assert all(normalize(old) == new for old, new in rules.items())
    mapped = sentencepiece.SentencePieceNormalizer(
        norm_map=list(rules.items()), add_dummy_prefix=False, escape_whitespaces=False, remove_extra_whitespaces=False)
    for text in ("10⁶/μL、½錠", "1½錠", "SpO₂ 98%", "log₂10", "㎡①②", "ﾊﾞｲﾀﾙ ＢＰ１２０／８０", "か\u3099", "×10¹²/L"):
        assert mapped.normalize(text) == normalize(text)


def test_the_exported_tokenizer_reads_hospital_text_as_our_mecab_free_mode(products):
    """As users run it: with `tokenizers` itself, on 5,000 lines in the notations of hospital systems."""
    pytest.importorskip("tokenizers")
    free = load_tokenizer(products / "tokenizer", mecab_free=True)
    exported = mecab_free_tokenizer.build(free)
    lines = list(itertools.islice(hospital_lines(random.Random(0)), 5000))
    assert sum("ﾞ" in line for line in lines) > 400 and sum("½" in line for line in lines) > 100
    different = [line for line in lines if exported.encode(line, add_special_tokens=False).ids != free.encode(line)]
    assert different == []


def hospital_lines(rng):
    """Lines of the sample in half-width kana, full-width characters, combining marks, with units and fractions."""
    half = {unicodedata.normalize("NFKC", chr(code)): chr(code) for code in range(0xFF61, 0xFF9E)}
    half |= {unicodedata.normalize("NFKC", base + mark): base + mark for base in map(chr, range(0xFF66, 0xFF9E))
             for mark in "ﾞﾟ" if len(unicodedata.normalize("NFKC", base + mark)) == 1}
    wide = {code: code + 0xFEE0 for code in range(0x21, 0x7F)}
    added = ["½錠", "1½錠", "２½", "10⁶/μL", "×10¹²/L", "SpO₂", "log₂10", "㎡", "㎎", "㏄", "①", "⑳2", "ｱｽﾋﾟﾘﾝ", "ﾊﾞｲﾀﾙ",
             "ﾎﾟﾘｰﾌﾟ", "⻑期", "℃", "№5", "㈱", "Ⅳ度", "か\u3099ん", "は\u309aち"]
    while True:
        for document in sample.documents(0.3, rng.randrange(1000)):
            for line in document["text"].splitlines():
                if not line.strip():
                    continue
                style = rng.randrange(4)
                if style == 0:
                    line = "".join(half.get(character, character) for character in line)
                elif style == 1:
                    line = line.translate(wide)
                elif style == 2:
                    line = unicodedata.normalize("NFD", line)
                position = rng.randrange(len(line) + 1)
                # A mark stays with its letter, a subscript with its formula.
                while (following := unicodedata.normalize("NFKC", line[position:position + 1])[:1]) and (
                        unicodedata.combining(following) or following.isdigit()):
                    position += 1
                yield line[:position] + rng.choice(added) + line[position:]


class Fixed:
    """A runtime that tells no number, and our own greedy tokens."""

    def __init__(self, told):
        self.told = told

    def log_probabilities(self, ids):
        return np.full((len(ids), SILU.vocabulary_size), np.nan, np.float32)

    def greedy(self, ids, count):
        return self.told[tuple(ids)]


def test_no_number_is_no_proof():
    params = weights(SILU)
    made = Engine(params, SILU).generate(PROMPTS, 12, GREEDY, end=-1)
    found = proof.compare(params, SILU, Fixed(dict(zip(map(tuple, PROMPTS), made))), PROMPTS)
    assert found.greedy_agreement == 1 and np.isnan(found.max_logit_difference)
    with pytest.raises(ValueError, match="it was not kept"):
        export._accepted(found, "gguf", "f32")


# The job ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trained(products, tmp_path_factory):
    """The workdir of a training, of no steps."""
    from slm.checkpoint import Checkpoints
    workdir = tmp_path_factory.mktemp("trained")
    shutil.copytree(products / "tokenizer", workdir / "tokenizer")
    saved = Checkpoints(workdir / "checkpoints")
    saved.save(3, {"params": weights(SILU)}, {"step": 3, "config": {
        "job": "pretrain", "corpus": {"files": "sample"}, "model": dataclasses.asdict(SILU)}}, None)
    saved.close()
    return workdir


def test_an_export_ends_with_its_proof(trained, tmp_path):
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    result = export.run(ExportConfig(format="gguf", checkpoint=str(trained), kinds="q8_0", text_tokens=100, prompts=2),
                        tmp_path)
    assert result["max_logit_difference"] <= 1e-3 and result["greedy_agreement"] == 1
    assert result["tokens_compared"] == 24
    assert result["kinds"]["q8_0"]["bits_per_byte"] == pytest.approx(result["bits_per_byte"], rel=0.01)
    assert {path.name for path in tmp_path.iterdir()} == {
        "README.md", "tokenizer", Path(result["kinds"]["q8_0"]["path"]).name}
    card = (tmp_path / "README.md").read_text()
    assert "reads this file without an error, drops `ffn_up.bias`" in card
    assert "read as the symbol" in card
    assert "medical advice" in card and "| q8_0 |" in card and "Pretrained from random weights, 3 steps" in card
    json.dumps(result)
    from slm.local import runtime
    assert runtime.load(runtime.RuntimeConfig(str(tmp_path))).tokenizer.fingerprint == load_tokenizer(
        tmp_path / "tokenizer").fingerprint
    settings = json.loads((tmp_path / "tokenizer" / "tokenizer.json").read_text())
    (tmp_path / "tokenizer" / "tokenizer.json").write_text(json.dumps(settings | {"fingerprint": "another"}))
    with pytest.raises(ValueError, match=r"was exported with the tokenizer .*, beside it is another"):
        runtime.load(runtime.RuntimeConfig(str(tmp_path)))
    (tmp_path / "old-q4_0.gguf").touch()  # of an earlier export: it must not be run with the new one's tokenizer
    again = ExportConfig(format="gguf", checkpoint=str(trained), kinds="f16", name="new", prove=False)
    export.run(again, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"README.md", "tokenizer", "new-f16.gguf"}
    assert runtime.load(runtime.RuntimeConfig(str(tmp_path))).name == "new-f16"
    with pytest.raises(ValueError, match="is not a file name"):
        ExportConfig(name="org/model")


def test_the_card_tells_what_evaluations_found(trained, tmp_path):
    from slm.report import model_card
    run = tmp_path / "runs" / "model"
    shutil.copytree(trained, run)
    leaderboard = tmp_path / "runs" / "leaderboard"
    leaderboard.mkdir()
    (leaderboard / "config.json").write_text(json.dumps({"config": {
        "job": "evaluate", "backend": "checkpoint", "benchmark": "jmed_llm", "checkpoint": str(run)}}))
    (leaderboard / "result.json").write_text(json.dumps({"crade": {
        "protocol": "P2", "readout": "likelihood", "seeds": 3, "baseline": {"kappa": 0.5},
        "metrics": {"kappa": {"value": 0.25, "low": 0.125, "high": 0.375}}},
        "smdis": {"protocol": "P2", "readout": "likelihood", "seeds": 3, "baseline": {},
                  "metrics": {"kappa": {"value": None, "low": None, "high": None}}}}))
    told = {"model": dataclasses.asdict(SILU), "format": "gguf", "name": "x", "parameters": 1, "proven": False}
    card = model_card.card(run, told)
    assert "| crade (jmed_llm) | P2 | likelihood | 3 | kappa | 0.250 [0.125, 0.375] | 0.500 |" in card and "smdis" not in card
    assert "No evaluation exists beside its training" in model_card.card(trained, told)


def test_an_export_that_differs_is_refused(trained, tmp_path, monkeypatch):
    pytest.importorskip("transformers")
    names = dict(hugging_face._LAYER_TENSORS)
    names["self_attn.q_proj"], names["self_attn.o_proj"] = names["self_attn.o_proj"], names["self_attn.q_proj"]
    monkeypatch.setattr(hugging_face, "_LAYER_TENSORS", names)
    with pytest.raises(ValueError, match=r"differs from the checkpoint by .* it was not kept"):
        export.run(ExportConfig(checkpoint=str(trained), text_tokens=100, prompts=2), tmp_path)
    assert not list(tmp_path.iterdir())


def test_without_transformers_nothing_is_called_proven(trained, tmp_path, monkeypatch):
    pytest.importorskip("safetensors")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(RuntimeError, match=r"pip install 'slm\[hugging_face\]'"):
        export.run(ExportConfig(checkpoint=str(trained)), tmp_path)
    assert not list(tmp_path.iterdir())
    result = export.run(ExportConfig(checkpoint=str(trained), prove=False), tmp_path)
    assert "max_logit_difference" not in result
    assert "Not compared with the checkpoint" in (tmp_path / "README.md").read_text()


@pytest.mark.slow
def test_a_clean_process_answers_through_the_pipeline(written):
    """Without anything of ours: transformers and the folder."""
    pytest.importorskip("transformers")
    code = ("import sys, transformers\n"
            "pipe = transformers.pipeline('text-generation', model=sys.argv[1])\n"
            "said = pipe([{'role': 'user', 'content': '糖尿病'}], max_new_tokens=5)[0]['generated_text'][-1]\n"
            "assert said['role'] == 'assistant' and 'slm' not in sys.modules\nprint(repr(said['content']))")
    done = subprocess.run([sys.executable, "-c", code, str(written[0])], capture_output=True, text=True, cwd="/")
    assert done.returncode == 0, done.stderr
