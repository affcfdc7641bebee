"""The text the project brings: hand-written prose, then synthetic medical documents drawn from hand-written tables.

Document i of the generated part depends on (seed, i) alone, so a larger corpus starts with the smaller one.
"""

import csv
import functools
import itertools
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slm.corpus import sample_templates as phrases
from slm.corpus.sample_templates import Values, fill, known, listing, pick, say, take

DATA = Path(__file__).parent / "sample_data"
LISTS = {"symptoms", "signs", "examinations", "drugs", "treatments", "risks", "history", "vitals", "labs", "care",
         "indications", "adverse", "contraindications"}
USUAL_VITALS = {"体温": "36.0-36.9", "脈拍": "60-84", "収縮期": "112-134", "呼吸数": "14-18", "SpO2": "96-99"}
# Usual values to show beside a disease's own; a group falls away when the disease bears on one of it.
PANELS = (("Na",), ("K",), ("Cl",), ("AST", "ALT", "T-Bil", "ALP", "γ-GT"), ("BUN", "Cr"), ("TP", "Alb"), ("Plt",),
          ("Hb",))

Row = dict[str, str | list[str]]


# The tables


@functools.cache
def tables() -> dict[str, dict[str, Row]]:
    """Table → name → row; the list columns split at 、."""
    result = {}
    for path in sorted(DATA.glob("*.tsv")):
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        for row in lines:
            row.update({key: row[key].split("、") if row[key] else [] for key in LISTS & row.keys()})
        result[path.stem] = {row["name"]: row for row in lines}
    return result


@functools.cache
def rows(table: str) -> tuple[Row, ...]:
    return tuple(tables()[table].values())


@functools.cache
def labs() -> dict[str, Row]:
    return {row["abbreviation"]: row for row in rows("examinations") if row["abbreviation"]}


@functools.cache
def treats() -> dict[str, list[str]]:
    """Drug → diseases."""
    return {drug: [row["name"] for row in rows("diseases") if drug in row["drugs"]] for drug in tables()["drugs"]}


def terms() -> dict[str, list[str]]:
    """Surface forms by kind: disease, drug, symptom, examination, body_part."""
    kinds = {"disease": "diseases", "drug": "drugs", "symptom": "symptoms", "body_part": "body_parts"}
    examinations = list(dict.fromkeys([*tables()["examinations"], *labs()]))
    return {kind: list(tables()[table]) for kind, table in kinds.items()} | {"examination": examinations}


# Numbers


def written(value: float, like: str) -> str:
    """`value` with the decimals of `like`, in hundreds if `like` is."""
    if "." in like:
        return f"{value:,.{len(like.split('.')[1])}f}"
    return f"{round(value, -2 if like.endswith('00') else 0):,.0f}"


def bounds(spec: str) -> tuple[float, float]:
    low, high = spec.split("-")
    return float(low), float(high)


def reference(row: Row, sex: str) -> tuple[str, str]:
    return (row["low_female"], row["high_female"]) if sex == "女" and row["low_female"] else (row["low"], row["high"])


def with_unit(value: str, unit: str) -> str:
    return value + (unit if not unit or unit[0] in "/%万" else f" {unit}")


def vital_signs(rng: random.Random, disease: Row, calm: float = 0.0) -> str:
    """Vital signs of the disease, nearer to the usual ones as `calm` goes from 0 to 1."""
    signs = {key: rng.uniform(*bounds(spec)) for key, spec in USUAL_VITALS.items()}
    for key, spec in (item.split(":") for item in disease["vitals"]):
        signs[key] += (rng.uniform(*bounds(spec)) - signs[key]) * (1 - calm)
    values = {"bt": f"{signs['体温']:.1f}", "dbp": f"{signs['収縮期'] * rng.uniform(0.52, 0.64):.0f}"}
    for key, name in (("hr", "脈拍"), ("sbp", "収縮期"), ("rr", "呼吸数"), ("spo2", "SpO2")):
        values[key] = f"{signs[name]:.0f}"
    return fill(rng, pick(rng, phrases.VITALS), values)


