"""Unigram training over morphemes.

SentencePiece seeds its vocabulary only with right-branching substrings, so a morpheme that is always followed by the
boundary would never become a piece (upstream issues 615, 1047, 967). We pass our own seeds: every substring of the
morphemes. And because no piece crosses a morpheme, the training text is the list of distinct morphemes with their
counts, whatever the size of the corpus.

Two additions: the corpus' commonest morphemes always become pieces, because Unigram alone drops ので where の and で
are likelier; and the words of a lexicon add to the counts by their rank, so that medical morphemes become pieces
although general text hardly contains them.
"""

import dataclasses
import io
import itertools
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path

import sentencepiece

from slm.corpus import lexicon as lexicons
from slm.progress import Progress
from slm.text import special_tokens
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.tokenization import segmented

VERSION = 3  # raise it when the same shards and settings give another vocabulary


# Scores are multiples of this, so that their sums are exact in 32 bits too: programs that add in 32 and in 64 bits then
# split a text alike where two splits are as likely.
_SCORE_STEP = 2.0**-10


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """The dictionary that segments the text, and how the pieces are chosen."""
    size: int = 8000
    # Disease and drug lists for MeCab's user dictionary, PATH[,PATH…], as lexicon.py reads them, the commonest word
    # first; empty: the bundled names; "none": ipadic alone.
    lexicons: str = ""
    # Rarer characters fall back to bytes: 3 tokens each, but they leave a piece to something commoner.
    character_coverage: float = 0.9995
    longest_piece: int = 16  # characters
    least_count: int = 1  # of a seed; raise it for a web corpus
    most_seeds: int = 1_000_000
    whole_share: float = 0.25  # of `size`: the commonest morphemes, which always become a piece
    lexicon_share: float = 0.2  # weight of the lexicon's words, relative to the corpus


# For a few megabytes of general text and a small model: rare characters as bytes, and few pieces for the lexicon.
LAPTOP = VocabularyConfig(size=6000, character_coverage=0.998, lexicon_share=0.02)


def lexicon(config: VocabularyConfig) -> list[str]:
    """The normalised words of all lexicons, each once, the commonest of each list first."""
    if config.lexicons == "none":
        return []
    lists = ([entry.surface for entry in entries] for entries in lexicons.lists(config.lexicons))
    interleaved = (word for words in itertools.zip_longest(*lists) for word in words if word)
    return list(dict.fromkeys(filter(None, map(normalize, interleaved))))


class VocabularyTooLarge(ValueError):
    """The text cannot fill the vocabulary; `largest` is the largest size that it can fill."""

    def __init__(self, size: int, largest: int):
        super().__init__(f"the text cannot fill a vocabulary of {size} pieces: the largest size that works is "
                         f"{largest}; give more text or set the vocabulary's size to that")
        self.largest = largest


def train(morphemes: Counter, config: VocabularyConfig, lexicon: Counter | None = None,
          scratch: Path | None = None) -> bytes:
    """Trains a Unigram model on morpheme counts; returns the serialised SentencePiece model.

    Args:
      morphemes: counts of the corpus.
      lexicon: from `lexicon_counts`, added to the counts of the corpus.
      scratch: for files of morphemes, which a killed process leaves behind; None: the system's temporary folder.

    Raises:
      VocabularyTooLarge: the text cannot fill the vocabulary.
      ValueError: the vocabulary is too small for the characters of the text.
    """
    counts = morphemes + (lexicon or Counter())
    with tempfile.TemporaryDirectory(suffix=".writing", dir=scratch) as folder:
        text, seeds = Path(folder, "morphemes.tsv"), Path(folder, "seeds.tsv")
        _write_table(text, ((m, n) for m, n in _ranked(counts) if not re.search(r"[\0\t\n\r\v\f]", m)))
        _write_table(seeds, _seeds(counts, config))
        model = _train(config, input=str(text), input_format="tsv", seed_sentencepieces_file=str(seeds),
                       max_sentence_length=10**6)
    return _keep_whole(model, morphemes, config)


