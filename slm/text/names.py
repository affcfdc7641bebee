"""Names of persons and facilities, by MeCab's proper nouns next to a title, a label or an age."""

import itertools
import re
from collections.abc import Iterator

from slm.text.spans import Span

_C = "一-鿿々ヶぁ-ゖァ-ヺー"  # the characters of names
_S = r"[^\S\n]"
_TITLE = ("(?:様(?![々子式相態体])|さま|さん|氏(?![名族])|殿|先生|医師|くん|ちゃん|看護師|薬剤師|技師|師長|主任|事務|相談員|栄養士"
          "|MSW|SW|PT|OT|ST|CW|CM|Ns|NS|Dr|MD)")
_ROLE = (
    "(?:患者|受診者|利用者|本人|入院患者|被検者|保護者|介護者|紹介医師?|依頼医師?|担当医師?|主治医|執刀医?|術者|第[一二三]助手|助手|麻酔(?:科)?医|読影医|診断医"
    "|記載者|記録者|報告者|作成者|発信者?|差出人|宛先|著者|筆者|サイン|担当(?:者|看護師|薬剤師|技師)?|受け?持ち|緊急連絡先|連絡先|キーパーソン|家族|同居者"
    "|世帯主|被保険者|代理人|署名|医師|看護師|薬剤師|受付|当直医?|日勤|夜勤|検査者|説明者|同席者|立会人|申請者|請求者|届出人|同意者)")
_NO_NAME = re.compile(
    "(?:なし|無し|あり|有り|不明|同上|未定|匿名|本人|家族|別紙|省略|同居|独居|妻|夫|母|父|長男|長女|次男|次女|息子|娘|兄|弟|姉|妹|両親|子|孫|男性?|女性?"
    "|当院|他院|近医|外来|病棟|内科|外科|患者|担当|主治医|様|殿|先生|医師|看護師|薬剤師|年齢|性別|生年|満|享年|当時|氏名|管理|院長|病院長|分|頃|時|日|月|年|前|後"
    "|記載者?|署名|[一-鿿]{1,5}[科課室部棟院局欄]|記入.*|(?:薬剤|看護|保健|歯科医?|助産|栄養)[師士].*|.*(?:病|症|炎|痛|癌|腫|薬|剤|術))")
_KANA_LABEL = "(?:フリガナ|ふりがな|カナ氏名|氏名カナ|カナ|よみがな|ヨミ|よみ)"
_LABELLED = re.compile(
    rf"(?:{_KANA_LABEL}(?:\(.{{1,6}}\))?{_S}{{0,2}}(?:[:=】\])|(]|(?=\s)){_S}{{0,2}}([ァ-ヺー]{{2,8}}(?:[ ・]?[ァ-ヺー]{{2,8}})?|[ぁ-ゖー]{{2,8}}(?:[ ・]?[ぁ-ゖー]{{2,8}})?)"
    rf"|(?:(?:{_ROLE}(?:の)?)?(?:氏名|お?名前|姓名)(?:\(.{{1,6}}\))?|{_ROLE}名?){_S}?[:=】\]]{_S}?"
    rf"((?:Dr\.?{_S}?)?[{_C}]{{1,7}}?(?:[ ・][{_C}]{{1,6}}?)?)"
    rf"(?={_S}?(?:$|[\n\t、。,;:|/()\[\]【】「」→]|{_TITLE}|[0-9]|男|女|ID|生年|性別|年齢|記載|署名|{_S})))", re.MULTILINE)
_ROMAN = re.compile(
    rf"(?:(?i:patient|name|dr\.?|pt\.?)|{_ROLE}|氏名|ローマ字){_S}?[:=.】]?{_S}?([A-Z][A-Za-z]{{1,14}}[ ,]{{1,2}}[A-Z][A-Za-z]{{1,14}})"
    r"(?![A-Za-z])")
