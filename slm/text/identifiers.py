"""Numbers, contacts, addresses and dates of birth, recognised by their shape and the label before them.

The length of a bare number is never enough: it needs a label, a telephone's leading zero, or a valid check digit, and
no unit after it.
"""

import re
from collections.abc import Iterator

from slm.text.spans import Span

DASH = "[-‐‑‒–—−ーｰ]"
_S = r"[^\S\n]"  # white space inside a line
_LABEL_END = rf"{_S}{{0,3}}(?:[:=#|\])】]|は|が|→)?{_S}{{0,3}}"
_UNITS = "円|万|億|歳|才|名|人|例|件|年|個|倍|回|日|時|分|秒|点|位|錠|単位"
_NO_UNIT = rf"(?![\d.]|{_S}?(?:[A-Za-zμ%‰℃°/^×]|{_UNITS}))"
_START = r"(?<![\d.,/A-Za-z-])"
_KANJI = "一-鿿々"
_KANA = "ぁ-んァ-ヶー"

# Contacts -----------------------------------------------------------------------------------------------------

_EMAIL = re.compile(rf"(?<![\w.+-])[A-Za-z0-9][\w.+%-]{{0,63}}{_S}?@{_S}?[A-Za-z0-9][A-Za-z0-9-]{{0,62}}"
                    r"(?:\.[A-Za-z0-9-]{1,63}){1,4}", re.ASCII)
_BETWEEN = rf"(?:{DASH}|{_S}?[()]{_S}?|{_S}|\.)"
_PHONE = re.compile(rf"{_START}(?:\+81[- ]?|\(?0)(?:\(0\))?\d{{1,4}}{_BETWEEN}\d{{1,4}}{_BETWEEN}\d{{3,4}}(?!{DASH}?\d)")
_GROUPED = re.compile(rf"{_START}\d{{2}}({DASH})\d{{4}}\1\d{{4}}(?!{DASH}?\d)")
_BARE_PHONE = re.compile(rf"{_START}(?:0[5789]0\d{{8}}|0120\d{{6}}|0800\d{{7}}|0[1-9]\d{{8}}){_NO_UNIT}")
_PHONE_LABEL = re.compile(
    r"(?:電話|TEL|Tel|tel|℡|携帯|ケータイ|スマホ|連絡先|自宅|勤務先|FAX|Fax|fax|ファッ?クス|直通|フリーダイヤル|内線)"
    rf"[^\d\n]{{0,12}}?(\(?\+?\d[\d ()]{{2,6}}(?:{DASH}|[\d ()])*\d{{3,}})")


def _is_phone(match: re.Match) -> bool:
    number = match.group()
    digits = re.sub(r"\D", "", number)
    if number.startswith("+81"):
        return 11 <= len(digits.replace("810", "81", 1)) <= 12
    if "." in number and not re.match(r"\(?0[5789]0\.", number):  # dots are decimal points
        return False
    return len(digits) == 10 or (len(digits) == 11 and bool(re.match("0[5789]0|0120|0800|0570", digits)))


def _is_labelled_phone(match: re.Match) -> bool:
    return 9 <= len(re.sub(r"\D", "", match.group(1))) <= 13


# Numbers of persons -------------------------------------------------------------------------------------------

_MY_NUMBER = re.compile(r"(?:マイナンバー|個人番号|My ?Number)(?:カード)?(?:番号)?[^\d\n]{0,8}?"
                        r"(\d{4}[- ]?\d{4}[- ]?\d{4})(?!\d)", re.IGNORECASE)
_TWELVE = re.compile(rf"{_START}\d{{4}}([- ]?)\d{{4}}\1\d{{4}}(?!-?\d){_NO_UNIT}")
_SYMBOLS = rf"[0-9A-Za-z{_KANJI}ぁ-ん]{{0,5}}"
_INSURANCE = re.compile(
    "(?:保険者番号|被保険者(?:証)?(?:等)?(?:の)?(?:記号)?[・/]?(?:番号)?|保険証(?:の)?(?:記号)?[・/]?(?:番号)?|健康保険(?:証)?(?:番号)?"
    "|公費(?:負担者)?番号|負担者番号|(?:公費)?受給者(?:証)?番号|医療証番号|介護保険(?:証|被保険者)?番号|後期高齢者(?:医療)?(?:被保険者)?番号"
    rf"|国保(?:番号)?|社保(?:番号)?|保険番号|記号[・/]?番号|新番号){_LABEL_END}"
    rf"((?:記号)?[ :]{{0,2}}{_SYMBOLS}[-]?[0-9][0-9 ・/、-]{{2,26}}[0-9])(?![0-9])")