def _keep_whole(model: bytes, morphemes: Counter, config: VocabularyConfig) -> bytes:
    """Makes the commonest morphemes one piece each, replacing the unlikeliest pieces of two and more characters."""
    from sentencepiece import sentencepiece_model_pb2  # late: protobuf
    proto = sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]
    for piece in proto.pieces:
        piece.score = round(piece.score / _SCORE_STEP) * _SCORE_STEP
    scores = {piece.piece: piece.score for piece in proto.pieces}
    proto.trainer_spec.ClearField("input")  # names of temporary files, which would change the fingerprint
    proto.trainer_spec.ClearField("seed_sentencepieces_file")
    wanted = [m for m, _ in _ranked(morphemes)[:int(config.size * config.whole_share)]
              if len(m) <= config.longest_piece and all(c in scores for c in m) and not re.search(r"\d|\s", m)]
    spare = sorted((piece for piece in proto.pieces if piece.type == piece.NORMAL and len(piece.piece) > 1
                    and piece.piece not in wanted), key=lambda piece: piece.score)
    encode = sentencepiece.SentencePieceProcessor(model_proto=model).encode
    for morpheme in wanted:
        parts = encode(morpheme, out_type=str)
        if len(parts) > 1:
            if morpheme not in scores:
                if not spare:  # a vocabulary that holds hardly more than the characters
                    continue
                piece = spare.pop(0)
                piece.piece = morpheme
            else:
                piece = next(p for p in proto.pieces if p.piece == morpheme)
            # Just likelier than its parts together: it wins over them, but hardly over longer pieces that contain it.
            piece.score = sum(scores[part] for part in parts) + _SCORE_STEP
    return proto.SerializeToString()


def count(segmented_folder: Path) -> Counter:
    """How often each morpheme occurs in the training split."""
    morphemes: Counter = Counter()
    for shard in Progress(segmented.shards(segmented_folder, "train"), desc="count", unit="shard"):
        for document in segmented.read(shard):
            morphemes.update(document.morphemes)
    return morphemes


def lexicon_counts(words: Iterable[str], total: int, config: VocabularyConfig) -> Counter:
    """Counts as if the lexicon were a text of `config.lexicon_share` · `total` morphemes.

    Args:
      words: normalised, commonest first; by Zipf's law a word of rank r weighs 1/r. Each counts as a whole and as its
        morphemes by ipadic, as which a word without a piece is encoded.
    """
    ipadic = Morphology()
    weights: dict[str, float] = defaultdict(float)
    for rank, word in enumerate(words, start=1):
        for part in {word, *ipadic.split(word)}:
            weights[part] += 1 / rank
    scale = config.lexicon_share * total / max(1e-9, sum(weights.values()))
    return Counter({part: round(weight * scale) for part, weight in weights.items() if weight * scale >= 1})


def train_plain(lines: Iterable[str], config: VocabularyConfig) -> bytes:
    """The usual Unigram over unsegmented lines, the baseline for morphemes.

    Trained on at most 50,000 lines drawn at random: without morphemes its time grows with the text.
    """
    return _train(config, sentence_iterator=iter(lines), max_sentence_length=16384, input_sentence_size=50_000,
                  shuffle_input_sentence=True)


def _train(config: VocabularyConfig, **source) -> bytes:
    model = io.BytesIO()
    try:
        sentencepiece.SentencePieceTrainer.train(
            model_writer=model, model_type="unigram", vocab_size=config.size,
            character_coverage=config.character_coverage, max_sentencepiece_length=config.longest_piece,
            normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False,
            allow_whitespace_only_pieces=True, split_by_unicode_script=False, split_digits=True, byte_fallback=True,
            user_defined_symbols=list(special_tokens.WHITE_SPACE_SYMBOLS),
            control_symbols=list(special_tokens.CONTROL_SYMBOLS),
            unk_id=0, bos_id=1, eos_id=2, pad_id=3, unk_piece="<unk>", bos_piece="<s>",
            eos_piece=special_tokens.END_OF_DOCUMENT, pad_piece="<pad>",
            num_threads=1, minloglevel=2, **source)  # one thread: the sums, and with them the model, are deterministic
    except RuntimeError as error:
        largest = re.search(r"value <= (\d+)", str(error))
        smallest = re.search(r"required_chars_size|smaller than required_chars|required_chars", str(error))
        if largest:
            raise VocabularyTooLarge(config.size, int(largest[1])) from None
        if smallest:
            raise ValueError(f"a vocabulary of {config.size} pieces cannot hold the text's characters at a coverage of "
                             f"{config.character_coverage}: raise the size or lower the coverage ({error})") from None
        raise
    return model.getvalue()


def _seeds(morphemes: Counter, config: VocabularyConfig) -> list[tuple[str, int]]:
    """Substrings of two and more characters with their counts."""
    counts: Counter[str] = Counter()
    for morpheme, count in morphemes.items():
        length = len(morpheme)
        for start in range(length - 1):
            for stop in range(start + 2, min(length, start + config.longest_piece) + 1):
                counts[morpheme[start:stop]] += count
    kept = [(seed, n) for seed, n in counts.items() if n >= config.least_count and not re.search(r"[\s\0]", seed)]
    # By length times count, as SentencePiece ranks its own seeds.
    return sorted(kept, key=lambda item: (-item[1] * len(item[0]), item[0]))[:config.most_seeds]


def _ranked(counts: Counter) -> list[tuple[str, int]]:
    """Commonest first, equal counts in the order of their characters, so that training is deterministic."""
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))


def _write_table(path: Path, rows: Iterable[tuple[str, int]]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        for text, count in rows:
            file.write(f"{text}\t{count}\n")
