"""Tasks drawn from the project's own tables: for the demo, tests and notebooks, and as extra training of extraction.

The tables decide each answer, so it is certainly right. A document goes to the test or to the training by its hash, so
that no seed brings one to both.
"""

import dataclasses
import random
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

from slm.sample.items import exam_item, unrelated_diseases
from slm.sample.tables import labs, rows, tables, with_unit, written
from slm.sample.templates import fill, pick
from slm.tasks import tables as benchmark_tables
from slm.tasks.task import Item, Message, Task

# Notes ----------------------------------------------------------------------------------------------------------------
#
# `[a|b]` is one of several. Slots: s, d a symptom and a disease of the patient; no, other a symptom and a disease that
# the patient has not; oral, injected, topical, insulin, oxygen, class a drug; mg, tablets, volume, ampoules, units,
# flow its dose. Other text names no disease and no drug, and what other numbers there are is no dose.

CASE = {
    "opening": [
        "[症例は|患者は|]{age}歳[の|、]{sex}。{few}[日前|週間前|か月前][から|より]{s}[が出現し|を自覚し|が続き]、[当科を受診した|近医より紹介された|救急外来を受診した]。",
        "{age}歳、{sex}。{s}と{s}を主訴に[来院|受診]した。",
        "【症例】{age}歳、{sex}。【主訴】{s}[。|、{s}。]",
        "[主訴:|]{s}で[発症した|来院した]{age}歳{sex}[の1例を報告する|の症例]。",
        "{d}[で通院中の|の加療中であった]{age}歳{sex}が、{s}を訴え[て来院した|たため入院となった]。",
        "[今回われわれは、|][{d}に{d}を合併した|{d}の経過中に{s}を呈した]{age}歳{sex}の1例を経験した。",
        "生来健康な{age}歳{sex}。{few}[日前|週間前]に{s}に気づき、[次第に増悪した|徐々に悪化した]ため受診。",
        "{age}歳{sex}。健診で異常を指摘され、精査の結果{d}と[診断された|判明した]。",
    ],
    "past": [
        "[既往歴に|既往として]{d}[がある|、{d}がある|を有する]。",
        "{few}[年前|か月前]に{d}[と診断され|を指摘され]、[以後|その後]外来で経過をみていた。",
        "[既往歴:|【既往歴】]{d}。[家族歴:|【家族歴】]父が{other}。",
        "[母|父|兄|妹]に{other}の[家族歴がある|既往がある]。",
        "家族歴として[祖父に|祖母に|母方に]{other}[を認める|がある]。",
        "{other}の既往は[なく|なかったが]、{d}で[他院に通院中|投薬を受けていた]。",
    ],
    "findings": [
        "[入院時|初診時|来院時]、体温{temperature}℃、血圧{pressure}mmHg、[身体所見では|診察上]{s}を認めた。",
        "血液検査では{lab}と[異常値を示し|変化を認め]、[画像所見と合わせ|諸検査から]{d}と診断した。",
        "[胸部|腹部|頭部]CTで{d}[が疑われ|の所見を認め]、[精査の結果|生検により]確定診断に至った。",
        "[臨床経過|検査所見]から{d}と[考えられた|診断した]。",
        "{other}[を疑ったが|との鑑別を要したが]、[病理組織学的に|最終的に]{d}と[診断した|確定した]。",
        "[入院後の精査で|画像検査で]{d}、{d}を[指摘された|認めた]。",
        "[第{few}病日|入院{few}日目]に{s}が[出現した|加わった]。検査値は{lab}であった。",
        "{d}に伴う{s}と[判断した|考えた]。",
    ],
    "denial": [
        "{no}[はなかった|は認めなかった|はみられなかった|の訴えはなかった]。",
        "{no}、{no}は[いずれも認めず|伴わず|ともに陰性で]、[全身状態は保たれていた|意識は清明であった]。",
        "{s}を認めたが、{no}は[認めなかった|なかった|伴わなかった]。",
        "{other}は[否定的であった|否定された|除外された]。",
        "[画像上|検査上]、{other}を示唆する所見は[なかった|得られなかった]。",
        "[経過中|入院後]、{no}の[出現はなかった|合併は認めなかった]。",
    ],
    "treatment": [
        "{oral} {mg}[の内服を開始した|を投与した|で治療を開始した|を継続した]。",
        "{oral}（{mg}）と{oral}（{mg}）を[併用した|投与した]。",
        "[治療として|直ちに]{injected} {volume}を[点滴静注した|投与した]。",
        "{injected} {mg}[の点滴を開始し|を投与し]、その後{oral} {mg}[へ変更した|に切り替えた]。",
        "{class}を投与したが効果は乏しく、{injected} {mg}[を追加した|へ変更した]。",
        "{oral}を{mg}から{mg}へ[増量した|減量した|漸減した]。",
        "[前医で|他院で]{oral}が処方されて[おり|いたが中止し]、[当科で|新たに]{oral} {tablets}を開始した。",
        "{insulin} {units}[の皮下注を行った|を開始した]。{oral}は[中止した|継続とした]。",
        "{oxygen} {flow}を[投与しつつ|開始し]、{injected} {ampoules}を[静注した|使用した]。",
        "{oral} {mg}の[内服後|開始後]、{s}が[出現したため中止した|みられ、減量した]。",
        "{topical}の使用に加え、{oral} {mg}の内服を[行った|指示した]。",
        "{class}と{oral}（{tablets}）を[処方した|併用した]。",
    ],
    "course": [
        "[その後|治療開始後]、{s}は[軽快した|速やかに改善した|消失した]。",
        "[しかし|ところが]、{few}日後に{s}が[再燃した|再び出現した]。",
        "[経過良好で|症状は安定し]、第{day}病日に退院した。",
        "[現在まで|退院後{few}か月間]、再発[なく経過している|を認めていない]。",
        "{no}は[出現せず|なく]、外来で[経過観察中である|経過をみている]。",
        "退院後は{oral}の内服を[継続している|続けている]。",
        "{d}については[他科で治療を続けている|外来で治療中である]。",
    ],
}
NURSING = {
    "opening": [
        "「[昨日より楽になりました|あまり眠れませんでした|家に帰りたいです|もう少し休んでいたい|今日は調子がいいです]。」[{hour}時、|][訪室時、|]{s}[あり|の訴えあり|がみられる]。",
        "「[薬は飲みました|この点滴はいつまでですか|先生は何か言っていましたか]」と[話される|発言あり]。{s}[が続いている|持続]。",
        "{d}で[入院中|加療中]。{hour}時、{s}[にてナースコールあり|を訴える|出現]。",
        "{hour}時[検温|巡視]。BT {temperature}℃、BP {pressure}mmHg、SpO2 {saturation}%。{s}[あり|軽度あり]。",
        "{d}の[術後|治療]{few}日目。{s}[は自制内|が続く|あり]。",
        "[夜間、|日中、|昨夜より]{s}[出現|あり|の訴えがあり]、[主治医へ報告|当直医に報告]する。",
        "{age}歳{sex}。{d}にて[緊急入院|入院]となる。[入院時|来棟時]{s}あり。",
    ],
    "past": [
        "[既往に|基礎疾患として]{d}[あり|、{d}あり]。",
        "[長男|妻|夫]が{other}で[入院中とのこと|療養中であり、面会は難しい]。",
        "[父が{other}であったため|家族に{other}の人がいるため]、[自分も心配と話す|不安を口にする]。",
    ],
    "findings": [
        "体温{temperature}℃、脈拍{pulse}回/分、血圧{pressure}mmHg。",
        "採血結果{lab}。[医師より|主治医より]{d}と説明あり。",
        "{s}[増強あり|やや増強]。表情[硬い|険しい]。",
        "[体動時|歩行時|食後]に{s}[あり|がみられる]。",
        "{s}、{s}[あり|持続している]。[見守りで|車椅子で]トイレへ行く。",
        "{d}による{s}[と考えられる|と医師より説明あり]。",
    ],
    "denial": [
        "{no}[なし|みられず|の訴えなし]。",
        "{no}、{no}なし。[会話はスムーズ|夜間は良眠]。",
        "{s}あるも{no}[はなし|は認めず]。",
        "[「{no}はないです」とのこと|{no}について尋ねるが「ない」と返答]。",
        "[医師より|主治医から]{other}[は否定的との説明あり|ではないと説明される]。",
        "{no}の[出現に注意し観察する|有無を観察していく]。現在のところなし。",
    ],
    "treatment": [
        "[指示にて|指示の]{oral} {tablets}[内服|与薬|内服介助]する。",
        "[頓用の|指示の|希望にて]{oral} {mg}[内服し|使用し]、{few}時間後に[再度確認する|入眠される]。",
        "{injected} {volume}[滴下中|更新|投与中]。刺入部[異常なし|問題なし]。",
        "{oxygen} {flow}[投与中|開始]。SpO2 {saturation}%。",
        "{insulin} {units}[皮下注施行|自己注射できる]。",
        "{injected} {ampoules}[施行|を側管より投与]。",
        "[本日より|昨日から]{oral}が{tablets}[へ増量|に変更|へ減量]となる。",
        "[就寝前に|夕食後]{class}[希望あり|を希望され]、{oral} {tablets}[与薬|内服]する。",
        "{topical}[使用|継続]、{class}は[使用せず様子をみる|昨日で終了]。",
        "{class}[の内服を拒否するが|は飲めており]、{oral} {tablets}は[内服できた|自己管理できている]。",
    ],
    "course": [
        "{s}[軽減|消失|改善傾向]。[引き続き観察する|様子をみる]。",
        "[内服後|処置後]も{s}[持続|変わらず]、[医師へ報告する|経過をみる]。",
        "{oral}の[自己管理について指導する|飲み忘れがないか確認する]。",
        "[ナースコールを手元に置き|ベッド柵を確認し]退室する。",
        "{d}について[不安の傾聴を行う|パンフレットで説明する]。",
        "[妻|娘|長女]より電話あり、[状態を伝える|面会の希望を聞く]。",
    ],
}
STYLES = {"症例報告": CASE, "看護記録": NURSING}
CLASSES = ("抗菌薬", "利尿薬", "鎮痛薬", "下剤", "睡眠薬", "降圧薬", "制吐薬", "抗不安薬", "去痰薬", "整腸剤", "解熱剤",
           "止血剤", "ステロイド", "昇圧薬", "抗凝固薬", "抗てんかん薬")
