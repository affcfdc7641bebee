"""The text the project brings: hand-written prose, then synthetic medical documents drawn from hand-written tables.

Document i of the generated part depends on (seed, i) alone, so a larger corpus starts with the smaller one.
"""

import csv
import functools
import itertools
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from slm.corpus import sample_templates as phrases

DATA = Path(__file__).parent / "sample_data"
LICENSE = "Apache-2.0"
LISTS = {"symptoms", "signs", "examinations", "drugs", "treatments", "risks", "history", "vitals", "labs", "care",
         "indications", "adverse", "contraindications"}
USUAL_VITALS = {"体温": "36.0-36.9", "脈拍": "60-84", "収縮期": "112-134", "呼吸数": "14-18", "SpO2": "96-99"}
# Distractors that would be defensible answers for many diseases never stand beside a treatment.
BROAD_DRUGS = {"プレドニゾロン", "免疫グロブリン", "アセトアミノフェン", "ロキソプロフェン", "タクロリムス", "メトトレキサート",
               "フロセミド", "スピロノラクトン", "アスピリン", "ヘパリン", "インフリキシマブ", "プレガバリン", "シスプラチン",
               "ゲムシタビン", "フルオロウラシル", "シタラビン", "ベタメタゾン吉草酸エステル", "アドレナリン", "ウルソデオキシコール酸"}
# Results that many diseases share: never what an examination item turns on.
SHARED_EXAMS = {"血液検査", "尿検査", "便検査", "病理組織検査", "血液培養検査", "尿培養検査", "動脈血液ガス分析", "心電図検査",
                "心臓超音波検査", "血圧測定", "精神医学的面接", "自己抗体検査", "アレルギー検査", "神経学的診察"}

Row = dict[str, str | list[str]]
Values = dict[str, str]