_PART = f"[{_C}]{{1,5}}"
_SPACED = re.compile(
    # Before a title or an age; behind a role; in katakana before a title: MeCab knows few of them.
    rf"(?<![{_C}\d])([一-鿿々ヶァ-ヺー]{{1,5}} {_PART}?)(?={_S}?{_TITLE}|{_S}?[(、]?{_S}?\d{{1,3}}(?:歳|才))"
    rf"|(?<=の)([一-鿿々ヶァ-ヺー]{{1,5}} {_PART}?)(?={_S}?{_TITLE})"
    rf"|(?<![ァ-ヺー])([ァ-ヺー]{{2,6}} [ァ-ヺー]{{2,6}})(?={_S}?{_TITLE})"
    rf"|(?:{_ROLE}?(?:氏名|お?名前)|{_ROLE})[ \t]([一-鿿々ヶァ-ヺー]{{1,5}} {_PART})(?![{_C}])"
    rf"|(?:{_ROLE}?(?:氏名|お?名前))[ \t]([一-鿿々ヶ]{{2,7}})(?![{_C}])")
_KANA_BEHIND = re.compile(
    r" ?(?:様|殿|さん|氏)? ?[(\[<]([ァ-ヺー]{2,8}[ ・]?[ァ-ヺー]{0,8}|[ぁ-ゖー]{2,8}[ ・]?[ぁ-ゖー]{0,8})[)\]>]"
    r"|[ \t]([ァ-ヺー]{2,8} [ァ-ヺー]{2,8})(?![ァ-ヺー])|[ \t]([ァ-ヺー]{4,10})(?=[ \t](?:明治|大正|昭和|平成|令和|[MTSHR]\.?\d|(?:18|19|20)\d\d|男|女))")
_KANA_BEFORE = re.compile(r"(?:^|[\s(|:])([ァ-ヺー]{2,8} [ァ-ヺー]{2,8})[ )|\n]{1,2}$")
_SYLLABLES = "(?:[KGSZTDNHBPMRJFWY]?[YH]?[AEIOU]|SHI|CHI|TSU|TTA|TCH|KK|PP|N(?![AEIOU]))+"
_CAPITALS = re.compile(rf"(?<![A-Za-z/])(?=[A-Z]{{3,}} [A-Z]{{3,}})({_SYLLABLES} {_SYLLABLES})(?![A-Za-z])")
_ONE_KANJI = re.compile(  # nouns to MeCab
    "(?<![一-鿿ァ-ヺ])([林森原関平金東西南北堀辻岡谷菅柳泉島浜星峰角乾畑松杉桂沖榎榊秦李朴王張陳劉楊黄呉周鄭崔尹趙])(?=先生|様|さん|氏|医師|Dr|殿)")
_KIN = re.compile(rf"(?:妻|夫|長男|長女|次男|次女|三男|三女|娘|息子|母|父|兄|弟|姉|妹|孫|嫁|さん)(?:の|\(|・|:)([{_C}]{{1,5}}?)(?=さん|様|氏|くん|ちゃん|\()")

_TITLES = {
    "様", "さま", "さん", "氏", "殿", "君", "くん", "ちゃん", "先生", "医師", "Dr", "看護師", "薬剤師", "技師", "師長", "主任", "院長", "部長", "教授", "准教授",
    "医長", "ドクター", "主治医", "理学", "作業", "言語", "保健", "助産", "夫妻", "助教", "講師", "医員", "ケアマネ", "MSW", "PT", "OT", "ST", "Ns", "CW", "CM",
    "相談員", "栄養士", "事務", "課長", "係長", "所長", "社長", "隊長", "看護", "介護", "訪問看護師", "研修医", "専攻医"}
_LABELS = {
    "患者", "氏名", "名前", "主治医", "担当", "担当医", "執刀", "執刀医", "紹介", "紹介医", "医師", "看護師", "薬剤師", "夫", "妻", "長男", "長女", "次男", "次女", "三男",
    "三女", "母", "父", "母親", "父親", "兄", "弟", "姉", "妹", "息子", "娘", "家族", "キーパーソン", "保護者", "記載", "記録", "Dr", "術者", "助手", "医", "者", "連絡",
    "症例", "故", "受付", "当直", "日勤", "夜勤", "著者", "サイン", "差出人", "宛先", "発信", "依頼", "依頼医", "研修医", "師長", "技師", "主任", "事務", "祖母", "祖父",
    "叔父", "叔母", "旧姓", "上司", "代診", "嫁", "孫", "友人", "知人", "Ns", "PT", "OT", "ST", "MSW"}
