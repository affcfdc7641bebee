import collections
import re

import pytest

from slm.data.lexicon_notes import lexicon_notes
from slm.sample import tasks as sample_tasks
from slm.sample.tables import labs, tables

DISEASES = [*tables()["diseases"], *tables()["symptoms"]]
DRUGS = [f"{name}{form}" for name in tables()["drugs"] for form in ("錠10mg「A」", "注射液", "軟膏0.1%", "塩酸塩")]


@pytest.fixture(scope="module")
def drawn():
    return sample_tasks.tasks(0), sample_tasks.training(0)


@pytest.fixture(scope="module")
def notes():
    return lexicon_notes(DISEASES, DRUGS, 600, 0)


def test_rows_are_distinct_and_the_seed_decides_them(drawn):
    for tasks, count in zip(drawn, (100, 400)):
        assert list(tasks) == ["sample_choice", "sample_extraction", "sample_exam"]
        for task in tasks.values():
            assert len({item.question for item in task.items}) == len({item.id for item in task.items}) == count
            assert task.license == "Apache-2.0"
    again, other = sample_tasks.tasks(0, 40), sample_tasks.tasks(1, 40)
    for name, task in drawn[0].items():
        assert again[name].items == task.items[:40]
        assert {item.question for item in other[name].items} != {item.question for item in again[name].items}


def test_training_shares_no_question_and_no_document_with_any_test(drawn):
    for name, train in drawn[1].items():
        for tests in (drawn[0], sample_tasks.tasks(7, 200)):
            for key in ("question", "document"):
                one, other = ({getattr(item, key) for item in task.items} for task in (train, tests[name]))
                assert one and not one & other, (name, key)


def test_no_letter_of_a_choice_wins_by_being_common(drawn):
    for tasks in drawn:
        for name in ("sample_choice", "sample_exam"):
            by_tag = collections.defaultdict(collections.Counter)
            for item in tasks[name].items:
                letters = [letter for letter, _ in item.options]
                assert item.answer[0] in letters and len(set(dict(item.options).values())) == len(letters)
                by_tag[item.tag][item.answer[0]] += 1
            for tag, counts in by_tag.items():
                assert counts.most_common(1)[0][1] / counts.total() < 0.7, (name, tag, counts)
    assert len(by_tag) == 1 and {item.tag for item in drawn[0]["sample_choice"].items} == {
        "symptom", "course", "lab", "department"}


def test_laboratory_answers_agree_with_the_reference_range(drawn):
    items = [item for tasks in drawn for item in tasks["sample_choice"].items if item.tag == "lab"]
    by_name = {key: row for row in labs().values() for key in (row["name"], row["abbreviation"])}
    for item in items:
        name, value = re.search("で、(.+)は([0-9.,]+)", item.question).groups()
        low, high, value = float(by_name[name]["low"]), float(by_name[name]["high"]), float(value.replace(",", ""))
        level = "基準範囲より高い" if value > high else "基準範囲より低い" if value < low else "基準範囲内"
        assert dict(item.options)[item.answer[0]] == level, item.question
    assert {item.answer[0] for item in items} == set("ABC")


def test_departments_are_those_of_the_table(drawn):
    for item in drawn[0]["sample_choice"].items:
        if item.tag == "department":
            disease = re.search("前に(.+)と(?:診断された|わかった)", item.question)[1]
            assert dict(item.options)[item.answer[0]] == tables()["diseases"][disease]["department"]


def test_a_denied_symptom_is_no_answer_and_a_present_one_is(drawn):
    items = [item for item in drawn[1]["sample_choice"].items if item.tag == "symptom"]
    denied = "はなかった|は認めなかった|はみられなかった|の訴えはなかった|なし|みられず"
    checked = collections.Counter()
    for item in items:
        asked = re.search("患者に「(.+?)」は", item.question)[1]
        if re.search(f"{re.escape(asked)}(?:{denied})", item.document):
            assert item.answer == ("B",), item.question
            checked["B"] += 1
        if re.search(f"{re.escape(asked)}(?:を主訴|を訴え|が続いている|を自覚|あり|が出現|に気づき|持続|と診断|にて)", item.document):
            assert item.answer == ("A",), item.question
            checked["A"] += 1
    assert min(checked["A"], checked["B"]) >= 10


