"""The masking of personal information, measured on records made up for it and on public text that holds none.

    .venv/bin/python -m benchmarks.privacy --exams=DATA/IgakuQA --wikipedia=DATA/text/jaquad_wikipedia.jsonl.gz

Recall is counted on 1,000 records of invented people (Faker), false masks on licensing examinations and Wikipedia. The
templates were written before the masker was first run: {field} is planted or drawn, <kind:text> is a distractor.
"""

import argparse
import gzip
import json
import random
import re
import time
from collections import Counter, namedtuple
from datetime import date
from pathlib import Path

from faker import Faker

from slm.text.morphology import Morphology
from slm.text.normalize import normalize
from slm.text.privacy import PLACEHOLDERS, facility_list, mask

POOLS = {kind: pool.split("|") for kind, pool in {  # distractors: # is a digit
    "dose": "アスピリン100mg 1日1回|アムロジピン錠5mg 1錠 分1|ロキソプロフェン60mg 3錠 分3|メトホルミン250mg 2T2×|"
            "セフトリアキソン2g/日|ヘパリン 10,000単位/日|ノルアドレナリン 0.05μg/kg/min|プレドニゾロン 0.5mg/kg/日|"
            "生食100mL+セファゾリン1g|レボフロキサシン500mg×7日間|インスリン 6-4-4-0単位|レボチロキシン12.5μg 隔日",
    "lab": "WBC 8,#00/μL|血小板 1#.#×10⁴/μL|HbA1c 7.#%|Na 138 mEq/L|CRP 0.#2mg/dL|AST/ALT 3#/4# U/L|eGFR 5#.#|PSA 4.##|"
           "BNP 1##.#pg/mL|フェリチン 1,##5ng/mL|RBC 45#万|SpO₂ 9#%(RA)|CPK 1####U/L|HCV-RNA 6.#LogIU|尿蛋白（2+）",
    "bp": "132/84|BP 1##/8#mmHg|血圧 14#/9#|脈拍 7#/分|体温36.#℃|HR 8#, RR 1#",
    "date": "2021年4月1#日|令和5年4月2#日|R5.6.12|2023/11/0#|2019-08-2#|平成28年7月頃|10月1#日|H30.6.1#|2022.5.1#",
    "age": "6#歳|生後3か月|70代|満4#歳|8#歳4か月", "time": "14:3#|午前10時2#分|21時1#分|9:00-17:00|7:45頃",
    "icd": "I21.#|ICD-10: E11.#|C34.#|ICD-O-3 8140/3|F32.#", "length": "12×#mm|3.#cm|身長158.#cm|径 2#-30mm|体重5#.#kg",
    "range": "10-20mg|60-80mmHg|2000-2500mL|1500-1800kcal|100-200-300mg|0.5-1.0mg/kg|2-4-6時間後|90-120-150分",
    "code": "YJコード 1124017F20#8|レセ電コード 62000#023|JAN 49871234567#9|Lot.12#456|GTIN (01)1498712345678#|K672-#",
    "lit": "PMID: 312345##|ISBN 978-4-260-123#5-6|doi:10.1056/NEJMoa12345##|UMIN0000123##|NCT012345##|379:2108-2#21",
    "eponym": "橋本病|川崎病|高安動脈炎|バセドウ病|菊池病|木村病|原田病|平山病|大田原症候群|三好型|山田式分類",
}.items()}

