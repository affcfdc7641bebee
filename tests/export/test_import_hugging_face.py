"""Models of Hugging Face taken in: their weights, their tokenizers, and what can be done with them then."""

import copy
import dataclasses
import functools
import json
import shutil

import jax
import numpy as np
import pytest

from slm import checkpoint
from slm.evaluation import candidates
from slm.export import hugging_face, import_hugging_face
from slm.export.import_hugging_face import ImportConfig
from slm.inference.constraints import OneOf, Pieces
from slm.inference.sampling import GREEDY
from slm.model import decoder
from slm.model.presets import PRESETS
from slm.scoring.models import Checkpoint
from slm.text import chat
from slm.text.normalize import normalize
from slm.text.tokenizer import Tokenizer, load_tokenizer

tokenizers = pytest.importorskip("tokenizers")
safetensors = pytest.importorskip("safetensors.numpy")

from slm.text import hugging_face_tokenizer  # noqa: E402

TEXTS = ["発熱と咳嗽を主訴に来院した患者である。", "体温38.5℃, SpO₂ 95%\n血圧１２０/80mmHg", "", " A  B", "鬱🏥",
         "</s><|user|>とは<unk>か<0x0A>"]
CORPUS = ["発熱は？ 胸痛と呼吸困難を主訴に来院した患者である。 発熱と咳嗽を主訴に 体温 A B C D AB CD"] * 3
SIZES = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 192, "initializer_range": 0.3}


# Tokenizers ------------------------------------------------------------------------------------------------------

def of_bytes():
    """A BPE as GPT-2's and Llama 3's."""
    own = tokenizers.Tokenizer(tokenizers.models.BPE())
    own.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = tokenizers.decoders.ByteLevel()
    own.train_from_iterator(CORPUS, tokenizers.trainers.BpeTrainer(
        vocab_size=400, show_progress=False, special_tokens=["<s>", "</s>", "<unk>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    own.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    return own


def of_pieces(byte_fallback=True):
    """A Unigram as LLM-jp's, whose special tokens are pieces with the best of scores."""
    letters = sorted({letter for text in CORPUS for letter in text} - {" "} | set("<>/s|unk0xA"))
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *((f"<0x{byte:02X}>", 0.0) for byte in range(256)),
              ("▁", -3.0), *((letter, -6.0) for letter in letters), ("発熱", -7.0), ("患者", -7.0), ("来院した", -8.0)]
    own = tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0, byte_fallback=byte_fallback))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Metaspace(prepend_scheme="never", split=False)
    own.decoder = tokenizers.decoders.Sequence([
        tokenizers.decoders.Replace("▁", " "), tokenizers.decoders.ByteFallback(), tokenizers.decoders.Fuse()])
    own.add_special_tokens(["<unk>", "<s>", "</s>"])
    return own


def taken(own, folder):
    hugging_face_tokenizer.save(folder, own.to_str(), own.token_to_id("</s>"))
    return load_tokenizer(folder)


@pytest.fixture(params=[of_bytes, of_pieces])
def theirs(request, tmp_path):
    own = request.param()
    return own, taken(own, tmp_path / "tokenizer")


def test_a_foreign_tokenizer_has_all_that_ours_has(theirs):
    public = {name for name in vars(Tokenizer) if not name.startswith("_")} | {"morphology", "fingerprint"}
    for name in public - {"scores", "unknown"}:
        assert hasattr(theirs[1], name), name
    with pytest.raises(ValueError, match="no log probabilities"):
        theirs[1].scores()
    assert theirs[1].morphology is None and theirs[1].borders("発熱") == {0, 1, 2}


def test_text_is_normalised_and_comes_back(theirs):
    for text in TEXTS:
        ids = theirs[1].encode(text)
        assert theirs[1].decode(ids) == normalize(text)
        assert theirs[1].encode_morphemes(normalize(text)) == ids


