"""The export job: a checkpoint in formats of other programs; an export that is not proven equal is not kept."""

import dataclasses
import functools
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from slm import checkpoint, files
from slm.corpus import sources
from slm.corpus.sources import CorpusConfig
from slm.export import gguf, hugging_face, mecab_free_tokenizer, proof
from slm.local.runtime import TOKENIZER_FOLDER
from slm.model import presets
from slm.model.decoder import Params
from slm.model.presets import ModelConfig
from slm.progress import Progress
from slm.report import model_card
from slm.text import chat
from slm.text.normalize import normalize
from slm.text.tokenizer import Tokenizer

_TOLERANCE = {"hugging_face": 1e-4, "gguf": 1e-3}  # of log probabilities, in float32
# Accepted increase of bits per byte over float32, by quantization type.
_MAX_LOSS = {"f32": 0.001, "f16": 0.002, "q8_0": 0.01, "q6_k": 0.03, "q5_k_m": 0.06, "q5_0": 0.06, "q4_k_m": 0.15,
         "q4_0": 0.15}


@dataclasses.dataclass(frozen=True)
class ExportConfig:
    """The export job."""
    job: str = "export"
    variant: str = "hugging_face"
    format: Literal["hugging_face", "gguf"] = "hugging_face"
    checkpoint: str = ""  # a training, fine-tuning, or WORKDIR/checkpoints/STEP; empty: the newest under runs/
    name: str = ""  # of the model; empty: the workdir's
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"  # hugging_face only
    shard_gigabytes: float = 2.0  # per weight file, hugging_face only
    # gguf only: TYPE[,TYPE…] of f32, f16, q8_0, q5_0, q4_0; with llama-quantize also q4_k_m, q5_k_m, q6_k.
    kinds: str = "q8_0"
    prove: bool = True  # False: written without a comparison, and the model card says so
    text: str = "sample"  # files, as corpus.files, for prompts, bits per byte and the comparison of tokenizers
    text_tokens: int = 1000  # of it, for bits per byte
    prompts: int = 8

    def __post_init__(self):
        known = (*gguf.FILE_TYPES, *gguf.BY_QUANTIZER)
        if self.format == "gguf" and not (self.kinds and set(self.kinds.split(",")) <= set(known)):
            raise ValueError(f"kinds={self.kinds!r}: choose from {', '.join(known)}, separated by commas")
        if Path(self.name).name != self.name:
            raise ValueError(f"name={self.name!r} is not a file name: remove the path separators")
        if self.text_tokens < 100 or self.prompts < 1 or self.shard_gigabytes <= 0:
            raise ValueError(f"text_tokens={self.text_tokens}, prompts={self.prompts}, shard_gigabytes="
                             f"{self.shard_gigabytes}: give at least 100, at least 1 and more than 0")


@dataclasses.dataclass(frozen=True)
class _Source:
    """What is exported, and the text it is proven on."""
    workdir: Path
    name: str
    params: Params
    model_config: ModelConfig
    tokenizer: Tokenizer
    prompts: list[list[int]]
    documents: list[list[int]]  # ids, with both ends
    size: int  # bytes of the documents' normalised text