_CARE_IF_MEDICAL = {"センター", "ホーム", "ステーション"}
_CARE = {"病院", "クリニック", "医院", "診療所", "薬局", "大学病院", "療養所", "産院"} | _CARE_IF_MEDICAL
_MEDICAL = re.compile("医療|医学|病|看護|介護|保健|福祉|療養|がん|老人|リハビリ|ケア|健診|透析|救命")
_GENERIC = re.compile(
    "総合|大学|附属|付属|医学部|中央|市民|市立|県立|国立|公立|私立|公的|地域|地方|救急|救命|専門|一般|精神|小児|産婦人|整形|形成|眼|皮膚|泌尿器|耳鼻咽喉|内科|外科"
    "|脳神経|循環器|消化器|呼吸器|歯|動物|基幹|拠点|協力|連携|紹介|受入|受け入れ|搬送|転院|先|元|入院|前|別|同|各|某|近隣|隣|民間|開業|療養|型|急性期|慢性期|回復期"
    "|リハビリテーション|リハビリ|がん|第|[一二三]次|者|科|時|後|当|他|近|両|院内|院外|門前|調剤|かかりつけ|医師|医療|特定|機能|指定|支援|治療|検診|健診|エイズ|半年間|ため|教育|研修|多施設|施設|複数|[0-9A-Za-z]")
# Medical terms that ipadic tags as names.
_TERMS = re.compile("郭清|[上下]行|間質|高リン|安静|イムノブ|細動|起坐|痛風|粗動|心房|心室|縦隔|結腸|動脈|静脈|神経|リンパ|末梢|[大小]網")
_EPONYM = re.compile("培地|[病法式型線角症炎菌管孔筋腱腫斑体徴試培染分基手術剤薬]|反応|症候|スコア")
_GENERAL, _SURNAME, _GIVEN, _PLACES = "42", "43", "44", {"45", "46"}
_NAMES = {_GENERAL, _SURNAME, _GIVEN}
_NOUNS = {str(i) for i in range(36, 68)}
_WORD = re.compile(rf"[{_C}]{{1,5}}")
_AGED = re.compile(rf"{_S}?[(、,]?{_S}?(?:[MF男女]性?[、,・/ ]?{_S}?)?(?:\d{{1,3}}{_S}?(?:歳|才|y/?o)|[男女]性)")
_STOP = re.compile(rf"{_S}?(?:$|[\n\t、。,.;:()\[\]「」/|→・はがのをにともへで]|より|から|です|{_TITLE})", re.MULTILINE)
_KANJI = re.compile("[一-鿿]")
_BEFORE = re.compile(r"$|[\s:・/(「【\[、。,→.にはがをとで-]")
_STANDS = re.compile(r"[^\S\n]?(?:$|[\n\t、。,:;()\[\]「」/|→・ ])|(?:[がはもへと]|より|から|に)(?![一-鿿ァ-ヺ]{1,2}$)", re.MULTILINE)
_GIVEN_BEFORE_TITLE = re.compile(rf" ?[{_C}]{{1,4}}?(?={_S}?{_TITLE}|{_S}?[(、]?{_S}?\d{{1,3}}(?:歳|才))")
_GIVEN_BEFORE_STOP = re.compile(rf" ?[{_C}]{{1,4}}?(?={_S}?{_TITLE}|{_S}?(?:$|[\n\t、。,()|/→:]))", re.MULTILINE)
_PARTICLES = re.compile("[ぁ-ん]|から|より|など|では|には|とは|にも|という|らの|の[一-鿿]+|と[一-鿿]+|科?の?(?:先生|医師)")


def labelled(text: str) -> Iterator[Span]:
    """Names after 氏名:, 主治医: and the like, and two words with a space between before a title or an age."""
    for pattern in (_LABELLED, _SPACED, _ROMAN, _CAPITALS, _ONE_KANJI):
        for match in pattern.finditer(text):
            group = next(i for i, value in enumerate(match.groups(), 1) if value)
            start, end = match.span(group)
            first, *second = re.split("[ ・]", match.group(group))
            if _NO_NAME.fullmatch(first):
                continue
            if second and _NO_NAME.fullmatch(second[0]):  # the next field's label
                end = start + len(first)
            yield Span(start, end, "name")
    for match in _KIN.finditer(text):
        if not _NO_NAME.fullmatch(match.group(1)):
            yield Span(*match.span(1), "name")