TEMPLATES = """
§診療情報提供書§診 療 情 報 提 供 書　　　　{date}\n紹介先医療機関　{listed}　内科　{dr2} 先生　御侍史\n紹介元　\
〒{zip} {addr}　{facility}　TEL {tel}　FAX {tel}　医師名　{dr}　印\n患者氏名：{pt}　様　（男・女）　\
生年月日：{dob}（{age}）　職業：会社員（{company}）\n患者住所：〒{zip}　{addr}　電話：{tel}\n傷病名：#1 {eponym}　\
#2 2型糖尿病（{icd}）　現処方：{dose}、{dose}\n経過：{date}より動悸を自覚し<place:近医>を受診、{lab}、{lab}。{bp}。
§紹介状の返書§{facility}　院長　{dr} 先生　御机下\n{pt}様（{dob}生、{age}）をご紹介いただき誠にありがとうございました。
{date}に当科外来を受診され、{lab}と高値であり、貴院でのご指摘と<word:同様>に{eponym}を疑っております。
{ptS}さんには{dose}を開始し、{date}に再診の予定です。　　　　　{listed}　内分泌内科　{dr2}　拝
§退院サマリ§患者ID：{pid}　{ptK}　{pt}　{dob}生　{age}　女性\n入院日 {date}　主治医 {dr}　担当医 {dr2}　受持看護師 {ns}
【主病名】急性心筋梗塞（{icd}）　【既往歴】{date} 胆嚢摘出術（{facility}）　【紹介先】{listed}　{dr3S}先生
【現病歴】{date} {time}、胸痛を自覚し<word:苦悶様>の顔貌で家族に連れられ<place:当院>救急外来を受診。{bp}、{lab}。
【経過】PCI施行、{length}のステントを留置。{range}で調整した。{ptS}氏は第5病日に一般病棟へ転棟。【処方】{dose} / {dose}
§外来カルテ§{date} {time} 外来再診　ID {pid}　{pt}（{age}）　記載：{drS}
S）変わりないです。妻の{fmG}さんから「最近眠れていない」と。前回{dr2S}先生に言われた減塩は続けている。
O）{bp}　{length}　{lab}　{lab}　下腿浮腫なし。ご家族の<word:皆様>もお変わりなしとのこと。
A/P）#1 高血圧症　{dose} 継続　#2 {eponym}　{range}で漸増　次回 {date} {time}　採血あり
§看護記録§{date} {time} 訪室。{pt}さん、<word:苦悶様>表情なし。「痛みは昨日と<word:同様>です」と話される。{bp}。
{time} {drS}医師へ報告し、{dose}の指示あり。長男の{fm}氏より入電、面会は{time}とのこと。連絡先 {tel}。
{time} {ptS}様の次女・{fm2}様来棟。<word:患者さん>同士のトラブルについて説明した。　サイン：{ns}
§検査報告書§検査報告書\t受付日 {date}\t報告日 {date}\t採取時刻\t{time}\t検査コード {code}\n患者番号\t{pid}\t氏名\t\
{pt}\tカナ\t{ptK}\t性別\tM\t生年月日\t{dob}\t病棟\t3東\n依頼元\t{facility}\t依頼医\t{dr}\t検査者：{ns}\t承認者：{dr2}
項目\t結果\t基準値\n末梢血\t{lab}\t3,300-8,600\n生化学\t{lab}\t138-145\n培養\t<eponym:小川培地>\t陰性
§入院診療計画書§入 院 診 療 計 画 書　　（患者氏名）{pt} 殿　　診察券No. {pid}\n病棟（病室）：5階西病棟 512号室　\
主治医以外の担当者名：{ns}（看護師）、{dr2}（薬剤師）\n病名：{eponym}（{icd}）　症状：発熱、{length}の頸部腫瘤　\
検査：{date} CT、{date} 生検\n治療計画：{dose}、栄養 {range}　主治医氏名：{dr} 印　説明を受けた方：{fm}（続柄 妻）
§訪問看護報告§訪問看護報告書　{listed}　管理者 {ns}　電話 {tel}
利用者氏名 {pt}（{ptK}）　生年月日 {dob}　要介護3　介護保険被保険者番号 {care}
住所 {addr}　主治医 {facility} {dr} 先生　{date} {time}訪問。{bp}、{lab}。仙骨部褥瘡 {length}。
{fmG}さん（妻）の介護疲れあり、ケアマネの{dr2S}さんへ電話（{tel}）で情報共有した。<word:娘さん>は遠方。
§救急搬送記録§{date}　覚知 {time}　現着 {time}　病着 {time}　隊長 {ns}　傷病者：{pt}　{age}　男　{dob}生
住所：{addr}　電話：{tel}　通報者：同居の{fm}さん（息子）　かかりつけ：{facility}（{drS}先生）
主訴：突然の背部痛、<word:苦悶様>顔貌。JCS I-1、{bp}、{lab}、瞳孔 3/3mm。既往：{eponym}、{date}発症の脳梗塞
<place:大学病院>は満床で受入不可。{listed}の{dr2S}医師が受け入れ。
§薬剤情報提供書§お薬の説明書　{pt} 様　　調剤日：{date}　処方医療機関：{facility}　処方医：{dr} 先生
保険者番号：{insurer}　記号・番号：{symbol}・{member}\n1. {dose}　（{code}）\n2. {dose}　（{code}）\n3. 頓用 {range}　\
1日2回まで\n残薬は<word:担当の先生>にご相談ください。　{listed}　管理薬剤師 {ns}　〒{zip} {addr}　TEL：{tel}
§予約電話メモ§{time} {ptS}様より入電。{date}の予約を変更したい → {date} {time}へ。診察券番号{pid}、折り返し{tel}。
前回{dr}先生から{dose}を出されたが吐き気あり。{drS}先生へ伝言済。受付・{nsS}\n{mail}　ご主人（{fm}様）も可 {tel}
§問診票§ふりがな　{ptH}\nお名前　{pt}　　生年月日　{dob}　満（{age}）　体重・身長　{length}\nご住所　〒{zip}\n　　　　\
{addr}\n電話（自宅）{tel}　（携帯）{tel}　E-mail {mail}\n勤務先　{company}　　緊急連絡先　{fm}（続柄：子）　{tel}
いつから、どのような症状ですか：{date}から咳。飲んでいる薬：{dose}　<place:他院>で{eponym}といわれた
§同意書§{listed}　病院長殿　私は、{date}、{dr}医師より、下記の手術（{code}）について、輸血量400-800mL、\
{range}等の説明を受け、同意いたします。\n患者　住所　{addr}　氏名　{pt}　印　生年月日　{dob}
代理人（家族）　氏名　{fm}　印　続柄　長女　電話　{tel}　　立会看護師 {ns}
§死亡診断書§氏名　{pt}　1男 2女　　生年月日　{dob}　　死亡したとき　{date} {time}
死亡したところ　{addr}　　施設の名称　{facility}　（ア）直接死因　急性呼吸不全
（イ）肺腺癌（{icd}）約2年　手術 有（{date}、{length}の腫瘤を切除）　上記のとおり診断する　医師　{dr}　印
§主治医意見書§主治医意見書　記入日 {date}　申請者 （ふりがな）{ptH}　{pt}　{dob}生（{age}）　〒{zip} {addr} 連絡先 {tel}
保険者番号 {careinsurer}　被保険者番号 {care}　個人番号 {mynumber}　最終診察日 {date}
医師氏名 {dr}　医療機関名 {facility}　電話 {tel}　FAX {tel}　診断名 アルツハイマー型認知症（{date}発症）、{eponym}
投薬内容：{dose}、{dose}　HDS-R（<eponym:長谷川式>）12点、{bp}、{length}
§FAX送付状§FAX送付状　送信日時：{date} {time}　送付枚数：3枚　宛先：{listed} 地域連携室 {dr2} 様　FAX：{tel}
発信：{facility} 医事課 {ns}　TEL：{tel}（内線 2314）　Mail：{mail}\n件名：{pt}様（ID：{pid}、{dob}）の診療情報について
標記<word:患者様>の{date}の検査結果（{lab}、{lab}）をお送りします。<word:皆様>によろしくお伝えください。
§入院患者一覧§| 病室 | 患者ID | 氏名 | 年齢 | 生年月日 | 主治医 | 病名 | 入院日 | 備考 |
| 301-1 | {pid} | {pt} | {age} | {dob} | {dr} | {eponym} | {date} | {dose} |
| 302-2 | {pid} | {fm2} | {age} | {dob} | {drS} | 肺炎（{icd}） | {date} | {lab}、連絡先 {tel} |
§外来予約表§予約時刻\tID\t患者名\tフリガナ\t電話\t担当医\t内容\n{time}\t{pid}\t{pt}\t{ptK}\t{tel}\t{dr}\t再診 {lab}
{time}\t{pid}\t{ns}\t{nsK}\t{tel}\t{dr2S}\t{dose} 処方のみ、エコー {length}
§受付の保険確認§保険証確認（{date}）　保険者番号　{insurer}　記号　{symbol}　番号　{member}　有効期限 {date}
公費負担者番号　{public}　受給者番号　{recipient}　マイナンバー　{mynumber}　被保険者氏名　{fm}　{company}
受診者　{pt}（{ptK}）　{dob}　新住所 〒{zip} {addr}　電話 {tel}　→ カルテ番号 {pid} を更新済み（{nsS}）
§手術記録§手術記録　カルテNo.{pid}　{pt}　{age}　手術日 {date}　入室 {time}　執刀 {time}　閉創 {time}
術者：{dr}　第一助手：{dr2}　第二助手：{dr3S}　麻酔：{nsS}　術式：胆嚢摘出術（{code}）　出血量 {range}　標本 {length}
§画像診断報告§PATIENT: {ptR}  ID:{pid}  DOB:{dob}  SEX:F  STUDY DATE:{date}　依頼医：{dr}　読影医：{dr2}　{listed}
右肺S6に{length}大の結節。前回（{date}）と比べ増大。炎症後と<word:同様>の陰影も混在。{icd}疑い。造影300mg。
§カンファレンス§{date}、{ptS}さんの退院先が議題となった。{drS}先生は{lab}と安定しており自宅退院が可能と述べたが、\
{nsS}看護師から、主介護者である妻の{fmG}さんが{eponym}で通院中であること、同室の{fm2S}さんと親しいことが報告された。\
長男の{fm}（{age}、{company}勤務）は週末のみ帰省できる。{dr2S}MSWが<place:療養型病院>と{facility}に打診し、{date}までに\
回答を得る。なお<word:院長先生>からは、{dose}の継続と{range}の水分制限を守るよう指示があった。
§当直の申し送り§当直Dr {drS} → 日勤Dr {dr2S}　・{pt}、{age}、{time}発熱、血培済、{dose}開始。家族（{fm}、{tel}）へ連絡済
・{fm2S}氏、{time}転倒、頭部CT異常なし、{bp}　・ER：{ns}（{dob}生、ID {pid}）喘息発作、<word:けいれん様>の動きはなし
§問い合わせメール§差出人: {ptR} {mail}\n日時: {date} {time}\n件名: 検査結果について\n{listed}　予約センター御中
先日{drS}先生に診ていただいた{pt}です（診察券番号：{pid}、誕生日は{dob}です）。{date}の採血で{lab}と言われました。\
{dose}は続けてよいでしょうか。お返事は {mail} か {tel} へお願いします。〒{zip} {addr}
§相談室メモ§{pt}氏（{age}、{dob}生）とその姉{fm}さんが来談。被保険者証の記号{symbol}番号{member}、\
個人番号カードの番号は {mynumber} と確認。現住所は{addr}、日中の連絡は{tel}（姉の携帯）。
以前の主治医は{facility}の{dr2}医師で、{eponym}のため{dose}を内服していた。<place:前医>へ照会済。（面談 {ns}）
§症例の下書き§症例：{age}女性（{ptS}、カルテ番号{pid}）。{date}に{facility}で{eponym}と診断、{dose}、{range}まで増量。\
{lab}。既報（{lit}）と<word:同様>の経過。文献：{lit}。著者：{dr}、{dr2}　〒{zip} {addr}　E-mail: {mail}　Tel: {tel}
"""