def test_symbols_in_a_text_are_text(theirs):
    for text in TEXTS:
        assert not any(map(theirs[1].is_special, theirs[1].encode(text)))
    assert theirs[1].encode("</s>") != [theirs[1].end_of_document] and theirs[1].decode([2, 1]) == ""
    assert theirs[1].special("</s>") == theirs[1].end_of_document
    with pytest.raises(KeyError, match="chat_symbols=true"):
        theirs[1].special("<|user|>")
    with pytest.raises(KeyError, match="'<s' is not a control symbol"):
        theirs[1].special("<s")


def test_a_symbol_that_takes_the_space_before_it_is_text_too(tmp_path):
    own = of_bytes()
    own.add_special_tokens([tokenizers.AddedToken("<mask>", lstrip=True, special=True)])
    words = taken(own, tmp_path / "tokenizer")
    assert not any(map(words.is_special, words.encode("発熱 <mask>"))) and words.decode(words.encode("A <mask>")) == "A <mask>"


def test_a_symbol_that_is_a_word_is_text_too(tmp_path):
    about = json.loads(of_bytes().to_str())
    about["model"]["ignore_merges"] = True  # as Llama 3: a word that is a piece is taken whole
    about["model"]["vocab"]["PAD"] = 500
    own = tokenizers.Tokenizer.from_str(json.dumps(about))
    own.add_special_tokens(["PAD"])
    words = taken(own, tmp_path / "tokenizer")
    assert own.token_to_id("PAD") == 500 and words.is_special(500) and words.is_special(450)  # an id left out
    assert words.encode("PAD") == [index for letter in "PAD" for index in words.encode(letter)]


def test_an_end_that_their_file_takes_for_text_is_none(tmp_path):
    own = of_bytes()
    hugging_face_tokenizer.save(tmp_path / "tokenizer", own.to_str(), own.token_to_id("A"))
    words = load_tokenizer(tmp_path / "tokenizer")
    assert words.is_special(words.end_of_document) and words.decode([words.end_of_document, *words.encode("B")]) == "B"


def test_pieces_spell_text_with_bytes_and_spaces_as_ours(theirs):
    own = theirs[1]
    for text in ("発熱は A", "鬱"):
        ids = own.encode(text)
        data = b"".join(bytes([int(piece[3:5], 16)]) if own.is_byte(index) else piece.replace("▁", " ").encode()
                        for index, piece in zip(ids, own.pieces(ids)))
        assert data.decode() == text
    assert any(map(own.is_byte, own.encode("鬱"))) and not any(map(own.is_byte, own.encode("A")))
    assert len(own.pieces(range(len(own)))) == len(own) and own.pieces([len(own) + 5]) == [""]
    assert own.is_special(len(own) + 5) and own.decode([len(own) + 5]) == ""


def test_parts_of_characters_are_spelled_as_bytes_and_are_no_bytes(tmp_path):
    own = of_bytes()
    words = taken(own, tmp_path / "tokenizer")
    index = own.token_to_id("ãģ")  # the first two bytes of a hiragana
    assert words.pieces([index]) == ["<0xE3><0x81>"] and not words.is_byte(index)


def test_an_unknown_character_stays_unknown(tmp_path):
    words = taken(of_pieces(byte_fallback=False), tmp_path / "tokenizer")
    assert words.encode("発熱鬱") == [*words.encode("発熱"), words.unknown] and words.unknown == 0
    with pytest.raises(ValueError, match="no unknown piece"):
        _ = taken(of_bytes(), tmp_path / "bytes").unknown


def test_a_cut_in_the_file_is_not_kept(tmp_path):
    own = of_bytes()
    own.enable_truncation(3)
    own.enable_padding(length=50)
    assert taken(own, tmp_path / "a").encode(TEXTS[0]) == taken(of_bytes(), tmp_path / "b").encode(TEXTS[0])


def test_the_fingerprint_tells_tokenizers_apart_and_changes_are_refused(tmp_path):
    own = of_bytes()
    first = taken(own, tmp_path / "a").fingerprint
    assert taken(own, tmp_path / "b").fingerprint == first
    own.add_tokens(["咳嗽"])
    assert taken(own, tmp_path / "c").fingerprint != first
    (tmp_path / "a" / hugging_face_tokenizer.SETTINGS_FILE).write_text('{"normalizer": 0, "end_of_document": 1}')
    with pytest.raises(ValueError, match="normaliser at 0"):
        load_tokenizer(tmp_path / "a")
    (tmp_path / "b" / hugging_face_tokenizer.HUGGING_FACE_FILE).write_text("{}")
    with pytest.raises(ValueError, match=r"hugging_face_tokenizer.json: not a tokenizer.json"):
        load_tokenizer(tmp_path / "b")