def readings(text: str, spans: list[Span]) -> Iterator[Span]:
    """Kana after a name or a patient's number: 斎藤美加子(サイトウミカコ)."""
    for span in spans:
        if span.kind in ("name", "patient_number") and (match := _KANA_BEHIND.match(text, span.end)):
            yield Span(*match.span(match.lastindex or 0), "name")
        start = max(0, span.start - 20)
        if span.kind == "name" and (match := _KANA_BEFORE.search(text[start:span.start])):
            yield Span(start + match.start(1), start + match.end(1), "name")


def persons_and_facilities(text: str, morphemes: list[str], tags: list[str]) -> Iterator[Span]:
    """Runs of name-like morphemes that a title, a label, an age or a given name after a surname confirms."""
    if not (_NAMES | _PLACES) & {*tags}:
        return
    starts = [0]
    for morpheme in morphemes:
        starts.append(starts[-1] + len(morpheme))
    bare = [morpheme.strip(" ") for morpheme in morphemes]
    # A run of names is walked once, not from each of its names.
    run_ends: dict[int, int] = {}
    givens = list(itertools.accumulate((tag == _GIVEN for tag in tags), initial=0))
    done, term = 0, -1  # the end of the last name, and where the last medical term inside a run begins
    for i, tag in enumerate(tags):
        if bare[i] in _CARE and (first := _facility_start(bare, tags, i)) is not None:
            yield Span(starts[first], starts[i + 1], "facility")
        if i < done or tag not in _NAMES | _PLACES or not _WORD.fullmatch(bare[i]):
            continue
        before = i - 1
        while before >= 0 and bare[before] in ("", ":", "・", "(", "「", "の", "/", "→", "."):
            before -= 1
        behind_label = before >= max(0, i - 3) and (
            bare[before] in _LABELS or (len(bare[before]) > 1 and bare[before][-1] in "医師士員"))
        end, confirmed = _run_end(text, starts, bare, tags, i, behind_label, run_ends)
        after = end + (end < len(bare) and not bare[end])  # beyond one space
        titled = after < len(bare) and bare[after] in _TITLES and not _part_of_word(bare, tags, after)
        alone = i == 0 or not bare[i - 1] or tags[i - 1] not in _NOUNS
        if not (titled or confirmed):
            joined = end < len(bare) and tags[end] in _NOUNS and bare[end]
            # A surname with its given name; after a label; before an age; alone in brackets.
            spaced_given = tag in _PLACES and i + 2 < len(bare) and not bare[i + 1] and tags[i + 2] == _GIVEN
            full = ((tag in (_SURNAME, _GENERAL) or spaced_given) and not joined and (alone or behind_label)
                    and starts[end] - starts[i] > 2 and givens[end] > givens[i + 1])
            aged = tag == _SURNAME and alone and bool(_AGED.match(text, starts[end]))
            labelled_name = (behind_label and (tag in _NAMES or bare[i - 1] in ("", ":", "/"))
                             and bool(_STOP.match(text, starts[end])))
            # A surname on its own: 回診:岡本, 鈴木が対応, 穿刺 山田.
            standing = (tag == _SURNAME and starts[end] - starts[i] > 1 and _KANJI.search(bare[i])
                        and bool(_BEFORE.match(text[max(0, starts[i] - 1):starts[i]]))
                        and bool(_STANDS.match(text, starts[end])))
            bracketed = tag == _SURNAME and i > 0 and bare[i - 1] == "(" and end < len(bare) and bare[end] in ")、,"
            if not (full or aged or labelled_name or bracketed or standing):
                continue
        if tag in _PLACES and not alone:
            continue
        if term < starts[i] and (match := _TERMS.search(text, starts[i], starts[end])):
            term = match.start()
        if starts[i] <= term < starts[end] and _TERMS.match(text, term, starts[end]):
            continue
        yield Span(starts[i] + len(morphemes[i]) - len(morphemes[i].lstrip()), starts[end], "name")
        done = end