def laboratory(rng: random.Random, disease: Row, sex: str, age: int) -> list[Values]:
    """The disease's own values with what they become, then usual ones that nothing in the disease bears on."""
    result = []
    for name, spec in (item.split(":") for item in disease["labs"]):
        low, high = map(float, reference(labs()[name], sex))
        like, value, unit = spec.split("-")[0], rng.uniform(*bounds(spec.rstrip("!"))), labs()[name]["unit"]
        result.append({"lab": name, "before": with_unit(written(value, like), unit)})
        if not (low <= value <= high or spec.endswith("!")):
            edge = high if value > high else low
            after = with_unit(written(edge + (value - edge) * rng.uniform(0.05, 0.4), like), unit)
            result[-1] |= {"after": after, "change": "低下" if value > high else "上昇"}
    own = {value["lab"] for value in result}
    free = [group for group in (PANELS[:3] if age < 15 else PANELS) if not own & set(group)]
    for group in rng.sample(free, rng.randint(1, 3)):
        name = pick(rng, group[:2])
        low, high = reference(labs()[name], sex)
        value = written(rng.uniform(float(low), float(high)), low)
        result.append({"lab": name, "before": with_unit(value, labs()[name]["unit"])})
    return result


# What there is to say of a finding, a disease, a drug, a patient; a key is missing where the tables have nothing


def _finding(item: str) -> Values:
    exam, finding = item.split(":")
    seen, act = ("確認され", "確認し") if finding.endswith("こと") else ("みられ", "認め")  # 出血がないこと is not seen
    return {"exam": exam, "finding": finding, "seen": seen, "act": act}


def _results(rng: random.Random, disease: Row) -> str:
    return "".join([say(rng, phrases.EXAM_LINES, _finding(item)) for item in disease["examinations"]])


def disease_values(rng: random.Random, row: Row) -> Values:
    """Freshly drawn each time, so that its lists vary."""
    values = {key: cell for key, cell in row.items() if isinstance(cell, str)}
    values |= {key: listing(rng, take(rng, row[key], 2, 3)) for key in ("risks", "treatments", "signs", "care")}
    values |= {"function": tables()["body_parts"][row["part"]]["function"], "treatment": pick(rng, row["treatments"])}
    if row["symptoms"]:
        shown = take(rng, row["symptoms"], 2, 4)
        felt = [s for s in shown if tables()["symptoms"][s]["kind"] == "自覚" and int(row["ages"].split("-")[0]) > 6]
        first, *others = felt or shown
        values |= {"symptoms": listing(rng, shown), "symptom": first} | ({"symptom2": others[0]} if others else {})
        if felt:
            lay = tables()["symptoms"][first]["lay"]
            values |= {"felt": first, "lay": lay} | ({} if lay.endswith("た") else {"now": lay})
    exam, *others = take(rng, row["examinations"], 2, 2)
    values |= _finding(exam)
    values["shows"] = tables()["examinations"][values["exam"]]["shows"]
    if others:
        values |= {f"{key}2": value for key, value in _finding(others[0]).items()}
    values["therapy"] = values["treatments"]
    if row["drugs"]:
        drug = tables()["drugs"][pick(rng, row["drugs"])]
        values |= {"drug": drug["name"], **{key: drug[key] for key in ("class", "mechanism", "note", "route")}}
        drugs = listing(rng, take(rng, row["drugs"], 1, 3))
        values["therapy"] = pick(rng, (f"{drugs}による薬物療法", f"{drug['name']}をはじめとする薬物療法",
                                       f"{drug['name']}と{values['treatment']}"))
    name, spec = pick(rng, row["labs"]).rstrip("!").split(":")
    low, high = reference(labs()[name], row["sex"])
    middle = sum(bounds(spec)) / 2
    if not float(low) <= middle <= float(high) and (row["sex"] != "両" or not labs()[name]["low_female"]):
        values |= {"lab": pick(rng, (name, labs()[name]["name"])),
                   "direction": "高値" if middle > float(high) else "低値",
                   "reference": with_unit(f"{low}〜{high}", labs()[name]["unit"])}
    return values