FORMS = {  # field: type, groups (# is a digit), how they are written, the commonest first
    "tel": ("phone", "090-####-####|080-####-####|03-5###-####|06-6###-####|011-2##-####|0463-2#-####|0120-###-###",
            "{0}-{1}-{2}|{0}{1}{2}|{0}({1}){2}|({0}){1}-{2}|{0}‐{1}‐{2}|{0}ー{1}ー{2}|{0} {1} {2}"),
    "zip": ("postal_code", "###-####", "{0}-{1}|{0}{1}|{0}‐{1}|{0}ー{1}"),
    "mynumber": ("my_number", "####-####-###", "{0} {1} {2}|{0}{1}{2}|{0}-{1}-{2}"),
    "pid": ("patient_number", "###-####-#", "{0}{1}|{0}{1}{2}|00{0}{1}{2}|{0}-{1}|{0}-{1}-{2}|A{0}{1}"),
    "insurer": ("insurance_number", "06-13-####|01-27-####|39-22-####", "{0}{1}{2}|{0} {1} {2}"),
    "public": ("insurance_number", "54-13-####", "{0}{1}{2}"), "recipient": ("insurance_number", "###-####", "{0}{1}"),
    "symbol": ("insurance_number", "##-####-####", "{0}{1}{2}|{1}|{0}-{1}|{0}"),
    "member": ("insurance_number", "###-####", "{0}{1}|{0}|{1}"), "care": ("insurance_number", "00########", "{0}"),
    "careinsurer": ("insurance_number", "13####", "{0}"),
    "addr": ("address", "", "{0}丁目{1}番{2}号|{0}-{1}-{2}|{0}丁目{1}-{2}|{3}番地{2}|{3}-{2}|{0}丁目{1}番地の{2}"),
    "dob": ("birth_date", "", "{0.year}年{0.month}月{0.day}日|{1}{3}年{0.month}月{0.day}日|{0:%Y/%m/%d}|"
            "{2}{4}.{0.month}.{0.day}|{0:%Y-%m-%d}|{2}{4}/{0.month}/{0.day}|{1}{3}年 {0.month}月 {0.day}日|{0:%Y%m%d}|"
            "{0.year}.{0.month}.{0.day}")}