# Models, written without torch -------------------------------------------------------------------------------------

def llama(folder, own, seed=0, **changes):
    """A folder as transformers saves it, of random float32 weights."""
    folder.mkdir()
    config = {"model_type": "llama", "hidden_act": "silu", "vocab_size": own.get_vocab_size(), "eos_token_id": [1, 2],
              "rms_norm_eps": 1e-5, "tie_word_embeddings": False, **SIZES, "num_hidden_layers": 1, **changes}
    (folder / "config.json").write_text(json.dumps(config))
    own.save(str(folder / "tokenizer.json"))
    rng = np.random.default_rng(seed)
    tensors = {}
    for name, path, _ in hugging_face._names(hugging_face.read_config(folder)):
        shape = hugging_face._shapes(hugging_face.read_config(folder))[path]
        tensors[name] = (np.ones(shape) if len(shape) == 1 else rng.normal(0, 0.3, shape)).astype(np.float32)
    if config["tie_word_embeddings"]:
        del tensors["lm_head.weight"]
    safetensors.save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def imported(folder, workdir, **settings):
    workdir.mkdir(exist_ok=True)
    return import_hugging_face.run(ImportConfig(folder=str(folder), **settings), workdir)


def left(workdir):
    return sorted(path.name for path in workdir.iterdir())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return llama(tmp_path_factory.mktemp("llama") / "model", of_bytes())


@pytest.fixture(scope="module")
def bare(folder, tmp_path_factory):
    """(workdir, result) without symbols."""
    workdir = tmp_path_factory.mktemp("bare")
    return workdir, imported(folder, workdir, chat_symbols=False)


@pytest.fixture(scope="module")
def talking(folder, tmp_path_factory):
    """(workdir, result) with the symbols of the chat template."""
    workdir = tmp_path_factory.mktemp("talking")
    return workdir, imported(folder, workdir)


def scores(params, model, ids):
    """Logits [T, V] by one pass."""
    return np.asarray(_scores(params, model, np.array([ids], np.int32)))


@functools.partial(jax.jit, static_argnums=1)
def _scores(params, model, tokens):
    hidden, _ = decoder.hidden_states(params, model, tokens, np.ones(tokens.shape, np.int32), np.arange(tokens.size)[None])
    return decoder.logits(params, hidden[0])


def test_the_result_and_what_lies_beside_the_parameters(folder, talking):
    workdir, result = talking
    size = of_bytes().get_vocab_size()
    assert result == {"folder": str(folder), "parameters": 2 * (size + 4) * 32 + 32 * 96 + 3 * 32 * 48 + 64 + 32,
                      "vocabulary_size": size + 4, "added_symbols": list(hugging_face_tokenizer.CHAT_SYMBOLS),
                      "checkpoints": str(workdir / "checkpoints"), "tokenizer": str(workdir / "tokenizer")}
    assert left(workdir) == ["checkpoints", "tokenizer"]
    about = checkpoint.read_about(workdir)
    assert about["step"] == 0 and about["tokenizer"] == load_tokenizer(workdir / "tokenizer").fingerprint
    candidate = candidates.find("checkpoint", str(workdir), "")
    assert (candidate.provenance.protocol, candidate.provenance.unchecked, candidate.models) == (
        "P0", True, {(0, None): str(workdir)})


def test_bare_parameters_are_those_of_the_file(folder, bare):
    workdir, result = bare
    params, model, words = checkpoint.read(workdir)
    assert result["added_symbols"] == [] and len(words) == model.vocabulary_size == len(params["embedding"])
    expected, _ = hugging_face.read(folder)
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((np.asarray(a) == b).all()), params, expected))
    with pytest.raises(KeyError, match="chat_symbols=true"):
        Checkpoint.load(workdir)