def drug_values(rng: random.Random, row: Row) -> Values:
    values = {key: cell for key, cell in row.items() if isinstance(cell, str) and cell}
    values |= {key: listing(rng, take(rng, row[key], 2, 3)) for key in ("indications", "adverse", "contraindications")}
    if row["route"] == "内服":
        values["oral"] = "内服薬"
    return values | ({"disease": pick(rng, treats()[row["name"]])} if treats()[row["name"]] else {})


def patient(rng: random.Random, ages: str, sex: str) -> tuple[int, str, Values]:
    age, sex = rng.randint(*map(int, ages.split("-"))), sex if sex != "両" else pick(rng, "男女")
    job, home = pick(rng, phrases.JOBS), pick(rng, phrases.HOMES)
    if age < 20:
        job = next(name for limit, name in phrases.CHILD_JOBS if age < limit)
        home = pick(rng, phrases.CHILD_HOMES)
    elif age >= 65:
        job = pick(rng, ("無職", "無職", "年金生活", f"元{job}", job))
    return age, sex, {"age": f"{age}歳", "sex": sex + ("児" if age < 6 else "性"), "job": job, "home": home}


# The four kinds of document


def _headed(rng: random.Random, sections: list[tuple[str, str]]) -> str:
    style = pick(rng, phrases.HEADINGS)
    return "\n".join(style.format(heading=heading, number=i) + text for i, (heading, text) in enumerate(sections, 1))


def textbook(rng: random.Random) -> str:
    polite = rng.random() < 0.5
    if rng.random() < 0.62:
        row, reader, draw = pick(rng, rows("diseases")), pick(rng, tuple(phrases.READERS)), disease_values
        chapters, titles, (opening, closing) = phrases.DISEASE_SECTIONS, phrases.DISEASE_TITLES, phrases.READERS[reader]
        polite = polite or reader in ("患者と家族", "介護職")
        longer = pick(rng, (0, 1, 1, 2))
    else:
        row, draw, longer = pick(rng, rows("drugs")), drug_values, pick(rng, (1, 2))
        chapters, titles = phrases.DRUG_SECTIONS, phrases.DRUG_TITLES
        opening, closing = phrases.DRUG_OPENINGS, phrases.DRUG_CLOSINGS
    layout, sections = pick(rng, ("headings", "headings", "headings", "questions", "paragraphs", "paragraphs")), []
    for heading, (first, more, questions) in chapters.items():
        if (heading == "症状" and not row["symptoms"]) or rng.random() < 0.1:
            continue
        values = draw(rng, row)
        text = say(rng, first, values, 1, polite) + say(rng, more, values, rng.randint(longer, longer + 1), polite)
        if layout == "questions":
            text = f"Q. {say(rng, questions, values)}\nA. {text}"
        sections.append((heading, text))
    values = draw(rng, row) | {"number": str(rng.randint(1, 60))}
    body = _headed(rng, sections) if layout == "headings" else "\n".join(text for _, text in sections)
    ends = [say(rng, templates, values, 1, polite) if rng.random() < 0.85 else "" for templates in (opening, closing)]
    return "\n".join(filter(None, (say(rng, titles, values), ends[0], body, ends[1])))


def _habits(rng: random.Random, row: Row, age: int) -> str:
    if age < 20:
        return "予防接種は年齢相当に実施" if age < 6 else "喫煙、飲酒なし"
    smokes = rng.random() < (0.75 if "喫煙" in row["risks"] else 0.2)
    count = {"n": str(rng.randint(5, 40)), "years": str(rng.randint(1, max(2, age - 20)))}
    smoking = say(rng, phrases.SMOKING, count) if smokes else "なし"
    return f"喫煙歴 {smoking}、飲酒 {say(rng, phrases.DRINKING, {})}。アレルギー {say(rng, phrases.ALLERGIES, {})}"


def _past(rng: random.Random, row: Row, age: int, sex: str) -> str:
    other = "卵巣|子宮" if sex == "男" else "前立腺"
    names = [x for x in row["history"] if x != "特になし" and not re.search(other, x)]
    if not names or ("特になし" in row["history"] and rng.random() < 0.4):
        return pick(rng, phrases.NO_HISTORY)
    ages = sorted(max(1, age - rng.randint(1, 18)) for _ in range(2))
    return "、".join(say(rng, phrases.PAST, {"x": x, "n": str(n)}) for x, n in zip(take(rng, names, 1, 2), ages))


