"""Reads and writes the format of Hugging Face transformers: Llama for SwiGLU presets, Arcee for ungated MLPs.

`ArceeForCausalLM` with hidden_act="silu" is exactly NCVC-slm-1's architecture. RoPE rotates halves in all three, so no
weight is permuted. Their matrices are [out, in], ours [in, out] and stacked over the layers.
"""

import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slm.export import mecab_free_tokenizer
from slm.files import write_json
from slm.model.decoder import Params
from slm.model.presets import ModelConfig
from slm.text.tokenizer import (
    CHAT_TEMPLATE,
    CHAT_TEMPLATE_FILE,
    END_OF_DOCUMENT,
    END_OF_TURN,
    HUGGING_FACE_FILE,
    load_tokenizer,
)

DTYPES = ("float32", "bfloat16", "float16")
MECAB_FOLDER = "mecab"  # our tokenizer, which users must opt into

_INDEX = "model.safetensors.index.json"
_ARCHITECTURES = {"silu": ("arcee", "ArceeForCausalLM"), "swiglu": ("llama", "LlamaForCausalLM")}
_LAYER_TENSORS = {  # {name in Hugging Face: path in ours}
    "input_layernorm": ("attention_norm", "scale"), "post_attention_layernorm": ("mlp_norm", "scale"),
    "self_attn.q_proj": ("attention", "query"), "self_attn.k_proj": ("attention", "key"),
    "self_attn.v_proj": ("attention", "value"), "self_attn.o_proj": ("attention", "output"),
    "mlp.gate_proj": ("mlp", "gate"), "mlp.up_proj": ("mlp", "up"), "mlp.down_proj": ("mlp", "down")}


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
    _write_weights(folder, params, model_config, dtype, shard_bytes)
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
    template = CHAT_TEMPLATE
    if tokenizer.morphology:
        names["unk_token"] = tokenizer.pieces([tokenizer.unknown])[0]
        mecab_free_tokenizer.build(tokenizer).save(str(folder / "tokenizer.json"))
        mecab = folder / MECAB_FOLDER
        shutil.copytree(tokenizer_folder, mecab / "tokenizer")
        shutil.copy(Path(__file__).with_name("tokenization_slm.py"), mecab)
        (mecab / CHAT_TEMPLATE_FILE).write_text(CHAT_TEMPLATE, encoding="utf-8")
        write_json(mecab / "tokenizer_config.json", names | {
            "tokenizer_class": "SlmTokenizer", "auto_map": {"AutoTokenizer": ["tokenization_slm.SlmTokenizer", None]}})
    else:  # an imported one
        shutil.copy(tokenizer_folder / HUGGING_FACE_FILE, folder / "tokenizer.json")
        symbol, = tokenizer.pieces([end])
        names |= {"bos_token": symbol, "eos_token": symbol, "pad_token": symbol}
        template = CHAT_TEMPLATE.replace(END_OF_DOCUMENT, symbol)
    write_json(folder / "tokenizer_config.json", names | {"tokenizer_class": "PreTrainedTokenizerFast"})
    (folder / CHAT_TEMPLATE_FILE).write_text(template, encoding="utf-8")


def _config(model_config: ModelConfig, dtype: str) -> dict[str, Any]:
    model_type, architecture = _ARCHITECTURES[model_config.mlp]
    return {"architectures": [architecture], "model_type": model_type, "hidden_act": "silu", "dtype": dtype,
            "torch_dtype": dtype,  # for transformers 4
            "vocab_size": model_config.vocabulary_size, "hidden_size": model_config.width,
            "intermediate_size": model_config.mlp_width,
            "num_hidden_layers": model_config.layers, "num_attention_heads": model_config.query_heads,
            "num_key_value_heads": model_config.kv_heads, "head_dim": model_config.head_size,
            "max_position_embeddings": model_config.context, "rms_norm_eps": model_config.norm_epsilon,
            "rope_theta": model_config.rope_theta,
            "rope_parameters": {"rope_type": "default", "rope_theta": model_config.rope_theta},  # for transformers 5
            "attention_bias": False, "mlp_bias": False, "attention_dropout": 0.0, "tie_word_embeddings": False,
            "initializer_range": 0.02, "use_cache": True}


# Weights ----------------------------------------------------------------------------------------------------------

def _names(model_config: ModelConfig) -> Iterator[tuple[str, tuple[str, ...], int | None]]:
    """(name in Hugging Face, path in ours, layer) of every tensor, in the order of the model."""
    yield "model.embed_tokens.weight", ("embedding",), None
    for layer in range(model_config.layers):
        for name, path in _LAYER_TENSORS.items():
            if name != "mlp.gate_proj" or model_config.mlp == "swiglu":
                yield f"model.layers.{layer}.{name}.weight", ("blocks", *path), layer
    yield "model.norm.weight", ("final_norm", "scale"), None
    yield "lm_head.weight", ("head",), None


def _write_weights(folder: Path, params: Params, model_config: ModelConfig, dtype: str, shard_bytes: int) -> None:
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise RuntimeError("a Hugging Face export needs safetensors: pip install 'slm[export]'") from None
    import ml_dtypes
    stored = ml_dtypes.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    shards: list[dict[str, tuple]] = [{}]
    size = 0
    for name, path, layer in _names(model_config):
        tensor_bytes = int(np.prod(_at(params, path).shape[layer is not None:])) * np.dtype(stored).itemsize
        if shards[-1] and size + tensor_bytes > shard_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = (path, layer)
        size += tensor_bytes
    files, total = {}, 0
    for number, shard in enumerate(shards, 1):
        file = "model.safetensors" if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        tensors = {}
        for name, (path, layer) in shard.items():
            values = np.asarray(_at(params, path) if layer is None else _at(params, path)[layer])
            tensors[name] = np.ascontiguousarray(_transposed(path, values).astype(stored))
            total += tensors[name].nbytes
            files[name] = file
        save_file(tensors, folder / file, metadata={"format": "pt"})
    if len(shards) > 1:
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": files})


