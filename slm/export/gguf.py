"""GGUF, the format of llama.cpp: the weights, the tokenizer and the chat template in one file.

llama.cpp has no MLP of two matrices with SiLU. Its `llama` computes W2 (silu(W1 x) * (Wup x + bup)), which with
Wup = 0 and bup = 1 is ours exactly; the zeros are stored in as few bits as their width allows.
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
from slm.text.tokenizer import CHAT_TEMPLATE, END_OF_TURN, WHITE_SPACE_SYMBOLS, Tokenizer

FILE_TYPES = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "q8_0": "MOSTLY_Q8_0", "q5_0": "MOSTLY_Q5_0",
              "q4_0": "MOSTLY_Q4_0"}
QUANTIZER = "llama-quantize"
BY_QUANTIZER = ("q4_k_m", "q5_k_m", "q6_k")  # types that only llama.cpp's own program writes


def write(path: Path, params: Params, model: ModelConfig, tokenizer: Tokenizer, kind: str, name: str) -> None:
    """Writes a model as one GGUF file.

    In the types below eight bits the embedding and the head stay at eight, where an error costs the most.

    Args:
      kind: a key of `FILE_TYPES`, or one of `BY_QUANTIZER`, which need llama.cpp's llama-quantize on the PATH.

    Raises:
      ValueError: an unknown kind, or a width that its blocks of 32 do not divide.
      RuntimeError: without the gguf package, or without llama-quantize where it is needed.
    """
    if kind in BY_QUANTIZER:
        _by_quantizer(path, params, model, tokenizer, kind, name)
        return
    if kind not in FILE_TYPES:
        raise ValueError(f"GGUF has no type {kind!r} here: choose of {', '.join((*FILE_TYPES, *BY_QUANTIZER))}")
    widths = {"model.width": model.width, "model.mlp_width": model.mlp_width,
              "model.query_heads * model.head_size": model.query_heads * model.head_size}
    for setting, width in widths.items():
        if kind.startswith("q") and width % 32:
            raise ValueError(f"{setting}={width} is no multiple of 32, the block of {kind}: export f16 or f32")
    try:
        import gguf
    except ImportError as error:
        raise RuntimeError(f"writing GGUF needs the package {error.name}: pip install 'slm[export]'") from None
    aside = path.with_suffix(".writing")
    writer = gguf.GGUFWriter(aside, "llama")
    writer.add_file_type(gguf.LlamaFileType[FILE_TYPES[kind]])
    writer.add_name(name)
    _add_sizes(writer, model)
    writer.add_string(FINGERPRINT, tokenizer.fingerprint)
    _add_tokenizer(writer, tokenizer)
    for tensor, values in _tensors(params, model):
        _add_tensor(writer, tensor, values, kind)
    if model.mlp == "silu":
        zeros = np.zeros((model.mlp_width, model.width), np.float32)
        stored = _type_of_zeros(model.width)
        for layer in range(model.layers):
            writer.add_tensor(f"blk.{layer}.ffn_up.weight", gguf.quantize(zeros, stored), raw_dtype=stored)
            writer.add_tensor(f"blk.{layer}.ffn_up.bias", np.ones(model.mlp_width, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    aside.rename(path)


def _type_of_zeros(width: int):
    import gguf
    kinds = gguf.GGMLQuantizationType
    return kinds.TQ1_0 if width % 256 == 0 else kinds.Q4_0 if width % 32 == 0 else kinds.F16


def _add_tensor(writer, name: str, values: np.ndarray, kind: str) -> None:
    import gguf
    if values.ndim == 1 or kind == "f32":
        writer.add_tensor(name, np.ascontiguousarray(values, np.float32))
        return
    if kind in ("q4_0", "q5_0") and name in ("token_embd.weight", "output.weight"):
        kind = "q8_0"
    stored = gguf.GGMLQuantizationType[kind.upper()]
    writer.add_tensor(name, gguf.quantize(np.ascontiguousarray(values, np.float32), stored), raw_dtype=stored)


def _tensors(params: Params, model: ModelConfig) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values) of every tensor but the constant ones; matrices as [out, in]."""
    yield "token_embd.weight", np.asarray(params["embedding"])
    yield "output_norm.weight", np.asarray(params["final_norm"]["scale"])
    yield "output.weight", np.asarray(params["head"]).T
    blocks = params["blocks"]
    attention, mlp = blocks["attention"], blocks["mlp"]
    for layer in range(model.layers):
        yield f"blk.{layer}.attn_norm.weight", np.asarray(blocks["attention_norm"]["scale"][layer])
        yield f"blk.{layer}.attn_q.weight", _in_pairs(np.asarray(attention["query"][layer]).T, model.head_size)
        yield f"blk.{layer}.attn_k.weight", _in_pairs(np.asarray(attention["key"][layer]).T, model.head_size)
        yield f"blk.{layer}.attn_v.weight", np.asarray(attention["value"][layer]).T
        yield f"blk.{layer}.attn_output.weight", np.asarray(attention["output"][layer]).T
        yield f"blk.{layer}.ffn_norm.weight", np.asarray(blocks["mlp_norm"]["scale"][layer])
        if model.mlp == "silu":
            yield f"blk.{layer}.ffn_gate.weight", np.asarray(mlp["up"][layer]).T
        else:
            yield f"blk.{layer}.ffn_gate.weight", np.asarray(mlp["gate"][layer]).T
            yield f"blk.{layer}.ffn_up.weight", np.asarray(mlp["up"][layer]).T
        yield f"blk.{layer}.ffn_down.weight", np.asarray(mlp["down"][layer]).T


