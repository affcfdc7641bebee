"""Reads and writes the format of Hugging Face transformers, as `LlamaForCausalLM`.

An ungated MLP becomes a gated one with biases: `mlp_bias: true`, gate = our up, up = 0 with bias 1, so that
silu(gate x) * (0 x + 1) equals ours exactly. `ArceeForCausalLM` with hidden_act="silu", which has no gate, is read too.
RoPE rotates halves in all three, so no weight is permuted. Their matrices are [out, in], ours [in, out] and stacked
over the layers.
"""

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from slm import weight_files
from slm.export import mecab_free_tokenizer
from slm.files import copy_folder, read_json, write_json
from slm.model.decoder import Params
from slm.model.presets import ModelConfig
from slm.text.tokenizer import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_FILE,
    END_OF_DOCUMENT,
    END_OF_TURN,
    HUGGING_FACE_FILE,
    SAFE_CHAT_TEMPLATE,
    load_tokenizer,
)
from slm.weight_files import WeightFiles

DTYPES = ("float32", "bfloat16", "float16")
MECAB_FOLDER = "mecab"  # our tokenizer, which users must opt into

_ARCHITECTURES = {"llama": "LlamaForCausalLM", "arcee": "ArceeForCausalLM"}  # {model_type: class}, to read
_LAYER_TENSORS = {  # {name in Hugging Face: path in ours}
    "input_layernorm": ("attention_norm", "scale"), "post_attention_layernorm": ("mlp_norm", "scale"),
    "self_attn.q_proj": ("attention", "query"), "self_attn.k_proj": ("attention", "key"),
    "self_attn.v_proj": ("attention", "value"), "self_attn.o_proj": ("attention", "output"),
    "mlp.down_proj": ("mlp", "down")}
_MLP_TENSORS = {("llama", "swiglu"): {"mlp.gate_proj": ("mlp", "gate"), "mlp.up_proj": ("mlp", "up")},
                ("llama", "silu"): {"mlp.gate_proj": ("mlp", "up")}, ("arcee", "silu"): {"mlp.up_proj": ("mlp", "up")}}
_SIZES = ("vocab_size", "num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size",
          "max_position_embeddings")