OXYGEN = "酸素"
INSULINS = ("インスリン", "速効型インスリン", "持効型インスリン", "ヘパリン")
ASK = {
    "d": ["次の{kind}から、患者本人に認められた症状と病名をすべて抜き出してください。\n「{note}」",
          "以下の{kind}で、患者に実際にみられた症状や疾患は？\n「{note}」"],
    "m-key": ["次の{kind}から、薬の名前をすべて抜き出してください。\n「{note}」",
              "以下の{kind}に出てくる薬剤の名称は？\n「{note}」"],
    "m-val": ["次の{kind}から、薬の量を表す値をすべて抜き出してください。\n「{note}」",
              "以下の{kind}で、投与量など薬に関わる値は？\n「{note}」"],
}
_WIDE = {code: code + 0xFEE0 for code in range(0x21, 0x7F)} | {ord(" "): "　"}
_ENTITIES = {"s": "d", "d": "d", "no": "", "other": "", "oral": "m-key", "injected": "m-key", "topical": "m-key",
             "insulin": "m-key", "oxygen": "m-key", "class": "m-key"}
_LIKE = {"no": "s", "other": "d"}  # slots that draw from another's names

Names = Mapping[str, Sequence[str]]  # slot → names, the commonest first


@dataclasses.dataclass(frozen=True)
class Note:
    """A short record.

    Attributes:
      found: tag → what of it the note holds, in the order of the text, each once.
      absent: what the patient has not: denied, ruled out, or another person's.
    """
    kind: str
    text: str
    found: Mapping[str, tuple[str, ...]]
    absent: tuple[str, ...]