def test_symbols_leave_the_logits_of_all_other_tokens_as_they_were(bare, talking):
    params, model, words = checkpoint.read(bare[0])
    wide, wider, more = checkpoint.read(talking[0])
    ids = words.encode(TEXTS[0])
    assert more.encode(TEXTS[0]) == ids and more.pieces(range(len(words))) == words.pieces(range(len(words)))
    before, after = scores(params, model, ids), scores(wide, wider, ids)
    np.testing.assert_array_equal(after[:, :len(words)], before)
    np.testing.assert_allclose(after[:, len(words):], np.repeat(before.mean(-1, keepdims=True), 4, 1), atol=1e-4)


def test_a_model_with_symbols_talks_and_is_evaluated(talking):
    model = Checkpoint.load(talking[0])
    words = model.tokenizer
    conversation = [{"role": "user", "content": "発熱は？<|end|>"}]
    ids = chat.encode(words, conversation, reply=True).ids
    assert [words.pieces([index])[0] for index in (ids[0], ids[1], ids[-2], ids[-1])] == [
        "</s>", "<|user|>", "<|end|>", "<|assistant|>"]
    assert ids.count(words.special("<|end|>")) == 1
    text, = model.generate([conversation], 4)
    assert text == words.decode(model.engine.generate([ids], 4, GREEDY, end=ids[-2])[0])
    letters = ("A", "B", "C", "D")
    written, = model.generate_constrained([conversation], [OneOf(Pieces(words), letters)], 2)
    likelihoods, = model.log_likelihoods([(conversation, letters)])
    assert words.decode(written) == letters[int(np.argmax(likelihoods))]


def test_tied_embeddings_become_a_head(tmp_path):
    source = llama(tmp_path / "tied", of_bytes(), tie_word_embeddings=True)
    imported(source, tmp_path / "out")
    params, *_ = checkpoint.read(tmp_path / "out")
    np.testing.assert_array_equal(np.asarray(params["head"]).T, params["embedding"])


def test_rows_that_a_model_leaves_unused_are_kept_or_taken_first(tmp_path):
    own = of_bytes()
    size = own.get_vocab_size()
    source = llama(tmp_path / "padded", own, vocab_size=size + 2)
    theirs, _ = hugging_face.read(source)
    assert imported(source, tmp_path / "kept", chat_symbols=False)["vocabulary_size"] == size + 2
    params, _, words = checkpoint.read(tmp_path / "kept")
    np.testing.assert_array_equal(params["embedding"], theirs["embedding"])
    assert len(words) == size
    result = imported(source, tmp_path / "taken")
    assert result["vocabulary_size"] == size + 4 and len(result["added_symbols"]) == 4
    params, _, words = checkpoint.read(tmp_path / "taken")
    assert words.special("<|system|>") == size
    np.testing.assert_allclose(np.asarray(params["embedding"])[size:], np.repeat(
        theirs["embedding"][:size].mean(0, keepdims=True), 4, 0), atol=1e-6)


def test_symbols_that_are_there_are_not_added_again(tmp_path):
    own = of_bytes()
    own.add_special_tokens(["<|user|>", "<|end|>"])
    result = imported(llama(tmp_path / "some", own), tmp_path / "out")
    assert result["added_symbols"] == ["<|system|>", "<|assistant|>"]
    assert load_tokenizer(tmp_path / "out" / "tokenizer").special("<|user|>") == own.token_to_id("<|user|>")


def test_the_end_of_a_document_is_theirs(tmp_path):
    own = of_bytes()
    source = llama(tmp_path / "model", own, eos_token_id=[2, 1])
    imported(source, tmp_path / "by_config", chat_symbols=False)
    assert load_tokenizer(tmp_path / "by_config" / "tokenizer").end_of_document == 2
    (source / "tokenizer_config.json").write_text('{"eos_token": {"content": "</s>"}}')
    imported(source, tmp_path / "by_tokenizer", chat_symbols=False)
    assert load_tokenizer(tmp_path / "by_tokenizer" / "tokenizer").end_of_document == 1