_SYMBOL_AND_NUMBER = re.compile(rf"記号{_S}?[::]?{_S}?([0-9A-Za-z{_KANJI}ぁ-ん・-]{{1,10}})[ 、,・/]{{0,3}}番号{_S}?[::]?{_S}?"
                                r"\d{1,12}(?: ?\(?枝番\)? ?\d{2})?")
_OF_PATIENT = r"((?:[A-Za-z]{1,4}[-_]?)?\d[\d-]{2,16}(?:[-_]?[A-Za-z]\d{0,4})?)(?![\d.]\d)"
_PATIENT = re.compile(
    rf"(?:(?:患者|カルテ|診察券|診察カード|登録患者|入院|外来|病歴|診療録|整理|受診者?|利用者|照会|依頼){_S}?"
    rf"(?:ID|I\.D\.|id|番号|No\.?|NO\.?|no\.?|ナンバー|コード|#){_LABEL_END}"
    rf"|(?<![A-Za-z])(?:ID|I\.D\.|Pt\.?{_S}?ID|MRN|Chart{_S}?No\.?|Patient{_S}?ID){_S}?(?:番号|No\.?)?{_S}?[:=#]{_S}{{0,2}}"
    rf"|(?:カルテ|診察券){_LABEL_END})" + _OF_PATIENT)
_BARE_ID = re.compile(r"(?<![A-Za-z])(?:ID|MRN)[ 　]?" + _OF_PATIENT)  # in public text this may be any catalogue's


def _is_my_number(match: re.Match) -> bool:
    """The check digit of an individual number (Order of the MIC No. 85 of 2014, article 5)."""
    digits = [int(digit) for digit in re.sub(r"\D", "", match.group())]
    rest = sum(digit * (n + 1 if n <= 6 else n - 5) for n, digit in enumerate(digits[10::-1], 1)) % 11
    return digits[11] == (0 if rest <= 1 else 11 - rest)


# Addresses ----------------------------------------------------------------------------------------------------

_PREFECTURE = (
    "(?:北海道|東京都|(?:大阪|京都)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|山梨|長野|岐阜|静岡|愛知|三重"
    "|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|宮崎|鹿児島|沖縄)県)")
_DIGITS = "[0-9一二三四五六七八九十]{1,5}"
_WARD = f"(?:[{_KANJI}{_KANA}]{{1,8}}?[市区町村郡島]{_S}?)"
_CITY = (f"(?:(?<![{_KANJI}])(?:[{_KANJI}ァ-ヶー]{{2,7}}?[市区町村郡島]{_S}?)|(?<![{_KANJI}ぁ-ん])[ぁ-ん]{{2,5}}市)"
         f"(?:[{_KANJI}ァ-ヶー]{{1,7}}?[区町村]{_S}?){{0,2}}")
_TOWN_KANJI = f"[{_KANJI}ァ-ヶー]{{0,12}}?(?:[のがケヶ][{_KANJI}]{{1,6}})?{_S}?"
_TOWN = f"[{_KANJI}{_KANA}A-Z]{{0,16}}?{_S}?"
# 1丁目2番3号, 14番地の11, 二丁目8-1
_STREET = (f"{_DIGITS}{_S}?(?:丁目|番地|番(?={_S}?{_DIGITS}))"
           rf"(?:(?:{_S}?の)?{_S}?{_DIGITS}{_S}?(?:丁目|番地|番|号室|号|{DASH}(?=\d)|(?![\d年月日歳時分人名例件%.(:])))*")
_HYPHENS = (rf"\d{{1,4}}(?:(?:{DASH}|の)\d{{1,5}}){{1,3}}"
            rf"(?!{DASH}?\d|[a-zA-Z]|{_S}?(?:[%‰℃]|年|月|日|歳|名|人|例|回|件|割|位|度|倍|時|分))")
_NEXT_FIELD = ("連絡|電話|携帯|自宅|主治|担当|氏名|名前|生年|患者|紹介|昭和|平成|令和|大正|西暦|年齢|性別|内線|緊急|受診|勤務|病院|医院|日時|年月|続柄|本人|家族"
               "|保険|記号|保護|入院|外来|世帯|職業|宛")
