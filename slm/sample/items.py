"""Examination items: each type draws the values of its stem, the right choice and wrong choices, with reasons."""

import functools
import random
import re
from collections.abc import Callable
from dataclasses import dataclass

from slm.sample.notes import (
    disease_values,
    drug_values,
    exam_results,
    finding_values,
    laboratory,
    past,
    patient,
    times,
    vital_signs,
)
from slm.sample.phrases import Values, listing, phrases, pick, say, take
from slm.sample.tables import Row, labs, reference, rows, tables, treats, with_unit, written


@dataclass(frozen=True)
class ExamItem:
    question: str
    choices: tuple[str, ...]  # five
    answer: int
    explanation: str


Choice = tuple[str, str]
Draft = tuple[Values, Choice, list[Choice]]


def _words(*texts: str) -> set[str]:
    """Substrings of four characters without hiragana: two texts that share one may mean the same."""
    runs = re.findall(r"[^\u3040-\u309f、。]{4,}", "、".join(texts))
    return {run[i : i + 4] for run in runs for i in range(len(run) - 3)}


@functools.cache
def unrelated_drugs(name: str) -> tuple[Row, ...]:
    """Drugs of another class and mechanism, for other diseases."""
    drug = tables()["drugs"][name]
    words, diseases = _words(drug["class"], drug["mechanism"]), set(treats()[name])
    return tuple(other for other in rows("drugs") if not diseases & set(treats()[other["name"]])
                 and not words & _words(other["class"], other["mechanism"]))


@functools.cache
def unrelated_diseases(name: str) -> tuple[Row, ...]:
    """Diseases of another department and body part, with at most one symptom and no specific test in common."""
    def tests(row: Row) -> set[str]:
        return {item.split(":")[0] for item in row["examinations"]} - {*phrases("shared_exams")}

    row = tables()["diseases"][name]
    return tuple(other for other in rows("diseases")
                 if other["department"] != row["department"] and other["part"] != row["part"]
                 and len(set(other["symptoms"]) & set(row["symptoms"])) < 2 and not tests(row) & tests(other))


def _of_drug(column: str, why: str, rng: random.Random) -> Draft:
    drug = pick(rng, rows("drugs"))
    values = drug_values(rng, drug)
    reasons = [r for r in phrases("drug_reasons") if f"{{{column}}}" not in r]
    wrong = [(other[column], why.format(other["name"])) for other in unrelated_drugs(drug["name"])]
    return values, (drug[column], say(rng, reasons or phrases("drug_reasons"), values)), wrong


def _adverse(rng: random.Random) -> Draft:
    drug = pick(rng, [drug for drug in rows("drugs") if drug["hallmark"]])
    effects = re.split("[、とや]", "、".join([drug["hallmark"], *drug["adverse"]]))
    others = [other for other in unrelated_drugs(drug["name"])
              if other["hallmark"] and other["hallmark"] not in phrases("shared_effects")
              and not any(a in b or b in a for a in effects for b in re.split("[とや]", other["hallmark"]))]
    reason = f"{drug['name']}では、{drug['hallmark']}のほか、{listing(rng, drug['adverse'])}などに注意する。"
    wrong = [(other["hallmark"], f"{other['name']}で知られる副作用である") for other in others]
    return drug_values(rng, drug), (drug["hallmark"], reason), wrong


def _treatment(rng: random.Random) -> Draft:
    row = pick(rng, [row for row in rows("diseases") if row["drugs"] and row["symptoms"]])
    drug = tables()["drugs"][pick(rng, row["drugs"])]
    near = {name for other in rows("diseases") if other["department"] == row["department"] for name in other["drugs"]}
    unrelated = set.intersection(*({other["name"] for other in unrelated_drugs(name)} for name in row["drugs"]))
    names = unrelated - near - {*phrases("broad_drugs")}
    others = [other for other in rows("drugs")
              if other["name"] in names and row["name"] not in "".join(other["indications"])]
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
    values = disease_values(rng, row) | person | times(rng, row) | {
        "results": exam_results(rng, row), "vitals": vital_signs(rng, row), "labs": measured,
        "past": past(rng, row, age, sex)}
    near = [other for other in rows("diseases") if other["department"] == row["department"] and other is not row
            and not set(other["examinations"]) & set(row["examinations"])]
    groups = near, unrelated_diseases(row["name"])
    both = [[other for other in group if other["sex"] in (sex, "両")] for group in groups]
    exam, finding = row["examinations"][0].split(":")
    reason = f"{listing(rng, row['symptoms'])}がみられ、{exam}の所見（{finding}）は{row['name']}に合う。"
    return values, (row["name"], reason), [_not_this(rng, other) for group in both for other in take(rng, group, 5, 5)]