# Refusals ----------------------------------------------------------------------------------------------------------

def change(source, **changes):
    path = source / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def cut_short(source):
    path = source / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_a_shard(source):
    (source / "model.safetensors.index.json").write_text(json.dumps(
        {"weight_map": {"model.embed_tokens.weight": "model-00002-of-00002.safetensors"}}))


def tensors(**changes):
    """Spoils a folder: tensors by name, with dots as __; None removes one, a function changes one."""
    def spoil(source):
        path = source / "model.safetensors"
        stored = safetensors.load_file(path)
        for name, value in changes.items():
            name = name.replace("__", ".")
            if value is None:
                del stored[name]
            else:
                stored[name] = value(stored[name]) if callable(value) else value
        safetensors.save_file(stored, path, metadata={"format": "pt"})
    return spoil


def with_one(value):
    def spoil(values):
        values = values.copy()
        values.flat[5] = value
        return values
    return spoil


UP = "model__layers__0__mlp__up_proj__weight"
BIAS = np.zeros(48, np.float32)
SPOILT = {
    "quantized by name": (lambda source: change(source, quantization_config={"quant_method": "gptq", "bits": 4}),
                          r"config.json has quantization_config=.*gptq.*give the unquantised model"),
    "integers": (tensors(**{UP: lambda values: (values * 100).astype(np.int8)}),
                 r"model.safetensors: model.layers.0.mlp.up_proj.weight has the dtype I8.*give the unquantised"),
    "booleans": (tensors(**{UP: lambda values: values > 0}), "up_proj.weight has the dtype BOOL"),
    "scales": (tensors(model__layers__0__mlp__up_proj__weight_scale=np.ones((48, 1), np.float32)),
               r"model.safetensors holds the tensor model.layers.0.mlp.up_proj.weight_scale, which .*1 such tensors"),
    "an adapter": (tensors(base_model__lora_A__weight=np.ones((4, 32), np.float32)), "tensor base_model.lora_A.weight"),
    "more layers": (lambda source: tensors(model__layers__3__input_layernorm__weight=np.ones(32, np.float32))(source),
                    "tensor model.layers.3.input_layernorm.weight, of layer 3, and config.json has num_hidden_layers=1"),
    "fewer layers": (lambda source: change(source, num_hidden_layers=10**9), "has no tensor model.layers.999999999.input"),
    "no tensor": (tensors(**{UP: None}), "has no tensor model.layers.0.mlp.up_proj.weight"),
    "another shape": (tensors(**{UP: lambda values: np.ascontiguousarray(values.T)}),
                      r"up_proj.weight has the shape \(32, 48\), its config.json says \(48, 32\)"),
    "NaN": (tensors(**{UP: with_one(np.nan)}), "up_proj.weight holds 1 values that are NaN or infinite"),
    "infinity": (tensors(model__norm__weight=with_one(-np.inf)), "model.norm.weight holds 1 values that are NaN"),
    "too large for float32": (tensors(**{UP: lambda values: values.astype(np.float64) * 1e300}), "NaN or infinite"),
    "biases that are not ours": (
        lambda source: (change(source, mlp_bias=True), tensors(
            model__layers__0__mlp__gate_proj__bias=BIAS, model__layers__0__mlp__up_proj__bias=BIAS,
            model__layers__0__mlp__down_proj__bias=BIAS[:32])(source)),
        "up_proj.weight is not 0 everywhere: of Llamas with mlp_bias=true only our own exports"),
    "a head beside a tie": (lambda source: change(source, tie_word_embeddings=True), "lm_head.weight that differs"),
    "two models": (lambda source: (
        shutil.copy(source / "model.safetensors", source / "other.safetensors"),
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": dict.fromkeys(
            safetensors.load_file(source / "model.safetensors"), "other.safetensors")}))), "the weights of two models"),
    "a tensor twice": (lambda source: (
        safetensors.save_file({"model.norm.weight": np.ones(32, np.float32)}, source / "zero.safetensors"),
        (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {
            "model.embed_tokens.weight": "model.safetensors", "model.norm.weight": "zero.safetensors"}}))),
        r"zero.safetensors and .*model.safetensors both hold model.norm.weight"),
    "an index of another type": (lambda source: (source / "model.safetensors.index.json").write_text("[]"), "no weight_map"),
    "an index that is cut short": (lambda source: (source / "model.safetensors.index.json").write_text("{"),
                                   "index.json is not JSON"),
    "config of another type": (lambda source: (source / "config.json").write_text("[1]"), "config.json holds a list"),
    "config cut short": (lambda source: (source / "config.json").write_text('{"model_type"'), "config.json is not JSON"),
    "tokenizer_config of another type": (lambda source: (source / "tokenizer_config.json").write_text('"x"'),
                                         "tokenizer_config.json holds a str"),
    "a tokenizer that is not UTF-8": (lambda source: (source / "tokenizer.json").write_bytes(b"\xff{}"), "tokenizer.json: "),
    "a tokenizer without a vocabulary": (lambda source: (source / "tokenizer.json").write_text(json.dumps(
        {"version": "1.0", "model": {"type": "BPE", "vocab": {}, "merges": []}, "added_tokens": []})), "tokenizer.json"),
    "rope of another type": (lambda source: change(source, rope_parameters=[10_000.0]), "RoPE's parameters"),
    "part of a rotation": (lambda source: change(source, partial_rotary_factor=0.5), "partial_rotary_factor=0.5"),
    "heads that do not divide": (lambda source: change(source, num_key_value_heads=3), r"config.json: .*kv_heads=3"),
    **{f"{name}={value!r}": (functools.partial(change, **{name: value}), f"config.json has {name}=")
       for name, value in (("vocab_size", "400"), ("num_hidden_layers", 1.5), ("hidden_size", [32]), ("rms_norm_eps", "x"),
                           ("num_attention_heads", 0), ("intermediate_size", True), ("head_dim", -8),
                           ("max_position_embeddings", {}), ("rope_theta", float("nan")), ("num_key_value_heads", "2"),
                           ("tie_word_embeddings", "no"), ("mlp_bias", "yes"), ("hidden_act", ["silu"]))},
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_refused_by_name_and_nothing_is_left(name, folder, tmp_path):
    spoil, message = SPOILT[name]
    source = tmp_path / "spoilt"
    shutil.copytree(folder, source)
    spoil(source)
    with pytest.raises(ValueError, match=message) as refused:
        imported(source, tmp_path / "out")
    assert str(source) in str(refused.value) and left(tmp_path / "out") == []


