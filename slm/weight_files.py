"""The weights of a folder in Hugging Face's format: one safetensors file, or several with an index."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from slm.files import read_json, write_json

_INDEX, _SINGLE = "model.safetensors.index.json", "model.safetensors"
_FLOATS = ("F64", "F32", "F16", "BF16")
_BUFFERS = ".rotary_emb.inv_freq"  # a constant that old versions of transformers saved with the weights

Tensors = Mapping[str, tuple[tuple[int, ...], Callable[[], np.ndarray]]]  # {name: (shape, its values)}


def write(folder: Path, tensors: Tensors, dtype: str, shard_bytes: int) -> None:
    """Writes tensors in files of at most `shard_bytes`, unless a single tensor is larger; one file is in memory.

    Raises:
      RuntimeError: without safetensors.
    """
    try:
        from safetensors.numpy import save_file
    except ImportError:
        raise RuntimeError("a Hugging Face export needs safetensors: pip install 'slm[export]'") from None
    import ml_dtypes
    stored = np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
    shards: list[list[str]] = [[]]
    total = size = 0
    for name, (shape, _) in tensors.items():
        tensor_bytes = int(np.prod(shape)) * stored.itemsize
        if shards[-1] and size + tensor_bytes > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(name)
        size, total = size + tensor_bytes, total + tensor_bytes
    weight_map: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = _SINGLE if len(shards) == 1 else f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        # save_file scrambles arrays that are not contiguous.
        values = {name: np.ascontiguousarray(tensors[name][1]().astype(stored)) for name in names}
        save_file(values, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(names, file)
    if len(shards) > 1:
        write_json(folder / _INDEX, {"metadata": {"total_size": total}, "weight_map": weight_map})


class WeightFiles:
    """The tensors of a folder, read one at a time."""

    def __init__(self, folder: Path):
        """
        Raises:
          FileNotFoundError: a file is missing.
          ValueError: a file that is not safetensors or cut short, or an index that is not one or misses tensors.
          RuntimeError: without safetensors.
        """
        try:
            from safetensors import SafetensorError
            from safetensors.numpy import safe_open
        except ImportError:
            raise RuntimeError("reading Hugging Face's weights needs safetensors: pip install 'slm[export]'") from None
        self._folder = folder
        self._opened: dict[str, tuple[Path, Any]] = {}  # {tensor: (its file, the opened file)}
        weight_map = self._weight_map()
        for name in sorted({*weight_map.values()}) or [_SINGLE]:
            path = folder / name
            if not path.is_file():
                raise FileNotFoundError(f"{path} is missing: convert the weights to safetensors")
            try:
                opened = safe_open(path, framework="numpy")
                tensors = set(opened.keys())
            except SafetensorError as error:
                raise ValueError(f"{path} is cut short or not a safetensors file ({error}): copy it again") from None
            if twice := sorted(tensors & self._opened.keys()):
                raise ValueError(f"{path} and {self._opened[twice[0]][0]} both hold {twice[0]}: use files of one model")
            self._opened |= dict.fromkeys(tensors, (path, opened))
        if weight_map and (folder / _SINGLE).exists() and _SINGLE not in weight_map.values():
            raise ValueError(f"{folder} holds {_SINGLE} and {_INDEX}, the weights of two models: remove one")
        for tensor, name in weight_map.items():
            if self._opened.get(tensor, (None,))[0] != folder / name:
                raise ValueError(f"{folder / name} has no tensor {tensor}, which {_INDEX} names: copy both again")

    def _weight_map(self) -> dict[str, str]:
        index = self._folder / _INDEX
        if not index.exists():
            return {}
        content = read_json(index)
        weight_map = content.get("weight_map") if isinstance(content, dict) else None
        if not isinstance(weight_map, dict) or not all(isinstance(file, str) for file in weight_map.values()):
            raise ValueError(f"{index} has no weight_map of tensors to files: copy it again")
        return weight_map

    def __contains__(self, name: str) -> bool:
        return name in self._opened

    def refuse_others(self, names: set[str], layers: int) -> None:
        """Raises a `ValueError` for a tensor that is not among the names of a model with so many layers."""
        others = sorted(name for name in self._opened.keys() - names if not name.endswith(_BUFFERS))
        if not others:
            return
        path, _ = self._opened[others[0]]
        reason = "which a Llama or Arcee with this config.json does not have"
        part = others[0].removeprefix("model.layers.").split(".")[0]
        if part != others[0] and part.isdigit() and int(part) >= layers:
            reason = f"of layer {part}, and config.json has num_hidden_layers={layers}"
        raise ValueError(f"{path} holds the tensor {others[0]}, {reason} ({len(others)} such tensors): use files of "
                         "the same unquantised model, with adapters merged")

    def refuse_integers(self) -> None:
        """Raises a `ValueError` for a weight that is not of floating point; buffers may be."""
        for name in self._opened:
            if name.endswith(".weight"):
                self._refuse_integers(name)

    def _refuse_integers(self, name: str) -> None:
        path, opened = self._opened[name]
        if (dtype := opened.get_slice(name).get_dtype()) not in _FLOATS:
            raise ValueError(f"{path}: {name} has the dtype {dtype}, supported are {', '.join(_FLOATS)}: give the "
                             "unquantised model")

    def read(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor in float32.

        Raises:
          ValueError: the tensor is missing, has another shape, is not of floating point, or holds NaN or infinity.
        """
        if name not in self._opened:
            raise ValueError(f"{self._folder} has no tensor {name}, which its config.json implies: copy it again")
        path, opened = self._opened[name]
        self._refuse_integers(name)
        stored_shape = tuple(opened.get_slice(name).get_shape())
        if stored_shape != shape:
            raise ValueError(f"{path}: {name} has the shape {stored_shape}, its config.json says {shape}: use files of "
                             "the same model")
        with np.errstate(over="ignore"):  # of F64, refused below
            values = opened.get_tensor(name).astype(np.float32)
        if not np.isfinite(values).all():
            raise ValueError(f"{path}: {name} holds {np.count_nonzero(~np.isfinite(values))} values that are NaN or "
                             "infinite: copy the file again, or use an earlier checkpoint of that training")
        return values
