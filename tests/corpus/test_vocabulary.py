from collections import Counter

import numpy as np
import pytest

from slm import sample
from slm.text import tokenizer as tokens
from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.tokenizer import UnigramTokenizer
from slm.tokenization import comparison, vocabulary
from slm.tokenization.vocabulary import VocabularyConfig

CONFIG = VocabularyConfig(size=3072)


@pytest.fixture(scope="module")
def morphemes():
    ipadic = Morphology()
    counts = Counter()
    for row in sample.documents(0.3, seed=0):
        counts.update(ipadic.split(normalize(row["text"])))
    return counts


def test_common_morphemes_are_one_piece(morphemes):
    tokenizer = UnigramTokenizer(vocabulary.train(morphemes, CONFIG), Morphology(), "")
    commonest = vocabulary._ranked(morphemes)[:int(CONFIG.size * CONFIG.whole_share)]
    guaranteed = [m for m, _ in commonest if m.strip() and not any(c.isdigit() for c in m)]
    assert len(guaranteed) > 700
    assert all(len(tokenizer.encode_morphemes([morpheme])) == 1 for morpheme in guaranteed)


def test_the_seeds_are_what_keeps_morphemes_whole(morphemes, monkeypatch):
    """Upstream issue 615: without them, a morpheme that is always followed by the boundary is never a piece."""
    frequent = [m for m, _ in morphemes.most_common(600) if len(m) > 1 and m.strip()]
    bare = VocabularyConfig(size=2500, whole_share=0)

    def whole(model):
        tokenizer = UnigramTokenizer(model, Morphology(), "")
        return sum(len(tokenizer.encode_morphemes([m])) == 1 for m in frequent)

    with_seeds, train = whole(vocabulary.train(morphemes, bare)), vocabulary._train
    monkeypatch.setattr(vocabulary, "_train", lambda config, seed_sentencepieces_file, **rest: train(config, **rest))
    assert with_seeds > 1.15 * whole(vocabulary.train(morphemes, bare))


def test_training_repeats_exactly(morphemes):
    assert vocabulary.train(morphemes, CONFIG) == vocabulary.train(Counter(dict(reversed(morphemes.items()))), CONFIG)


def test_special_tokens_are_where_they_are_expected(morphemes):
    tokenizer = UnigramTokenizer(vocabulary.train(morphemes, CONFIG), None, "")
    assert len(tokenizer) == CONFIG.size
    assert tokenizer.pieces(range(4)) == ["<unk>", "<s>", "</s>", "<pad>"]
    assert tokenizer.end_of_document == 2
    assert len({tokenizer.special(symbol) for symbol in tokens.CONTROL_SYMBOLS}) == 16
    assert tokenizer.pieces(tokenizer.encode("\n\t")) == ["\n", "\t"]


def test_a_vocabulary_the_text_cannot_fill_names_the_largest(morphemes):
    with pytest.raises(ValueError, match=r"cannot fill a vocabulary of 32768 pieces: the largest size that works is"
                                         r" (\d+)") as error:
        vocabulary.train(morphemes, VocabularyConfig(size=32_768))
    largest = int(str(error.value).split("works is ")[1].split(";")[0])
    assert len(UnigramTokenizer(vocabulary.train(morphemes, VocabularyConfig(size=largest)), None, "")) == largest


def test_a_vocabulary_smaller_than_the_characters_is_refused(morphemes):
    with pytest.raises(ValueError, match="vocabulary of 300 pieces cannot hold the text's characters"):
        vocabulary.train(morphemes, VocabularyConfig(size=300))


def test_lexicon_words_weigh_in_by_rank():
    counts = vocabulary.lexicon_counts(["肺炎", "網膜色素変性症"], 10_000, CONFIG)
    assert counts["肺炎"] > counts["網膜色素変性症"] > 0
    assert set(Morphology().split("網膜色素変性症")) <= set(counts)
    assert counts.total() == pytest.approx(10_000 * CONFIG.lexicon_share, rel=0.01)


def test_lexicons_are_read_in_turn_normalised_and_once(tmp_path):
    (tmp_path / "a.txt").write_text("肺炎\nＣＯＰＤ増悪\n", encoding="utf-8")
    (tmp_path / "b.txt").write_text("アムロジピン\n肺炎\n\n喘息\n", encoding="utf-8")
    config = VocabularyConfig(lexicons=f"{tmp_path}/a.txt,{tmp_path}/b.txt")
    assert vocabulary.lexicon(config) == ["肺炎", "アムロジピン", "COPD増悪", "喘息"]
    assert vocabulary.lexicon(VocabularyConfig(lexicons="none")) == []
    (tmp_path / "c.csv").write_bytes("出現形,標準病名\n喘息発作,気管支喘息\n".encode("cp932"))
    assert vocabulary.lexicon(VocabularyConfig(lexicons=f"{tmp_path}/c.csv")) == ["喘息発作"]
    (tmp_path / "d.txt").write_bytes(b"\xff")
    with pytest.raises(ValueError, match=r"d\.txt, line 1 is neither UTF-8"):
        vocabulary.lexicon(VocabularyConfig(lexicons=f"{tmp_path}/d.txt"))


def test_terms_are_told_apart_by_where_they_are_cut(words):
    kinds = {term: comparison._split_of(words, Morphology(), term) for term in ("肺炎", "肺炎患者", "驫麤症")}
    assert kinds == {"肺炎": "whole", "肺炎患者": "at morphemes", "驫麤症": "inside"}


def test_comparison_has_a_row_for_each_tokenizer(products):
    config = VocabularyConfig(size=3072)
    rows = comparison.compare(config, products / "segmented", products / "user.dic", products / "tokenizer")
    assert list(rows) == ["plain Unigram", "morphemes", "morphemes + lexicon weights", "morphemes + medical dictionary"]
    for measures in rows.values():
        assert measures.terms_whole + measures.terms_at_morphemes + measures.terms_inside == pytest.approx(1)
        assert measures.characters_per_token > 0.9
    assert rows["morphemes"].frequent_morphemes_whole > rows["plain Unigram"].frequent_morphemes_whole
    assert comparison.markdown(rows).count("\n") == 5


def test_comparison_names_the_size_of_a_tokenizer_that_the_text_cannot_fill(products):
    config = VocabularyConfig(size=30_000)
    rows = comparison.compare(config, products / "segmented", products / "user.dic", products / "tokenizer")
    assert [label for label in rows if "(only " in label and label.endswith(" pieces)")]


@pytest.mark.slow
def test_a_vocabulary_of_hardly_more_than_the_characters_is_trained(morphemes):
    """Then there are fewer spare pieces than common morphemes."""
    def trained(size):
        return UnigramTokenizer(vocabulary.train(morphemes, VocabularyConfig(size=size, whole_share=0.9)), None, "")

    characters = len({character for morpheme in morphemes for character in morpheme})
    sizes = range(characters + 280, characters + 340, 20)  # with the bytes and the special tokens
    assert [len(trained(size)) for size in sizes] == [*sizes]


def test_scores_are_sums_that_32_bits_hold(morphemes):
    scores = np.array(UnigramTokenizer(vocabulary.train(morphemes, CONFIG), None, "").scores(), np.float64)
    assert (scores * 1024 % 1 == 0).all() and len(set(scores)) > 100