def test_constants_of_old_files_and_a_repeated_head_are_read(folder, tmp_path):
    source = tmp_path / "old"
    shutil.copytree(folder, source)
    tensors(model__layers__0__self_attn__rotary_emb__inv_freq=np.ones(4, np.float32))(source)
    assert imported(source, tmp_path / "a")["parameters"]
    change(source, tie_word_embeddings=True)
    stored = safetensors.load_file(source / "model.safetensors")
    tensors(lm_head__weight=stored["model.embed_tokens.weight"])(source)
    params, _ = hugging_face.read(source)
    np.testing.assert_array_equal(params["head"].T, params["embedding"])


def only_a_model(source):
    (source / "tokenizer.json").rename(source / "tokenizer.model")


@pytest.mark.parametrize("spoil, kind, message", [
    (lambda source: change(source, rope_scaling={"rope_type": "llama3", "factor": 8.0}), ValueError, "RoPE's type='llama3'"),
    (lambda source: change(source, attention_bias=True), ValueError, "attention_bias=True"),
    (lambda source: change(source, vocab_size=300), ValueError, r"tokenizer.json has 3\d\d tokens, .*config.json has vocab_size=300"),
    (lambda source: change(source, eos_token_id=None), ValueError, "names no EOS token"),
    (without_a_shard, FileNotFoundError, "model-00002-of-00002.safetensors is missing"),
    (cut_short, ValueError, "model.safetensors is cut short"),
    (only_a_model, FileNotFoundError, r"tokenizer.json is missing: make one with .*save_pretrained"),
    (lambda source: (source / "tokenizer.json").write_text("{"), ValueError, "tokenizer.json: not a tokenizer.json that"),
    (lambda source: (source / "config.json").unlink(), FileNotFoundError, "config.json is missing"),
])
def test_what_cannot_be_taken_in_is_refused_and_nothing_is_left(folder, tmp_path, spoil, kind, message):
    source = tmp_path / "spoilt"
    shutil.copytree(folder, source)
    spoil(source)
    with pytest.raises(kind, match=message):
        imported(source, tmp_path / "out")
    assert left(tmp_path / "out") == []