@functools.cache
def tables() -> dict[str, dict[str, Row]]:
    """Table → name → row; the list columns split at 、."""
    result = {}
    for path in sorted(DATA.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in rows:
            row.update({key: row[key].split("、") if row[key] else [] for key in LISTS & row.keys()})
        result[path.stem] = {row["name"]: row for row in rows}
    return result


@functools.cache
def rows(table: str) -> tuple[Row, ...]:
    return tuple(tables()[table].values())


@functools.cache
def labs() -> dict[str, Row]:
    return {row["abbreviation"]: row for row in rows("examinations") if row["abbreviation"]}


def terms() -> dict[str, list[str]]:
    """Surface forms by kind: disease, drug, symptom, examination, body_part."""
    kinds = {"disease": "diseases", "drug": "drugs", "symptom": "symptoms", "body_part": "body_parts"}
    result = {kind: list(tables()[table]) for kind, table in kinds.items()}
    result["examination"] = list(dict.fromkeys([*tables()["examinations"], *labs()]))
    return result


# Phrases


@functools.cache
def _parse(template: str, polite: bool) -> tuple[tuple[str | list[str], ...], frozenset[str]]:
    text = re.sub(r"<([^/>]*)/([^>]*)>", r"\2" if polite else r"\1", template)
    parts = tuple(part.split("|") if i % 2 else part for i, part in enumerate(re.split(r"\[([^\]]*)\]", text)))
    return parts, frozenset(re.findall(r"{(\w+)}", text))


def pick(rng: random.Random, items: Sequence):
    return items[int(rng.random() * len(items))]


def take(rng: random.Random, items: Sequence[str], low: int, high: int) -> list[str]:
    return rng.sample(items, min(len(items), rng.randint(low, high)))


def fill(rng: random.Random, template: str, values: Values, polite: bool = False) -> str:
    parts, _ = _parse(template, polite)
    return "".join([part if part.__class__ is str else pick(rng, part) for part in parts]).format_map(values)


def say(rng: random.Random, templates: Sequence[str], values: Values, count: int = 1, polite: bool = False) -> str:
    """`count` different sentences among those whose values are all known."""
    known = [t for t in templates if _parse(t, polite)[1] <= values.keys()]
    return "".join([fill(rng, t, values, polite) for t in rng.sample(known, min(count, len(known)))])


def listing(rng: random.Random, items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else pick(rng, ("、", "、", "や") if len(items) == 2 else ("、",)).join(items)


# Numbers


def written(value: float, like: str) -> str:
    """`value` with the decimals of `like`; counts from a thousand up in hundreds, with a comma."""
    if "." in like:
        return f"{value:.{len(like.split('.')[1])}f}"
    return f"{round(value, -2):,.0f}" if value >= 3000 else f"{value:,.0f}"


def bounds(spec: str) -> tuple[float, float]:
    low, high = spec.split("-")
    return float(low), float(high)


def reference(row: Row, sex: str) -> tuple[str, str]:
    female = sex == "女" and row["low_female"]
    return (row["low_female"], row["high_female"]) if female else (row["low"], row["high"])


def with_unit(value: str, unit: str) -> str:
    return value + (unit if not unit or unit[0] in "/%万" else f" {unit}")


def vital_signs(rng: random.Random, disease: Row, calm: float = 0.0) -> Values:
    """Vital signs of the disease, drawn towards the usual ones as `calm` goes from 0 to 1."""
    usual = {key: rng.uniform(*bounds(spec)) for key, spec in USUAL_VITALS.items()}
    ill = {key: rng.uniform(*bounds(spec)) for key, spec in (item.split(":") for item in disease["vitals"])}
    bt, hr, sbp, rr, spo2 = (usual[key] + (ill.get(key, usual[key]) - usual[key]) * (1 - calm) for key in USUAL_VITALS)
    return {"bt": f"{bt:.1f}", "hr": f"{hr:.0f}", "sbp": f"{sbp:.0f}", "dbp": f"{sbp * rng.uniform(0.52, 0.64):.0f}",
            "rr": f"{rr:.0f}", "spo2": f"{min(spo2, 99):.0f}"}


def laboratory(rng: random.Random, disease: Row, sex: str, age: int) -> list[Values]:
    """The disease's own values first, then a few usual ones that nothing in the disease bears on."""
    result = []
    for item in disease["labs"]:
        name, spec = item.rstrip("!").split(":")
        low, high = reference(labs()[name], sex)
        value, unit = rng.uniform(*bounds(spec)), labs()[name]["unit"]
        above, below = value > float(high), value < float(low)
        result.append({"lab": name, "before": with_unit(written(value, spec.split("-")[0]), unit)})
        if (above or below) and not item.endswith("!"):
            edge = float(high if above else low)
            after = written(edge + (value - edge) * rng.uniform(0.05, 0.4), spec.split("-")[0])
            result[-1] |= {"after": with_unit(after, unit), "change": "低下" if above else "上昇"}
    groups = [["Na"], ["K"], ["Cl"], ["AST", "ALT", "T-Bil", "ALP", "γ-GT"], ["BUN", "Cr"], ["TP", "Alb"], ["Plt"], ["Hb"]]
    groups = groups[:3] if age < 15 else groups
    own = {value["lab"] for value in result}
    for group in rng.sample([g for g in groups if not own & set(g)], rng.randint(1, 3)):
        name = pick(rng, group[:2])
        low, high = reference(labs()[name], sex)
        result.append({"lab": name, "before": with_unit(written(rng.uniform(float(low), float(high)), low), labs()[name]["unit"])})
    return result


# What there is to say of a disease, a drug, a patient


def _finding(item: str) -> tuple[str, str, str, str]:
    exam, finding = item.split(":")
    absent = finding.endswith("こと")
    return exam, finding, "確認され" if absent else "みられ", "確認し" if absent else "認め"


def disease_values(rng: random.Random, row: Row) -> Values:
    """Freshly drawn each time, so that lists vary; a key is missing where the table has nothing."""
    values = {key: cell for key, cell in row.items() if isinstance(cell, str)}
    values["function"] = tables()["body_parts"][row["part"]]["function"]
    for key in ("risks", "treatments", "signs", "care"):
        values[key] = listing(rng, take(rng, row[key], 2, 3))
    values["treatment"] = pick(rng, row["treatments"])
    if row["symptoms"]:
        shown = take(rng, row["symptoms"], 2, 4)
        felt = [s for s in shown if tables()["symptoms"][s]["kind"] == "自覚" and row["name"] != "川崎病"]
        first = felt[0] if felt else shown[0]
        others = [s for s in (felt or shown) if s != first]
        values |= {"symptoms": listing(rng, shown), "symptom": first} | ({"symptom2": others[0]} if others else {})
        if felt:
            values |= {"felt": first, "lay": tables()["symptoms"][first]["lay"]}
    exam, *others = rng.sample(row["examinations"], len(row["examinations"]))
    values |= zip(("exam", "finding", "seen", "act"), _finding(exam)) and dict(zip(("exam", "finding", "seen", "act"), _finding(exam)))
    values["shows"] = tables()["examinations"][values["exam"]]["shows"]
    if others:
        values |= dict(zip(("exam2", "finding2", "seen2"), _finding(others[0])))
    therapy = values["treatments"]
    if row["drugs"]:
        drug = tables()["drugs"][pick(rng, row["drugs"])]
        values |= {"drug": drug["name"], **{key: drug[key] for key in ("class", "mechanism", "note", "route")}}
        therapy = pick(rng, (f"{listing(rng, take(rng, row['drugs'], 1, 3))}などの薬物療法", f"{drug['name']}をはじめとする薬物療法", f"{drug['name']}と{values['treatment']}"))
    values["therapy"] = therapy
    name, spec = pick(rng, row["labs"]).rstrip("!").split(":")
    low, high = reference(labs()[name], row["sex"])
    middle, same = sum(bounds(spec)) / 2, low == labs()[name]["low"] and not labs()[name]["low_female"]
    if not float(low) <= middle <= float(high) and (same or row["sex"] != "両"):
        kind = pick(rng, (name, labs()[name]["name"]))
        values |= {"lab": kind, "direction": "高値" if middle > float(high) else "低値", "reference": with_unit(f"{low}〜{high}", labs()[name]["unit"])}
    return values


def drug_values(rng: random.Random, row: Row) -> Values:
    values = {key: cell for key, cell in row.items() if isinstance(cell, str) and cell}
    values |= {key: listing(rng, take(rng, row[key], 2, 3)) for key in ("indications", "adverse", "contraindications")}
    treated = treats().get(row["name"])
    return values | ({"disease": pick(rng, treated)} if treated else {})


@functools.cache
def treats() -> dict[str, list[str]]:
    result: dict[str, list[str]] = {}
    for row in rows("diseases"):
        for drug in row["drugs"]:
            result.setdefault(drug, []).append(row["name"])
    return result


def patient(rng: random.Random, row: Row) -> tuple[int, str, Values]:
    age = rng.randint(*map(int, row["ages"].split("-")))
    sex = row["sex"] if row["sex"] != "両" else pick(rng, "男女")
    if age < 6:
        job, home = "保育園児", pick(rng, ("両親と3人暮らし", "両親と兄との4人暮らし", "両親、姉と同居", "母と祖父母と同居"))
    else:
        job = pick(rng, phrases.JOBS) if age > 22 else "高校生" if age < 19 else "大学生" if rng.random() < 0.6 else "会社員"
        job = "中学生" if age < 16 else pick(rng, ("無職", f"元{job}", "年金生活", job)) if age >= 65 else job
        home = "両親と同居" if age < 19 else pick(rng, ("一人暮らし", "配偶者と2人暮らし", "配偶者と子どもと同居", "長女夫婦と同居" if age > 55 else "両親と同居"))
    return age, sex, {"age": f"{age}歳", "sex": sex + ("児" if age < 6 else "性"), "job": job, "home": home}


# The four kinds of document


def _headed(rng: random.Random, sections: Iterable[tuple[str, str]]) -> str:
    style = pick(rng, phrases.HEADINGS)
    return "\n".join(style.format(heading=heading, number=i) + text for i, (heading, text) in enumerate(sections, 1))


def textbook(rng: random.Random) -> str:
    of_disease, polite = rng.random() < 0.62, rng.random() < 0.5
    if of_disease:
        row, chapters, titles = pick(rng, rows("diseases")), phrases.DISEASE_SECTIONS, phrases.DISEASE_TITLES
        draw = disease_values
        reader = pick(rng, tuple(phrases.READERS))
        polite = polite or reader in ("患者と家族", "介護職")
        opening, closing = phrases.READERS[reader]
    else:
        row, chapters, titles = pick(rng, rows("drugs")), phrases.DRUG_SECTIONS, phrases.DRUG_TITLES
        draw, opening, closing = drug_values, phrases.DRUG_OPENINGS, phrases.DRUG_CLOSINGS
    wanted = [h for h in chapters if (h != "症状" or row["symptoms"]) and (rng.random() < 0.8 or h in ("定義", "作用機序"))]
    layout, further = rng.random(), rng.choice((0, 1, 1, 2))
    sections = []
    for heading in wanted:
        first, more, questions = chapters[heading]
        values = draw(rng, row)
        text = say(rng, first, values, 1, polite) + say(rng, more, values, rng.randint(further, further + 1), polite)
        if layout < 0.15:
            text = f"Q. {say(rng, questions, values)}\nA. {text}"
        sections.append((heading, text))
    values = draw(rng, row) | {"number": str(rng.randint(1, 60))}
    body = _headed(rng, sections) if layout > 0.4 else "\n".join(text for _, text in sections)
    parts = [say(rng, titles, values), say(rng, opening, values, 1, polite), body, say(rng, closing, values, 1, polite)]
    return "\n".join(part for i, part in enumerate(parts) if i in (0, 2) or (part and rng.random() < 0.85))


def _habits(rng: random.Random, age: int, smokes: bool) -> str:
    if age < 20:
        return "予防接種は年齢相当に実施" if age < 6 else "喫煙、飲酒なし"
    years = rng.randint(3, max(4, age - 22))
    smoking = pick(rng, (f"{rng.randint(5, 40)}本/日を{years}年間", f"1日{rng.randint(5, 40)}本、{years}年")) if smokes else pick(rng, ("なし", "なし", f"{rng.randint(24, age + 2)}歳で禁煙" if age > 30 else "なし"))
    drinking = pick(rng, ("なし", "機会飲酒", f"ビール{pick(rng, (350, 500))} mL/日", f"日本酒{rng.randint(1, 3)}合/日", f"週{rng.randint(1, 4)}回程度"))
    return f"喫煙歴 {smoking}、飲酒 {drinking}。アレルギー {pick(rng, ('なし', 'なし', 'スギ花粉', '特記すべきことなし'))}"


def _past(rng: random.Random, row: Row, age: int, sex: str) -> str:
    other = "卵巣|子宮|帝王|初経" if sex == "男" else "前立腺"
    known = [x for x in row["history"] if x != "特になし" and not re.search(other, x)]
    if not known or ("特になし" in row["history"] and rng.random() < 0.4):
        return pick(rng, ("特記すべきことなし", "特になし", "これまでに大きな病気なし"))
    ages = sorted(max(1, age - rng.randint(1, 18)) for _ in known)
    return "、".join(fill(rng, pick(rng, phrases.PAST), {"x": x, "n": str(n)}) for x, n in zip(take(rng, known, 1, 2), ages))


def _times(rng: random.Random, row: Row, visit: str) -> Values:
    """When it began, the day it was better, the day of leaving: all in the tempo of the disease."""
    values = {"visit": visit, "few": str(rng.randint(1, 5)), "some": str(rng.randint(2, 6))}
    first, last, leave, latest = {"時間": (3, 7, 8, 18), "日": (3, 7, 8, 18), "週": (10, 20, 22, 45), "月": (14, 28, 30, 70), "年": (5, 12, 14, 28)}[row["onset"]]
    day, slow = rng.randint(first, last), row["onset"] in ("週", "月", "年")
    later = f"第{day}病日" if row["setting"] == "入院" else f"{rng.randint(4, 12)}週間後" if slow else f"{day}日後の再診時"
    return {"when": fill(rng, pick(rng, phrases.ONSETS[row["onset"]]), values), "later": later, "day": str(rng.randint(leave, latest)), "next": str(rng.randint(2, 8)), "visit": visit}


def case(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"]])
    age, sex, person = patient(rng, row)
    inpatient, acute = row["setting"] == "入院", row["onset"] in ("時間", "日")
    values = disease_values(rng, row) | person | {"number": str(rng.randint(1, 300))} | _times(rng, row, "来院" if inpatient else "受診")
    values["usual"] = pick(rng, phrases.CHILD_USUAL) if age < 6 else fill(rng, pick(rng, phrases.USUAL), {})
    values |= {"activity": fill(rng, pick(rng, phrases.ACTIVITIES), {}) if age >= 6 else "", "admitted": "入院" if inpatient else "外来治療開始"}
    values["way"] = "" if rng.random() < 0.3 else "家族に連れられて" if age < 6 else fill(rng, pick(rng, phrases.WAYS_ACUTE if acute and inpatient else phrases.WAYS), {})
    unrelated = [s for s in ("悪寒", "嘔吐", "下痢", "失神", "血痰", "血尿", "けいれん", "咽頭痛", "皮疹", "鼻出血") if s not in row["symptoms"]]
    values["negative"] = listing(rng, take(rng, unrelated, 1, 2))
    measured = laboratory(rng, row, sex, age)
    changing = [value for value in measured if "after" in value]
    vitals = vital_signs(rng, row)

    chief = values["symptom"] + (f"、{values['symptom2']}" if "symptom2" in values and rng.random() < 0.4 else "")
    story = say(rng, phrases.HISTORY_ACUTE if acute else phrases.HISTORY_SLOW, values) + say(rng, phrases.HISTORY_MORE, values, rng.randint(1, 2)) + say(rng, phrases.HISTORY_VISIT, values)
    said = "".join(row["symptoms"] + row["signs"] + [row["name"]])
    normal = [fill(rng, text, {}) for first, second, text in phrases.FINDINGS_FREE if first not in said and second not in said]
    sights = ([f"{row['signs'][0]}を認める"] if row["signs"] else []) + rng.sample(normal, min(len(normal), rng.randint(1, 3))) + [f"{s}あり" for s in row["signs"][1:2]]
    state = fill(rng, pick(rng, phrases.VITALS), vitals) + "。" + "。".join(rng.sample(sights, len(sights))) + "。"
    exams = "".join(say(rng, phrases.EXAM_LINES, dict(zip(("exam", "finding", "seen", "act"), _finding(item)))) for item in row["examinations"])
    tests = fill(rng, pick(rng, phrases.LAB_INTROS), {}) + pick(rng, ("、", "，", "、")).join(f"{value['lab']} {value['before']}" for value in measured) + "。" + exams
    course = say(rng, phrases.COURSE_DIAGNOSIS, values) + say(rng, phrases.COURSE_TREATMENT if row["drugs"] else phrases.COURSE_NO_DRUG, values)
    declining = row["outcome"] == "進行"
    if changing and not declining and rng.random() < 0.75:
        course += say(rng, phrases.COURSE_BETTER, values | pick(rng, changing))
    elif not declining or rng.random() < 0.4:
        course += say(rng, phrases.COURSE_SYMPTOM, values)
    course += say(rng, phrases.COURSE_END["進行" if declining else row["setting"]], values)
    habits = f"{values['home']}。{_habits(rng, age, rng.random() < (0.75 if '喫煙' in row['risks'] else 0.2))}。"
    family = fill(rng, pick(rng, phrases.FAMILY), {"illness": pick(rng, phrases.ILLNESSES)}) + "。"

    sections = [("主訴", chief + "。"), ("現病歴", story), ("既往歴", _past(rng, row, age, sex) + "。"), ("家族歴", family), ("生活歴", habits),
                (pick(rng, ("入院時現症", "身体所見", "来院時現症")) if inpatient else pick(rng, ("初診時現症", "身体所見")), state),
                ("検査所見", tests), (pick(rng, ("経過", "治療経過", "臨床経過")), course), ("考察", say(rng, phrases.DISCUSSION, values, rng.randint(1, 4)))]
    sections = [s for s in sections if s[0] not in ("家族歴", "生活歴") or rng.random() < 0.6]
    if rng.random() < 0.25:  # history before complaint, as some departments write
        sections.insert(0, sections.pop(2))
    return f"{say(rng, phrases.CASE_TITLES, values)}\n{say(rng, phrases.CASE_PATIENTS, values)}\n{_headed(rng, sections)}"


def nursing(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"] and int(row["ages"].split("-")[0]) >= 14])
    _, _, person = patient(rng, row)
    values = disease_values(rng, row) | person
    day, clinic = rng.randint(1, 9), row["setting"] == "外来"
    calm = min(1.0, (day - 1) / 7 + rng.uniform(0, 0.15))
    hour = rng.randint(6, 15)

    def moment(hours: int) -> str:
        return f"{hour + hours}:{rng.randrange(0, 60, 5):02d}"

    def drawn() -> Values:
        fresh = disease_values(rng, row) | {"tenths": str(rng.randint(3, 10)), "urine": str(rng.randint(70, 240) * 10), "bowel": str(rng.randint(1, 3)),
            "weight": f"{rng.uniform(42, 84):.1f}", "delta": f"{rng.uniform(0.2, 2.4):.1f}", "pills": str(rng.randint(2, 20))}
        return fresh | {"watch": pick(rng, (fresh["symptom"], fresh["signs"], "食事摂取量", "睡眠状況")), "teach": fill(rng, pick(rng, phrases.TEACH), {}),
            "vitals": fill(rng, pick(rng, phrases.VITALS), vital_signs(rng, row, calm)), "quote": say(rng, phrases.S_WORSE + phrases.S_OTHER if calm < 0.5 else phrases.S_OTHER, fresh)}

    values["when"] = pick(rng, (f"第{day}病日 {moment(0)}", f"{rng.randint(1, 12)}月{rng.randint(1, 28)}日 {moment(0)}", f"入院{day}日目"))
    lines = [say(rng, phrases.CLINIC_TITLES if clinic else phrases.NURSING_TITLES, values)]
    if not clinic and rng.random() < 0.4:
        lines.append(f"#{rng.randint(1, 3)} {row['problem']}")
        times = sorted(rng.sample(range(0, 9), rng.randint(6, 9)))
        known = rng.sample([t for t in phrases.TIMED if _parse(t, False)[1] <= drawn().keys()], 8)
        lines += [f"{moment(t)} {fill(rng, template, drawn())}" for t, template in zip(times, [phrases.TIMED[0], *known])]
        lines.append(f"{'評価' if rng.random() < 0.5 else 'まとめ'}:{say(rng, phrases.A_WORSE if calm < 0.5 else phrases.A_BETTER, drawn(), 2)}")
        return "\n".join(lines)
    quotes = (phrases.S_WORSE if calm < 0.5 else phrases.S_BETTER, phrases.S_OTHER)
    ways = (phrases.A_WORSE if calm < 0.5 else phrases.A_BETTER, phrases.O_WARD)
    if clinic:
        quotes, ways = (phrases.S_WORSE + phrases.S_BETTER[:1], phrases.S_CLINIC), (phrases.A_CLINIC, phrases.O_CLINIC)
    mark = pick(rng, ("{}:", "{}) ", "【{}】", "{}　"))
    for block in range(1 if rng.random() < 0.4 else 2):
        if block:
            lines.append(pick(rng, (f"（{moment(4)}）", f"{moment(5)} 再評価", f"《{moment(3)}》")) if not clinic else pick(rng, ("（診察後）", "【次回に向けて】", "（面談後）")))
        said = [say(rng, templates, drawn()) for templates in quotes]
        if said[0].split("」")[0].endswith("た") or not said[0]:
            said[0] = said[0] or say(rng, phrases.S_OTHER, drawn())
        lines.append(mark.format("S") + "".join(rng.sample(said, 2)))
        lines.append(mark.format("O") + drawn()["vitals"] + "。" + say(rng, ways[1], drawn(), rng.randint(2, 4 if block else 5)))
        lines.append(mark.format("A") + say(rng, ways[0], drawn(), rng.randint(1, 2)))
        plan = [say(rng, [t], drawn()) for t in rng.sample(phrases.P_LINES, rng.randint(2, 4))]
        lines.append(mark.format("P") + "".join(p if p.endswith("。") else p + "。" for p in plan))
    return "\n".join(lines)


# Examination items: a kind returns what its stem needs, the right choice with the reason, and wrong choices with why


@dataclass(frozen=True)
class ExamItem:
    question: str
    choices: tuple[str, str, str, str, str]
    answer: int
    explanation: str


Choice = tuple[str, str]
Draft = tuple[Values, Choice, list[Choice]]


@functools.cache
def _words(*texts: str) -> frozenset[str]:
    """Runs of four characters without hiragana: what two texts have in common if they speak of one thing."""
    runs = re.findall(r"[^\u3040-\u309f、。]{4,}", "、".join(texts))
    return frozenset(run[i:i + 4] for run in runs for i in range(len(run) - 3))


@functools.cache
def unrelated_drugs(name: str) -> tuple[Row, ...]:
    """Drugs of another class and mechanism, for other diseases."""
    drug = tables()["drugs"][name]
    own, diseases = _words(drug["class"], drug["mechanism"]), set(treats().get(name, ()))
    return tuple(other for other in rows("drugs") if not own & _words(other["class"], other["mechanism"]) and not diseases & set(treats().get(other["name"], ())))


@functools.cache
def unrelated_diseases(name: str) -> tuple[Row, ...]:
    """Diseases of another department and body part with at most one symptom in common and no finding."""
    row = tables()["diseases"][name]
    exams = {item.split(":")[0] for item in row["examinations"]} - SHARED_EXAMS
    return tuple(other for other in rows("diseases") if other["department"] != row["department"] and other["part"] != row["part"]
                 and len(set(other["symptoms"]) & set(row["symptoms"])) < 2 and not exams & {item.split(":")[0] for item in other["examinations"]})


def _drug_class(rng: random.Random) -> Draft:
    drug = pick(rng, rows("drugs"))
    return drug_values(rng, drug), (drug["class"], f"{drug['name']}は{drug['mechanism']}薬である。"), [(d["class"], f"{d['name']}などが属する分類である") for d in unrelated_drugs(drug["name"])]


def _drug_mechanism(rng: random.Random) -> Draft:
    drug = pick(rng, rows("drugs"))
    reason = f"{drug['name']}は{drug['class']}で、{listing(rng, drug['indications'])}などに用いられる。"
    return drug_values(rng, drug), (drug["mechanism"], reason), [(d["mechanism"], f"{d['name']}の作用である") for d in unrelated_drugs(drug["name"])]


def _adverse(rng: random.Random) -> Draft:
    drug = pick(rng, [drug for drug in rows("drugs") if drug["hallmark"]])
    known = "、".join([drug["hallmark"], *drug["adverse"]])
    others = [d for d in unrelated_drugs(drug["name"]) if d["hallmark"] and not any(a in b or b in a for a in re.split("[、とや]", known) for b in re.split("[とや]", d["hallmark"]))]
    reason = f"{drug['name']}では、{drug['hallmark']}のほか、{listing(rng, drug['adverse'])}などに注意する。"
    return drug_values(rng, drug), (drug["hallmark"], reason), [(d["hallmark"], f"{d['name']}で知られる副作用である") for d in others]


def _treatment(rng: random.Random) -> Draft:
    row = pick(rng, [row for row in rows("diseases") if row["drugs"] and row["symptoms"]])
    drug = tables()["drugs"][pick(rng, row["drugs"])]
    used = [frozenset(d["name"] for d in unrelated_drugs(name)) for name in row["drugs"]]
    used_in_department = {name for other in rows("diseases") if other["department"] == row["department"] for name in other["drugs"]}
    others = [d for d in rows("drugs") if all(d["name"] in names for names in used) and d["name"] not in BROAD_DRUGS | used_in_department and row["name"] not in "".join(d["indications"])]
    reason = f"{drug['name']}は{drug['class']}で、{drug['mechanism']}作用をもつ。{row['name']}の治療薬として用いられる。"
    return disease_values(rng, row), (drug["name"], reason), [(d["name"], f"{d['class']}で、{listing(rng, d['indications'])}などに用いられる") for d in others]


def _diagnosis(rng: random.Random) -> Draft:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"]])
    age, sex, person = patient(rng, row)
    findings = "".join(say(rng, phrases.EXAM_LINES, dict(zip(("exam", "finding", "seen", "act"), _finding(item)))) for item in row["examinations"])
    values = disease_values(rng, row) | person | _times(rng, row, "受診") | {"findings": findings, "vitals": fill(rng, pick(rng, phrases.VITALS[:2]), vital_signs(rng, row)),
        "labs": "、".join(f"{v['lab']} {v['before']}" for v in laboratory(rng, row, sex, age)) + "。", "history": f"既往歴は{_past(rng, row, age, sex)}。"}
    near = [d for d in rows("diseases") if d["department"] == row["department"] and d is not row and not set(d["examinations"]) & set(row["examinations"])]
    others = rng.sample(near, min(len(near), rng.randint(0, 2))) + [d for d in unrelated_diseases(row["name"]) if d["sex"] in (sex, "両")]
    exam, finding, *_ = _finding(row["examinations"][0])
    reason = f"{listing(rng, row['symptoms'])}がみられ、{exam}の所見（{finding}）は{row['name']}に合う。"
    return values, (row["name"], reason), [(d["name"], _why(rng, d)) for d in others]


def _why(rng: random.Random, row: Row) -> str:
    exam, finding, *_ = _finding(row["examinations"][0])
    return pick(rng, (f"{exam}で{finding}が重要な手がかりとなる", f"{row['definition']}である", f"{row['pathology']}疾患である"))


def _finding_of(rng: random.Random) -> Draft:
    row, item = pick(rng, [(row, item) for row in rows("diseases") for item in row["examinations"] if item.split(":")[0] not in SHARED_EXAMS and not item.endswith("こと")])
    exam, finding, *_ = _finding(item)
    others = [d for d in unrelated_diseases(row["name"]) if exam not in "".join(d["examinations"])]
    return {"exam": exam, "finding": finding}, (row["name"], f"{row['name']}では{exam}で{finding}がみられる。{row['pathology']}ためである。"), [(d["name"], _why(rng, d)) for d in others]


def _lay_term(rng: random.Random) -> Draft:
    symptom = pick(rng, rows("symptoms"))
    kanji = set(re.findall(r"[\u4e00-\u9fff]", symptom["lay"] + symptom["name"]))
    others = [s for s in rows("symptoms") if s["part"] != symptom["part"] and not kanji & set(s["lay"] + s["name"])]
    _, _, person = patient(rng, {"ages": "20-85", "sex": "両"})
    reason = f"「{symptom['lay']}」という訴えは、{symptom['name']}を{pick(rng, ('ふだんの言葉', '患者の言葉', '日常の言葉'))}で述べたものである。"
    return dict(person, lay=symptom["lay"]), (symptom["name"], reason), [(s["name"], f"「{s['lay']}」といった訴えに対応する") for s in others]


def _definition(rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    return {"name": row["name"]}, (row["definition"], f"{row['name']}では、{row['pathology']}。"), [(d["definition"], f"{d['name']}の説明である") for d in rows("diseases") if d is not row]


def _name(rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    return {"definition": row["definition"]}, (row["name"], f"{row['name']}では、{row['pathology']}。"), [(d["name"], f"{d['definition']}を指す") for d in rows("diseases") if d is not row]


def _range(rng: random.Random) -> Draft:
    row, sex = pick(rng, [row for row in labs().values() if float(row["low"]) > 0]), pick(rng, "男女")
    low, high = reference(row, sex)
    a, b = float(low), float(high)
    if a > 3 * (b - a):  # a narrow range moves by its own widths, a wide one by factors
        moved = [(a + k * (b - a), b + k * (b - a)) for k in (-6, -4, -2, 2, 4, 6)]
    else:
        moved = [(a * k, b * k) for k in (0.2, 0.4, 0.6, 1.6, 2.5, 4)]
    span = "{}〜{}".format
    wrong = [(with_unit(span(written(x, low), written(y, low)), row["unit"]), f"基準より{'低' if x < a else '高'}い値の範囲である") for x, y in moved]
    reason = f"{row['name']}（{row['abbreviation']}）は{row['shows']}をみる検査である。"
    return {"name": row["name"], "sex": f"{sex}性"}, (with_unit(span(written(a, low), written(b, low)), row["unit"]), reason), wrong


KINDS: dict[str, Callable[[random.Random], Draft]] = {
    "class": _drug_class, "mechanism": _drug_mechanism, "adverse": _adverse, "drug": _treatment, "diagnosis": _diagnosis, "finding": _finding_of,
    "lay": _lay_term, "definition": _definition, "name": _name, "range": _range}


def exam_item(rng: random.Random) -> ExamItem:
    """A five-choice item that is right by the tables; its explanation names choices by their text, never by letter."""
    kind = pick(rng, (*KINDS, "diagnosis", "diagnosis", "drug"))
    values, (right, reason), others = KINDS[kind](rng)
    wrong = dict(rng.sample(others, min(len(others), 12)))
    wrong = [(text, why) for text, why in wrong.items() if text != right][:4]
    texts = [right, *(text for text, _ in wrong)]
    rng.shuffle(texts)
    question = say(rng, [t for t in phrases.STEMS[kind]], values)
    explanation = fill(rng, pick(rng, phrases.REASONS), {"text": reason, "right": right})
    explanation += "".join(fill(rng, pick(rng, phrases.WRONGS), {"wrong": text, "why": why}) for text, why in wrong)
    return ExamItem(question, tuple(texts), texts.index(right), explanation)


def exam(rng: random.Random) -> str:
    item, letter = exam_item(rng), pick(rng, ("{}. ", "{}) ", "（{}）", "{}　", "{}:"))
    choices = "\n".join(letter.format(name) + text for name, text in zip("abcde", item.choices))
    head = fill(rng, pick(rng, phrases.ITEM_HEADS), {"number": str(rng.randint(1, 500))})
    answer = pick(rng, ("正解:{}", "正解　{}", "【正解】{}", "答え:{}", "［正答］{}")).format("abcde"[item.answer])
    return f"{head}{pick(rng, (' ', '　', chr(10)))}{item.question}\n{choices}\n{answer}\n{pick(rng, ('解説:', '【解説】', '解説　', '［解説］' + chr(10)))}{item.explanation}"


# The corpus

WRITERS = {"sample-textbook": textbook, "sample-case": case, "sample-nursing": nursing, "sample-exam": exam}
ORDER = ("sample-textbook", "sample-case", "sample-exam", "sample-textbook", "sample-nursing", "sample-case", "sample-exam", "sample-nursing")


def generate(index: int, seed: int) -> dict[str, str]:
    rng = random.Random(f"{seed}-{index}")
    source = ORDER[index % len(ORDER)]
    notice = fill(rng, pick(rng, phrases.NOTICES), {})
    text = WRITERS[source](rng)
    text = f"{notice}\n{text}" if rng.random() < 0.5 else f"{text}\n{notice}"
    return {"id": f"{source}-{index:06d}", "text": text, "source": source, "license": LICENSE, "url": ""}


def prose() -> Iterator[dict[str, str]]:
    for path in sorted((DATA / "prose").glob("*.txt")):
        text = path.read_text(encoding="utf-8").strip()
        yield {"id": f"sample-prose-{path.stem}", "text": text, "source": "sample-prose", "license": LICENSE, "url": ""}


def documents(megabytes: float, seed: int) -> Iterator[dict[str, str]]:
    """Documents {id, text, source, license, url} until their texts reach `megabytes` · 10^6 UTF-8 bytes."""
    size = 0
    for document in itertools.chain(prose(), (generate(i, seed) for i in itertools.count())):
        if size >= megabytes * 1e6:
            return
        size += len(document["text"].encode())
        yield document


def files() -> list[Path]:
    """Every file that decides what `documents` and `terms` return."""
    here = Path(__file__).parent
    return sorted([*here.glob("sample*.py"), *(path for path in (here / "sample_data").rglob("*") if path.is_file())])