class _Slots(dict):
    """Draws the value of each slot as it is asked for, and keeps what is an entity.

    No name is part of another of the same note: what is an entity would not be well defined.
    """

    def __init__(self, rng: random.Random, names: Names):
        super().__init__()
        self.rng, self.names = rng, names
        self.used: list[str] = []
        self.found: dict[str, list[str]] = {"d": [], "m-key": [], "m-val": []}
        self.absent: list[str] = []
        self.sex, self.day, self.space = (
            pick(rng, values) for values in (tuple(_OTHER_SEX), ("/日", "/日", "/day"), ("", "", " ")))

    def __missing__(self, slot: str) -> str:
        if slot not in _ENTITIES:
            value = self._number(slot)
            if slot in _DOSES:
                self.found["m-val"].append(value)
            return value
        name = self._name(self.names[_LIKE.get(slot, slot)])
        (self.found[_ENTITIES[slot]] if _ENTITIES[slot] else self.absent).append(name)
        return name

    def _name(self, names: Sequence[str]) -> str:
        for _ in range(1000):
            # Most draws are of common names: lists are long, and what is rare in them is often odd.
            name = pick(self.rng, names[:_COMMON] if self.rng.random() < 0.7 else names)
            if not _OTHER_SEX[self.sex].search(name) and not any(name in used or used in name for used in self.used):
                self.used.append(name)
                return name
        raise ValueError(f"{len(names)} names are too few for a note ({', '.join(names[:3])} …): give longer lists")

    def _number(self, slot: str) -> str:
        rng, space = self.rng, self.space
        if slot in _DOSES:
            numbers, *units = _DOSES[slot]
            unit = pick(rng, units)
            latin = unit[0].isascii()
            return pick(rng, numbers.split()) + (space + unit.replace("/日", self.day) if latin else unit)
        if slot == "lab":
            row = pick(rng, _plain_labs())
            return f"{row['abbreviation']} {with_unit(_lab_value(rng, row, pick(rng, 'AC')), row['unit'])}"
        if slot == "sex":
            return self.sex
        if slot == "pressure":
            upper = rng.randint(92, 168)
            return f"{upper}/{round(upper * rng.uniform(0.52, 0.64))}"
        if slot == "temperature":
            return f"{rng.uniform(36, 39.6):.1f}"
        return str(rng.randint(*_INTEGERS[slot]))