def _in_pairs(weight: np.ndarray, head_size: int) -> np.ndarray:
    """Rows of each head as (0, H/2, 1, H/2 + 1, …): llama.cpp turns neighbours, we turn halves."""
    rows, columns = weight.shape
    return weight.reshape(rows // head_size, 2, head_size // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _add_sizes(writer, model: ModelConfig) -> None:
    writer.add_context_length(model.context)
    writer.add_embedding_length(model.width)
    writer.add_block_count(model.layers)
    writer.add_feed_forward_length(model.mlp_width)
    writer.add_head_count(model.query_heads)
    writer.add_head_count_kv(model.kv_heads)
    writer.add_key_length(model.head_size)
    writer.add_value_length(model.head_size)
    writer.add_rope_dimension_count(model.head_size)
    writer.add_rope_freq_base(model.rope_theta)
    writer.add_layer_norm_rms_eps(model.norm_epsilon)
    writer.add_vocab_size(model.vocabulary_size)


def _add_tokenizer(writer, tokenizer: Tokenizer) -> None:
    """The vocabulary as llama.cpp's Unigram ("t5"): no MeCab, no bytes for rare characters.

    llama.cpp cuts line ends out before anything else, so that \\r\\n is two of them there.
    """
    import gguf
    kinds, pieces, scores = gguf.TokenType, tokenizer.pieces(range(len(tokenizer))), tokenizer.scores()
    types = [kinds.BYTE if tokenizer.is_byte(index) else kinds.UNKNOWN if index == tokenizer.unknown
             else kinds.CONTROL if tokenizer.is_special(index)
             else kinds.USER_DEFINED if piece in WHITE_SPACE_SYMBOLS else kinds.NORMAL
             for index, piece in enumerate(pieces)]
    writer.add_tokenizer_model("t5")
    writer.add_token_list([piece.encode() for piece in pieces])
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(tokenizer.unknown)
    writer.add_bos_token_id(tokenizer.end_of_document)  # every document began with it
    writer.add_eos_token_id(tokenizer.end_of_document)
    writer.add_eot_token_id(tokenizer.special(END_OF_TURN))
    writer.add_precompiled_charsmap(charsmap.whole())
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(False)
    writer.add_remove_extra_whitespaces(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def _by_quantizer(path: Path, params: Params, model: ModelConfig, tokenizer: Tokenizer, kind: str, name: str) -> None:
    program = shutil.which(QUANTIZER)
    if not program:
        raise RuntimeError(f"{kind} is written by llama.cpp's own {QUANTIZER}, which is not on the PATH: install "
                           f"llama.cpp, or export {', '.join(FILE_TYPES)}")
    whole = path.with_suffix(".whole")
    write(whole, params, model, tokenizer, "f32", name)
    aside = path.with_suffix(".writing")
    zeros = ["--tensor-type", f"ffn_up={_type_of_zeros(model.width).name.lower()}"] if model.mlp == "silu" else []
    try:
        done = subprocess.run([program, "--allow-requantize", *zeros, whole, aside, kind.upper()], capture_output=True,
                              text=True, errors="replace")
        if done.returncode:
            raise RuntimeError(f"{program} could not write {kind}: {(done.stdout + done.stderr)[-300:]}")
        aside.rename(path)
    finally:
        whole.unlink(missing_ok=True)
        aside.unlink(missing_ok=True)
