"""Small products, made once a session."""

import gc
import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest

from slm import sample
from slm.corpus import dataset
from slm.corpus.sources import Document
from slm.data import stream
from slm.text import unigram_tokenizer
from slm.text.morphology import compile_dictionary
from slm.text.tokenizer import Tokenizer, load_tokenizer
from slm.tokenization import segmented, vocabulary
from slm.tokenization.vocabulary import VocabularyConfig

jax.config.update("jax_num_cpu_devices", 8)  # pretended ones, for meshes; what does not ask for them runs on the first


@pytest.fixture(scope="session")
def products(tmp_path_factory):
    """Folders `corpus`, `segmented`, `tokenizer`, `stream` and the file `user.dic`, from 0.3 MB of the sample."""
    root = tmp_path_factory.mktemp("products")
    dataset.write((Document(**row) for row in sample.documents(0.3, seed=0)), root / "corpus", validation_share=0.1)
    config = VocabularyConfig(size=3072)
    compile_dictionary(vocabulary.lexicon(config), root / "user.dic")
    segmented.write(root / "corpus", root / "user.dic", root / "segmented", processes=1)
    model = vocabulary.train(vocabulary.count(root / "segmented"), config)
    unigram_tokenizer.save(root / "tokenizer", model, root / "user.dic")
    stream.write(root / "segmented", root / "tokenizer", root / "stream", processes=1)
    return root


@pytest.fixture(scope="session")
def words(products) -> Tokenizer:
    return load_tokenizer(products / "tokenizer")


@pytest.fixture(scope="module", autouse=True)
def compiled_functions_are_forgotten():
    """A file's compiled functions are of no use to the next one; together they take gigabytes, and slow it down."""
    yield
    jax.clear_caches()
    gc.collect()