def _run_end(text: str, starts: list[int], bare: list[str], tags: list[str], first: int,
             behind_label: bool, run_ends: dict[int, int]) -> tuple[int, bool]:
    """The end of a name that begins at `first`, as an index of morphemes, and whether its context confirms the name.

    `run_ends` remembers where the runs end that were walked before.

    A name is name morphemes with at most one space between, or a given name that MeCab takes for other words (光, あすか).
    """
    end, walked = first + 1, []
    while end not in run_ends and end < len(bare):
        walked.append(end)
        step = end + (not bare[end] and end + 1 < len(bare))  # a space inside a name
        if tags[step] not in _NAMES or bare[step] in _TITLES or not _WORD.fullmatch(bare[step]):
            break
        end = step + 1
    end = run_ends.get(end, end)
    run_ends.update(dict.fromkeys(walked, end))
    if tags[first] not in (_SURNAME, *_PLACES):
        return end, False
    pattern = _GIVEN_BEFORE_STOP if behind_label and tags[first] == _SURNAME else _GIVEN_BEFORE_TITLE
    given_name = pattern.match(text, starts[first + 1])
    if given_name and given_name.end() > starts[end] and not _PARTICLES.fullmatch(given_name.group().strip()) and not (
            _NO_NAME.fullmatch(given_name.group().strip())) and (
            tags[first] == _SURNAME or given_name.end() in starts[end:end + 5]):  # the 様 of 北海道|開発局|と|同様 is not a title
        while end < len(bare) and starts[end] < given_name.end():
            end += 1
        return end, True
    if tags[first] == _SURNAME and end == first + 1 and (split := _split_given(text, starts, bare, tags, first + 1)):
        return split, True
    return end, False


def _split_given(text: str, starts: list[int], bare: list[str], tags: list[str], first: int) -> int | None:
    """The end of a given name that MeCab splits into single characters (拓|真, 七|夏, 真|綾), or of one character (舞, 治)
    between a space and a stop; None if it is not a given name."""
    spaced = first < len(bare) and not bare[first]
    step = last = first + spaced
    while last < len(bare) and last - step < 3 and bare[last] not in _TITLES and (re.fullmatch("[一-鿿々]", bare[last]) or (
            tags[last] in _NAMES | _PLACES and re.fullmatch("[一-鿿々ぁ-ゖ]{2,3}", bare[last]))):
        last += 1
    if spaced and last == step < len(bare) and tags[last] in _NOUNS and re.fullmatch("[一-鿿]{2}", bare[last]):
        last += 1  # 陽子, a particle of physics
    length = starts[last] - starts[step]
    if not length or starts[last] - starts[first - 1] - spaced < 3 or _NO_NAME.fullmatch("".join(bare[step:last])) or (last < len(bare) and tags[last] in _NOUNS and bare[last] and bare[last] not in _TITLES):
        return None
    if any(_EPONYM.fullmatch(part) for part in (*bare[step:last], "".join(bare[step:last]))) or (length == 1 and not spaced):
        return None
    return last if _STOP.match(text, starts[last]) or text[starts[last]:starts[last] + 1] in " (" else None


def _part_of_word(bare: list[str], tags: list[str], title: int) -> bool:
    """Whether a title is part of a word: 様 of 様々, 様子 and 毛様体, 氏 of 氏族."""
    if bare[title] not in ("様", "氏", "君", "殿") or title + 1 >= len(bare):
        return False
    return bare[title + 1][:1] in ("々", "子", "式", "相", "名") or (
        tags[title + 1] in _NOUNS and "一" <= bare[title + 1][:1] <= "鿿" and bare[title] in ("様", "氏"))


def _facility_start(bare: list[str], tags: list[str], last: int) -> int | None:
    """The start of a facility's name that ends in 病院, クリニック, …; None if it has no proper noun."""
    first, proper = last, None
    while first > 0 and last - first < 8 and tags[first - 1] in _NOUNS and bare[first - 1] and (
            not bare[first - 1].isascii()):
        first -= 1
        if tags[first] in _NAMES | _PLACES:
            proper = first
    if proper is None and bare[last] not in _CARE_IF_MEDICAL and first < last:
        rest = _GENERIC.sub("", "".join(bare[first:last]))  # 箪笥町 of 箪笥町内科クリニック
        return first if len(rest) > 1 else None
    if proper is not None and bare[last] in _CARE_IF_MEDICAL and not _MEDICAL.search("".join(bare[proper:last])):
        return None
    return proper