def _at(params: Params, path: tuple[str, ...]) -> Any:
    for name in path:
        params = params[name]
    return params


def _transposed(path: tuple[str, ...], values: np.ndarray) -> np.ndarray:
    return values.T if path[-1] != "embedding" and values.ndim == 2 else values


def read(folder: Path) -> tuple[Params, ModelConfig]:
    """The float32 parameters and sizes of a Llama or Arcee in Hugging Face's format.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: an unsupported architecture, or weights that do not fit their config.
    """
    model_config = read_config(folder)
    tensor = _reader(folder)
    params: dict[str, Any] = {}
    for name, path, layer in _names(model_config):
        if layer is None or layer == 0:
            parts = [tensor(name.replace(".layers.0.", f".layers.{number}."))
                     for number in range(1 if layer is None else model_config.layers)]
            parts = [np.ascontiguousarray(_transposed(path, part).astype(np.float32)) for part in parts]
            node = params
            for key in path[:-1]:
                node = node.setdefault(key, {})
            node[path[-1]] = parts[0] if layer is None else np.stack(parts)
    for path, shape in _shapes(model_config).items():
        if _at(params, path).shape != shape:
            raise ValueError(f"{folder}: {'.'.join(path)} has the shape {_at(params, path).shape}, its config.json "
                             f"says {shape}: use files of the same model")
    return params, model_config


def _shapes(model_config: ModelConfig) -> dict[tuple[str, ...], tuple[int, ...]]:
    D, F, L, V = model_config.width, model_config.mlp_width, model_config.layers, model_config.vocabulary_size
    queries, keys = model_config.query_heads * model_config.head_size, model_config.kv_heads * model_config.head_size
    shapes = {("attention_norm", "scale"): (D,), ("mlp_norm", "scale"): (D,), ("attention", "query"): (D, queries),
              ("attention", "key"): (D, keys), ("attention", "value"): (D, keys), ("attention", "output"): (queries, D),
              ("mlp", "up"): (D, F), ("mlp", "down"): (F, D)}
    if model_config.mlp == "swiglu":
        shapes["mlp", "gate"] = (D, F)
    return {("embedding",): (V, D), ("head",): (D, V), ("final_norm", "scale"): (D,),
            **{("blocks", *path): (L, *shape) for path, shape in shapes.items()}}


def read_config(folder: Path) -> ModelConfig:
    """The model that a folder's config.json describes."""
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: give the folder of a model in Hugging Face's format")
    try:
        return _read_config(path, json.loads(path.read_text(encoding="utf-8")))
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is not JSON ({error}): copy it again") from None
    except KeyError as error:
        raise ValueError(f"{path} has no {error.args[0]}: use the config.json of a Llama or an Arcee") from None


def _read_config(path: Path, config: dict[str, Any]) -> ModelConfig:
    mlps: dict[Any, Any] = {model_type: mlp for mlp, (model_type, _) in _ARCHITECTURES.items()}
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    settings = {"model_type": (config.get("model_type"), tuple(mlps)),
                "hidden_act": (config.get("hidden_act"), ("silu",)),
                "attention_bias": (config.get("attention_bias", False), (False,)),
                "mlp_bias": (config.get("mlp_bias", False), (False,)),
                "RoPE's type": (rope.get("rope_type", rope.get("type", "default")), ("default",)),
                "sliding_window": (config.get("sliding_window"), (None,))}
    for name, (value, supported) in settings.items():
        if value not in supported:
            raise ValueError(f"{path} has {name}={value!r}: only {' or '.join(map(repr, supported))} is supported")
    heads = config["num_attention_heads"]
    return ModelConfig(
        preset=config["model_type"], vocabulary_size=config["vocab_size"], layers=config["num_hidden_layers"],
        width=config["hidden_size"], query_heads=heads, kv_heads=config.get("num_key_value_heads") or heads,
        head_size=config.get("head_dim") or config["hidden_size"] // heads, mlp_width=config["intermediate_size"],
        mlp=mlps[config["model_type"]], context=config["max_position_embeddings"], norm_epsilon=config["rms_norm_eps"],
        rope_theta=float(rope.get("rope_theta") or config.get("rope_theta") or 10_000.0))


def _reader(folder: Path) -> Callable[[str], np.ndarray]:
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import safe_open
    except ImportError:
        raise RuntimeError("reading Hugging Face's weights needs safetensors: pip install 'slm[export]'") from None
    index = folder / _INDEX
    files: Mapping[str, str] = json.loads(index.read_text(encoding="utf-8"))["weight_map"] if index.exists() else {}
    opened: dict[str, Any] = {}

    def tensor(name: str) -> np.ndarray:
        tied = name == "lm_head.weight" and json.loads((folder / "config.json").read_text()).get("tie_word_embeddings")
        name = "model.embed_tokens.weight" if tied else name
        file = files.get(name, "model.safetensors")
        if file not in opened:
            if not (folder / file).exists():
                raise FileNotFoundError(f"{folder / file} is missing: convert the weights to safetensors")
            try:
                opened[file] = safe_open(folder / file, framework="numpy")
            except SafetensorError as error:
                raise ValueError(f"{folder / file} is cut short or not a safetensors file ({error}): copy it again"
                                 ) from None
        try:
            return opened[file].get_tensor(name)
        except SafetensorError:
            raise ValueError(f"{folder / file} has no tensor {name}, which its config.json implies: copy it again"
                             ) from None
    return tensor