_SHARES = {"past": 0.3, "findings": 0.4, "denial": 0.35, "treatment": 0.75, "course": 0.35}  # of each of two sentences
_COMMON = 5000
_OTHER_SEX = {"男性": re.compile("子宮|月経|卵巣|卵管|[膣腟]|妊娠|産|胎|乳[房癌腺]|女性"),
              "女性": re.compile("前立腺|精巣|精[索管]|陰[茎嚢]|男性")}
_INTEGERS = {"age": (18, 94), "few": (2, 9), "day": (8, 40), "hour": (1, 23), "pulse": (58, 118),
             "saturation": (88, 99)}
_AMOUNTS = "1 2 2.5 5 10 15 20 25 30 40 50 60 75 80 100 120 150 200 250 300 400 500 600 750 1000"
_DOSES = {
    "mg": (_AMOUNTS, "mg", "mg", "mg/日", "mg/日", "mg/日", "mg/kg", "mg×2/日"),
    "tablets": ("1 2 3 4 6", "錠", "錠", "錠", "錠/日", "包", "錠分2"),
    "volume": ("20 50 100 200 250 500 1000", "mL", "mL", "mL/h", "mL/日"),
    "ampoules": ("1 2", "A", "A", "V"), "units": ("2 4 6 8 10 12 20", "単位", "単位", "単位/日"),
    "flow": ("1 2 3 4 5 6 10", "L", "L/分", "L/min"),
}


def _note(rng: random.Random, kind: str, names: Names, sections: Sequence[str], wide: bool) -> Note:
    slots, said = _Slots(rng, names), []
    for section in sections:
        said.append(pick(rng, [template for template in STYLES[kind][section] if template not in said]))
    text = "".join([fill(rng, template, slots) for template in said])
    milligram = pick(rng, ("mg", "㎎"))

    def shown(value: str) -> str:
        return value.replace("mg", milligram).translate(_WIDE) if wide else value

    found = {tag: tuple(dict.fromkeys(map(shown, values))) for tag, values in slots.found.items()}
    return Note(kind, shown(text), found, tuple(map(shown, slots.absent)))


def _notes(rng: random.Random, names: Names, wide: float) -> Iterator[Note]:
    """Notes of 80 to 300 characters that hold something of each tag, without end.

    Args:
      wide: share of those with full-width digits and letters.
    """
    while True:
        sections = [section for section, share in _SHARES.items() for _ in range(2) if rng.random() < share]
        note = _note(rng, pick(rng, tuple(STYLES)), names, ["opening", *sections], rng.random() < wide)
        if 80 <= len(note.text) <= 300 and all(note.found.values()):
            yield note


