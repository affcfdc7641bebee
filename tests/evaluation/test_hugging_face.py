import json
import shutil
import sys

import numpy as np
import pytest

from slm.evaluation.hugging_face import HuggingFace
from slm.inference import fit

TEMPLATE = ("{% for m in messages %}<{{ m['role'][0] }}>{{ m['content'] }}</s>{% endfor %}"
            "{% if add_generation_prompt %}<a>{% endif %}")
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TEMPLATE


def user(text):
    return [{"role": "user", "content": text}]


SYSTEM = {"role": "system", "content": "答えよ。"}
CONVERSATIONS = [[SYSTEM, *user("発熱は？")], user("胸痛と呼吸困難を主訴に来院した患者である。" * 3), user("A")]


# Without torch ---------------------------------------------------------------------------------------------------

def test_without_torch_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(RuntimeError, match=r"pip install 'slm\[hugging_face\]'"):
        HuggingFace("somewhere")


def test_an_unknown_dtype_is_refused():
    with pytest.raises(ValueError, match="dtype='int8' is not known"):
        HuggingFace("somewhere", dtype="int8")


def test_the_middle_of_the_longest_user_turn_is_cut():
    conversation = [SYSTEM, *user("短い"), {"role": "assistant", "content": "x" * 99}, *user("頭0123456789尾")]

    def fits_in(room):
        return lambda messages: sum(len(message["content"]) for message in messages) <= room

    size = sum(len(message["content"]) for message in conversation)
    assert fit.shorten(conversation, fits_in(size)) is conversation
    for less in range(1, 13):
        shorter = fit.shorten(conversation, fits_in(size - less))
        assert sum(len(message["content"]) for message in shorter) == size - less
        assert shorter[:3] == conversation[:3]
        content = shorter[3]["content"]
        assert less > 10 or (content[0] == "頭" and content[-1] == "尾")
    assert fit.shorten(conversation, fits_in(size - 13)) is None


# With a tiny random Llama -------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")
    path = tmp_path_factory.mktemp("llama")
    words = tokenizers.Tokenizer(tokenizers.models.BPE())
    words.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = tokenizers.decoders.ByteLevel()
    words.train_from_iterator(["発熱は？ 胸痛と呼吸困難を主訴に来院した患者である。 A B C D AB CD"], tokenizers.trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet()))
    words.post_processor = tokenizers.processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 0)])
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", pad_token="<pad>").save_pretrained(path)
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=words.get_vocab_size(), hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=192, bos_token_id=0, eos_token_id=1,
        pad_token_id=2, initializer_range=0.5)
    transformers.LlamaForCausalLM(config).save_pretrained(path)
    return path


@pytest.fixture(params=[None, TEMPLATE], ids=["base", "chat"])
def model(folder, request):
    loaded = HuggingFace(str(folder), dtype="float32")
    loaded._tokenizer.chat_template = request.param
    return loaded


def next_scores(model, ids):
    """log P of the token after `ids`, alone and without padding."""
    import torch
    with torch.inference_mode():
        return model._model(torch.tensor([ids])).logits[0, -1].log_softmax(-1)