LISTED = ("記念病院", "訪問看護ステーション", "総合医療センター", "薬局", "クリニック", "赤十字病院")
SUFFIXES = ("病院", "医院", "クリニック", "内科クリニック", "整形外科医院", "総合病院", "中央病院", "こどもクリニック")
UNIT = re.compile(r"\s*(?:[mμkd]?[gLl]\b|[mc]m\b|%|単位|mEq|I?U/|/μL|万|℃|歳|錠|kcal|秒|分)")
GOALS = dict.fromkeys(PLACEHOLDERS, "≥ 99%") | {"name": "≥ 95%", "facility": ""}
WIDE = str.maketrans({c: chr(ord(c) + 0xFEE0) for c in "0123456789-()"})

Item = namedtuple("Item", "type form start end parts")  # `form` is "" in a distractor, `parts` are what identifies


class Fields:
    """The people and the numbers of one record; `draw` gives (type, form, text, identifying parts) of a field."""

    def __init__(self, rng: random.Random, fake: Faker, listed: list[tuple[str, str]]):
        self.rng, self.fake, self.listed, self.people = rng, fake, listed, {}
        gap = rng.choice(["", " ", "　"])
        for who in ("pt", "fm", "fm2", "dr", "dr2", "dr3", "ns"):
            kana, roman = fake.kana_name().split(" "), fake.romanized_name().upper().split(" ")[::-1]
            hiragana = ["".join(chr(ord(c) - 96) if "ァ" <= c <= "ヶ" else c for c in part) for part in kana]
            parts = [self.people["ptS"][2] if who == "fm" else fake.last_name(), fake.first_name()]
            for key, form, joint, names in (
                    ("", "full, spaced" if gap else "full, joined", gap, parts), ("S", "surname", "", parts[:1]),
                    ("G", "given", "", parts[1:]), ("K", "kana", gap, kana), ("H", "hiragana", gap, hiragana),
                    ("R", "roman", " ", roman)):
                self.people[who + key] = ("name", form, joint.join(names), names)

    def draw(self, key: str) -> tuple[str, str, str, list[str]]:
        rng, fake = self.rng, self.fake
        digits = lambda patterns: re.sub("#", lambda _: str(rng.randint(1, 9)), rng.choice(patterns))
        if key in self.people or key in POOLS:
            return self.people.get(key) or (key, "", digits(POOLS[key]), [])
        if key in ("mail", "company"):
            text = fake.company() if key == "company" else rng.choice([fake.email, fake.free_email])()
            return ("email" if key == "mail" else key), key, text, [text.split("@")[0]]
        if key in ("listed", "facility"):
            stem = rng.choice([fake.last_name, fake.town])()
            text, stem = rng.choice(self.listed) if key == "listed" else (stem + rng.choice(SUFFIXES), stem)
            return "facility", key, text, [stem]
        kind, pattern, forms = FORMS[key]
        groups, forms, before, after = digits(pattern.split("|")).split("-"), forms.split("|"), "", ""
        if key == "tel" and re.match("0[789]0-", number := fake.phone_number()) and rng.random() < 0.5:
            groups = number.split("-")  # Faker's other numbers (59-1234-5678) are none that could be dialled
        elif key == "addr":
            groups = [rng.randint(1, top) for top in (9, 30, 20, 3000)]
            before = fake.prefecture() * (rng.random() < 0.8) + fake.city() + fake.town()
            after = rng.choice(["", f" {fake.building_name()}{fake.building_number()}", "　メゾン青葉203号室"])
        elif key == "mynumber":
            rest = sum(int(d) * (n % 6 + 2) for n, d in enumerate(reversed("".join(groups)))) % 11
            groups[-1] += str(11 - rest if rest > 1 else 0)
        elif key == "dob":
            born = fake.date_between_dates(date(1927, 1, 1), date(2021, 12, 31))
            era, e, zero = (("昭和", "S", 1925) if born < date(1989, 1, 8) else
                            ("平成", "H", 1988) if born < date(2019, 5, 1) else ("令和", "R", 2018))
            groups = [born, era, e, "元" if born.year == zero + 1 else born.year - zero, born.year - zero]
        form = rng.choices(forms, [1 / (i + 1) for i in range(len(forms))])[0]
        text = form.format(*groups)
        return kind, f"{key} {form}" if kind == "insurance_number" else form, before + text + after, [text]


