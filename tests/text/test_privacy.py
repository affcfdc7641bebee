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