def everything(drawn, notes):
    return [*notes, *(item for tasks in drawn for item in tasks["sample_extraction"].items)]


def test_entities_stand_in_the_note_in_its_order(drawn, notes):
    for item in everything(drawn, notes):
        assert item.answer and len(set(item.answer)) == len(item.answer)
        assert item.document in item.question and 80 <= len(item.document) <= 300
        places = [item.document.find(entity) for entity in item.answer]
        assert min(places) >= 0, item
        if item.tag != "m-val":  # where 5mg stands within 15mg, its own place comes later
            assert places == sorted(places), item


def test_what_the_patient_has_not_is_no_entity(notes):
    relatives = denials = 0
    for item in notes:
        if item.tag == "d":
            for name in re.findall("家族歴[:】　]*父が(.+?)。", item.document):
                assert name not in item.answer
                relatives += 1
            for name in re.findall("(?<=。)([^。、「」]+?)(?:はなかった|は認めなかった|を示唆する所見は)", item.document):
                assert name not in item.answer
                denials += 1
    assert relatives >= 5 and denials >= 10


def test_doses_are_the_values_and_other_numbers_are_not(notes):
    unit = "(?:mg|㎎|ｍｇ|錠|包|mL|ｍＬ|A|Ａ|V|Ｖ|単位|L|Ｌ)"
    for item in notes:
        if item.tag == "m-val":
            for value in item.answer:
                assert re.match(f"[0-9０-９]+(?:[.．][0-9０-９])?[ 　]?{unit}", value), value
                assert not re.search("dL|ｄＬ|μL|μＬ|℃|mmHg|ｍｍＨｇ", value)


def test_half_of_the_notes_are_wide(notes):
    wide = [item for item in notes if re.search("[０-９]", item.document)]
    assert 0.4 < len(wide) / len(notes) < 0.6
    assert not any(re.search("[0-9A-Za-z]", item.document) for item in wide)


def test_listed_drugs_lose_dose_maker_and_salt(notes):
    names = {entity for item in notes if item.tag == "m-key" for entity in item.answer}
    assert not any(re.search("「|塩酸塩|[0-9０-９]", name) for name in names)
    assert {"酸素"} < names and any(name.endswith("錠") for name in names)


def test_questions_are_as_asked_for():
    items = lexicon_notes(DISEASES, DRUGS, 20, 0, questions={"m-key": ["{kind}の薬は？{note}"]})
    assert all(re.match("(症例報告|看護記録)の薬は？.", item.question) and item.tag == "m-key" for item in items)
    assert items == lexicon_notes(DISEASES, DRUGS, 20, 0, questions={"m-key": ["{kind}の薬は？{note}"]})
    with pytest.raises(ValueError, match=r"1 questions have an unknown tag, or one of them no \{note\} where"):
        lexicon_notes(DISEASES, DRUGS, 1, 0, questions={"d": ["病名は？"]})
    with pytest.raises(ValueError, match="20 of each"):
        lexicon_notes(DISEASES, ["アスピリン"], 1, 0)


def test_prompts_end_where_the_answer_begins(drawn):
    item = drawn[0]["sample_exam"].items[0]
    content = drawn[0]["sample_exam"].prompt(item)[-1]["content"]
    assert content.startswith(f"問題: {item.question}\na: {item.options[0][1]}\n")
    assert content.endswith("必ずa,b,c,d,eの中からちょうど1個選んでください。\n答え:")
    for task in drawn[0].values():
        for item in task.items:
            assert task.reply(item) == (repr(list(item.answer)) if task.kind == "extraction" else item.answer[0]) \
                or set(item.answer) >= set(re.findall("'([^']*)'", task.reply(item)))