def record(body: str, fields: Fields) -> tuple[str, list[Item]]:
    """A normalised record and its items, the distractors included."""
    text, items, wide = "", [], WIDE if fields.rng.random() < 0.2 else {}
    for piece in re.split(r"(\{\w+\}|<\w+:[^>]+>)", body):
        kind, value = piece[1:-1].split(":", 1) if piece.startswith("<") else ("", piece)
        kind, form, value, parts = fields.draw(piece[1:-1]) if piece.startswith("{") else (kind, "", value, [])
        start, text = len(text), text + normalize(value.translate(wide))
        if kind:
            items.append(Item(kind, form, start, len(text), [normalize(part.translate(wide)) for part in parts]))
    assert normalize(text) == text, text
    return text, items


def spans(text: str, masked: str) -> list[tuple[str, int, int]]:
    """(type, start, end) of what `mask` replaced, by laying the masked text over the original, line by line."""
    found, at, types = [], 0, {placeholder: kind for kind, placeholder in PLACEHOLDERS.items()}
    same = text.count("\n") == masked.count("\n")
    for line, masked_line in zip(*(t.split("\n") if same else [t] for t in (text, masked))):
        pieces = re.split("(" + "|".join(map(re.escape, types)) + ")", masked_line)
        pattern = "".join("(.+?)" if i % 2 else re.escape(piece) for i, piece in enumerate(pieces))
        match = re.fullmatch(pattern, line, re.DOTALL)
        found += [(types[p], at + match.start(i + 1), at + match.end(i + 1)) for i, p in enumerate(pieces[1::2])]
        at += len(line) + 1
    return found


