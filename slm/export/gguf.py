"""GGUF, the format of llama.cpp: weights, tokenizer and chat template in one file.

llama.cpp has no ungated MLP with SiLU. Its `llama` computes W2 (silu(W1 x) * (Wup x + bup)), which with Wup = 0 and
bup = 1 equals ours exactly; the zeros are stored in as few bits as their width allows.
"""

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from slm.export import charsmap
from slm.local.gguf_metadata import FINGERPRINT
from slm.model.decoder import Params
from slm.model.presets import ModelConfig
from slm.text.tokenizer import END_OF_TURN, SAFE_CHAT_TEMPLATE, WHITE_SPACE_SYMBOLS, Tokenizer

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q5_0": "MOSTLY_Q5_0",
              "q4_0": "MOSTLY_Q4_0"}
QUANTIZER = "llama-quantize"
BY_QUANTIZER = ("q4_k_m", "q5_k_m", "q6_k")  # types that only llama.cpp's own program writes
_LAYER_TENSORS = {  # {name in GGUF: path in ours}; of query and key the rows are permuted
    "attn_norm": ("attention_norm", "scale"), "attn_q": ("attention", "query"), "attn_k": ("attention", "key"),
    "attn_v": ("attention", "value"), "attn_output": ("attention", "output"), "ffn_norm": ("mlp_norm", "scale"),
    "ffn_gate": ("mlp", "gate"), "ffn_up": ("mlp", "up"), "ffn_down": ("mlp", "down")}


def write(path: Path, params: Params, model_config: ModelConfig, tokenizer: Tokenizer, quant_type: str,
          name: str) -> None:
    """Writes a model as a single GGUF file.

    In types below eight bits the embedding and the head stay at eight bits, where an error costs most.

    Args:
      quant_type: a key of `FILE_TYPES`, or one of `BY_QUANTIZER`, which need llama.cpp's llama-quantize on the PATH.

    Raises:
      ValueError: an unknown type, or a width that is not a multiple of its blocks of 32.
      RuntimeError: without the gguf package, or without llama-quantize if it is needed.
    """
    if quant_type in BY_QUANTIZER:
        _by_quantizer(path, params, model_config, tokenizer, quant_type, name)
        return
    if quant_type not in FILE_TYPES:
        raise ValueError(f"{quant_type!r} is not a supported GGUF type: choose one of "
                         f"{', '.join((*FILE_TYPES, *BY_QUANTIZER))}")
    widths = {"model.width": model_config.width, "model.mlp_width": model_config.mlp_width,
              "model.query_heads * model.head_size": model_config.query_heads * model_config.head_size}
    for setting, width in widths.items():
        if quant_type.startswith("q") and width % 32:
            raise ValueError(f"{setting}={width} is not a multiple of {quant_type}'s block of 32: export f16 or f32")
    try:
        import gguf
    except ImportError as error:
        raise RuntimeError(f"writing GGUF needs the package {error.name}: pip install 'slm[export]'") from None
    aside = path.with_suffix(".writing")
    writer = gguf.GGUFWriter(aside, "llama")
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[quant_type]])
    writer.add_name(name)
    _add_sizes(writer, model_config)
    writer.add_string(FINGERPRINT, tokenizer.fingerprint)
    _add_tokenizer(writer, tokenizer)
    for tensor, values in _tensors(params, model_config):
        _add_tensor(writer, tensor, values, quant_type)
    if model_config.mlp == "silu":
        zeros = np.zeros((model_config.mlp_width, model_config.width), np.float32)
        stored = _type_of_zeros(model_config.width)
        for layer in range(model_config.layers):
            writer.add_tensor(f"blk.{layer}.ffn_up.weight", gguf.quantize(zeros, stored), raw_dtype=stored)
            writer.add_tensor(f"blk.{layer}.ffn_up.bias", np.ones(model_config.mlp_width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    aside.rename(path)


def _type_of_zeros(width: int):
    from gguf import GGMLQuantizationType as Type
    return Type.TQ1_0 if width % 256 == 0 else Type.Q4_0 if width % 32 == 0 else Type.F16


def _add_tensor(writer, name: str, values: np.ndarray, quant_type: str) -> None:
    import gguf
    if values.ndim == 1 or quant_type == "f32":
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
        return
    if quant_type in ("q4_0", "q5_0") and name in ("token_embd.weight", "output.weight"):
        quant_type = "q8_0"
    stored = gguf.GGMLQuantizationType[quant_type.upper()]
    writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values, np.float32), stored), raw_dtype=stored)