def _times(rng: random.Random, row: Row) -> Values:
    """When it began, when it was better, when the patient left: all in the tempo of the disease."""
    first, last, leave, latest = phrases.TEMPO[row["onset"]]
    visit, day = "来院" if row["setting"] == "入院" else "受診", rng.randint(first, last)
    later = f"第{day}病日" if visit == "来院" else f"{day}日後の再診時" if row["onset"] in "時間日" else f"{day}週間後"
    values = {"visit": visit, "few": str(rng.randint(1, 5)), "some": str(rng.randint(2, 6))}
    when = say(rng, phrases.ONSETS[row["onset"]], values)
    values |= {"day": str(rng.randint(leave, latest)), "next": str(rng.randint(2, 8))}
    return values | {"when": when, "later": later}


def _story(rng: random.Random, row: Row, age: int, values: Values) -> str:
    acute, child = row["onset"] in ("時間", "日"), age < 6
    ways = phrases.WAYS_ACUTE if acute and row["setting"] == "入院" else phrases.WAYS
    absent = [s for s in phrases.ABSENT if s not in row["symptoms"]]
    values = values | {
        "usual": say(rng, phrases.CHILD_USUAL if child else phrases.USUAL, {}),
        "activity": "" if child else say(rng, phrases.ACTIVITIES, {}),
        "way": "家族に連れられて" if child else say(rng, ways, {}) if rng.random() < 0.7 else "",
        "admitted": "入院" if row["setting"] == "入院" else "外来通院",
        "negative": listing(rng, take(rng, absent, 1, 2))}
    began = phrases.HISTORY_ACUTE if acute else phrases.HISTORY_SLOW
    return "".join([say(rng, began, values), say(rng, phrases.HISTORY_MORE, values),
                    say(rng, phrases.HISTORY_NEGATIVE, values, rng.randint(0, 1)),
                    say(rng, phrases.HISTORY_VISIT, values)])


def _examined(rng: random.Random, row: Row) -> str:
    said = "".join([row["name"], *row["symptoms"], *row["signs"], *row["labs"]]).replace("Hb", "貧血")
    normal = [text for first, second, text in phrases.FINDINGS_FREE if first not in said and second not in said]
    found = [f"{row['signs'][0]}を認める", *(f"{sign}あり" for sign in row["signs"][1:])]
    found += [fill(rng, text, {}) for text in take(rng, normal, 1, 3)]
    return f"{vital_signs(rng, row)}。{'。'.join(rng.sample(found, len(found)))}。"


def _course(rng: random.Random, row: Row, values: Values, changing: list[Values]) -> str:
    declining = row["outcome"] == "進行"
    text = say(rng, phrases.COURSE_DIAGNOSIS, values)
    text += say(rng, phrases.COURSE_TREATMENT if row["drugs"] else phrases.COURSE_NO_DRUG, values)
    if changing and not declining and rng.random() < 0.75:
        text += say(rng, phrases.COURSE_BETTER, values | pick(rng, changing))
    elif not declining or rng.random() < 0.4:
        text += say(rng, phrases.COURSE_SYMPTOM, values)
    return text + say(rng, phrases.COURSE_END["進行" if declining else row["setting"]], values)