def is_found(item: Item, text: str, left: list[str]) -> bool:
    """Whether no identifying part of `item` survives; `left` is the text with NUL for what was masked."""
    for part in item.parts:
        start = text.index(part, item.start, item.end)
        rest = "".join(left[start:start + len(part)])
        runs = re.findall(r"\d+", re.sub(r"[^\d\0]", "", rest))
        longest = 0 if item.type in ("address", "birth_date") else 4 if item.type in GOALS else 99
        if rest == part or any(len(run) > longest for run in runs):
            return False
    return True


def recall(masker, show: int) -> list[str]:
    """Rows of the table: what was found in 1,000 records, and the distractors left; prints `show` misses a form."""
    rng, fake = random.Random(0), Faker("ja_JP")
    fake.seed_instance(0)
    listed = [(stem + rng.choice(LISTED), stem) for stem in (fake.town() for _ in range(40))]
    facilities, bodies = facility_list([name for name, _ in listed]), TEMPLATES.strip("\n§").split("\n§")
    planted, found = Counter(), Counter()
    for number in range(1000):
        title, body = bodies[number % len(bodies)].split("§")
        text, items = record(body, Fields(rng, fake, listed))
        left = list(text)
        for _, start, end in spans(text, masker(text, True, facilities)[0]):
            left[start:end] = "\0" * (end - start)
        for item in items:
            good = is_found(item, text, left) if item.form else "\0" not in left[item.start:item.end]
            keys = ((item.type, ""), (item.type, item.form)) if item.form else (("distractor", item.type),)
            planted.update(keys)
            found.update(keys if good else ())
            if not good and planted[keys[-1]] - found[keys[-1]] <= show:
                near = "".join(left[max(0, item.start - 15):item.end + 10]).replace("\0", "■").replace("\n", "⏎")
                print(f"{item.type} | {item.form} | {title} | {text[item.start:item.end]} | {near}")
    return [f"| {kind} {form} | {count:,} | {found[kind, form]:,} | {found[kind, form] / count:.2%} | "
            f"{'' if form else GOALS.get(kind, '')} |" for (kind, form), count in sorted(planted.items())]


