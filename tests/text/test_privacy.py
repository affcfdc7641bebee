"""What identifies a person is masked, by its kind; what treats them is not. Names here come from a generator's lists."""

import pytest

from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.privacy import PLACEHOLDERS, facility_list, mask

MORPHOLOGY = Morphology()


def masked(text, **arguments):
    text = normalize(text)
    return mask(text, MORPHOLOGY.tag(text), **arguments)


@pytest.mark.parametrize("text, expected", [
    ("患者氏名：山田　太郎　様", "患者氏名:{name} 様"),
    ("佐藤花子さんは主治医の高橋先生に相談した。", "{name}さんは主治医の{name}先生に相談した。"),
    ("紹介患者の松本あすか氏は", "紹介患者の{name}氏は"),
    ("ナカムラ シュウヘイ様", "{name}様"),
    ("鈴木一郎（78歳、男性）が救急搬送", "{name}(78歳、男性)が救急搬送"),
    ("生年月日：昭和20年3月5日", "生年月日:{birth_date}"),
    ("1945年3月5日生まれの男性", "{birth_date}生まれの男性"),
    ("電話 03-5321-1111、携帯 090-1234-5678", "電話 {phone}、携帯 {phone}"),
    ("FAX(03)1234-5678 / +81-90-1234-5678", "FAX{phone} / {phone}"),
    ("taro.yamada@example.co.jp", "{email}"),
    ("〒160-0023 東京都新宿区西新宿2丁目8番1号", "〒{postal_code} {address}"),
    ("マイナンバー 1234 5678 9018", "マイナンバー {my_number}"),
    ("保険者番号 06132013", "保険者番号 {insurance_number}"),
    ("患者ID: 0012345", "患者ID: {patient_number}"),
    ("鈴木クリニックより紹介", "{facility}より紹介"),
])
def test_masked(text, expected):
    assert masked(text)[0] == expected.format(**PLACEHOLDERS)


@pytest.mark.parametrize("text", [
    "アスピリン100mgを1日1回、0123456789 mg、10-20mg、5〜10%、血小板12.3×10^4/μL、WBC 8,900/μL、HbA1c 7.2%、血圧132/84 mmHg",
    "2024年3月5日に発症し、2024/3/10に手術を行った。1945年3月5日に発症。",
    "橋本病、川崎病、高安動脈炎、同様に苦悶様表情、皆様、患者さん、院長先生、毛様体、当院、近医、大学病院",
    "ISBN 978-4-06-123456-7、PMID 12345678、ICD-10 E11.9、Stage IIIA、第3-5肋骨、2020-01-05 10:30",
    "鼠径リンパ節郭清術、間質性肺炎、上行結腸", "123456789012 mg", "",
])
def test_left_alone(text):
    assert masked(text) == (normalize(text), {})


@pytest.mark.parametrize("date", [
    "4020611", "4-020611", "S110930", "H020611", "020611", "19900611", "平2・6・11", "S11.9.30", "S 11 / 9 / 30", "平成２年６月１１日",
    "昭和十一年九月三十日", "平成元年6月11日", "平成2年6月", "1936年9月", "昭和11年", "1990年(平成2年)6月11日", "1990/6/11(平成2年6月11日)",
    "1990 6 11", "11/06/1990", "11 Jun 1990", "June 11, 1990", "【昭和】11年9月30日", "西暦1990年6月11日", "4-2-6-11", "H2-6-11",
    "4 2 6 11", "4/020611", "平成 0 2 年 0 6 月 1 1 日", "1990"])
def test_a_labelled_date_of_birth_in_any_notation(date):
    for label in ("生年月日 ", "生年月日：", "DOB: ", "誕生日", "生年月日(西暦) ", "生年月日\n", "生年月日:\n ", "生　年　月　日　", "Date of birth:"):
        assert masked(f"性別 女\n{label}{date}\n身長 150 cm") == (normalize(f"性別 女\n{label}[生年月日]\n身長 150 cm"), {
            "birth_date": 1}), (label, date)


@pytest.mark.parametrize("text, expected", [
    ("生:S11.9.30 男", "生:{birth_date} 男"), ("生 昭和11年9月30日", "生 {birth_date}"), ("平2・6・11生", "{birth_date}生"),
    ("平成2年6月生まれの女性", "{birth_date}生まれの女性"), ("4-020611 生", "{birth_date} 生"), ("誕生日は6月11日", "誕生日は{birth_date}"),
    ("昭和十一年九月三十日生", "{birth_date}生"), ("02.6.11生", "{birth_date}生"), ("生年月日 □昭 ■平 2年6月11日", "生年月日 □昭 ■平 {birth_date}"),
    ("生年月日 M・T・S・H 2年6月11日", "生年月日 M・T・S・H {birth_date}"), ("生年月日：'90/6/11", "生年月日:'{birth_date}"),
    ("date_of_birth=1990-06-11", "date_of_birth={birth_date}"),
    ("出生：2020年6月11日", "出生:{birth_date}"), ("Born: 11 June 1990", "Born: {birth_date}"),
])
def test_dates_next_to_born(text, expected):
    assert masked(text)[0] == expected.format(**PLACEHOLDERS)


@pytest.mark.parametrize("text", [
    "生年月日不明。2020年1月5日に入院", "生年月日\n\n入院日 2020/1/1", "学生 4020611", "人生 1990/6/11", "生 3.5 mg", "発生:5例",
    "再生 S1・2・3の根", "令和5年4月生検を施行", "1990年4月生体腎移植", "WBC 4020611 生化学", "生年月日:未記入 3-4回", "出生:3,240g",
    "誕生日が二年違う", "newborn 3.2 kg", "生年月日 女 70歳"])
def test_other_numbers_near_the_words_of_birth(text):
    assert "[生年月日]" not in masked(text)[0]


def test_counts_by_kind():
    assert masked("山田太郎様、佐藤花子様。電話 03-5321-1111")[1] == {"name": 2, "phone": 1}


def test_public_persons_keep_their_names_but_not_numbers():
    text = "湯川秀樹氏(1907年1月23日生まれ)の研究所 電話 075-753-7000"
    assert masked(text, persons=False)[0] == f"湯川秀樹氏(1907年1月23日生まれ)の研究所 電話 {PLACEHOLDERS['phone']}"


def test_a_list_of_facilities():
    facilities = facility_list(["みどりの丘療養所", "国立がん研究センター中央病院", ""])
    assert masked("国立がん研究センター中央病院へ転院", facilities=facilities)[0] == "[施設名]へ転院"
    assert facility_list([]) is None


def test_the_check_digit_decides_about_a_bare_number():
    assert masked("番号は1234 5678 9018です")[1] == {"my_number": 1}
    assert masked("番号は1234 5678 9012です")[1] == {}


def test_a_long_line_takes_no_long_time():
    text = "0" * 20_000 + "-" * 20_000 + "市" * 20_000 + "a@" * 10_000 + "記号" * 5_000
    assert masked(text)[0]