def _own_names() -> dict[str, list[str]]:
    def drugs(routes: str) -> list[str]:
        return [row["name"] for row in rows("drugs") if re.search(routes, row["route"])]
    return _with_fixed({"s": list(tables()["symptoms"]), "d": list(tables()["diseases"]), "oral": drugs("内服"),
                        "injected": drugs("静注|注射"), "topical": drugs("外用|点眼|吸入")})


def _with_fixed(names: dict[str, list[str]]) -> dict[str, list[str]]:
    return names | {"insulin": list(INSULINS), "oxygen": [OXYGEN], "class": list(CLASSES)}


# Names of long lists --------------------------------------------------------------------------------------------------

# What the lists hold beside names: findings denied or doubted, operations, times, phrases.
_NO_DISEASE = re.compile("ない|なく|なし|無し|無$|有$|有り|あり|不可|正常|陰性|陽性|疑|既往|予防|術|検査|治療|"
                         "期間|将来|本朝|今朝|家族|良好|改善|みられ|認め|伴|強い|児生存|"
                         "リスク|特$|[等をがはで]|ある|[ぁ-ん]{5}|[、。・/()「」 ]")
_DISEASE_END = re.compile("(?:症|病|癌|炎|[^浮]腫|腫瘍|症候群|不全|梗塞|骨折|潰瘍|ヘルニア|ポリープ|貧血|結核|"
                          "狭窄|中毒|脱臼|奇形)$")
_NO_DRUG = re.compile("[(\\[「」)\\]0-9/.%、 ]|[ぁ-ん]")
_SALT = re.compile("(?:水和物|[一二三]?(?:塩酸|硫酸|リン酸|酢酸|臭化水素酸|ベシル酸|メシル酸|マレイン酸|フマル酸|"
                   "酒石酸|クエン酸|コハク酸|トシル酸|シュウ酸)塩|ナトリウム|カリウム|カルシウム)+$")
_ORAL = re.compile("錠|カプセル|散$|顆粒|細粒|内服|シロップ|エキス|ドライ")
_INJECTED = re.compile("注|輸液|透析液|点滴|キット|シリンジ")
_TOPICAL = re.compile("軟膏|クリーム|点眼|点鼻|貼付|テープ|パップ|ローション|吸入|外用|坐剤|坐薬|ゲル|スプレー|"
                      "うがい|消毒|シャンプー")


def _listed_names(diseases: Sequence[str], drugs: Sequence[str], seed: int) -> dict[str, list[str]]:
    """The names that make plain entities: findings as they are, drugs without dose, maker and salt."""
    names: dict[str, list[str]] = {slot: [] for slot in ("s", "d", "oral", "injected", "topical")}
    for name in dict.fromkeys(diseases):
        if 2 <= len(name) <= 14 and OXYGEN not in name and not _NO_DISEASE.search(name):
            names["d" if _DISEASE_END.search(name) else "s"].append(name)
    bare = list(dict.fromkeys(_SALT.sub("", re.split(r"[「(\[]|\d", name)[0].strip()) for name in drugs))
    random.Random(seed).shuffle(bare)  # the lists don't say which drugs are common
    for name in bare:
        if not 3 <= len(name) <= 16 or _NO_DRUG.search(name) or name.count("・") > 1 or OXYGEN in name:
            continue
        forms = [slot for slot, form in (("topical", _TOPICAL), ("injected", _INJECTED), ("oral", _ORAL))
                 if form.search(name)]
        for slot in forms[:1] or ("oral", "injected"):  # an ingredient is given either way
            names[slot].append(name)
    for slot, found in names.items():
        if len(found) < 20:
            raise ValueError(f"the lists of {len(diseases)} diseases and {len(drugs)} drugs hold {len(found)} plain "
                             f"names of the kind {slot}: 20 of each of {', '.join(names)} are needed")
    return _with_fixed(names)