def false_masks(name: str, texts: list[str], masker, names: bool) -> str:
    """A row of counts by type; prints every masked number with what stands around it."""
    counts, hits, name = Counter(), 0, f"{name}, names={names}"
    for text in texts:
        for kind, start, end in spans(text, masker(text, names, None)[0]):
            counts[kind] += 1
            if kind not in ("name", "facility"):
                before, after = text[max(0, start - 20):start], text[end:end + 12]
                hit = bool(UNIT.match(after)) or (kind == "birth_date" and not re.search("生|誕", before + after))
                hits += hit
                print(f"{name} | {kind} | {before}【{text[start:end]}】{after}{'!!' * hit}".replace("\n", "⏎"))
    return f"| {name} | {dict(counts)} | {hits} |"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exams", type=Path, required=True)
    parser.add_argument("--wikipedia", type=Path, required=True)
    parser.add_argument("--misses", type=int, nargs="?", const=5, default=0, help="print so many misses of each form")
    flags, morphology, spent = parser.parse_args(), Morphology(), Counter()

    def masker(text: str, names: bool, facilities) -> tuple[str, dict]:
        start = time.perf_counter()
        morphemes, middle = morphology.tag(text), time.perf_counter()
        result = mask(text, morphemes, persons=names, facilities=facilities)
        spent.update(size=len(text.encode()), tagging=middle - start, masking=time.perf_counter() - middle)
        return result

    rows = recall(masker, flags.misses)
    items = [json.loads(line) for path in sorted(flags.exams.glob("data/*/*[A-F].jsonl")) for line in path.open("rb")]
    exams = [normalize("\n".join([item["problem_text"], *item["choices"]])) for item in items]
    articles = [json.loads(line) for line in gzip.decompress(flags.wikipedia.read_bytes()).splitlines()]
    texts = {"exams": exams, "Wikipedia": [normalize(article["text"]) for article in articles]}
    false = [false_masks(name, texts[name], masker, names) for name in texts for names in (False, True)]
    print("\n| type | planted | found or left alone | share | goal |\n|---|---:|---:|---:|---|", *rows, sep="\n")
    print("\n| text | masks | hits on doses, units, dates (goal 0) |\n|---|---|---:|", *false, sep="\n")
    for part in ("tagging", "masking"):
        print(f"\n{part}: {spent[part]:.1f} s, {spent['size'] / spent[part] / 1e6:.2f} MB/s")


if __name__ == "__main__":
    main()