def case(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"]])
    age, sex, person = patient(rng, row["ages"], row["sex"])
    values = disease_values(rng, row) | person | _times(rng, row) | _finding(row["examinations"][0])
    values["number"] = str(rng.randint(1, 300))
    measured = laboratory(rng, row, sex, age)
    changing = [value for value in measured if "after" in value]
    second = "、" + values["symptom2"] if "symptom2" in values and rng.random() < 0.4 else ""
    shown = pick(rng, "、、，").join(f"{value['lab']} {value['before']}" for value in measured)
    sections = [
        ("主訴", f"{values['symptom']}{second}。"),
        ("現病歴", _story(rng, row, age, values)),
        ("既往歴", f"{_past(rng, row, age, sex)}。"),
        ("家族歴", say(rng, phrases.FAMILY, {"illness": pick(rng, phrases.ILLNESSES)}) + "。"),
        ("生活歴", f"{values['home']}。{_habits(rng, row, age)}。"),
        (pick(rng, phrases.STATE_HEADINGS[row["setting"]]), _examined(rng, row)),
        ("検査所見", f"{say(rng, phrases.LAB_INTROS, values)}{shown}。{_results(rng, row)}"),
        (pick(rng, phrases.COURSE_HEADINGS), _course(rng, row, values, changing)),
        ("考察", say(rng, phrases.DISCUSSION, values, rng.randint(1, 4)))]
    sections = [s for s in sections if s[0] not in ("家族歴", "生活歴") or rng.random() < 0.6]
    if rng.random() < 0.25:  # history before complaint, as some departments write
        sections.insert(0, sections.pop(2))
    head = [say(rng, templates, values) for templates in (phrases.CASE_TITLES, phrases.CASE_PATIENTS)]
    return "\n".join([*head, _headed(rng, sections)])


def nursing(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"] and row["department"] != "小児科"])
    _, _, person = patient(rng, row["ages"], row["sex"])
    clinic, day = row["setting"] == "外来", rng.randint(1, 9)
    calm = rng.random() if clinic else min(1.0, (day - 1) / 7 + rng.uniform(0, 0.15))
    first, assessments = (phrases.S_BETTER, phrases.A_BETTER) if calm >= 0.5 else (phrases.S_WORSE, phrases.A_WORSE)
    titles, others, objective, plans, teaching = (
        (phrases.CLINIC_TITLES, phrases.S_CLINIC, phrases.O_CLINIC, phrases.P_CLINIC, phrases.TEACH_CLINIC)
        if clinic else
        (phrases.NURSING_TITLES, phrases.S_OTHER, phrases.O_WARD, phrases.P_LINES, phrases.TEACH))
    assessments = phrases.A_CLINIC if clinic else assessments
    objective = objective + phrases.O_BETTER if calm >= 0.5 and not clinic else objective

    def drawn() -> Values:
        values = disease_values(rng, row) | person | {
            "bowel": str(rng.randint(1, 3)), "pills": str(rng.randint(2, 20)),
            "next": str(rng.randint(2, 8)), "urine": f"{rng.randint(70, 240) * 10:,}",
            "weight": f"{rng.uniform(42, 84):.1f}", "delta": f"{rng.uniform(0.2, 2.4):.1f}",
            "teach": say(rng, teaching, {}), "vitals": vital_signs(rng, row, calm),
            "when": pick(rng, (f"第{day}病日", f"{rng.randint(1, 12)}月{rng.randint(1, 28)}日", f"入院{day}日目"))}
        if "絶食" not in row["treatments"]:
            values |= {"tenths": str(rng.randint(3, 10)), "meal": pick(rng, ("ご飯", "食事", "おかゆ"))}
        values["watch"] = pick(rng, (values["symptom"], values["signs"], "食事摂取量", "睡眠状況"))
        return values | {"quote": say(rng, phrases.S_OTHER if calm >= 0.5 else phrases.S_WORSE, values)}

    values = drawn()
    lines = [say(rng, titles, values)]
    if not clinic and rng.random() < 0.4:  # by the clock
        possible = [entry for entry in phrases.TIMED[1:] if known([entry[2]], values)]
        chosen = [phrases.TIMED[0], *rng.sample(possible, rng.randint(8, min(11, len(possible))))]
        noted = sorted((rng.randint(a, b) * 60 + rng.randrange(0, 60, 5), template) for a, b, template in chosen)
        states = values, drawn()
        lines += [f"{at // 60}:{at % 60:02d} {fill(rng, template, pick(rng, states))}" for at, template in noted]
        lines.append(f"{pick(rng, ('評価', 'まとめ', 'アセスメント'))}:{say(rng, assessments, values, 2)}")
        return "\n".join(lines)
    blocks = 1 if clinic or rng.random() < 0.3 else 2
    observed = rng.sample(objective, len(objective))
    mark, stamp = pick(rng, ("{}:", "{}) ", "【{}】", "{}　")), pick(rng, ("（{}:{:02d}）", "{}:{:02d}"))
    hour = rng.randint(7, 14)
    for block in range(blocks):
        if blocks > 1:
            lines.append(stamp.format(hour + 5 * block, rng.randrange(0, 60, 5)))
        parts = {"S": say(rng, first, values) + say(rng, others, values, 3 - blocks),
                 "O": f"{values['vitals']}。{say(rng, observed[block::blocks], values, rng.randint(3, 6))}",
                 "A": say(rng, assessments, values, 2), "P": say(rng, plans, values, rng.randint(3, 5) - block)}
        lines += [mark.format(letter) + text for letter, text in parts.items()]
        values = drawn()
    return "\n".join(lines)


# Examination items: a kind gives what its stem needs, the right choice with the reason, and wrong choices with why


@dataclass(frozen=True)
class ExamItem:
    question: str
    choices: tuple[str, str, str, str, str]
    answer: int
    explanation: str


Choice = tuple[str, str]
Draft = tuple[Values, Choice, list[Choice]]


def _words(*texts: str) -> set[str]:
    """Four characters without hiragana: two texts that share them may speak of one thing."""
    runs = re.findall(r"[^\u3040-\u309f、。]{4,}", "、".join(texts))
    return {run[i : i + 4] for run in runs for i in range(len(run) - 3)}


@functools.cache
def unrelated_drugs(name: str) -> tuple[Row, ...]:
    """Drugs of another class and mechanism, for other diseases."""
    drug = tables()["drugs"][name]
    own, diseases = _words(drug["class"], drug["mechanism"]), set(treats()[name])
    return tuple(other for other in rows("drugs") if not diseases & set(treats()[other["name"]])
                 and not own & _words(other["class"], other["mechanism"]))


@functools.cache
def unrelated_diseases(name: str) -> tuple[Row, ...]:
    """Diseases of another department and body part, with at most one symptom in common and no telling test."""
    def tests(row: Row) -> set[str]:
        return {item.split(":")[0] for item in row["examinations"]} - phrases.SHARED_EXAMS

    row = tables()["diseases"][name]
    return tuple(other for other in rows("diseases")
                 if other["department"] != row["department"] and other["part"] != row["part"]
                 and len(set(other["symptoms"]) & set(row["symptoms"])) < 2 and not tests(row) & tests(other))


def _of_drug(column: str, why: str, rng: random.Random) -> Draft:
    drug = pick(rng, rows("drugs"))
    values = drug_values(rng, drug)
    reasons = [r for r in phrases.DRUG_REASONS if f"{{{column}}}" not in r]
    wrong = [(other[column], why.format(other["name"])) for other in unrelated_drugs(drug["name"])]
    return values, (drug[column], say(rng, reasons or phrases.DRUG_REASONS, values)), wrong


def _adverse(rng: random.Random) -> Draft:
    drug = pick(rng, [drug for drug in rows("drugs") if drug["hallmark"]])
    own = re.split("[、とや]", "、".join([drug["hallmark"], *drug["adverse"]]))
    others = [other for other in unrelated_drugs(drug["name"])
              if other["hallmark"] and other["hallmark"] not in phrases.SHARED_EFFECTS
              and not any(a in b or b in a for a in own for b in re.split("[とや]", other["hallmark"]))]
    reason = f"{drug['name']}では、{drug['hallmark']}のほか、{listing(rng, drug['adverse'])}などに注意する。"
    wrong = [(other["hallmark"], f"{other['name']}で知られる副作用である") for other in others]
    return drug_values(rng, drug), (drug["hallmark"], reason), wrong


def _treatment(rng: random.Random) -> Draft:
    row = pick(rng, [row for row in rows("diseases") if row["drugs"] and row["symptoms"]])
    drug = tables()["drugs"][pick(rng, row["drugs"])]
    near = {name for other in rows("diseases") if other["department"] == row["department"] for name in other["drugs"]}
    free = set.intersection(*({other["name"] for other in unrelated_drugs(name)} for name in row["drugs"]))
    others = [other for other in rows("drugs") if other["name"] in free - near - phrases.BROAD_DRUGS
              and row["name"] not in "".join(other["indications"])]
    reason = f"{drug['name']}は{drug['class']}で、{drug['mechanism']}。{row['name']}の治療薬として用いられる。"
    wrong = [(other["name"], f"{other['class']}で、{listing(rng, other['indications'])}などに用いられる")
             for other in others]
    return disease_values(rng, row) | patient(rng, row["ages"], row["sex"])[2], (drug["name"], reason), wrong


def _not_this(rng: random.Random, row: Row) -> Choice:
    exam, finding = row["examinations"][0].split(":")
    return row["name"], pick(rng, (f"{exam}で{finding}が重要な手がかりとなる", f"{row['definition']}である",
                                   f"{row['pathology']}疾患である"))


def _diagnosis(rng: random.Random) -> Draft:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"]])
    age, sex, person = patient(rng, row["ages"], row["sex"])
    measured = "、".join(f"{value['lab']} {value['before']}" for value in laboratory(rng, row, sex, age))
    values = disease_values(rng, row) | person | _times(rng, row) | {
        "results": _results(rng, row), "vitals": vital_signs(rng, row), "labs": measured,
        "past": _past(rng, row, age, sex)}
    near = [other for other in rows("diseases") if other["department"] == row["department"] and other is not row
            and not set(other["examinations"]) & set(row["examinations"])]
    groups = near, unrelated_diseases(row["name"])
    both = [[other for other in group if other["sex"] in (sex, "両")] for group in groups]
    exam, finding = row["examinations"][0].split(":")
    reason = f"{listing(rng, row['symptoms'])}がみられ、{exam}の所見（{finding}）は{row['name']}に合う。"
    return values, (row["name"], reason), [_not_this(rng, other) for group in both for other in take(rng, group, 5, 5)]


def _test_result(rng: random.Random) -> Draft:
    row, item = pick(rng, [(row, item) for row in rows("diseases") for item in row["examinations"]
                           if item.split(":")[0] not in phrases.SHARED_EXAMS and not item.endswith("こと")])
    reason = "{name}では{exam}で{finding}がみられる。{pathology}ためである。".format_map(row | _finding(item))
    return _finding(item), (row["name"], reason), [_not_this(rng, other) for other in unrelated_diseases(row["name"])]


def _lay(rng: random.Random) -> Draft:
    symptom = pick(rng, rows("symptoms"))
    kanji = set(re.findall(r"[\u4e00-\u9fff]", symptom["lay"] + symptom["name"]))
    others = [s for s in rows("symptoms") if s["part"] != symptom["part"] and not kanji & set(s["lay"] + s["name"])]
    words = pick(rng, ("ふだんの言葉", "患者の言葉", "日常の言葉"))
    reason = f"「{symptom['lay']}」という訴えは、{symptom['name']}を{words}で述べたものである。"
    wrong = [(other["name"], f"「{other['lay']}」といった訴えに対応する") for other in others]
    return patient(rng, "20-85", "両")[2] | {"lay": symptom["lay"]}, (symptom["name"], reason), wrong


def _of_disease(asked: str, given: str, why: str, rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    wrong = [(other[asked], why.format(other[given])) for other in rows("diseases") if other is not row]
    return {given: row[given]}, (row[asked], f"{row['name']}では、{row['pathology']}。"), wrong


def _range(rng: random.Random) -> Draft:
    row, sex = pick(rng, [row for row in labs().values() if float(row["low"]) > 0]), pick(rng, "男女")
    low, high = reference(row, sex)
    a, b = float(low), float(high)
    moved = [(a * k, b * k) for k in (0.2, 0.4, 0.6, 1.6, 2.5, 4)]
    if a > 3 * (b - a):  # a narrow range moves by its own width
        moved = [(a + k * (b - a), b + k * (b - a)) for k in (-6, -4, -2, 2, 4, 6) if a + k * (b - a) > 0]
    spans = [with_unit(f"{written(x, low)}〜{written(y, low)}", row["unit"]) for x, y in [(a, b), *moved]]
    reason = f"{row['name']}（{row['abbreviation']}）は{row['shows']}をみる検査である。"
    wrong = [(span, f"基準より{'低' if x < a else '高'}い値の範囲である") for span, (x, _) in zip(spans[1:], moved)]
    return {"name": row["name"], "sex": f"{sex}性"}, (spans[0], reason), wrong


def _false(rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    other, found = pick(rng, unrelated_diseases(row["name"])), _finding(pick(rng, row["examinations"]))
    true = [f"{row['definition']}である", f"{row['department']}で診療することが多い", f"{row['pathology']}ことで生じる",
            "{exam}で{finding}が{seen}る".format_map(found), f"危険因子として{pick(rng, row['risks'])}が知られる",
            f"{row['epidemiology']}に多い", f"治療の選択肢に{pick(rng, row['drugs'] or row['treatments'])}がある"]
    reason = (f"{other['pathology']}のは{other['name']}である。ほかの4つは{row['name']}の記述として正しい。"
              f"{row['name']}は{row['definition']}で、{row['course']}とされる。")
    return {"name": row["name"]}, (f"{other['pathology']}ことで生じる", reason), [(text, "") for text in true]


KINDS: dict[str, Callable[[random.Random], Draft]] = {
    "class": functools.partial(_of_drug, "class", "{}などが属する分類である"),
    "mechanism": functools.partial(_of_drug, "mechanism", "{}の作用である"),
    "definition": functools.partial(_of_disease, "definition", "name", "{}の説明である"),
    "name": functools.partial(_of_disease, "name", "definition", "{}を指す"),
    "adverse": _adverse, "drug": _treatment, "diagnosis": _diagnosis, "finding": _test_result, "lay": _lay,
    "range": _range, "false": _false}


def exam_item(rng: random.Random) -> ExamItem:
    """A five-choice item that is right by the tables; its explanation names choices by their text, never by letter."""
    kind = pick(rng, (*KINDS, "diagnosis", "diagnosis", "drug"))
    values, (right, reason), others = KINDS[kind](rng)
    wrong = rng.sample([choice for choice in dict(others).items() if choice[0] != right], 4)
    choices = [right, *(text for text, _ in wrong)]
    rng.shuffle(choices)
    explanation = say(rng, phrases.REASONS, {"text": reason, "right": right})
    explanation += "".join([say(rng, phrases.WRONGS, {"wrong": text, "why": why}) for text, why in wrong if why])
    return ExamItem(say(rng, phrases.STEMS[kind], values), tuple(choices), choices.index(right), explanation)


def exam(rng: random.Random) -> str:
    item, mark = exam_item(rng), pick(rng, phrases.CHOICE_MARKS)
    head = say(rng, phrases.ITEM_HEADS, {"number": str(rng.randint(1, 500))}) + pick(rng, " 　\n")
    choices = [mark.format(letter) + text for letter, text in zip("abcde", item.choices)]
    answer = pick(rng, phrases.ANSWER_MARKS).format("abcde"[item.answer])
    return "\n".join([head + item.question, *choices, answer, pick(rng, phrases.EXPLANATION_MARKS) + item.explanation])


# The corpus

WRITERS = {"textbook": textbook, "case": case, "nursing": nursing, "exam": exam}
SHORTEST = 290  # characters; the notice adds at least twenty
ORDER = ("textbook", "case", "exam", "textbook", "nursing", "case", "exam", "nursing")


def _document(source: str, name: str, text: str) -> dict[str, str]:
    return {"id": f"{source}-{name}", "text": text, "source": source, "license": "Apache-2.0", "url": ""}


def prose() -> Iterator[dict[str, str]]:
    for path in sorted((DATA / "prose").glob("*.txt")):
        yield _document("sample-prose", path.stem, path.read_text(encoding="utf-8").strip())


def generate(index: int, seed: int) -> dict[str, str]:
    rng, kind = random.Random(f"{seed}-{index}"), ORDER[index % len(ORDER)]
    parts = [say(rng, phrases.NOTICES, {}), WRITERS[kind](rng)]
    while len(parts[1]) < SHORTEST:
        parts[1] = WRITERS[kind](rng)
    return _document(f"sample-{kind}", f"{index:06d}", "\n".join(parts if rng.random() < 0.5 else parts[::-1]))


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
