"""The import job: a Hugging Face Llama or Arcee with its tokenizer becomes a checkpoint to fine-tune or evaluate.

A folder that our own export wrote contains our tokenizer; of other folders the tokenizer.json is used as it is.
"""

import dataclasses
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from slm.checkpoint import Checkpoints
from slm.export import hugging_face
from slm.files import copy_folder, read_json
from slm.model import presets
from slm.model.decoder import Params
from slm.tasks.benchmark import Provenance
from slm.text import hugging_face_tokenizer
from slm.text.tokenizer import load_tokenizer

TOKENIZER_FILE = "tokenizer.json"


@dataclasses.dataclass(frozen=True)
class ImportConfig:
    """The import_hugging_face job."""
    job: str = "import_hugging_face"
    variant: str = "folder"
    folder: str = ""  # with config.json, *.safetensors and tokenizer.json; nothing is downloaded
    chat_symbols: bool = True  # adds the chat template's symbols that its tokenizer lacks, which sft needs


def run(config: ImportConfig, workdir: Path) -> dict:
    """Makes the workdir that of a training, with checkpoint and tokenizer; returns what `result.json` holds.

    Raises:
      FileNotFoundError: a file of the folder is missing.
      ValueError: an unsupported model or tokenizer, or a workdir that holds a training.
      RuntimeError: without safetensors or tokenizers.
    """
    folder = _folder(config)
    for name in ("checkpoints", "tokenizer"):
        if (workdir / name).exists():
            raise ValueError(f"{workdir} holds a model already ({name}/): give another --workdir, or remove it")
    aside = workdir / "import.writing"
    shutil.rmtree(aside, ignore_errors=True)
    try:
        size = hugging_face.read_config(folder).vocabulary_size
        tokens, added = _tokenizer(config, folder, aside / "tokenizer", size)
        params, model_config = hugging_face.read(folder)
        if added:
            params = with_symbols(params, added, tokens)
            model_config = dataclasses.replace(model_config, vocabulary_size=len(params["embedding"]))
        tokenizer = load_tokenizer(aside / "tokenizer")
        # Its training text is unknown, so leaderboards mark it as unchecked.
        record = {"step": 0, "tokenizer": tokenizer.fingerprint, "provenance": Provenance(unchecked=True).to_json(),
                 "config": dataclasses.asdict(config) | {"model": dataclasses.asdict(model_config), "seed": 0,
                                                         "fold": None}}
        checkpoints = Checkpoints(aside / "checkpoints", keep=1)
        checkpoints.save(0, {"params": params}, record, None)
        checkpoints.close()
        for name in ("tokenizer", "checkpoints"):  # checkpoints last: they mark the import as complete
            (aside / name).rename(workdir / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    result = {"folder": str(folder), "parameters": presets.parameter_count(model_config),
              "vocabulary_size": model_config.vocabulary_size, "added_symbols": tokenizer.pieces(added),
              "checkpoints": str(workdir / "checkpoints"), "tokenizer": str(workdir / "tokenizer")}
    print(f"{result['parameters']:,} parameters, {model_config.vocabulary_size:,} pieces ({len(added)} added); try "
          f"python -m slm.main --config=configs/generate.py --config.checkpoint={workdir}")
    return result


def _folder(config: ImportConfig) -> Path:
    if not config.folder:
        raise ValueError("folder='' names no model to import: set --config.folder=FOLDER")
    folder = Path(config.folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder: nothing is downloaded here, so name a model on this "
                                "machine, as `hf download NAME --local-dir FOLDER` leaves it")
    return folder


def _tokenizer(config: ImportConfig, folder: Path, into: Path, size: int) -> tuple[int, list[int]]:
    """Writes the tokenizer; returns its original number of tokens, and the ids of the added symbols."""
    ours = folder / hugging_face.MECAB_FOLDER / "tokenizer"
    if ours.is_dir():
        copy_folder(ours, into)
        tokens = len(load_tokenizer(into))
        _refuse_larger(ours, tokens, folder, size)
        return tokens, []
    path = folder / TOKENIZER_FILE
    if not path.exists():
        raise FileNotFoundError(f"{path} is missing: make one with transformers' AutoTokenizer.from_pretrained("
                                f"{str(folder)!r}).save_pretrained({str(folder)!r})")
    try:
        tokenizer = hugging_face_tokenizer.parse(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    tokens = 1 + max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    if not tokens:
        raise ValueError(f"{path} has no tokens: copy it again")
    _refuse_larger(path, tokens, folder, size)
    end = _end_of_document(folder, tokenizer)
    added = _add_symbols(path, tokenizer, tokens) if config.chat_symbols else []
    hugging_face_tokenizer.save(into, tokenizer.to_str(), end)
    return tokens, added


def _refuse_larger(path: Path, tokens: int, folder: Path, size: int) -> None:
    if tokens > size:
        raise ValueError(f"{path} has {tokens} tokens, {folder / 'config.json'} has vocab_size={size}: use "
                         "files of the same model")


def _add_symbols(path: Path, tokenizer, tokens: int) -> list[int]:
    """Adds the chat template's symbols as special tokens; returns the ids of the new ones."""
    from tokenizers import AddedToken
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special}
    missing = [symbol for symbol in hugging_face_tokenizer.CHAT_SYMBOLS if symbol not in known]
    tokenizer.add_special_tokens([AddedToken(symbol, special=True, normalized=False) for symbol in missing])
    ids = [tokenizer.token_to_id(symbol) for symbol in missing]
    added = [index for index in ids if index >= tokens]
    names = tokenizer.get_vocab(with_added_tokens=True)
    if len({*names.values()}) < len(names):
        raise ValueError(f"{path} has gaps in its ids, so that no symbol can be added: set --config.chat_symbols=false")
    return added


def _end_of_document(folder: Path, tokenizer) -> int:
    """The id of the EOS token, from tokenizer_config.json or else config.json."""
    path = folder / "tokenizer_config.json"
    settings = read_json(path) if path.exists() else {}
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds a {type(settings).__name__}, not an object: copy it again")
    token = settings.get("eos_token")
    token = token.get("content") if isinstance(token, dict) else token
    if isinstance(token, str) and tokenizer.token_to_id(token) is not None:
        return tokenizer.token_to_id(token)
    index = read_json(folder / "config.json").get("eos_token_id")
    index = index[0] if isinstance(index, list) and index else index
    if type(index) is not int or index < 0 or tokenizer.id_to_token(index) is None:
        raise ValueError(f"{folder} names no EOS token that its tokenizer has: set eos_token in its "
                         "tokenizer_config.json, or eos_token_id in its config.json")
    return index


def with_symbols(params: Params, added: Sequence[int], tokens: int) -> Params:
    """Parameters with rows for new ids, each the mean of the first `tokens` rows, so that none is distinguished.

    Ids that a model leaves unused at the end of its vocabulary are used first.
    """
    size = max(len(params["embedding"]), max(added) + 1)

    def widened(table_VD: np.ndarray) -> np.ndarray:
        wide = np.empty((size, table_VD.shape[1]), np.float32)
        wide[:len(table_VD)] = table_VD
        wide[list(added)] = table_VD[:tokens].mean(axis=0, dtype=np.float64)
        return wide
    changed: dict[str, Any] = {"embedding": widened(params["embedding"]),
                               "head": np.ascontiguousarray(widened(params["head"].T).T)}
    return params | changed