@pytest.mark.slow
def test_a_prompt_is_the_template_or_the_texts(model):
    assert model.context == 192
    text = model._text(CONVERSATIONS[0])
    if model._tokenizer.chat_template:
        assert text == "<s>答えよ。</s><u>発熱は？</s><a>"
        model._tokenizer.chat_template = NO_SYSTEM
        assert model._text(CONVERSATIONS[0]) == "<u>答えよ。\n\n発熱は？</s><a>"
        assert model._encode(user("A")).count(0) == 0  # no second beginning
    else:
        assert text == "答えよ。\n\n発熱は？\n\n"
        assert model._encode(user("A"))[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_replies_are_the_argmax_of_each_conversation_alone(model, batch_tokens):
    model._batch_tokens = batch_tokens
    for conversation, reply in zip(CONVERSATIONS, model.generate(CONVERSATIONS, 8)):
        ids = model._encode(conversation)
        start = len(ids)
        while len(ids) < start + 8 and ids[-1:] != [1]:
            ids.append(int(next_scores(model, ids).argmax()))
        assert reply == model._tokenizer.decode(ids[start:], skip_special_tokens=True)


@pytest.mark.slow
@pytest.mark.parametrize("batch_tokens", [1, 4096])
def test_likelihoods_are_those_of_each_token_alone(model, batch_tokens):
    model._batch_tokens = batch_tokens
    continuations = ["A", "B", "胸痛", "患者である。A"]
    found = model.log_likelihoods([(conversation, continuations) for conversation in CONVERSATIONS])
    for conversation, row in zip(CONVERSATIONS, found):
        for continuation, value in zip(continuations, row):
            ids, total = model._encode(conversation), 0.0
            for token in model.tokenize(continuation):
                total += float(next_scores(model, ids)[token])
                ids.append(token)
            assert value == pytest.approx(total, abs=1e-4)
    assert len({round(value, 3) for value in found[0]}) == len(continuations)


@pytest.mark.slow
def test_a_long_prompt_is_cut_and_counted(model):
    long = user("頭" + "胸痛と呼吸困難" * 200 + "尾")
    model.generate([CONVERSATIONS[0], long], 4)
    assert model.truncated == 1
    ids = model._encode(model._fitting(long, 4))
    assert 170 < len(ids) <= 188
    text = model._tokenizer.decode(ids)
    assert "頭" in text and "尾" in text
    assert len(model.log_likelihoods([(long, ["A", "B"])])[0]) == 2
    with pytest.raises(ValueError, match="leaves -8 beside 200"):
        model.generate([long], 200)


@pytest.mark.slow
def test_a_missing_model_is_named(tmp_path):
    pytest.importorskip("torch")
    pytest.importorskip("transformers")
    with pytest.raises(FileNotFoundError, match="is not a model that transformers can load"):
        HuggingFace(str(tmp_path))


# Folders that are not what they say ------------------------------------------------------------------------------

def rewritten(folder, path, config=(), tokenizer=(), **tensors):
    """A copy of a model with other settings, and tensors changed (a function) or added."""
    save = pytest.importorskip("safetensors.numpy")
    shutil.copytree(folder, path)
    for name, changes in (("config.json", config), ("tokenizer_config.json", tokenizer)):
        (path / name).write_text(json.dumps(json.loads((path / name).read_text()) | dict(changes)))
    stored = save.load_file(path / "model.safetensors")
    for name, value in tensors.items():
        name = name.replace("__", ".")
        stored[name] = value(stored[name]) if callable(value) else value
    save.save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
    return str(path)


NORM = "model__norm__weight"
SPOILT = {
    "quantized": ({"config": {"quantization_config": {"quant_method": "compressed-tensors"}}}, "quantization_config"),
    "integers": ({NORM: lambda values: values.astype(np.int8)}, "model.norm.weight has the dtype I8"),
    "scales": ({"model__norm__weight_scale": np.ones(1, np.float32)}, "1 tensors are unexpected, model.norm.weight_scale"),
    "layers": ({"config": {"num_hidden_layers": 1}}, r"tensors are unexpected, model.layers.1"),
    "too few": ({"config": {"num_hidden_layers": 3}}, r"tensors are missing, model.layers.2"),
    "NaN": ({NORM: lambda values: values * np.nan}, "model.norm.weight holds NaN"),
    "type": ({"config": {"vocab_size": "400"}}, "vocab_size"),
    "code": ({"config": {"model_type": "odd", "auto_map": {"AutoConfig": "code.Config"}}}, "custom code"),
    "tokenizer's code": ({"tokenizer": {"tokenizer_class": "Odd", "auto_map": {"AutoTokenizer": ["code.Odd", None]}}},
                         "custom code"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SPOILT)
def test_a_spoilt_folder_is_refused_by_name(name, folder, tmp_path):
    changes, message = SPOILT[name]
    source = rewritten(folder, tmp_path / "spoilt", **changes)
    (tmp_path / "spoilt" / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nConfig = Odd = None\n")
    with pytest.raises(ValueError, match=message) as refused:
        HuggingFace(source, dtype="float32")
    assert source in str(refused.value) and not (tmp_path / "ran").exists()


@pytest.mark.slow
def test_a_broken_tokenizer_is_refused(folder, tmp_path):
    source = rewritten(folder, tmp_path / "spoilt")
    (tmp_path / "spoilt" / "tokenizer.json").write_text('{"model": {}}')
    with pytest.raises(ValueError, match="spoilt is not a model that transformers can load"):
        HuggingFace(source)


@pytest.mark.slow
def test_pickled_weights_are_not_read(folder, tmp_path):
    import torch
    source = rewritten(folder, tmp_path / "pickled")
    (tmp_path / "pickled" / "model.safetensors").unlink()
    torch.save({}, tmp_path / "pickled" / "pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"no file named model\.safetensors"):
        HuggingFace(source)
