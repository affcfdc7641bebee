import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.text import morphology
from slm.text.morphology import Morphology, compile_dictionary
from slm.text.normalize import normalize

IPADIC = Morphology()


@given(st.text())
def test_lossless(text):
    text = normalize(text)
    assert "".join(IPADIC.split(text)) == text


@pytest.mark.parametrize("text", ["", " ", "  患者は\t発熱 \n\n", "a\0b", "\v", "\f\x1c", "改行\n", "😀𠮟る", "　", "x" * 50_000])
def test_lossless_at_the_edges(text):
    text = normalize(text)
    assert "".join(IPADIC.split(text)) == text


def test_words_of_the_user_dictionary_stay_whole_and_laboratory_terms_too(tmp_path):
    folder = tmp_path / "a folder"
    made = compile_dictionary(["2型糖尿病性網膜症", "網膜色素変性症", "ALT", "MR", "CRP", "腎"], folder / "user.dic")
    assert made == 2  # ASCII of five characters or fewer, and single characters, are left out
    cut = Morphology(folder / "user.dic").split(normalize("CRPとALT、MRIを2型糖尿病性網膜症で"))
    assert cut == ["CRP", "と", "ALT", "、", "MRI", "を", "2型糖尿病性網膜症", "で"]
    assert "2型糖尿病性網膜症" not in IPADIC.split("2型糖尿病性網膜症")
    assert [path.name for path in folder.iterdir()] == ["user.dic"]


def test_words_of_any_length_stay_whole(tmp_path):
    words = ["遺伝性出血性末梢血管拡張症候群関連" + "肺動静脈瘻合併重症型" * n for n in range(1, 4)]
    words += ["網膜" * n + "症" for n in range(5, 16)]
    compile_dictionary(words, tmp_path / "user.dic")
    split = Morphology(tmp_path / "user.dic").split
    assert [word for word in words if word not in split(f"患者は{word}と診断された。")] == []


def test_a_cost_beyond_sixteen_bits_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(morphology, "_cost", lambda surface: -36000)
    with pytest.raises(ValueError, match="a word of 7 characters costs -36000: MeCab's dictionaries hold -32768 to"):
        compile_dictionary(["網膜色素変性症"], tmp_path / "user.dic")
    assert not list(tmp_path.iterdir())


def test_dictionaries_change_the_fingerprint(tmp_path):
    compile_dictionary(["網膜色素変性症"], tmp_path / "one.dic")
    compile_dictionary(["多発性硬化症"], tmp_path / "two.dic")
    prints = {morphology.fingerprint(path) for path in (None, tmp_path / "one.dic", tmp_path / "two.dic")}
    assert len(prints) == 3


def test_fallback_to_the_command_on_path_is_named_where_nothing_is_found(tmp_path, monkeypatch):
    monkeypatch.setattr(morphology, "_bundled_library", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="mecab-utils"):
        compile_dictionary(["網膜色素変性症"], tmp_path / "user.dic")
    command = tmp_path / "mecab-dict-index"
    command.write_text('#!/bin/sh\nwhile [ "$1" != -u ]; do shift; done\necho compiled > "$2"\n')
    command.chmod(0o755)
    assert compile_dictionary(["網膜色素変性症"], tmp_path / "user.dic") == 1
    assert (tmp_path / "user.dic").read_text() == "compiled\n"


def test_no_usable_word_and_a_missing_dictionary_are_refused(tmp_path):
    with pytest.raises(ValueError, match="no word of the list"):
        compile_dictionary(["ALT", "腎"], tmp_path / "user.dic")
    with pytest.raises(FileNotFoundError, match=r"missing\.dic is missing"):
        Morphology(tmp_path / "missing.dic")