def lexicon_notes(diseases: Sequence[str], drugs: Sequence[str], rows: int, seed: int,
                  ask: Mapping[str, Sequence[str]] = ASK) -> list[Item]:
    """Extraction items about notes with the names of given lists; half of the notes are in full-width characters.

    Args:
      diseases: findings and diseases, the commonest first.
      drugs: ingredients and products; entities are they without dose, maker and salt.
      ask: tag → questions that hold `{note}`, and may hold `{kind}` (症例報告 or 看護記録). Tags: d, m-key, m-val.

    Raises:
      ValueError: lists that are too short, a question without `{note}`, an unknown tag.
    """
    for tag, questions in ask.items():
        if tag not in ASK or not questions or not all("{note}" in question for question in questions):
            raise ValueError(f"ask[{tag!r}]={list(questions)!r}: the tags are {', '.join(ASK)}, and each question "
                             "holds {note} where the note goes")
    rng = random.Random(f"{seed}-lexicon_notes")
    notes = _notes(rng, _listed_names(diseases, drugs, seed), wide=0.5)
    return [_extraction(f"lexicon_notes:{i}", rng, next(notes), tuple(ask)[i % len(ask)], ask) for i in range(rows)]


def _extraction(name: str, rng: random.Random, note: Note, tag: str, ask: Mapping[str, Sequence[str]]) -> Item:
    question = pick(rng, ask[tag]).replace("{kind}", note.kind).replace("{note}", note.text)
    return Item(name, question, note.found[tag], tag=tag, document=note.text)


# The three tasks ------------------------------------------------------------------------------------------------------

_COURSES = {
    "A": ["軽快した", "和らいだ", "ほぼ消失した", "目立たなくなった", "改善した", "良くなってきた", "減ってきた"],
    "B": ["変わらなかった", "前回と同程度であった", "横ばいであった", "不変であった",
          "著変なく続いていた", "同じ程度で経過した"],
    "C": ["増悪した", "強くなった", "悪化した", "ひどくなった", "前回より目立つようになった", "頻回になった"],
}
_GENERAL = {"内科", "小児科", "救急科"}  # departments that may see anyone
_LABS = ("WBC", "Plt", "K", "Ca", "Glu", "BUN", "TSH", "FT4")  # the same range for both sexes, low and high both occur


def _plain_labs() -> list[Mapping[str, str]]:
    return [labs()[name] for name in _LABS]


def _lab_value(rng: random.Random, row: Mapping[str, str], level: str) -> str:
    low, high = float(row["low"]), float(row["high"])
    value = {"A": high * rng.uniform(1.3, 1.7), "C": low * rng.uniform(0.5, 0.75),
             "B": low + (high - low) * rng.uniform(0.15, 0.85)}[level]
    return written(value, row["low"])


def _lettered(*texts: str) -> tuple[tuple[str, str], ...]:
    return tuple(zip("ABCD", texts))


def _symptom(rng: random.Random) -> Item:
    kind = pick(rng, tuple(STYLES))
    note = _note(rng, kind, _own_names(), ("opening", "denial"), wide=False)
    answer = pick(rng, "AB") if note.absent else "A"
    asked = pick(rng, note.found["d"] if answer == "A" else note.absent)
    question = fill(rng, f"次の{kind}の患者に「{{asked}}」は[認められるか|みられるか|あるといえるか]。\n「{{note}}」",
                    {"asked": asked, "note": note.text})
    return Item("", question, (answer,), _lettered("はい", "いいえ"), document=note.text)


def _course(rng: random.Random) -> Item:
    answer, slots = pick(rng, "ABC"), _Slots(rng, _own_names())
    text = fill(rng, pick(rng, CASE["opening"]), slots)
    text += fill(rng, "[治療開始|入院|内服開始|処置]{few}[日|週間|か月]後、{s}は", slots)
    text += pick(rng, _COURSES[answer]) + "。"
    question = f"次の記録で、最後に述べられた症状の経過はどれか。\n「{text}」"
    return Item("", question, (answer,), _lettered("改善", "不変", "悪化"), document=text)


def _lab(rng: random.Random) -> Item:
    answer, row, slots = pick(rng, "ABC"), pick(rng, _plain_labs()), _Slots(rng, {})
    value = with_unit(_lab_value(rng, row, answer), row["unit"])
    question = fill(rng, "{age}歳{sex}の[血液検査|採血]で、" + pick(rng, (row["name"], row["abbreviation"]))
                    + f"は{value}であった。[この値は|基準範囲と比べて]どれか。", slots)
    levels = _lettered("基準範囲より高い", "基準範囲内", "基準範囲より低い")
    return Item("", question, (answer,), levels, document=question)


