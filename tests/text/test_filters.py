"""Each rule drops what it is for, by the numbers it states, and keeps clinical text."""

import numpy as np
import pytest

from slm import sample
from slm.text import filters
from slm.text.bigram_pmi import BigramPMI
from slm.text.cleaning import clean, without_boilerplate
from slm.text.filters import PROFILES, Profile
from slm.text.morphology import Morphology
from slm.text.segmented_text import SegmentedText

MORPHOLOGY = Morphology()
GOOD = [document["text"] for document in sample.prose()]
CASE = ("78歳の女性。2型糖尿病と高血圧で通院中。3日前から38.5℃の発熱と湿性咳嗽があり、当院を受診した。SpO2 92%(室内気)、WBC 14,200/μL、"
        "CRP 12.3 mg/dL。胸部CTで右下葉に浸潤影を認め、市中肺炎と診断して入院とした。セフトリアキソン2 gを1日1回点滴静注し、第5病日に解熱した。")
EXAM = "子宮頸癌の危険因子はどれか。2つ選べ。\n喫煙\n初経遅延\nHPV感染\n高身長\n未産"


def page(text, warnings=()):
    return SegmentedText(text, MORPHOLOGY, warnings)


@pytest.fixture(scope="module")
def language():
    return BigramPMI.learn((d["text"] for d in sample.documents(0.3, 0)), MORPHOLOGY)


def reasons(text, profile, language):
    rules = [rule(page(text), PROFILES[profile]) for rule in (*filters.CHEAP, *filters.MORPHEMIC)]
    return {*filter(None, [*rules, filters.grammar(page(text), PROFILES[profile], language)])}


@pytest.mark.parametrize("text", [CASE, EXAM, "1日3回毎食後に服用する。", "膣カンジダ症、肛門周囲膿瘍、前立腺癌、陰茎癌の鑑別"])
def test_clinical_text_is_kept(text, language):
    assert reasons(text, "clinical", language) == set()


@pytest.mark.parametrize("profile", ["encyclopedia", "literature", "clinical", "textbook"])
def test_the_prose_of_the_project_is_kept(profile, language):
    assert all(not reasons(clean(text, profile), profile, language) for text in GOOD)


def test_shuffled_words_have_no_grammar(language):
    rng = np.random.default_rng(0)
    for text in GOOD[:10]:
        shuffled = "".join(rng.permutation(MORPHOLOGY.split(text)))
        assert filters.grammar(page(shuffled), PROFILES["clinical"], language) == "no_grammar"
        assert filters.grammar(page(text), PROFILES["clinical"], language) is None


@pytest.mark.parametrize("text, reason", [
    ("The patient was admitted with pneumonia and treated.", "not_japanese"),
    ("漢字" * 100, "little_hiragana"),
    ("アイウエオカキクケコサシスセソのはがを" * 3, "mostly_katakana"),
    ("これは短いです。", "short"),
    ("", "not_japanese"),
])
def test_language(text, reason):
    assert filters.language(page(text), PROFILES["web"]) == reason


def test_language_at_its_limit():
    half = Profile(japanese=0.5, hiragana=0, katakana=1, letters=0)
    assert filters.language(page("ああああaaaa"), half) is None
    assert filters.language(page("ああああaaaaa"), half) == "not_japanese"


def test_repeated_lines_counts_copies_not_first_ones():
    limit = Profile(repeated_lines=0.3)
    lines = [f"これは{number}番目の行です" for number in "一二三四五六七"]
    assert filters.repeated_lines(page("\n".join([*lines, lines[0]])), limit) is None  # 1 of 8
    assert filters.repeated_lines(page("\n".join([*lines, *lines[:4]])), limit) == "repeated_lines"


def test_duplicate_ngrams_by_hand():
    """Ten different morphemes, ten times: all but the first ten are duplicates."""
    text = "".join("山川海空森町村島谷丘") * 10
    unigrams = SegmentedText(text, MORPHOLOGY)
    unigrams.__dict__["tagged"] = (list(text), [""] * 100)
    assert filters.repetition(unigrams, Profile(repeated=1.0)) == "common_3_gram"  # ten of a hundred, each of three
    assert filters.repetition(unigrams, Profile(repeated=4.0)) == "duplicate_5_grams"
    assert len(np.unique(unigrams.ngrams(5))) == 10
    assert len(unigrams.ngrams(5)) == 96


def test_compression():
    assert filters.compression(page("同じ文です。" * 200), PROFILES["web"]) == "compresses_well"
    assert filters.compression(page("短い"), PROFILES["web"]) is None


def test_words_count_at_borders_of_morphemes_only():
    clinical = PROFILES["clinical"]
    assert filters.words(page("ペニシリン、エロージョン、バイブレーション、アダルトチルドレンについて述べる。" * 3), clinical) is None
    assert filters.words(page("無修正の巨乳動画、人妻と熟女の乱交、デリヘル情報。" * 3), clinical) == "words"


@pytest.mark.parametrize("rule, text, reason", [
    (filters.advertising, "送料無料!今すぐ購入。期間限定セール開催、ポイント還元。お見逃しなく。", "advertising"),
    (filters.boilerplate, "ホーム > 会社概要 > お問い合わせ\nCopyright 2024 Example Inc. All Rights Reserved.\n本文です。", "boilerplate"),
    (filters.noise, "縺薙ｌ縺ｯ譁ｭ縺代◆譁�蟄励〒縺吶��", "noise"),
    (filters.noise, "<div class='a'>本文</div><br><p>次の段落</p>", "noise"),
])
def test_what_belongs_to_no_text(rule, text, reason):
    for profile in ("web", "clinical"):
        assert rule(page(text), PROFILES[profile]) == reason
        assert rule(page(CASE), PROFILES[profile]) is None


def test_teasers_end_in_ellipses():
    text = "糖尿病とは。健康の森のページです。血糖値が高くなる...\n高血圧とは。原因から治療まで...\n脂質異常症の治療は...続きを読む"
    assert filters.sentences(page(text), PROFILES["clinical"]) == "ellipsis"
    assert filters.sentences(page(text.replace("...", "。")), PROFILES["clinical"]) is None


def test_warnings_of_the_source():
    assert filters.warnings(page(CASE, ("adult",)), PROFILES["web"]) == "warned_adult"
    assert filters.warnings(page(CASE, ("adult",)), PROFILES["clinical"]) is None


@pytest.mark.parametrize("profile, text, expected", [
    ("encyclopedia", "肺炎()は感染症である。\n== 脚注 ==\n1. 文献", "肺炎は感染症である。"),
    ("encyclopedia", "画像診断とは、画像による診断である。\nファイル:a.png\nカテゴリ:医学", "画像診断とは、画像による診断である。"),
    ("literature", "山《やま》の上。\n\n底本:「全集」\n入力:某", "山の上。"),
    ("literature", "|東京《とうきょう》へ行く[#「行く」に傍点]。", "東京へ行く。"),
    ("clinical", "体温 38.5℃  \n\n\n\n咳あり。\n参考文献\n1)", "体温 38.5°C\n\n咳あり。\n参考文献\n1)"),
])
def test_cleaning(profile, text, expected):
    assert clean(text, profile) == expected


def test_boilerplate_is_taken_out_of_a_page():
    assert without_boilerplate("ホーム\n糖尿病は慢性の疾患である。\n無断転載を禁じます。") == "糖尿病は慢性の疾患である。"
