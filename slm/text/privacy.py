"""Personal information found and masked by typed placeholders: [氏名], [電話番号], ….

Numbers, contacts and addresses are told by their shape and the label before them; names of persons and of places
of care by MeCab's proper nouns beside a title, a label or an age. Doses, laboratory values and dates other than
those of birth are left alone: a bare number is never masked for its length only. What is found is never logged.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

PLACEHOLDERS = {
    "email": "[メールアドレス]", "phone": "[電話番号]", "postal_code": "[郵便番号]", "address": "[住所]",
    "my_number": "[個人番号]", "insurance_number": "[保険番号]", "patient_number": "[患者番号]",
    "birth_date": "[生年月日]", "name": "[氏名]", "facility": "[施設名]",
}


class Span(NamedTuple):
    start: int
    end: int
    kind: str


def mask(text: str, tagged: tuple[list[str], list[str]], names: bool = True,
         facilities: re.Pattern | None = None) -> tuple[str, Counter]:
    """`text` (normalised) with placeholders, and how many of each kind.

    Args:
      tagged: `Morphology.tag(text)`.
      names: also names of persons and places of care, and dates of birth: not for text about public persons.
      facilities: `facility_list(…)`, places to mask wherever they stand.
    """
    spans = [*_numbers(text)]
    if names:
        spans += [*_birth_dates(text), *_labelled_names(text), *_names(text, *tagged)]
        if facilities:
            spans += [Span(*match.span(), "facility") for match in facilities.finditer(text)]
    parts, position, found = [], 0, Counter()
    for span in sorted(spans, key=lambda span: (span.start, -span.end)):
        if span.start < position:  # inside one already masked
            continue
        parts += [text[position:span.start], PLACEHOLDERS[span.kind]]
        position = span.end
        found[span.kind] += 1
    return "".join([*parts, text[position:]]), found


def facility_list(names: Iterable[str]) -> re.Pattern | None:
    """A pattern for a list of places of care, longest first; None for an empty list."""
    ordered = sorted({name for name in names if len(name) > 2}, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


# Numbers and contacts -----------------------------------------------------------------------------------------

_DASH = "[-‐‑‒–—−ーｰ]"
_LABEL_END = r"\s{0,3}(?:[:=#]|は|が|→|\))?\s{0,3}"
_NOT_A_UNIT = r"(?![\d.]|\s?(?:[A-Za-zμ%‰℃°/^×]|円|万|億|歳|名|人|例|件|年|個|倍))"

_EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+%-]{0,63}\s?@\s?"
                    r"[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9-]{1,63}){1,4}", re.ASCII)
_PHONE = re.compile(rf"(?<![\d.,/A-Za-z-])(?:\+81[-\s]?|\(?0)(?:\(0\))?\d{{1,4}}(?:{_DASH}|\s?[()]\s?|\s|\.)\d{{1,4}}"
                    rf"(?:{_DASH}|\s?\)\s?|\s|\.)\d{{3,4}}(?!{_DASH}?\d)")
_GROUPED = re.compile(rf"(?<![\d.,/A-Za-z-])\d{{2}}({_DASH})\d{{4}}\1\d{{4}}(?!{_DASH}?\d)")
_MOBILE = re.compile(rf"(?<![\d.,/A-Za-z-])0[5789]0\d{{8}}{_NOT_A_UNIT}")
_PHONE_LABEL = re.compile(r"(?:電話|TEL|Tel|tel|℡|携帯|ケータイ|スマホ|連絡先|自宅|勤務先|FAX|Fax|fax|ファッ?クス|直通|フリーダイヤル)"
                          rf"[^\d\n]{{0,12}}?(\(?\+?\d[\d\s()]{{2,6}}(?:{_DASH}|[\d\s()])*\d{{3,}})")
_POSTAL = re.compile(rf"〒\s?(\d{{3}}\s?{_DASH}?\s?\d{{4}})(?!\d)|郵便番号{_LABEL_END}(\d{{3}}{_DASH}?\d{{4}})(?!\d)")
_POSTAL_BEFORE_ADDRESS = rf"(?<!\d)\d{{3}}{_DASH}\d{{4}}(?=\s{{0,2}}(?:%s))"

_PREFECTURE = ("北海道|東京都|(?:大阪|京都)府|(?:青森|岩手|宮城|秋田|山形|福島|茨城|栃木|群馬|埼玉|千葉|神奈川|新潟|富山|石川|福井|山梨|長野"
               "|岐阜|静岡|愛知|三重|滋賀|兵庫|奈良|和歌山|鳥取|島根|岡山|広島|山口|徳島|香川|愛媛|高知|福岡|佐賀|長崎|熊本|大分|宮崎|鹿児島|沖縄)県")
_POSTAL_BARE = re.compile(_POSTAL_BEFORE_ADDRESS % _PREFECTURE)
_WARD = "(?:[一-鿿々ぁ-んァ-ヶー]{1,8}?[市区町村郡]\\s?)"
_TOWN = "[一-鿿々ぁ-んァ-ヶーA-Z]{0,16}?\\s?"
_CHOME = f"[0-9一二三四五六七八九十]{{1,4}}\\s?(?:丁目|番地|番(?=\\s?[0-9一二三四五六七八九十]))"
_REST = (rf"(?:\s?[0-9一二三四五六七八九十]{{1,4}}\s?(?:丁目|番地?|号室?|(?:{_DASH}|の)(?=\d)|(?!\d)))*")
_BUILDING = r"(?:\s?[一-鿿々ァ-ヶーA-Za-z][一-鿿々ぁ-んァ-ヶーA-Za-z・]{1,20}(?:\s[ァ-ヶー]{2,10})?\s?\d{1,4}(?:\s?号室?|階|F)?(?!\d))?"
_HYPHENS = rf"\d{{1,4}}(?:{_DASH}\d{{1,5}}){{1,3}}(?!{_DASH}?\d|\s?(?:[%‰℃a-zA-Z]|年|月|日|歳|名|人|例|回|件|割))"
_ADDRESS = re.compile(
    rf"(?:{_PREFECTURE})\s?{_WARD}{{1,3}}{_TOWN}(?:{_CHOME}{_REST}|{_HYPHENS}|\d{{1,4}}番地?(?:\d{{1,4}}号)?){_BUILDING}"
    rf"|(?:[一-鿿々ァ-ヶー]{{1,6}}[市区郡]\s?){{1,2}}{_TOWN}{_CHOME}{_REST}{_BUILDING}")
_ADDRESS_LABEL = re.compile(rf"(?:現住所|住所|本籍(?:地)?|居住地|所在地|転居先){_LABEL_END}"
                            r"((?=[^\n]{0,12}[都道府県市区町村郡])[^\n、。,;【\[(|]{4,60}?)(?=\s*(?:$|[\n、。,;【\[(|]|電話|TEL|Tel|℡|〒|に在住|に居住))")

_MY_NUMBER = re.compile(r"(?:マイナンバー|個人番号|MyNumber|My\s?Number)(?:カード)?(?:番号)?[^\d\n]{0,8}?(\d{4}[-\s]?\d{4}[-\s]?\d{4})(?!\d)")
_TWELVE = re.compile(rf"(?<![\d.,/A-Za-z-])\d{{4}}([-\s]?)\d{{4}}\1\d{{4}}(?!-?\d){_NOT_A_UNIT}")
_INSURANCE = re.compile(
    r"(?:保険者番号|被保険者(?:証)?(?:等)?(?:の)?(?:記号)?[・/]?(?:番号)?|保険証(?:の)?(?:記号)?[・/]?(?:番号)?|健康保険(?:証)?(?:番号)?|公費(?:負担者)?番号|負担者番号"
    r"|(?:公費)?受給者(?:証)?番号|医療証番号|介護保険(?:証|被保険者)?番号|後期高齢者(?:医療)?(?:被保険者)?番号|国保(?:番号)?|社保(?:番号)?|保険番号|記号[・/]番号)"
    rf"{_LABEL_END}((?:記号)?[\s:]{{0,2}}[0-9A-Za-z一-鿿]{{0,4}}[0-9][0-9\s・/-]{{2,20}}[0-9])(?![0-9])")
_SYMBOL_AND_NUMBER = re.compile(r"記号\s?[::]?\s?([0-9A-Za-z一-鿿ぁ-ん・-]{1,10})[\s、,・/]{0,3}番号\s?[::]?\s?(\d{1,12}(?:\s?\(?枝番\)?\s?\d{2})?)")
_PATIENT = re.compile(
    r"(?:(?:患者|カルテ|診察券|診察カード|登録|入院|外来|受付|検体|検査|病歴|診療録|整理|症例|受診者?|利用者|病院|照会|管理|依頼|オーダー)\s?"
    r"(?:ID|I\.D\.|id|番号|No\.?|NO\.?|no\.?|ナンバー|コード|#)|(?<![A-Za-z])(?:ID|I\.D\.|Pt\.?\s?ID|MRN|Chart\s?No\.?|Patient\s?ID|カルテ|診察券)"
    r"(?:\s?(?:番号|No\.?))?)" + _LABEL_END + r"((?:[A-Za-z]{1,4}[-_]?)?\d[\d-]{2,16}(?:[-_]?[A-Za-z]\d{0,4})?)(?![\d.]\d)")


def _numbers(text: str) -> Iterator[Span]:
    for kind, patterns in _PATTERNS:
        for pattern in patterns:
            for match in pattern.finditer(text):
                index = next((i for i, group in enumerate(match.groups(), 1) if group), 0)
                if not (check := _CHECKS.get(pattern)) or check(match):
                    yield Span(*match.span(index if pattern in _LABELLED else 0), kind)


def _is_phone(match: re.Match) -> bool:
    found = match.group()
    digits = re.sub(r"\D", "", found)
    if found.startswith("+81"):
        return 11 <= len(digits.replace("810", "81", 1)) <= 12
    if re.search(r"\d[\s.]\d", found) and not re.match(r"\(?0[5789]0[\s.]", found):  # spaces and dots are weak signs
        return False
    return len(digits) in (10, 11) and not (len(digits) == 11 and not re.match(r"0[5789]0|0120|0800|0570", digits))


def _is_labelled_phone(match: re.Match) -> bool:
    return 9 <= len(re.sub(r"\D", "", match.group(1))) <= 13


def _is_my_number(match: re.Match) -> bool:
    """The check digit of an individual number (Order of the MIC No. 85 of 2014, article 5)."""
    digits = [int(digit) for digit in re.sub(r"\D", "", match.group())]
    rest = sum(digit * (n + 1 if n <= 6 else n - 5) for n, digit in enumerate(digits[10::-1], 1)) % 11
    return digits[11] == (0 if rest <= 1 else 11 - rest)


_PATTERNS = (
    ("email", (_EMAIL,)), ("my_number", (_MY_NUMBER, _TWELVE)), ("insurance_number", (_INSURANCE, _SYMBOL_AND_NUMBER)),
    ("patient_number", (_PATIENT,)), ("postal_code", (_POSTAL, _POSTAL_BARE)), ("phone", (_PHONE_LABEL, _PHONE, _GROUPED, _MOBILE)),
    ("address", (_ADDRESS_LABEL, _ADDRESS)),
)
_LABELLED = {_MY_NUMBER, _INSURANCE, _PATIENT, _PHONE_LABEL, _ADDRESS_LABEL, _POSTAL}
_CHECKS = {_PHONE: _is_phone, _PHONE_LABEL: _is_labelled_phone, _TWELVE: _is_my_number}


# Dates of birth -----------------------------------------------------------------------------------------------

_ERA = r"(?:明治|大正|昭和|平成|令和|西暦|[MTSHR]\.?)"
_DATE = (rf"(?:{_ERA}\s?)?(?:\d{{1,4}}|元)\s?年\s?(?:\(\s?{_ERA}?\s?(?:\d{{1,4}}|元)\s?年?\s?\)\s?)?\d{{1,2}}\s?月\s?\d{{1,2}}\s?日"
         rf"|(?:{_ERA}\s?\d{{1,2}}|(?:18|19|20)\d{{2}})\s?[./-]\s?\d{{1,2}}\s?[./-]\s?\d{{1,2}}|(?:18|19|20)\d{{6}}(?!\d)")
_BORN_BEFORE = re.compile(r"(?:生年月日|誕生日|出生年?月?日|生年|DOB|D\.O\.B\.?|Date of birth|birth ?date)[^\d\n元MTSHR明大昭平令西]{0,8}"
                          rf"({_DATE})", re.IGNORECASE)
_BORN_AFTER = re.compile(rf"({_DATE})\s?(?:\([^()\n]{{1,12}}\)\s?)?(?:に)?(?:生まれ|うまれ|出生|誕生|生(?=[\s)、。,まの(]|$))")


def _birth_dates(text: str) -> Iterator[Span]:
    for pattern in (_BORN_BEFORE, _BORN_AFTER):
        for match in pattern.finditer(text):
            yield Span(*match.span(1), "birth_date")


# Names --------------------------------------------------------------------------------------------------------

_NAME_CHARACTERS = "一-鿿々ヶぁ-ゖァ-ヺー"
_ROLE = ("(?:患者|受診者|利用者|本人|入院患者|被検者|保護者|介護者|紹介医師?|依頼医師?|担当医師?|主治医|執刀医?|術者|助手|麻酔医|読影医|診断医|記載者?|記録者?|報告者|作成者|"
         "担当(?:者|看護師|薬剤師|技師)?|受け持ち|緊急連絡先|連絡先|キーパーソン|家族|同居者|続柄|世帯主|被保険者|代理人|署名|医師|看護師|薬剤師)")
_LABELLED_NAME = re.compile(
    rf"(?:(?:{_ROLE}(?:の)?)?(?:氏名|お?名前|姓名|フリガナ|ふりがな|カナ氏名|氏名カナ)(?:\((?:フリガナ|カナ|かな|漢字)\))?|{_ROLE}名?)\s?[:=】\]]\s?"
    rf"((?:Dr\.?\s?)?[{_NAME_CHARACTERS}]{{1,7}}(?:[ ・][{_NAME_CHARACTERS}]{{1,7}})?|[A-Z][A-Za-z]{{1,14}}[ ,]{{1,2}}[A-Z][A-Za-z]{{1,14}})"
    r"(?=\s?(?:$|[\n、。,;:|/()\[\]【】「」]|様|殿|さん|氏|先生|医師|Dr|MD|看護師|[0-9]|男|女|ID|生年|性別|年齢| ))")
# Two short words with a space between, before a title or an age, or in katakana behind a role: MeCab knows few of them.
_TITLE = "(?:様|さま|さん|氏(?![名族])|殿|先生|医師|くん|ちゃん|看護師|薬剤師|技師)"
_SPACED_NAME = re.compile(
    rf"(?<![{_NAME_CHARACTERS}])([一-鿿々ヶァ-ヺー]{{1,5}} [{_NAME_CHARACTERS}]{{1,5}}?)(?=\s?{_TITLE}|\s?[(、]?\s?\d{{1,3}}(?:歳|才))"
    rf"|(?<=の)([一-鿿々ヶァ-ヺー]{{1,5}} [{_NAME_CHARACTERS}]{{1,5}}?)(?=\s?{_TITLE})"
    rf"|(?<![ァ-ヺー])([ァ-ヺー]{{2,6}} [ァ-ヺー]{{2,6}})(?=\s?{_TITLE})"
    rf"|(?:{_ROLE}?(?:氏名|名前)|{_ROLE})\s([一-鿿々ヶァ-ヺー]{{1,5}} [{_NAME_CHARACTERS}]{{1,5}})(?=\s?(?:$|[\n、。,(]))")
_NO_NAME = re.compile(r"^(?:なし|無し|あり|有り|不明|同上|未定|匿名|本人|家族|別紙|省略|同居|独居|妻|夫|母|父|長男|長女|次男|次女|息子|娘|兄|弟|姉|妹|両親|"
                      r"子|孫|男性?|女性?|当院|他院|近医|外来|病棟|内科|外科|[一-鿿]{1,4}[科課室部])")
_TITLES = {"様", "さま", "さん", "氏", "殿", "君", "くん", "ちゃん", "先生", "医師", "Dr", "看護師", "薬剤師", "技師", "師長", "主任", "院長", "部長",
           "教授", "准教授", "医長", "ドクター", "主治医", "理学", "作業", "言語", "保健", "助産", "夫妻", "助教", "講師", "医員", "ケアマネ"}
_LABELS = {"患者", "氏名", "名前", "主治医", "担当", "担当医", "執刀", "執刀医", "紹介", "紹介医", "医師", "看護師", "薬剤師", "夫", "妻", "長男", "長女", "次男",
           "次女", "三男", "三女", "母", "父", "母親", "父親", "兄", "弟", "姉", "妹", "息子", "娘", "家族", "キーパーソン", "保護者", "記載", "記録",
           "Dr", "術者", "助手", "医", "者", "連絡", "症例", "故"}
_CARE_IF_MEDICAL = {"センター", "ホーム", "ステーション"}
_CARE = {"病院", "クリニック", "医院", "診療所", "薬局", "大学病院", "療養所", "産院"} | _CARE_IF_MEDICAL
_MEDICAL = re.compile("医療|医学|病|看護|介護|保健|福祉|療養|がん|老人|リハビリ|ケア|健診|透析|救命")
_TERMS = {"郭清", "上行", "下行", "間質", "高リン", "安静", "イムノブ"}  # of medicine, that ipadic takes for names
_GENERAL, _SURNAME, _GIVEN, _PLACES = "42", "43", "44", {"45", "46"}
_NAME_TAGS = {_GENERAL, _SURNAME, _GIVEN}
_NOUNS = {str(i) for i in range(36, 68)}
_NAME_PART = re.compile(rf"[{_NAME_CHARACTERS}]{{1,5}}")
_GIVEN_BEFORE_TITLE = re.compile(rf" ?[{_NAME_CHARACTERS}]{{1,4}}?(?=\s?{_TITLE}|\s?[(、]?\s?\d{{1,3}}(?:歳|才))")
_GIVEN_BEFORE_STOP = re.compile(rf" ?[{_NAME_CHARACTERS}]{{1,4}}?(?=\s?{_TITLE}|\s?(?:$|[\n、。,()]))")
_PARTICLES = re.compile("[ぁ-ん]|から|より|など|では|には|とは|にも|という|らの|の[一-鿿]+|と[一-鿿]+|科?の?(?:先生|医師)|病|法|式|型")
_AGED = re.compile(r"\s?[(、,]?\s?(?:[MF男女]性?[、,・/ ]?\s?)?(?:\d{1,3}\s?(?:歳|才|y/?o)|[男女]性)")
_STOPS = re.compile(r"\s?(?:$|[\n、。,.;:()\[\]「」/|はがのをにともへで]|より|から|\d)")


def _labelled_names(text: str) -> Iterator[Span]:
    for pattern in (_LABELLED_NAME, _SPACED_NAME):
        for match in pattern.finditer(text):
            group = next(i for i, value in enumerate(match.groups(), 1) if value)
            if not any(_NO_NAME.match(part) for part in match.group(group).split()):
                yield Span(*match.span(group), "name")


def _names(text: str, morphemes: list[str], tags: list[str]) -> Iterator[Span]:
    """Runs of name-like morphemes that a title, a label, an age or a given name behind a surname confirms."""
    if not (_NAME_TAGS | _PLACES) & {*tags}:
        return
    starts = [0]
    for morpheme in morphemes:
        starts.append(starts[-1] + len(morpheme))
    bare = [morpheme.strip() for morpheme in morphemes]
    done = 0
    for i, tag in enumerate(tags):
        if bare[i] in _CARE and (first := _place(bare, tags, i)) is not None:
            yield Span(starts[first], starts[i + 1], "facility")
        if i < done or tag not in _NAME_TAGS | _PLACES or not _NAME_PART.fullmatch(bare[i]):
            continue
        before = i - 1 - (i > 0 and bare[i - 1] in ("", ":", "・", "(", "「", "の"))
        labelled = before >= 0 and bare[before] in _LABELS
        end, confirmed = _run_end(text, starts, bare, tags, i, labelled)
        after = end + (end < len(bare) and not bare[end])  # behind one space
        titled = after < len(bare) and bare[after] in _TITLES and not _part_of_word(bare, tags, after)
        if not (titled or confirmed):
            # A surname with its given name; behind a label; before an age.
            full = (tag in (_SURNAME, _GENERAL) and any(tags[j] == _GIVEN for j in range(i + 1, end))
                    and starts[end] - starts[i] > 2 and not (end < len(bare) and tags[end] in _NOUNS and bare[end]))
            aged = tag == _SURNAME and bool(_AGED.match(text, starts[end]))
            if not (full or aged or (labelled and tag in _NAME_TAGS and _STOPS.match(text, starts[end]))):
                continue
        if bare[i] in _TERMS:
            continue
        yield Span(starts[i] + len(morphemes[i]) - len(morphemes[i].lstrip()), starts[end], "name")
        done = end


def _run_end(text: str, starts: list[int], bare: list[str], tags: list[str], first: int,
             labelled: bool) -> tuple[int, bool]:
    """Where a name that begins at `first` ends, as an index of morphemes: name morphemes with one space between, or a
    given name that MeCab takes for other words (光, あすか); and whether a title, an age or a label confirms that."""
    end = first + 1
    while end < len(bare):
        step = end + (not bare[end] and end + 1 < len(bare))  # a space inside a name
        if tags[step] not in _NAME_TAGS or bare[step] in _TITLES or not _NAME_PART.fullmatch(bare[step]):
            break
        end = step + 1
    if tags[first] in (_SURNAME, *_PLACES):
        pattern = _GIVEN_BEFORE_STOP if labelled and tags[first] == _SURNAME else _GIVEN_BEFORE_TITLE
        given = pattern.match(text, starts[first + 1])
        if given and given.end() > starts[end] and not _PARTICLES.fullmatch(given.group().strip()) and (
                tags[first] == _SURNAME or given.end() in starts[end:end + 5]):  # 北海道|開発局|と|同様 is no 様
            while end < len(bare) and starts[end] < given.end():
                end += 1
            return end, True
    return end, False


def _part_of_word(bare: list[str], tags: list[str], title: int) -> bool:
    """様 of 様々, 様子 and 毛様体, 氏 of 氏族."""
    if bare[title] not in ("様", "氏", "君", "殿") or title + 1 >= len(bare):
        return False
    return bare[title + 1][:1] in ("々", "子", "式", "相", "名") or (
        tags[title + 1] in _NOUNS and "一" <= bare[title + 1][:1] <= "鿿" and bare[title] in ("様", "氏"))


def _place(bare: list[str], tags: list[str], last: int) -> int | None:
    """Where the name of a place of care that ends in 病院, クリニック, … begins; None if it has no proper noun."""
    first, proper = last, None
    while first > 0 and tags[first - 1] in _NOUNS and bare[first - 1] and not bare[first - 1].isascii() and last - first < 8:
        first -= 1
        if tags[first] in _NAME_TAGS | _PLACES:
            proper = first
    if proper is not None and bare[last] in _CARE_IF_MEDICAL and not _MEDICAL.search("".join(bare[proper:last])):
        return None
    return proper