def _tensors(params: Params, model_config: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values) of every tensor but the constant ones; matrices are [out, in]."""
    yield "token_embd.weight", np.asarray(params["embedding"])
    yield "output_norm.weight", np.asarray(params["final_norm"]["scale"])
    yield "output.weight", np.asarray(params["head"]).T
    tensors = dict(_LAYER_TENSORS)
    if model_config.mlp == "silu":
        tensors["ffn_gate"] = tensors.pop("ffn_up")  # `write` adds the constant ffn_up
    for layer in range(model_config.layers):
        for name, (part, matrix) in tensors.items():
            values = np.asarray(params["blocks"][part][matrix][layer]).T
            if name in ("attn_q", "attn_k"):
                values = _in_pairs(values, model_config)
            yield f"blk.{layer}.{name}.weight", values


def _in_pairs(weight: np.ndarray, model_config: ModelConfig) -> np.ndarray:
    """Rows of each head as (0, H/2, 1, H/2 + 1, …): llama.cpp rotates neighbouring features, we rotate halves."""
    rows, columns = weight.shape
    return weight.reshape(-1, 2, model_config.head_size // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _add_sizes(writer, model_config: ModelConfig) -> None:
    writer.add_context_length(model_config.context)
    writer.add_embedding_length(model_config.width)
    writer.add_block_count(model_config.layers)
    writer.add_feed_forward_length(model_config.mlp_width)
    writer.add_head_count(model_config.query_heads)
    writer.add_head_count_kv(model_config.kv_heads)
    writer.add_key_length(model_config.head_size)
    writer.add_value_length(model_config.head_size)
    writer.add_rope_dimension_count(model_config.head_size)
    writer.add_rope_freq_base(model_config.rope_theta)
    writer.add_layer_norm_rms_eps(model_config.norm_epsilon)
    writer.add_vocab_size(model_config.vocabulary_size)


def _add_tokenizer(writer, tokenizer: Tokenizer) -> None:
    """The vocabulary as llama.cpp's Unigram ("t5"): no MeCab, no bytes for rare characters.

    llama.cpp splits at line ends before anything else, so it reads \\r\\n as two of them.
    """
    import gguf
    token, pieces = gguf.TokenType, tokenizer.pieces(range(len(tokenizer)))
    types = [token.BYTE if tokenizer.is_byte(index) else token.UNKNOWN if index == tokenizer.unknown
             else token.CONTROL if tokenizer.is_special(index)
             else token.USER_DEFINED if piece in WHITE_SPACE_SYMBOLS else token.NORMAL
             for index, piece in enumerate(pieces)]
    writer.add_tokenizer_model("t5")
    writer.add_token_list([piece.encode() for piece in pieces])
    writer.add_token_scores(tokenizer.scores())
    writer.add_token_types(types)
    writer.add_unk_token_id(tokenizer.unknown)
    writer.add_bos_token_id(tokenizer.end_of_document)  # every training document starts with it
    writer.add_eos_token_id(tokenizer.end_of_document)
    writer.add_eot_token_id(tokenizer.special(END_OF_TURN))
    writer.add_precompiled_charsmap(charsmap.whole())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_remove_extra_whitespaces(False)
    writer.add_chat_template(SAFE_CHAT_TEMPLATE)


def _by_quantizer(path: Path, params: Params, model_config: ModelConfig, tokenizer: Tokenizer, quant_type: str,
                  name: str) -> None:
    program = shutil.which(QUANTIZER)
    if not program:
        raise RuntimeError(f"{quant_type} is written by llama.cpp's {QUANTIZER}, which is not on the PATH: install "
                           f"llama.cpp, or export {', '.join(FILE_TYPES)}")
    full = path.with_suffix(".full")
    write(full, params, model_config, tokenizer, "f32", name)
    aside = path.with_suffix(".writing")
    zeros = []
    if model_config.mlp == "silu":
        zeros = ["--tensor-type", f"ffn_up={_type_of_zeros(model_config.width).name.lower()}"]
    try:
        done = subprocess.run([program, "--allow-requantize", *zeros, full, aside, quant_type.upper()],
                              capture_output=True, text=True, errors="replace")
        if done.returncode:
            raise RuntimeError(f"{program} could not write {quant_type}: {(done.stdout + done.stderr)[-300:]}")
        aside.rename(path)
    finally:
        full.unlink(missing_ok=True)
        aside.unlink(missing_ok=True)