def run(config: ExportConfig, workdir: Path) -> dict:
    """Writes the export into the workdir; returns what `result.json` holds."""
    path, step = checkpoint.resolve(config.checkpoint)
    params, model_config, tokenizer = checkpoint.read(path, step)
    # The dtype of the training is too coarse for a comparison.
    model_config = dataclasses.replace(model_config, compute_dtype="float32")
    texts, documents = _texts(config, tokenizer, model_config.context)
    prompts = _prompts(config, tokenizer, texts, documents, model_config.context)
    source = _Source(path, config.name or "-".join(path.resolve().parts[-2:]), params, model_config, tokenizer, prompts,
                     documents, sum(len(text.encode()) for text in texts[:len(documents)]))
    result = {"checkpoint": str(path), "name": source.name, "format": config.format,
              "model": dataclasses.asdict(model_config), "parameters": presets.parameter_count(model_config),
              "proven": config.prove, "checkpoint_step": checkpoint.read_about(path, step)["step"]}
    if tokenizer.morphology:
        mecab_free = mecab_free_tokenizer.build(tokenizer)
        result["tokens_cut_otherwise_without_mecab"] = mecab_free_tokenizer.difference(
            tokenizer, ((text, mecab_free.encode(text, add_special_tokens=False).ids) for text in texts))
        result["characters_without_a_piece"] = _share_unknown(tokenizer, texts)
    elif config.format == "gguf":
        raise ValueError(f"{path} has a tokenizer imported from Hugging Face, GGUF export supports only our own: use "
                         "llama.cpp's convert_hf_to_gguf.py on what configs/export.py:hugging_face writes")
    result |= (_hugging_face if config.format == "hugging_face" else _gguf)(config, workdir, source)
    if tokenizer.morphology:
        print(f"without MeCab {result['tokens_cut_otherwise_without_mecab']:.2%} of the tokens are split differently; "
              f"{result['characters_without_a_piece']:.2%} of the characters have no piece, which plain llama.cpp "
              "reads as unknown")
    files.write_text(workdir / "README.md", model_card.card(path, result))
    print(f"exported to {workdir}; its card is {workdir}/README.md")
    return result


def _hugging_face(config: ExportConfig, workdir: Path, source: _Source) -> dict:
    aside, folder = workdir / "model.writing", workdir / "model"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        hugging_face.write(aside, source.params, source.model_config, source.workdir / TOKENIZER_FOLDER, config.dtype,
                           int(config.shard_gigabytes * 1e9))
        result = {"model_folder": str(folder), "dtype": config.dtype}
        if config.prove:
            params = _rounded(source.params, config.dtype)
            measured = proof.compare(params, source.model_config, proof.Transformers(aside), source.prompts)
            result |= _accepted(measured, "hugging_face", config.dtype)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return result


def _gguf(config: ExportConfig, workdir: Path, source: _Source) -> dict:
    result: dict = {"kinds": {}, "tokenizer": str(workdir / TOKENIZER_FOLDER)}
    quant_types = [*dict.fromkeys(config.kinds.split(","))]
    aside = workdir / "export.writing"
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    # The layout is proven once, in float32, where it can be exact; for smaller types the loss is measured.
    order = [*dict.fromkeys(["f32", *quant_types])] if config.prove else quant_types
    unproven = aside / "unproven"
    try:
        for quant_type in Progress(order, desc="export", unit="file"):
            gguf.write(unproven, source.params, source.model_config, source.tokenizer, quant_type, source.name)
            if config.prove:
                _prove_gguf(result, unproven, quant_type, source)
            if quant_type in quant_types:
                path = workdir / f"{source.name}-{quant_type}.gguf"
                result["kinds"].setdefault(quant_type, {}).update(path=str(path), bytes=unproven.stat().st_size)
                unproven.rename(aside / path.name)
        files.copy_folder(source.workdir / TOKENIZER_FOLDER, aside / TOKENIZER_FOLDER)
        # Files of an earlier export, perhaps of another model, would run with this tokenizer.
        for old in workdir.glob("*.gguf"):
            old.unlink()
        shutil.rmtree(workdir / TOKENIZER_FOLDER, ignore_errors=True)
        for new in (TOKENIZER_FOLDER, *(f"{source.name}-{quant_type}.gguf" for quant_type in quant_types)):
            (aside / new).rename(workdir / new)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    if config.prove:
        print(model_card.quantization_table(result["kinds"], result["bits_per_byte"]))
    return result