_BUILDING = (rf"(?:{_S}?(?!{_NEXT_FIELD})[{_KANJI}ァ-ヶーA-Za-z](?:(?!{_NEXT_FIELD})[{_KANJI}{_KANA}A-Za-z・]){{1,20}}"
             rf"(?:{_S}[ァ-ヶー]{{2,10}})?{_S}?\d{{1,4}}(?:{_S}?号室?|階|F)?(?![\d(年月日歳:]|{DASH}\d))?")
_ADDRESS = re.compile(
    rf"{_PREFECTURE}{_S}?{_WARD}{{1,3}}{_TOWN}(?:{_STREET}|{_HYPHENS}|\d{{1,5}}番(?:地(?:の\d{{1,4}})?)?){_BUILDING}"
    rf"|{_CITY}{_TOWN_KANJI}(?:{_STREET}|{_HYPHENS}){_BUILDING}")
_ADDRESS_LABEL = re.compile(
    rf"(?:(?:現|自宅)?住所|本籍(?:地)?|居住地|所在地|転居先|連絡先住所){_S}{{0,3}}(?:[:=|\]】]|(?<=住所)は|(?<=住所)(?={_S})){_S}{{0,3}}"
    rf"((?=[^\n]{{0,14}}[都道府県市区町村郡])(?:(?!{_NEXT_FIELD})[^\n、。,;【\[(|\t]){{4,60}}?)"
    rf"(?={_S}*(?:$|[\n、。,;【\[(|\t]|TEL|Tel|℡|〒|に在住|に居住|です|{_NEXT_FIELD}))", re.MULTILINE)
_POSTAL = re.compile(rf"〒{_S}?(\d{{3}}{_S}?{DASH}?{_S}?\d{{4}})(?!\d)|郵便番号{_LABEL_END}(\d{{3}}{DASH}?\d{{4}})(?!\d)")
_POSTAL_BARE = re.compile(rf"(?<!\d)\d{{3}}{DASH}\d{{4}}(?={_S}{{0,2}}{_PREFECTURE})")

# Dates of birth -----------------------------------------------------------------------------------------------

_OLD_ERA, _ERA = "(?:明治?|大正?|昭和?|[MTS]\\.?)", "(?:明治?|大正?|昭和?|平成?|令和?|西暦|[MTSHR]\\.?)"
_YEAR = rf"(?:\d{{1,4}}|元){_S}?年{_S}?"
DATE = (rf"(?:(?:{_ERA}{_S}?)?{_YEAR}(?:\({_S}?{_ERA}?{_S}?(?:\d{{1,4}}|元){_S}?年?{_S}?\){_S}?)?\d{{1,2}}{_S}?月{_S}?\d{{1,2}}{_S}?日"
        rf"|(?:{_ERA}{_S}?\d{{1,2}}|(?:18|19|20)\d{{2}}){_S}?[./-]{_S}?\d{{1,2}}{_S}?[./-]{_S}?\d{{1,2}}|(?:18|19|20)\d{{6}}(?!\d))")
_BORN_AFTER_WORDS = r"(?:生まれ|うまれ|出生|誕生|生(?=[\s)、。,まの(/|]|$))"
# Behind a label a date may have any notation: 昭23・4・5, 3-230405 (era, year, month, day), 1948年4月, 5 Apr 1948.
_ANY_ERA = rf"(?:[(【\[]?(?:明治|大正|昭和|平成|令和|西暦|[明大昭平令]|[MTSHR]\.?)[)】\]]?{_S}?)"
_N, _POINT = "[0-9〇零一二三四五六七八九十]", rf"{_S}?(?:[年月./・,、]|{DASH}){_S}?"
_IN_BRACKETS = rf"(?:\({_S}?{_ANY_ERA}?(?:{_N}{{1,4}}|元){_S}?年?{_S}?\){_S}?)?"
_MONTH = r"(?:jan|feb|mar|apr|may|jun|jul|aug|sept?|oct|nov|dec)[a-z]{0,6}\.?"
_ANY_DATE = (
    rf"(?:(?:[1-5]{_S}?{DASH}{_S}?)?{_ANY_ERA}?(?:{_N}{{1,4}}|元)(?:{_S}?年{_S}?{_IN_BRACKETS}|{_POINT}){_N}{{1,3}}"
    rf"(?:{_POINT}{_N}{{1,4}}(?:{_S}?日)?|{_S}?月)"
    rf"|[1-5]{_S}\d{{1,2}}{_S}\d{{1,2}}{_S}\d{{1,2}}|{_ANY_ERA}?(?:{_N}{{1,4}}|元)(?:{_POINT}{_N}{{1,3}}(?:{_S}?日)?|{_S}{_N}{{1,2}}{_S}{_N}{{1,2}}(?!歳))"
    rf"|(?:{_ANY_ERA}?\d{{1,4}}|{_ANY_ERA}(?:{_N}{{1,3}}|元)){_S}?年"
    rf"|{_ANY_ERA}?(?:\d{_S}?){{1,4}}年{_S}?(?:\d{_S}?){{1,2}}月(?:{_S}?(?:\d{_S}?){{1,2}}日)?"
    rf"|(?:[1-5]{_S}?(?:{DASH}|[./・])?{_S}?|{_ANY_ERA})?\d{{6}}"
    rf"|(?:18|19|20)\d{{2}}(?:\d{{4}})?"
    rf"|(?:\d{{1,2}}(?:st|nd|rd|th)?[ .,/-]{{0,2}}{_MONTH}|{_MONTH}[ .,/-]{{0,2}}\d{{1,2}}(?:st|nd|rd|th)?)[ .,/-]{{0,2}}\d{{2,4}}"
    r")(?!\d)")
