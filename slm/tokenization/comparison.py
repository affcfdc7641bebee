"""A table that compares tokenizers: plain Unigram, over morphemes, over morphemes and a medical dictionary."""

import dataclasses
import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from pathlib import Path

from slm.files import markdown_table
from slm.text.morphology import Morphology
from slm.text.tokenizer import Tokenizer, UnigramTokenizer, load_tokenizer
from slm.tokenization import segmented, vocabulary
from slm.tokenization.vocabulary import VocabularyConfig

_FREQUENT = 2000  # morphemes, and terms


def compare(config: VocabularyConfig, shards: Path, dictionary: Path | None, tokenizer: Path,
            texts: Iterable[str] | None = None) -> dict[str, "Measures"]:
    """Trains the other tokenizers of the same size on the same text, and measures all.

    Args:
      shards: the corpus, segmented with ipadic alone.
      dictionary, tokenizer: of the job, with its lexicons.
      texts: normalised held-out text; None: the validation split.
    """
    morphemes = vocabulary.count(shards)
    frequent = [m for m, _ in morphemes.most_common() if m.strip()][:_FREQUENT]
    texts = list(_texts(shards, "validation") if texts is None else texts)
    terms = frequent_terms(texts, set(vocabulary.lexicon(config)), Morphology(dictionary), _FREQUENT)
    tokenizers: dict[str, Tokenizer] = {}

    def add(label: str, train: Callable[[VocabularyConfig], bytes], morphology: Morphology | None):
        try:
            tokenizers[label] = UnigramTokenizer(train(config), morphology, "")
        except vocabulary.VocabularyTooLarge as error:
            smaller = dataclasses.replace(config, size=error.largest)
            tokenizers[f"{label} (only {error.largest:,} pieces)"] = UnigramTokenizer(train(smaller), morphology, "")

    add("plain Unigram", lambda config: vocabulary.train_plain(_lines(shards), config), None)
    add("morphemes", lambda config: vocabulary.train(morphemes, config, None, shards.parent), Morphology())
    if dictionary:
        weights = vocabulary.lexicon_counts(vocabulary.lexicon(config), morphemes.total(), config)
        add("morphemes + lexicon weights",
            lambda config: vocabulary.train(morphemes, config, weights, shards.parent), Morphology())
        tokenizers["morphemes + medical dictionary"] = load_tokenizer(tokenizer)
    return {label: measure(each, texts, frequent, terms) for label, each in tokenizers.items()}


def _texts(shards: Path, split: str) -> Iterator[str]:
    for shard in segmented.shards(shards, split):
        for document in segmented.read(shard):
            yield "".join(document.morphemes)


def _lines(shards: Path) -> Iterator[str]:
    """Training text for plain Unigram: lines, split where they are longer than SentencePiece accepts."""
    for text in _texts(shards, "train"):
        for line in text.split("\n"):
            for start in range(0, len(line), 2000):
                yield line[start:start + 2000]


@dataclasses.dataclass(frozen=True)
class Measures:
    """One row of the table, measured on held-out text."""
    characters_per_token: float
    frequent_morphemes_whole: float  # share of the commonest morphemes that are one piece
    terms_whole: float               # share of the medical terms that are one piece,
    terms_at_morphemes: float        # that are split only at morphemes of ipadic,
    terms_inside: float              # that are split inside a morpheme of ipadic
    bytes_fallen_back: float         # share of tokens that are single bytes


def measure(tokenizer: Tokenizer, texts: Iterable[str], frequent: Sequence[str], terms: Sequence[str]) -> Measures:
    """Measures a tokenizer on held-out normalised `texts`, ipadic's `frequent` morphemes and medical `terms`."""
    characters = token_count = byte_count = 0
    for text in texts:
        ids = tokenizer.encode(text)
        characters += len(text)
        token_count += len(ids)
        byte_count += sum(map(tokenizer.is_byte, ids))
    ipadic = Morphology()
    splits = Counter(_split_of(tokenizer, ipadic, term) for term in terms)
    whole, at_morphemes, inside = (splits[name] / max(1, len(terms)) for name in ("whole", "at morphemes", "inside"))
    return Measures(
        characters / max(1, token_count),
        sum(len(tokenizer.encode_morphemes([morpheme])) == 1 for morpheme in frequent) / max(1, len(frequent)),
        whole, at_morphemes, inside, byte_count / max(1, token_count))


def _split_of(tokenizer: Tokenizer, ipadic: Morphology, term: str) -> str:
    ids = tokenizer.encode(term)
    if len(ids) == 1:
        return "whole"
    if any(map(tokenizer.is_byte, ids)):
        return "inside"
    return "at morphemes" if _ends(tokenizer.pieces(ids)) <= _ends(ipadic.split(term)) else "inside"


def _ends(parts: Iterable[str]) -> set[int]:
    return set(itertools.accumulate(map(len, parts)))


def frequent_terms(texts: Iterable[str], lexicon: Collection[str], dictionary: Morphology, number: int) -> list[str]:
    """The commonest words of `lexicon` in `texts`, segmented by `dictionary`, which was compiled from it."""
    counts = Counter(m for text in texts for m in dictionary.split(text) if len(m) > 1 and m in lexicon)
    return [term for term, _ in counts.most_common(number)]


def markdown(rows: dict[str, Measures]) -> str:
    """The table in Markdown, one row a tokenizer."""
    names = [field.name for field in dataclasses.fields(Measures)]
    return markdown_table(["tokenizer", *(name.replace("_", " ") for name in names)], [
        [label, f"{measures.characters_per_token:.3f}", *(f"{getattr(measures, name):.2%}" for name in names[1:])]
        for label, measures in rows.items()]).rstrip("\n")