def test_no_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"--config.folder=FOLDER"):
        import_hugging_face.run(ImportConfig(), tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is downloaded"):
        import_hugging_face.run(ImportConfig(folder="org/model"), tmp_path)


def test_a_workdir_with_a_model_is_left_alone(folder, bare):
    before = checkpoint.read_about(bare[0])
    with pytest.raises(ValueError, match="holds a model already"):
        imported(folder, bare[0])
    assert checkpoint.read_about(bare[0]) == before and left(bare[0]) == ["checkpoints", "tokenizer"]


# Our own exports ---------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def ours(products, tmp_path_factory):
    """(parameters, model, an export of them)."""
    model = dataclasses.replace(PRESETS["debug"], layers=2, width=32, query_heads=4, kv_heads=2, mlp_width=48)
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: np.float32(rng.normal(0, 0.3, x.shape)), jax.eval_shape(
        functools.partial(decoder.initialize, model), jax.random.key(0)))
    place = tmp_path_factory.mktemp("ours") / "model"
    hugging_face.write(place, params, model, products / "tokenizer")
    return params, model, place


def test_our_own_export_comes_back_bit_by_bit(ours, words, tmp_path):
    params, model, place = ours
    result = imported(place, tmp_path / "out")
    back, own, tokenizer = checkpoint.read(tmp_path / "out")
    assert jax.tree.all(jax.tree.map(lambda a, b: bool((np.asarray(a) == b).all()), back, params))
    assert dataclasses.replace(own, preset=model.preset, scan_layers=model.scan_layers) == model
    assert tokenizer.fingerprint == words.fingerprint and result["added_symbols"] == []
    assert all(tokenizer.encode(text) == words.encode(text) for text in TEXTS)


# Against transformers ----------------------------------------------------------------------------------------------

KINDS = {"llama": ("LlamaConfig", "LlamaForCausalLM"), "arcee": ("ArceeConfig", "ArceeForCausalLM")}