_BIRTH_LABEL = (rf"(?:(?:生|誕生|出生){_S}?年{_S}?月{_S}?日|誕生日|出生日|生年月?|(?:出生|誕生|(?<![一-鿿ぁ-んァ-ヶ])生)"
                rf"(?=[:=\s]{{1,3}}(?:{_ANY_ERA}(?:{_N}|元)|(?:18|19|20)\d\d|[1-5]{DASH}?\d{{6}}))"
                r"|(?<![a-z])(?:DOB|D\.O\.B\.?|Date[ _]of[ _]birth|birth[ _]?da(?:te|y)|born(?: on)?))")
_BORN_LABELLED = re.compile(rf"{_BIRTH_LABEL}(?:{_S}?\([^()\d\n]{{1,12}}\))?[\s:;=|<>→)\]】〉》・、,.はが'\"「『-]{{0,6}}"
                            rf"(?:(?:[□■○◯●レ✓(]?[明大昭平令MTSHR][治正和成]?[)]?[・/,、 ]{{0,2}}){{2,6}})?"
                            rf"({_ANY_DATE}(?:{_S}?\({_ANY_DATE}\))?)", re.IGNORECASE)
_BORN_BEFORE = re.compile(rf"{_BIRTH_LABEL}[^\d\n元MTSHR明大昭平令西]{{0,8}}({DATE})", re.IGNORECASE)
_BORN_AFTER = re.compile(rf"({DATE}){_S}?(?:\([^()\n]{{1,12}}\){_S}?)?に?{_BORN_AFTER_WORDS}")
# Without a day, with other separators, or as digits: only right before 生.
_BORN_AFTER_ANY = re.compile(
    rf"(?<![\d.])({_ANY_ERA}?(?:{_N}{{1,4}}|元){_S}?年{_S}?{_N}{{1,3}}{_S}?月(?:{_S}?{_N}{{1,3}}{_S}?日)?"
    rf"|{_ANY_ERA}{_S}?\d{{1,2}}{_POINT}\d{{1,2}}{_POINT}\d{{1,2}}"
    rf"|(?:18|19|20)\d{{2}}(?:{_POINT}\d{{1,2}}){{1,2}}|\d{{2}}(?:[./]\d{{1,2}}){{2}}|(?:[1-5]{DASH}?|{_ANY_ERA})\d{{6}}){_S}?{_BORN_AFTER_WORDS}")
_BEHIND = re.compile(rf"[)\]、,/|( \t]{{0,4}}({DATE})(?=[\s)、。,|(/]|$|生)", re.MULTILINE)


_SEX_OR_AGE = r"(?:[MF男女](?:性|ale|emale)?|\d{1,3}\s?(?:歳|才|[Yy](?:/?o)?))"
_BIRTH_BY_SEX = re.compile(
    rf"(?<![A-Za-z]){_SEX_OR_AGE}[ /・(]{{1,3}}(?:{_SEX_OR_AGE}[ /・(]{{1,3}})?({DATE})(?=[\s)、,/]|$|生)"
    rf"|(?<![\d.])({DATE})[ /・(]{{1,3}}{_SEX_OR_AGE}(?![A-Za-zの])", re.MULTILINE)


