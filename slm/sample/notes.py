"""Case reports and nursing records, and the values of a disease, a drug and a patient that all documents use."""

import random
import re

from slm.sample.phrases import Values, fill, known, listing, lists, phrases, pick, say, take
from slm.sample.tables import Row, bounds, labs, reference, rows, tables, treats, with_unit, written

CHILD_JOBS = [(6, "保育園児"), (13, "小学生"), (16, "中学生"), (19, "高校生"), (20, "大学生")]  # younger than
# Onset unit → first and last day on which it is better, first and last day of discharge.
TEMPO = {"時間": (3, 7, 8, 18), "日": (3, 7, 8, 18), "週": (10, 20, 22, 45), "月": (14, 28, 30, 70),
         "年": (5, 12, 14, 28)}
USUAL_VITALS = {"体温": "36.0-36.9", "脈拍": "60-84", "収縮期": "112-134", "呼吸数": "14-18", "SpO2": "96-99"}
# Usual values to show with the abnormal ones; a group is left out when the disease affects one of it.
PANELS = (("Na",), ("K",), ("Cl",), ("AST", "ALT", "T-Bil", "ALP", "γ-GT"), ("BUN", "Cr"), ("TP", "Alb"), ("Plt",),
          ("Hb",))


# Measurements


def vital_signs(rng: random.Random, disease: Row, calm: float = 0.0) -> str:
    """Vital signs, from those of the disease (`calm` 0) to the usual ones (1)."""
    signs = {key: rng.uniform(*bounds(spec)) for key, spec in USUAL_VITALS.items()}
    for key, spec in (item.split(":") for item in disease["vitals"]):
        signs[key] += (rng.uniform(*bounds(spec)) - signs[key]) * (1 - calm)
    values = {"bt": f"{signs['体温']:.1f}", "dbp": f"{signs['収縮期'] * rng.uniform(0.52, 0.64):.0f}"}
    for key, name in (("hr", "脈拍"), ("sbp", "収縮期"), ("rr", "呼吸数"), ("spo2", "SpO2")):
        values[key] = f"{signs[name]:.0f}"
    return fill(rng, pick(rng, phrases("vitals")), values)


def laboratory(rng: random.Random, disease: Row, sex: str, age: int) -> list[Values]:
    """The abnormal values of the disease, before and after treatment, then usual ones that it does not affect."""
    result: list[Values] = []
    for name, spec in (item.split(":") for item in disease["labs"]):
        low, high = map(float, reference(labs()[name], sex))
        like, value, unit = spec.split("-")[0], rng.uniform(*bounds(spec.rstrip("!"))), labs()[name]["unit"]
        result.append({"lab": name, "before": with_unit(written(value, like), unit)})
        if not (low <= value <= high or spec.endswith("!")):
            edge = high if value > high else low
            after = with_unit(written(edge + (value - edge) * rng.uniform(0.05, 0.4), like), unit)
            result[-1] |= {"after": after, "change": "低下" if value > high else "上昇"}
    affected = {value["lab"] for value in result}
    unaffected = [group for group in (PANELS[:3] if age < 15 else PANELS) if not affected & set(group)]
    for group in rng.sample(unaffected, rng.randint(1, 3)):
        name = pick(rng, group[:2])
        lowest, highest = reference(labs()[name], sex)
        usual = written(rng.uniform(float(lowest), float(highest)), lowest)
        result.append({"lab": name, "before": with_unit(usual, labs()[name]["unit"])})
    return result


# Values of a finding, a disease, a drug, a patient; a key is missing where the tables have nothing


def finding_values(item: str) -> Values:
    exam, finding = item.split(":")
    # 出血がないこと is confirmed, not seen.
    seen, act = ("確認され", "確認し") if finding.endswith("こと") else ("みられ", "認め")
    return {"exam": exam, "finding": finding, "seen": seen, "act": act}


def exam_results(rng: random.Random, disease: Row) -> str:
    return "".join([say(rng, phrases("exam_lines"), finding_values(item)) for item in disease["examinations"]])


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
    values |= finding_values(exam)
    values["shows"] = tables()["examinations"][values["exam"]]["shows"]
    if others:
        values |= {f"{key}2": value for key, value in finding_values(others[0]).items()}
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
    job, home = pick(rng, phrases("jobs")), pick(rng, phrases("homes"))
    if age < 20:
        job = next(name for limit, name in CHILD_JOBS if age < limit)
        home = pick(rng, phrases("child_homes"))
    elif age >= 65:
        job = pick(rng, ("無職", "無職", "年金生活", f"元{job}", job))
    return age, sex, {"age": f"{age}歳", "sex": sex + ("児" if age < 6 else "性"), "job": job, "home": home}