def write(folder: Path, params: Params, model_config: ModelConfig, tokenizer_folder: Path, dtype: str = "float32",
          shard_bytes: int = 2_000_000_000) -> None:
    """Writes weights, configs and both tokenizers into a new folder.

    Args:
      tokenizer_folder: as training leaves it beside its checkpoints.
      shard_bytes: of a weight file, unless a single tensor is larger.

    Raises:
      ValueError: an unknown dtype.
      RuntimeError: without safetensors or tokenizers.
    """
    if dtype not in DTYPES:
        raise ValueError(f"dtype={dtype!r} is not known: choose one of {', '.join(DTYPES)}")
    tokenizer = load_tokenizer(tokenizer_folder)
    folder.mkdir(parents=True)
    weight_files.write(folder, _tensors(params, model_config), dtype, shard_bytes)
    end = tokenizer.end_of_document
    try:
        ends = [end, tokenizer.special(END_OF_TURN)]
    except KeyError:  # one imported without chat symbols
        ends = [end]
    write_json(folder / "config.json", _config(model_config, dtype) | {"bos_token_id": end, "eos_token_id": end})
    write_json(folder / "generation_config.json", {"bos_token_id": end, "eos_token_id": ends,
                                                    "pad_token_id": end})
    names = {"bos_token": END_OF_DOCUMENT, "eos_token": END_OF_DOCUMENT, "pad_token": END_OF_DOCUMENT,
             "model_max_length": model_config.context, "clean_up_tokenization_spaces": False}
    template = SAFE_CHAT_TEMPLATE
    if tokenizer.morphology:
        names["unk_token"] = tokenizer.pieces([tokenizer.unknown])[0]
        mecab_free_tokenizer.build(tokenizer).save(str(folder / "tokenizer.json"))
        mecab = folder / MECAB_FOLDER
        copy_folder(tokenizer_folder, mecab / "tokenizer")
        shutil.copyfile(Path(__file__).with_name("tokenization_slm.py"), mecab / "tokenization_slm.py")
        (mecab / CHAT_TEMPLATE_FILE).write_text(SAFE_CHAT_TEMPLATE, encoding="utf-8")
        write_json(mecab / "tokenizer_config.json", names | {
            "tokenizer_class": "SlmTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_slm.SlmTokenizer", None]}})
    else:  # an imported one
        shutil.copyfile(tokenizer_folder / HUGGING_FACE_FILE, folder / "tokenizer.json")
        symbol, = tokenizer.pieces([end])
        names |= {"bos_token": symbol, "eos_token": symbol, "pad_token": symbol}
        template = CHAT_TEMPLATE.replace(END_OF_DOCUMENT, symbol)
    write_json(folder / "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
    (folder / CHAT_TEMPLATE_FILE).write_text(template, encoding="utf-8")


def _config(model_config: ModelConfig, dtype: str) -> dict[str, Any]:
    return {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu", "dtype": dtype,
            "torch_dtype": dtype,  # for transformers 4
            "vocab_size": model_config.vocabulary_size, "hidden_size": model_config.width,
            "intermediate_size": model_config.mlp_width,
            "num_hidden_layers": model_config.layers, "num_attention_heads": model_config.query_heads,
            "num_key_value_heads": model_config.kv_heads, "head_dim": model_config.head_size,
            "max_position_embeddings": model_config.context, "rms_norm_eps": model_config.norm_epsilon,
            "rope_theta": model_config.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": model_config.rope_theta},  # for transformers 5
            "attention_bias": False, "mlp_bias": model_config.mlp == "silu", "attention_dropout": 0.0,
            "tie_word_embeddings": False, "initializer_range": 0.02, "use_cache": True}


# Weights ----------------------------------------------------------------------------------------------------------

def _names(model_config: ModelConfig, model_type: str = "llama") -> Iterator[tuple[str, tuple[str, ...], int | None]]:
    """(name in Hugging Face, path in ours, layer) of every tensor but the constants, in the order of the model."""
    yield "model.embed_tokens.weight", ("embedding",), None
    for layer in range(model_config.layers):
        for name, path in (_LAYER_TENSORS | _MLP_TENSORS[model_type, model_config.mlp]).items():
            yield f"model.layers.{layer}.{name}.weight", ("blocks", *path), layer
    yield "model.norm.weight", ("final_norm", "scale"), None
    yield "lm_head.weight", ("head",), None


def _constants(model_config: ModelConfig) -> Iterator[tuple[str, tuple[int, ...], int]]:
    """(name, shape, value of every element) of the tensors that make a Llama's MLP ungated."""
    D, F = model_config.width, model_config.mlp_width
    for layer in range(model_config.layers if model_config.mlp == "silu" else 0):
        mlp = f"model.layers.{layer}.mlp"
        yield f"{mlp}.gate_proj.bias", (F,), 0
        yield f"{mlp}.up_proj.weight", (F, D), 0
        yield f"{mlp}.up_proj.bias", (F,), 1
        yield f"{mlp}.down_proj.bias", (D,), 0


def _tensors(params: Params, model_config: ModelConfig) -> weight_files.Tensors:
    def values(path: tuple[str, ...], layer: int | None) -> np.ndarray:
        return _transposed(path, np.asarray(_at(params, path) if layer is None else _at(params, path)[layer]))
    shapes = _shapes(model_config)
    tensors: dict[str, Any] = {name: (shapes[path], functools.partial(values, path, layer))
                               for name, path, layer in _names(model_config)}
    return tensors | {name: (shape, functools.partial(np.full, shape, value, np.float32))
                      for name, shape, value in _constants(model_config)}


def _at(params: Params, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def _transposed(path: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    return values.T if path[-1] != "embedding" and values.ndim == 2 else values


def _shapes(model_config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    """{path in ours: shape of a tensor in Hugging Face}."""
    D, F, V = model_config.width, model_config.mlp_width, model_config.vocabulary_size
    queries, keys = model_config.query_heads * model_config.head_size, model_config.kv_heads * model_config.head_size
    blocks = {("attention_norm", "scale"): (D,), ("mlp_norm", "scale"): (D,), ("attention", "query"): (queries, D),
              ("attention", "key"): (keys, D), ("attention", "value"): (keys, D), ("attention", "output"): (D, queries),
              ("mlp", "up"): (F, D), ("mlp", "gate"): (F, D), ("mlp", "down"): (D, F)}
    return {("embedding",): (V, D), ("head",): (V, D), ("final_norm", "scale"): (D,),
            **{("blocks", *path): shape for path, shape in blocks.items()}}


def read(folder: Path) -> tuple[Params, ModelConfig]:
    """The float32 parameters and sizes of a Llama or Arcee in Hugging Face's format.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: an unsupported architecture, or weights that do not fit their config, are no finite floats, or that
        no part of the model asks for.
    """
    model_config = read_config(folder)
    config = read_json(folder / "config.json")
    model_type, weights = config["model_type"], WeightFiles(folder)
    shapes = _shapes(model_config)
    weights.read(f"model.layers.{model_config.layers - 1}.input_layernorm.weight", (model_config.width,))
    names = list(_names(model_config, model_type))
    constants = list(_constants(model_config)) if model_type == "llama" else []
    weights.refuse_others({name for name, *_ in (*names, *constants)}, model_config.layers)
    for name, shape, value in constants:
        if not (weights.read(name, shape) == value).all():
            raise ValueError(f"{folder}: {name} is not {value} everywhere: of Llamas with mlp_bias=true only our own "
                             "exports of ungated models are supported")
    tied = config.get("tie_word_embeddings", False)
    if tied and "lm_head.weight" in weights:
        head, embedding = (weights.read(name, shapes["head",]) for name in ("lm_head.weight",
                                                                            "model.embed_tokens.weight"))
        if not np.array_equal(head, embedding):
            raise ValueError(f"{folder} holds a lm_head.weight that differs from the embedding, and config.json says "
                             "tie_word_embeddings=true: use files of the same model")
    params: dict[str, Any] = {}
    for name, path, layer in names:
        node = params
        for key in path[:-1]:
            node = node.setdefault(key, {})
        values = weights.read("model.embed_tokens.weight" if tied and path == ("head",) else name, shapes[path])
        node.setdefault(path[-1], []).append(np.ascontiguousarray(_transposed(path, values)))
        if layer is None:
            node[path[-1]], = node[path[-1]]
        elif layer == model_config.layers - 1:
            node[path[-1]] = np.stack(node[path[-1]])
    return params, model_config


def read_config(folder: Path) -> ModelConfig:
    """The model that a folder's config.json describes.

    Raises:
      FileNotFoundError: no config.json.
      ValueError: an unsupported model, or a setting of the wrong type.
    """
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the folder of a model in Hugging Face's format")
    config = read_json(path)
    if not isinstance(config, dict):
        raise ValueError(f"{path} holds a {type(config).__name__}, not an object: copy it again")
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    if not isinstance(rope, dict):
        raise ValueError(f"{path} has RoPE's parameters {rope!r}, not an object: copy it again")
    is_llama = config.get("model_type") == "llama"
    settings: dict[str, tuple[Any, tuple]] = {
        "model_type": (config.get("model_type"), tuple(_ARCHITECTURES)),
        "quantization_config": (config.get("quantization_config", config.get("compression_config")), (None,)),
        "hidden_act": (config.get("hidden_act"), ("silu",)),
        "attention_bias": (config.get("attention_bias", False), (False,)),
        "mlp_bias": (config.get("mlp_bias", False), (False, True) if is_llama else (False,)),
        "tie_word_embeddings": (config.get("tie_word_embeddings", False), (False, True)),
        "RoPE's type": (rope.get("rope_type", rope.get("type", "default")), ("default",)),
        "partial_rotary_factor": (rope.get("partial_rotary_factor", config.get("partial_rotary_factor")), (None, 1)),
        "sliding_window": (config.get("sliding_window"), (None,))}
    for name, (value, supported) in settings.items():
        if value not in supported:
            fix = ": give the unquantised model" if name == "quantization_config" else ""
            raise ValueError(f"{path} has {name}={repr(value)[:80]}: only {' or '.join(map(repr, supported))} is "
                             f"supported{fix}")
    heads = _number(path, config, "num_attention_heads", int)
    sizes = {name: int(_number(path, config, name, int)) for name in _SIZES}
    theta = rope if rope.get("rope_theta") is not None else config
    try:
        return ModelConfig(
            preset=config["model_type"], vocabulary_size=sizes["vocab_size"], layers=sizes["num_hidden_layers"],
            width=sizes["hidden_size"], query_heads=int(heads),
            kv_heads=int(_number(path, config, "num_key_value_heads", int, heads)),
            head_size=int(_number(path, config, "head_dim", int, max(1, sizes["hidden_size"] // int(heads)))),
            mlp_width=sizes["intermediate_size"], mlp="swiglu" if is_llama and not config.get("mlp_bias") else "silu",
            context=sizes["max_position_embeddings"], norm_epsilon=_number(path, config, "rms_norm_eps", float),
            rope_theta=float(_number(path, theta, "rope_theta", float, 10_000.0)))
    except ValueError as error:
        raise ValueError(str(error) if str(path) in str(error) else f"{path}: {error}") from None


def _number(path: Path, config: dict[str, Any], name: str, number_type: type[int] | type[float],
            default: float | None = None) -> float:
    """A setting above 0; `default` stands for one that is absent or null."""
    value: Any = default if config.get(name) is None else config[name]
    if value is None:
        raise ValueError(f"{path} has no {name}: use the config.json of a Llama or an Arcee")
    if isinstance(value, bool) or not isinstance(value, int | number_type) or not 0 < value < float("inf"):
        raise ValueError(f"{path} has {name}={repr(value)[:80]}: it must be "
                         f"{'an integer' if number_type is int else 'a number'} above 0")
    return value
