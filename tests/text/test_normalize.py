import pytest
from hypothesis import given
from hypothesis import strategies as st

from slm.text.normalize import aligned, normalize

ANY_TEXT = st.text()  # hypothesis leaves surrogates out by default; they are refused, see below


@pytest.mark.parametrize("text, expected", [
    ("10⁶/μL", "10^6/μL"),
    ("10⁻⁵", "10^-5"),
    ("½錠", "1/2錠"),
    ("1½錠", "1 1/2錠"),
    ("½1½½2錠", "1/2 1 1/2 1/2 2錠"),
    ("SpO₂ 94%", "SpO2 94%"),
    ("log₂10", "log_2 10"),
    ("50㎡", "50m^2"),
    ("①②2", "(1)(2)2"),
    ("3〜5日", "3〜5日"),
    ("3～5日", "3〜5日"),
    ("10~20mg", "10~20mg"),
    ("ＷＢＣ １２,３００／μＬ", "WBC 12,300/μL"),
    ("ﾒﾄﾎﾙﾐﾝ", "メトホルミン"),
    ("a\r\nb\rc", "a\nb\nc"),
    ("全角　空白", "全角 空白"),
    ("▁", "_"),
    ("−5℃", "-5°C"),
    ("⻑さ5cm、⻭根、⻄病棟、⼾籍、⿊色便", "長さ5cm、歯根、西病棟、戸籍、黒色便"),  # as PDFs have them
    ("葛\U000e0100城、辻\U000e0101、神\ufe00、♥\ufe0f", "葛城、辻、神、♥"),
    ("か\U000e0100\u3099", "が"),
])
def test_clinical_notation_keeps_its_meaning(text, expected):
    assert normalize(text) == expected


@given(ANY_TEXT)
def test_idempotent(text):
    once = normalize(text)
    assert normalize(once) == once


def test_every_character_is_idempotent_between_digits():
    for code in range(0x30000):
        if not 0xD800 <= code < 0xE000:
            once = normalize(f"1{chr(code)}2")
            assert normalize(once) == once, hex(code)


def test_lone_surrogate_is_refused_with_its_place():
    with pytest.raises(ValueError, match=r"lone surrogate \(U\+DC80\) at character 2"):
        normalize("患者\udc80")


@given(st.text(alphabet=st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(
    "0５½¾⁶₂ｶﾞﾟﾊ゛か\u3099\u309a\u200b\r\n①㎡⻑\ufe00\U000e0100e\u0301각\u1100\u1161")), max_size=12))
def test_aligned_parts_are_the_text_and_what_it_becomes(text):
    pairs = aligned(text)
    assert "".join(part for part, _ in pairs) == text
    assert "".join(part for _, part in pairs) == normalize(text)


def test_parts_are_as_short_as_they_can_be():
    assert aligned("ﾊﾞｲﾀﾙは1½錠、10⁶/μL\r\nか\u3099") == [
        ("ﾊﾞ", "バ"), ("ｲ", "イ"), ("ﾀ", "タ"), ("ﾙ", "ル"), ("は", "は"), ("1½", "1 1/2"), ("錠", "錠"), ("、", "、"),
        ("1", "1"), ("0⁶", "0^6"), ("/", "/"), ("μ", "μ"), ("L", "L"), ("\r\n", "\n"), ("か\u3099", "が")]