def _department(rng: random.Random) -> Item:
    row = pick(rng, [row for row in rows("diseases") if row["department"] not in _GENERAL])
    far = {other["name"] for other in unrelated_diseases(row["name"])}
    near = {other["department"] for other in rows("diseases") if other["name"] not in far}
    free = sorted({other["department"] for other in rows("diseases")} - near - _GENERAL)
    texts = [row["department"], *rng.sample(free, 3)]
    rng.shuffle(texts)
    question = fill(rng, "{age}歳の[患者|外来患者|入院患者]。{few}[日前|週間前|か月前]に" + row["name"]
                    + "と[診断された|わかった]。[主に担当する|診療の中心となる]診療科はどれか。", _Slots(rng, {}))
    return Item("", question, ("ABCD"[texts.index(row["department"])],), _lettered(*texts), document=question)


_CHOICES: dict[str, Callable[[random.Random], Item]] = {
    "symptom": _symptom, "course": _course, "lab": _lab, "department": _department}


def _choices(rng: random.Random) -> Iterator[Item]:
    while True:
        for tag, draw in _CHOICES.items():
            yield dataclasses.replace(draw(rng), tag=tag)


def _extractions(rng: random.Random) -> Iterator[Item]:
    notes = _notes(rng, _own_names(), wide=0.25)
    while True:
        for tag in ASK:
            yield _extraction("", rng, next(notes), tag, ASK)


def _exams(rng: random.Random) -> Iterator[Item]:
    names = {name for table in ("diseases", "drugs", "symptoms", "examinations") for name in tables()[table]}
    while True:
        item = exam_item(rng)
        # What is spoken of, however it is worded: a disease's questions stay together.
        subjects = "、".join(sorted(name for name in names if name in item.question)) or item.question
        yield Item("", item.question, ("abcde"[item.answer],), tuple(zip("abcde", item.choices)), document=subjects)


def exam_prompt(item: Item) -> list[Message]:
    choices = "".join(f"{letter}: {text}\n" for letter, text in item.options)
    letters = ",".join(letter for letter, _ in item.options)
    question = f"問題: {item.question}\n{choices}必ず{letters}の中からちょうど1個選んでください。\n答え:"
    return [{"role": "system", "content": "医学の試験問題を解きます。"}, {"role": "user", "content": question}]


def exam_reply(item: Item) -> str:
    return item.answer[0]


_DRAWS = {"sample_choice": _choices, "sample_extraction": _extractions, "sample_exam": _exams}


def tasks(seed: int = 0, test_rows: int = 100) -> dict[str, Task]:
    """sample_choice, sample_extraction and sample_exam, `test_rows` items each."""
    return _tasks("test", seed, test_rows)


def training(seed: int = 0, rows: int = 400) -> dict[str, Task]:
    """The same three with other rows: no question and no document of any `tasks`."""
    return _tasks("train", seed, rows)


def _tasks(split: str, seed: int, count: int) -> dict[str, Task]:
    items = {name: _items(name, split, seed, count) for name in _DRAWS}
    choice, extraction, exam = (items[name] for name in _DRAWS)
    return {
        "sample_choice": benchmark_tables.task("sample_choice", "choice", choice, "kappa", "Apache-2.0"),
        "sample_extraction": benchmark_tables.task("sample_extraction", "extraction", extraction, "exact_f1",
                                                   "Apache-2.0"),
        "sample_exam": Task("sample_exam", "exam", exam, ("accuracy", "kappa"), exam_prompt, exam_reply, "Apache-2.0")}


def _items(name: str, split: str, seed: int, count: int) -> tuple[Item, ...]:
    found: dict[str, Item] = {}
    draws = _DRAWS[name](random.Random(f"{seed}-{name}-{split}"))
    while len(found) < count:
        item = next(draws)
        is_test = zlib.crc32(item.document.encode()) % 4 == 0
        if is_test == (split == "test") and item.question not in found:
            found[item.question] = dataclasses.replace(item, id=f"{name}-{split}:{len(found)}")
    return tuple(found.values())