@pytest.fixture(scope="module", params=[*KINDS])
def of_transformers(request, tmp_path_factory):
    """(their model, its folder)."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    place = tmp_path_factory.mktemp(request.param)
    words = of_bytes()
    transformers.PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", eos_token="</s>",
                                         pad_token="</s>").save_pretrained(place)
    torch.manual_seed(0)
    config, model = (getattr(transformers, name) for name in KINDS[request.param])
    made = model(config(vocab_size=words.get_vocab_size(), hidden_act="silu", bos_token_id=0, eos_token_id=1,
                        pad_token_id=1, tie_word_embeddings=False, **SIZES)).eval()
    made.save_pretrained(place)
    return made, place


def test_there_and_back_no_bit_changes(of_transformers, tmp_path):
    theirs, place = of_transformers
    import torch
    for dtype in ("float32", "bfloat16"):
        source, ours, back = (tmp_path / f"{dtype}-{name}" for name in ("theirs", "ours", "back"))
        shutil.copytree(place, source)
        copy.deepcopy(theirs).to(getattr(torch, dtype)).save_pretrained(source)
        imported(source, ours, chat_symbols=False)
        params, model, words = checkpoint.read(ours)
        hugging_face.write(back, params, model, ours / "tokenizer", dtype)
        before, after = (safetensors.load_file(folder / "model.safetensors") for folder in (source, back))
        if model.mlp == "silu":  # an Arcee comes back as a Llama whose gate is its up
            constants = {name: after.pop(name) for name in [*after] if name.endswith(".bias") or "mlp.up_proj" in name}
            assert all((values == (1 if name.endswith("up_proj.bias") else 0)).all() for name, values in constants.items())
            after = {name.replace("gate_proj", "up_proj"): values for name, values in after.items()}
        assert before.keys() == after.keys()
        for name in before:
            assert before[name].dtype == after[name].dtype and before[name].tobytes() == after[name].tobytes(), name
    import transformers
    again = transformers.AutoTokenizer.from_pretrained(back)
    assert again(TEXTS[0], add_special_tokens=False).input_ids == words.encode(TEXTS[0])
    assert again.eos_token_id == words.end_of_document and again.chat_template.startswith("</s>{%")


@pytest.mark.slow
@pytest.mark.parametrize("tied", [False, True])
def test_logits_are_those_of_transformers(of_transformers, tmp_path, tied):
    theirs, place = of_transformers
    import torch
    config = copy.deepcopy(theirs.config)
    config.tie_word_embeddings = tied
    theirs = type(theirs)(config)
    source = tmp_path / "source"
    shutil.copytree(place, source)
    theirs.eval().save_pretrained(source)
    assert ("lm_head.weight" not in safetensors.load_file(source / "model.safetensors")) == tied
    imported(source, tmp_path / "out", chat_symbols=False)
    params, model, words = checkpoint.read(tmp_path / "out")
    rng = np.random.default_rng(0)
    for size in (1, 2, 7, 40, 101):
        ids = rng.integers(0, len(words), size).tolist()
        with torch.inference_mode():
            expected = theirs(torch.tensor([ids])).logits[0].numpy()
        np.testing.assert_allclose(scores(params, model, ids), expected, atol=1e-4, rtol=0)


@pytest.mark.slow
def test_ids_are_those_of_transformers(of_transformers, tmp_path):
    import transformers
    _, place = of_transformers
    imported(place, tmp_path / "out")
    words, theirs = load_tokenizer(tmp_path / "out" / "tokenizer"), transformers.AutoTokenizer.from_pretrained(place)
    for text in TEXTS[:-1]:  # the last one spells out symbols
        assert words.encode(text) == theirs(normalize(text), add_special_tokens=False).input_ids
    assert words.end_of_document == theirs.eos_token_id


@pytest.mark.slow
def test_ids_of_a_unigram_are_those_of_transformers(tmp_path):
    transformers = pytest.importorskip("transformers")
    transformers.PreTrainedTokenizerFast(tokenizer_object=of_pieces(), unk_token="<unk>", bos_token="<s>",
                                         eos_token="</s>").save_pretrained(tmp_path / "theirs")
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")
    words = taken(of_pieces(), tmp_path / "tokenizer")
    for text in TEXTS[:-1]:
        assert words.encode(text) == theirs(normalize(text), add_special_tokens=False).input_ids


# Training ----------------------------------------------------------------------------------------------------------

@pytest.mark.slow
def test_an_imported_model_is_fine_tuned(talking, tmp_path):
    from slm.data.sets import SetConfig
    from slm.train import sft
    from slm.train.loop import LoopConfig
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{number}番の患者の熱は？"},
                                      {"role": "assistant", "content": f"{36 + number % 4}.5℃です。"}]}) for number in range(64)]
    (tmp_path / "talks.jsonl").write_text("\n".join(lines) + "\n")
    config = sft.SftConfig(checkpoint=str(talking[0]), sets=(SetConfig("own", "messages", str(tmp_path / "talks.jsonl")),),
                           validation_share=0.2, batch_size=8, epochs=0.0, seq_len=64,
                           train=LoopConfig(steps=2, evaluate_every=2, save_every=2, tensorboard=False))
    result = sft.run(config, tmp_path / "tuned")
    assert np.isfinite(result["validation_loss"]) and result["provenance"]["unchecked"]
    before, after = (checkpoint.read(place)[0]["embedding"] for place in (talking[0], tmp_path / "tuned" / "seed-0"))
    assert not np.array_equal(before, after)
    tuned = Checkpoint.load(tmp_path / "tuned" / "seed-0")
    assert len(tuned.log_likelihoods([([{"role": "user", "content": "熱は？"}], ["A", "B"])])[0]) == 2