def _prove_gguf(result: dict, path: Path, quant_type: str, source: _Source) -> None:
    """Adds the measurements of a file to the result; f32, the proof of the layout, comes first."""
    if quant_type == "f32":
        exact = proof.LlamaCpp(path, source.tokenizer, exact=True)
        measured_exactly = proof.compare(source.params, source.model_config, exact, source.prompts)
        result |= _accepted(measured_exactly, "gguf", quant_type)
        result["bits_per_byte"] = proof.ours_bits_per_byte(source.params, source.model_config, source.documents,
                                                           source.size)
    runtime = proof.LlamaCpp(path, source.tokenizer, exact=False)
    measured = dataclasses.asdict(proof.compare(source.params, source.model_config, runtime, source.prompts[:3]))
    measured["bits_per_byte"] = proof.bits_per_byte(runtime, source.documents, source.size)
    if not measured["bits_per_byte"] <= result["bits_per_byte"] * (1 + _MAX_LOSS[quant_type]):
        raise ValueError(f"the {quant_type} export has {measured['bits_per_byte']:.4f} bits per byte, the checkpoint "
                         f"{result['bits_per_byte']:.4f}, which is more than {_MAX_LOSS[quant_type]:.1%} worse, so it "
                         "was not kept: export a larger type")
    result["kinds"][quant_type] = measured


def _accepted(measured: proof.Proof, format: str, dtype: str) -> dict:
    tolerance = _TOLERANCE[format]
    if not (measured.max_logit_difference <= tolerance and measured.greedy_agreement == 1):
        raise ValueError(f"the {format} export in {dtype} differs from the checkpoint by "
                         f"{measured.max_logit_difference:.2g} (at most {tolerance:g}), "
                         f"{measured.greedy_agreement:.1%} of {measured.tokens_compared} greedy tokens agree (all "
                         "must), so it was not kept: please report this with your package versions")
    print(f"proof: largest difference of logits {measured.max_logit_difference:.2g} over "
          f"{measured.positions_compared} positions, {measured.greedy_agreement:.0%} of {measured.tokens_compared} "
          "greedy tokens agree")
    return dataclasses.asdict(measured)


def _rounded(params, dtype: str):
    """The parameters rounded to the stored dtype, so that a proof in float32 stays exact."""
    import ml_dtypes
    stored = {"bfloat16": ml_dtypes.bfloat16}.get(dtype) or np.dtype(dtype)
    return jax.tree.map(lambda values: np.asarray(values).astype(stored).astype(np.float32), params)


# The text ---------------------------------------------------------------------------------------------------------

def _texts(config: ExportConfig, tokenizer: Tokenizer, context: int) -> tuple[list[str], list[list[int]]]:
    """Normalised beginnings of documents, and the ids of the first of them between two end-of-document tokens."""
    end = tokenizer.end_of_document
    texts: list[str] = []
    documents: list[list[int]] = []
    tokens = 0
    for document in sources.documents(CorpusConfig(files=config.text, sample_megabytes=0.2)):
        text = normalize(document.text)[:200]
        ids = tokenizer.encode(text)
        while len(ids) > context - 2:
            text = text[:len(text) // 2]
            ids = tokenizer.encode(text)
        texts.append(text)
        if tokens < config.text_tokens:
            documents.append([end, *ids, end])
            tokens += len(documents[-1])
        if len(texts) >= 500:
            break
    if not texts:
        raise ValueError(f"text={config.text} has no documents: name files with text, or keep the sample")
    return texts, documents


def _prompts(config: ExportConfig, tokenizer: Tokenizer, texts, documents, context: int) -> list[list[int]]:
    """Prompts of many lengths: beginnings of documents from one token up, and a conversation."""
    try:
        conversation = [chat.encode(tokenizer, [{"role": "user", "content": texts[0][:30]}], reply=True).ids]
    except KeyError:  # a tokenizer that was imported without chat symbols
        conversation = []
    beginnings = [documents[i % len(documents)][:1 + 2 * i] for i in range(config.prompts - 1)]
    return [prompt[:context - 20] for prompt in [*conversation, *beginnings]]


def _share_unknown(tokenizer: Tokenizer, texts: Sequence[str]) -> float:
    """The share of characters without a piece, which a runtime without byte fallback reads as unknown."""
    known = functools.cache(lambda character: not any(map(tokenizer.is_byte, tokenizer.encode_morphemes([character]))))
    return sum(not known(character) for text in texts for character in text) / max(1, sum(map(len, texts)))