def births_by_sex(text: str) -> Iterator[Span]:
    """Dates between a sex and an age, or right next to one, as in the head of a record. Only of old eras and years up to
    2015, so that the date of a visit does not match."""
    for match in _BIRTH_BY_SEX.finditer(text):
        group = match.lastindex or 0
        if re.match(rf"{_OLD_ERA}|1[89]\d\d|200\d|201[0-5]|平|H", match.group(group)):
            yield Span(*match.span(group), "birth_date")


_NUMBER_BEHIND = re.compile(r" ?(?:様|殿|さん|氏)?[ (\n]{0,2}(?:No\.?|ID:?|#)? ?(?!\d{4}-\d{4}\b)(\d[\d-]{4,12})(?=[\s)、。,(]|$)")
_NUMBER_BEFORE = re.compile(r"(?:^|\n)[ \t]*([A-Z]{0,2}\d[\d-]{4,12})[ \t\n]{1,3}$")


def numbers_by_name(text: str, spans: list[Span]) -> Iterator[Span]:
    """Patient numbers: five digits or more right after a name, or alone before it at the start of a line."""
    for span in spans:
        if span.kind != "name":
            continue
        if match := _NUMBER_BEHIND.match(text, span.end):
            yield Span(*match.span(1), "patient_number")
        start = max(0, span.start - 24)
        if match := _NUMBER_BEFORE.search(text[start:span.start]):
            yield Span(start + match.start(1), start + match.end(1), "patient_number")


def births_behind(text: str, spans: list[Span]) -> Iterator[Span]:
    """Dates right after a name or a patient's number: of the last century, in its brackets, or after its reading."""
    for span in spans:
        if span.kind in ("name", "patient_number") and (match := _BEHIND.match(text, span.end)):
            date = match.group(1)
            bracketed = span.kind == "patient_number" and text[match.end():match.end() + 1] == ")"
            reading = span.kind == "name" and text[span.end:span.end + 1] == ")"
            if bracketed or reading or re.match(rf"{_OLD_ERA}|1[89]\d\d", date):
                yield Span(*match.span(1), "birth_date")


_PATTERNS: dict[str, tuple[re.Pattern, ...]] = {
    "email": (_EMAIL,), "my_number": (_MY_NUMBER, _TWELVE), "insurance_number": (_INSURANCE, _SYMBOL_AND_NUMBER),
    "patient_number": (_PATIENT,), "postal_code": (_POSTAL, _POSTAL_BARE),
    "phone": (_PHONE_LABEL, _PHONE, _GROUPED, _BARE_PHONE), "address": (_ADDRESS_LABEL, _ADDRESS),
}
_LABELLED = {_MY_NUMBER, _INSURANCE, _PATIENT, _PHONE_LABEL, _ADDRESS_LABEL, _POSTAL}  # the first group is the number
_CHECKS = {_PHONE: _is_phone, _PHONE_LABEL: _is_labelled_phone, _TWELVE: _is_my_number}


_CODE = re.compile(rf"(?<![\d-])\d{{3}}{DASH}\d{{4}}[ 　,、]{{0,2}}$")


def codes_before(text: str, spans: list[Span]) -> Iterator[Span]:
    """Postal codes right before an address."""
    for span in spans:
        start = max(0, span.start - 12)
        if span.kind == "address" and (match := _CODE.search(text[start:span.start])):
            yield Span(start + match.start(), start + match.start() + 8, "postal_code")


def numbers(text: str, persons: bool = True) -> Iterator[Span]:
    """Contacts, addresses and personal numbers; they may overlap. `persons`: an ID without a colon is a patient's."""
    if persons:
        yield from (Span(*match.span(1), "patient_number") for match in _BARE_ID.finditer(text))
    for kind, patterns in _PATTERNS.items():
        for pattern in patterns:
            for match in pattern.finditer(text):
                index = next((i for i, group in enumerate(match.groups(), 1) if group), 0)
                if pattern not in _CHECKS or _CHECKS[pattern](match):
                    yield Span(*match.span(index if pattern in _LABELLED else 0), kind)


def births(text: str) -> Iterator[Span]:
    """Dates next to 生年月日, 生まれ and the like."""
    for pattern in (_BORN_LABELLED, _BORN_BEFORE, _BORN_AFTER, _BORN_AFTER_ANY):
        for match in pattern.finditer(text):
            yield Span(*match.span(1), "birth_date")