# The documents


def headed(rng: random.Random, sections: list[tuple[str, str]]) -> str:
    style = pick(rng, phrases("headings"))
    return "\n".join(style.format(heading=heading, number=i) + text for i, (heading, text) in enumerate(sections, 1))


def _habits(rng: random.Random, row: Row, age: int) -> str:
    if age < 20:
        return "予防接種は年齢相当に実施" if age < 6 else "喫煙、飲酒なし"
    smokes = rng.random() < (0.75 if "喫煙" in row["risks"] else 0.2)
    count = {"n": str(rng.randint(5, 40)), "years": str(rng.randint(1, max(2, age - 20)))}
    smoking = say(rng, phrases("smoking"), count) if smokes else "なし"
    drinking, allergies = say(rng, phrases("drinking"), {}), say(rng, phrases("allergies"), {})
    return f"喫煙歴 {smoking}、飲酒 {drinking}。アレルギー {allergies}"


def past(rng: random.Random, row: Row, age: int, sex: str) -> str:
    other = "卵巣|子宮" if sex == "男" else "前立腺"
    names = [x for x in row["history"] if x != "特になし" and not re.search(other, x)]
    if not names or ("特になし" in row["history"] and rng.random() < 0.4):
        return pick(rng, phrases("no_history"))
    ages = sorted(max(1, age - rng.randint(1, 18)) for _ in range(2))
    return "、".join(say(rng, phrases("past"), {"x": x, "n": str(n)}) for x, n in zip(take(rng, names, 1, 2), ages))


def times(rng: random.Random, row: Row) -> Values:
    """The times of onset, improvement and discharge, in the tempo of the disease."""
    first, last, leave, latest = TEMPO[row["onset"]]
    visit, day = "来院" if row["setting"] == "入院" else "受診", rng.randint(first, last)
    later = f"第{day}病日" if visit == "来院" else f"{day}日後の再診時" if row["onset"] in "時間日" else f"{day}週間後"
    values = {"visit": visit, "few": str(rng.randint(1, 5)), "some": str(rng.randint(2, 6))}
    when = say(rng, phrases(f"onsets.{row['onset']}"), values)
    values |= {"day": str(rng.randint(leave, latest)), "next": str(rng.randint(2, 8))}
    return values | {"when": when, "later": later}


def _story(rng: random.Random, row: Row, age: int, values: Values) -> str:
    acute, child = row["onset"] in ("時間", "日"), age < 6
    ways = phrases("ways_acute" if acute and row["setting"] == "入院" else "ways")
    absent = [s for s in phrases("absent") if s not in row["symptoms"]]
    values = values | {
        "usual": say(rng, phrases("child_usual" if child else "usual"), {}),
        "activity": "" if child else say(rng, phrases("activities"), {}),
        "way": "家族に連れられて" if child else say(rng, ways, {}) if rng.random() < 0.7 else "",
        "admitted": "入院" if row["setting"] == "入院" else "外来通院",
        "negative": listing(rng, take(rng, absent, 1, 2))}
    began = phrases("history_acute" if acute else "history_slow")
    return "".join([say(rng, began, values), say(rng, phrases("history_more"), values),
                    say(rng, phrases("history_negative"), values, rng.randint(0, 1)),
                    say(rng, phrases("history_visit"), values)])


def _examined(rng: random.Random, row: Row) -> str:
    words = "".join([row["name"], *row["symptoms"], *row["signs"], *row["labs"]]).replace("Hb", "貧血")
    normal = [text for first, second, text in lists()["normal_findings"] if first not in words and second not in words]
    findings = [f"{row['signs'][0]}を認める", *(f"{sign}あり" for sign in row["signs"][1:])]
    findings += [fill(rng, text, {}) for text in take(rng, normal, 1, 3)]
    return f"{vital_signs(rng, row)}。{'。'.join(rng.sample(findings, len(findings)))}。"


def _course(rng: random.Random, row: Row, values: Values, changing: list[Values]) -> str:
    declining = row["outcome"] == "進行"
    text = say(rng, phrases("course_diagnosis"), values)
    text += say(rng, phrases("course_treatment" if row["drugs"] else "course_no_drug"), values)
    if changing and not declining and rng.random() < 0.75:
        text += say(rng, phrases("course_better"), values | pick(rng, changing))
    elif not declining or rng.random() < 0.4:
        text += say(rng, phrases("course_symptom"), values)
    return text + say(rng, phrases(f"course_end.{'進行' if declining else row['setting']}"), values)


