"""A tiny model with random weights as a GGUF file, its tokenizer beside it."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from slm.model import decoder
from slm.model.presets import PRESETS

MODEL = dataclasses.replace(PRESETS["debug"], head_size=16, query_heads=4, kv_heads=2, context=256)


@pytest.fixture(scope="session")
def params():
    return jax.tree.map(lambda x: np.asarray(x) * 4, decoder.initialize(MODEL, jax.random.key(0)))


@pytest.fixture(scope="session")
def exported(products, words, params, tmp_path_factory):
    """The folder of an export."""
    pytest.importorskip("gguf")
    pytest.importorskip("xllamacpp")
    from slm.export import gguf
    folder = tmp_path_factory.mktemp("exported")
    gguf.write(folder / "tiny-f32.gguf", params, MODEL, words, "f32", "tiny")
    shutil.copytree(products / "tokenizer", folder / "tokenizer")
    return folder
