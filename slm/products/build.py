"""What trainings are built from, each made once: corpus → dictionary → segmented shards → tokenizer → token stream."""

import dataclasses
import functools
import hashlib
from pathlib import Path

from slm import files, workdir
from slm.corpus.sources import CorpusConfig
from slm.products.store import product
from slm.tokenization.vocabulary import VocabularyConfig

# Fingerprints read every byte of their files, so each is computed once a process.


@functools.cache
def corpus(config: CorpusConfig) -> Path:
    """The TFDS dataset of a corpus."""
    from slm.corpus import dataset, sources
    from slm.text.normalize import VERSION
    if config.curated:
        return _curated(config)

    def build(folder: Path) -> None:
        dataset.write(sources.documents(config), folder, config.validation_share)
    return product("corpus", dataset.VERSION, [sources.fingerprint(config), VERSION], (), build)


def _curated(config: CorpusConfig) -> Path:
    try:
        from slm.corpus import pipeline
    except ModuleNotFoundError as error:
        raise RuntimeError(f"curating a corpus needs {error.name}: pip install 'slm[corpus]', or set "
                           "--config.corpus.curated=false to only normalise it") from None
    from slm.corpus import data_card, dataset, sources
    from slm.text import morphology
    scorer, trained = None, None
    if config.classifier:
        from slm.quality import scorer as classifiers
        scorer = classifiers.load(Path(config.classifier))
        trained = workdir.read_result(Path(config.classifier).parent)

    def build(folder: Path) -> None:
        report = pipeline.run(config, folder, scorer)
        if trained:
            report["classifier"] = trained
            files.write_json(folder / dataset.REPORT_FILE, report)
        data_card.write(folder, report, config)
    return product("corpus", pipeline.VERSION, [sources.fingerprint(config), *pipeline.versions(),
                                                morphology.fingerprint()], ("datatrove",), build)


@functools.cache
def dictionary(config: VocabularyConfig) -> Path | None:
    """The compiled user dictionary of MeCab; None where the config names no lexicon."""
    from slm.text import morphology
    from slm.tokenization import vocabulary
    words = vocabulary.lexicon(config)
    if not words:
        return None
    digest = hashlib.sha256("\n".join(words).encode()).hexdigest()

    def build(folder: Path) -> None:
        morphology.compile_dictionary(words, folder / "user.dic")
    return product("dictionary", morphology.DICTIONARY_VERSION, [digest, morphology.fingerprint()],
                   ("mecab-python3",), build) / "user.dic"


@functools.cache
def segmented(config: VocabularyConfig, corpus_config: CorpusConfig) -> Path:
    """The corpus, cut into morphemes with the config's dictionary."""
    from slm.text import morphology
    from slm.tokenization import segmented as shards
    source, user_dictionary = corpus(corpus_config), dictionary(config)

    def build(folder: Path) -> None:
        shards.write(source, user_dictionary, folder)
    return product("segmented", shards.VERSION, [source.name, morphology.fingerprint(user_dictionary)],
                   ("mecab-python3",), build)


@functools.cache
def tokenizer(config: VocabularyConfig, corpus_config: CorpusConfig) -> Path:
    """The tokenizer that the config trains on a corpus."""
    from slm.text import unigram_tokenizer
    from slm.tokenization import vocabulary
    shards, user_dictionary = segmented(config, corpus_config), dictionary(config)
    settings = dataclasses.asdict(config) | {"lexicons": user_dictionary.parent.name if user_dictionary else None}

    def build(folder: Path) -> None:
        morphemes = vocabulary.count(shards)
        words = vocabulary.lexicon_counts(vocabulary.lexicon(config), morphemes.total(), config)
        unigram_tokenizer.save(folder, vocabulary.train(morphemes, config, words, folder), user_dictionary)
    return product("tokenizer", vocabulary.VERSION, [shards.name, settings], ("sentencepiece",), build)


@functools.cache
def stream(config: VocabularyConfig, corpus_config: CorpusConfig) -> Path:
    """The token stream of a corpus and its tokenizer."""
    from slm.data import stream as tokens
    shards, tokenizer_folder = segmented(config, corpus_config), tokenizer(config, corpus_config)

    def build(folder: Path) -> None:
        tokens.write(shards, tokenizer_folder, folder)
    return product("stream", tokens.VERSION, [shards.name, tokenizer_folder.name], ("sentencepiece",), build)