def case(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"]])
    age, sex, person = patient(rng, row["ages"], row["sex"])
    values = disease_values(rng, row) | person | times(rng, row) | finding_values(row["examinations"][0])
    values["number"] = str(rng.randint(1, 300))
    measured = laboratory(rng, row, sex, age)
    changing = [value for value in measured if "after" in value]
    second = "、" + values["symptom2"] if "symptom2" in values and rng.random() < 0.4 else ""
    shown = pick(rng, "、、，").join(f"{value['lab']} {value['before']}" for value in measured)
    sections = [
        ("主訴", f"{values['symptom']}{second}。"),
        ("現病歴", _story(rng, row, age, values)),
        ("既往歴", f"{past(rng, row, age, sex)}。"),
        ("家族歴", say(rng, phrases("family"), {"illness": pick(rng, phrases("illnesses"))}) + "。"),
        ("生活歴", f"{values['home']}。{_habits(rng, row, age)}。"),
        (pick(rng, phrases(f"state_headings.{row['setting']}")), _examined(rng, row)),
        ("検査所見", say(rng, phrases("lab_intros"), values) + f"{shown}。{exam_results(rng, row)}"),
        (pick(rng, phrases("course_headings")), _course(rng, row, values, changing)),
        ("考察", say(rng, phrases("discussion"), values, rng.randint(1, 4)))]
    sections = [s for s in sections if s[0] not in ("家族歴", "生活歴") or rng.random() < 0.6]
    if rng.random() < 0.25:  # history before complaint, as some departments write
        sections.insert(0, sections.pop(2))
    head = [say(rng, templates, values) for templates in (phrases("case_titles"), phrases("case_patients"))]
    return "\n".join([*head, headed(rng, sections)])


def nursing(rng: random.Random) -> str:
    row = pick(rng, [row for row in rows("diseases") if row["symptoms"] and row["department"] != "小児科"])
    _, _, person = patient(rng, row["ages"], row["sex"])
    clinic, day = row["setting"] == "外来", rng.randint(1, 9)
    calm = rng.random() if clinic else min(1.0, (day - 1) / 7 + rng.uniform(0, 0.15))
    state = "better" if calm >= 0.5 else "worse"
    first, assessments = phrases(f"s_{state}"), phrases("a_clinic" if clinic else f"a_{state}")
    titles, others, objective, plans, teaching = map(phrases, (
        ("clinic_titles", "s_clinic", "o_clinic", "p_clinic", "teach_clinic") if clinic else
        ("nursing_titles", "s_other", "o_ward", "p_lines", "teach")))
    objective = objective + phrases("o_better") if calm >= 0.5 and not clinic else objective

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
        return values | {"quote": say(rng, phrases("s_other" if calm >= 0.5 else "s_worse"), values)}

    values = drawn()
    lines = [say(rng, titles, values)]
    if not clinic and rng.random() < 0.4:  # by the clock
        always, *entries = lists()["timed"]
        possible = [entry for entry in entries if known([entry[2]], values)]
        chosen = [always, *rng.sample(possible, rng.randint(8, min(11, len(possible))))]
        noted = sorted((rng.randint(int(a), int(b)) * 60 + rng.randrange(0, 60, 5), text) for a, b, text in chosen)
        states = values, drawn()
        lines += [f"{at // 60}:{at % 60:02d} {fill(rng, text, pick(rng, states))}" for at, text in noted]
        lines.append(f"{pick(rng, ('評価', 'まとめ', 'アセスメント'))}:{say(rng, assessments, values, 2)}")
        return "\n".join(lines)
    blocks = 1 if clinic or rng.random() < 0.3 else 2
    observed = rng.sample(objective, len(objective))
    label, stamp = pick(rng, ("{}:", "{}) ", "【{}】", "{}　")), pick(rng, ("（{}:{:02d}）", "{}:{:02d}"))
    hour = rng.randint(7, 14)
    for block in range(blocks):
        if blocks > 1:
            lines.append(stamp.format(hour + 5 * block, rng.randrange(0, 60, 5)))
        parts = {"S": say(rng, first, values) + say(rng, others, values, 3 - blocks),
                 "O": f"{values['vitals']}。{say(rng, observed[block::blocks], values, rng.randint(3, 6))}",
                 "A": say(rng, assessments, values, 2), "P": say(rng, plans, values, rng.randint(3, 5) - block)}
        lines += [label.format(letter) + text for letter, text in parts.items()]
        values = drawn()
    return "\n".join(lines)