def _test_result(rng: random.Random) -> Draft:
    row, item = pick(rng, [(row, item) for row in rows("diseases") for item in row["examinations"]
                           if item.split(":")[0] not in phrases("shared_exams") and not item.endswith("こと")])
    reason = "{name}では{exam}で{finding}がみられる。{pathology}ためである。".format_map(row | finding_values(item))
    wrong = [_not_this(rng, other) for other in unrelated_diseases(row["name"])]
    return finding_values(item), (row["name"], reason), wrong


def _lay(rng: random.Random) -> Draft:
    symptom = pick(rng, rows("symptoms"))
    kanji = set(re.findall(r"[\u4e00-\u9fff]", symptom["lay"] + symptom["name"]))
    others = [s for s in rows("symptoms") if s["part"] != symptom["part"] and not kanji & set(s["lay"] + s["name"])]
    words = pick(rng, ("ふだんの言葉", "患者の言葉", "日常の言葉"))
    reason = f"「{symptom['lay']}」という訴えは、{symptom['name']}を{words}で述べたものである。"
    wrong = [(other["name"], f"「{other['lay']}」といった訴えに対応する") for other in others]
    return patient(rng, "20-85", "両")[2] | {"lay": symptom["lay"]}, (symptom["name"], reason), wrong


def _of_disease(answer: str, stem: str, why: str, rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    wrong = [(other[answer], why.format(other[stem])) for other in rows("diseases") if other is not row]
    return {stem: row[stem]}, (row[answer], f"{row['name']}では、{row['pathology']}。"), wrong


def _range(rng: random.Random) -> Draft:
    row, sex = pick(rng, [row for row in labs().values() if float(row["low"]) > 0]), pick(rng, "男女")
    low, high = reference(row, sex)
    a, b = float(low), float(high)
    moved = [(a * k, b * k) for k in (0.2, 0.4, 0.6, 1.6, 2.5, 4)]
    if a > 3 * (b - a):  # a narrow range moves by its width
        moved = [(a + k * (b - a), b + k * (b - a)) for k in (-6, -4, -2, 2, 4, 6) if a + k * (b - a) > 0]
    spans = [with_unit(f"{written(x, low)}〜{written(y, low)}", row["unit"]) for x, y in [(a, b), *moved]]
    reason = f"{row['name']}（{row['abbreviation']}）は{row['shows']}をみる検査である。"
    wrong = [(span, f"基準より{'低' if x < a else '高'}い値の範囲である") for span, (x, _) in zip(spans[1:], moved)]
    return {"name": row["name"], "sex": f"{sex}性"}, (spans[0], reason), wrong


def _false(rng: random.Random) -> Draft:
    row = pick(rng, rows("diseases"))
    other, finding = pick(rng, unrelated_diseases(row["name"])), finding_values(pick(rng, row["examinations"]))
    true = [f"{row['definition']}である", f"{row['department']}で診療することが多い", f"{row['pathology']}ことで生じる",
            "{exam}で{finding}が{seen}る".format_map(finding), f"危険因子として{pick(rng, row['risks'])}が知られる",
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
    """A five-choice item, correct by the tables; its explanation refers to choices by their text, never by letter."""
    kind = pick(rng, (*KINDS, "diagnosis", "diagnosis", "drug"))
    values, (right, reason), others = KINDS[kind](rng)
    wrong = rng.sample([choice for choice in dict(others).items() if choice[0] != right], 4)
    choices = [right, *(text for text, _ in wrong)]
    rng.shuffle(choices)
    explanation = say(rng, phrases("reasons"), {"text": reason, "right": right})
    explanation += "".join([say(rng, phrases("wrongs"), {"wrong": text, "why": why}) for text, why in wrong if why])
    return ExamItem(say(rng, phrases(f"stems.{kind}"), values), tuple(choices), choices.index(right), explanation)


def exam(rng: random.Random) -> str:
    item, label = exam_item(rng), pick(rng, phrases("choice_marks"))
    head = say(rng, phrases("item_heads"), {"number": str(rng.randint(1, 500))}) + pick(rng, " 　\n")
    choices = [label.format(letter) + text for letter, text in zip("abcde", item.choices)]
    answer = pick(rng, phrases("answer_marks")).format("abcde"[item.answer])
    explanation = pick(rng, phrases("explanation_marks")) + item.explanation
    return "\n".join([head + item.question, *choices, answer, explanation])
