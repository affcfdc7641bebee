import json
from pathlib import Path

import pytest

from slm.tasks import exam
from slm.tasks.exam import Question

GOLDEN = json.loads((Path(__file__).parents[1] / "golden/igakuqa.json").read_text(encoding="utf-8"))
close = lambda value: pytest.approx(value, abs=1e-9, rel=0)


def golden_section(name):
    for number, row in enumerate(GOLDEN["sections"][name].split("|"), 1):
        answer, points, text_only, choices, kinki = row.split(";")
        yield Question(f"{name.replace('-', '')}{number}", tuple(answer.split(",")), int(points), text_only == "1",
                       "abcdefgh"[:int(choices)], None if kinki == "?" else kinki)


QUESTIONS = {section: {question.problem_id: question for question in golden_section(section)}
             for section in GOLDEN["sections"]}
SHEETS = {name: dict(zip(QUESTIONS[name.partition("/")[0]], sheet.split("|"), strict=True))
          for name, sheet, _ in GOLDEN["sheets"]}


@pytest.mark.parametrize("name, sheet, theirs", GOLDEN["sheets"], ids=lambda value: str(value)[:30])
def test_sections_as_the_reference(name, sheet, theirs):
    section = name.partition("/")[0]
    report = exam.score(QUESTIONS[section], SHEETS[name])
    for tally in (report["all"], report["by_section"][section]):
        assert [tally["accuracy"], tally["score"], tally["total"]] == [close(value) for value in theirs]


@pytest.mark.parametrize("theirs", GOLDEN["aggregates"], ids=lambda row: f"{row['baseline']}-{row['year']}")
def test_years_as_the_reference(theirs):
    prefix = str(theirs["year"] - 1906)
    questions = {name: own for section, group in QUESTIONS.items() if section.startswith(prefix) for name, own in group.items()}
    sheet = {name: one for case, group in SHEETS.items() if case.startswith(prefix) and case.endswith(f"/{theirs['baseline']}")
             for name, one in group.items()}
    report = exam.score(questions, sheet)
    paper = report["exams"][str(theirs["year"])]
    ours = report["by_year"][str(theirs["year"])] | paper | {
        "text_only_accuracy": report["text_only"]["accuracy"], "text_only_n": report["text_only"]["n"]}
    assert {name: ours[name] for name in theirs.keys() - {"baseline", "year"}} == {
        name: close(value) for name, value in theirs.items() if name not in ("baseline", "year")}
    # By hand from these very numbers and the marks; the students pass, and GPT-4 as its paper says.
    assert paper["passed"] is (theirs["baseline"] in ("gpt4", "student-majority"))


def whole_year(kinki="", year=2018):
    """400 invented problems: required 199 points, general 300, the first of each section with the choices `kinki`
    forbidden."""
    sizes = {"A": 100, "B": 50, "C": 100, "D": 50, "E": 50, "F": 50}
    names = [f"{year - 1906}{section}{number}" for section, size in sizes.items() for number in range(1, size + 1)]
    # 50 required problems of 3 points but one, 50 of 1
    return {name: Question(name, ("a",), 3 if name[3] == "B" and name != f"{year - 1906}B50" else 2 if name[3:] == "B50" else 1,
                           True, "abcde", kinki if name[4:] == "1" else "") for name in names}


def test_a_year_is_passed_at_its_marks():
    questions = whole_year()
    sheet = {name: "a" for name in questions}
    paper = exam.score(questions, sheet)["exams"]["2018"]
    assert paper == {"required": 199, "required_total": 199, "required_mark": 160, "general": 300, "general_total": 300,
                     "general_mark": 208, "kinki_selected": 0, "kinki_selected_full_width": 0, "passed": True, "why": ""}
    at_marks = sheet | {f"112E{n}": "b" for n in range(1, 40)} | {f"112A{n}": "b" for n in range(1, 93)}
    paper = exam.score(questions, at_marks)["exams"]["2018"]
    assert (paper["required"], paper["general"], paper["passed"]) == (160, 208, True)
    below = exam.score(questions, at_marks | {"112E40": "b"})["exams"]["2018"]
    assert (below["passed"], below["why"]) == (False, "required points 159 < 160")
    below = exam.score(questions, at_marks | {"112C1": "b"})["exams"]["2018"]
    assert (below["passed"], below["why"]) == (False, "general points 207 < 208")


@pytest.mark.parametrize("kinki, answer, taken, read", [
    ("b", "b", 4, 4), ("bc", "c,b", 4, 4), ("ｂ", "b", 0, 4), ("b", "c", 0, 0), ("b", "a and b", 0, 0)])
def test_more_than_three_forbidden_choices_fail(kinki, answer, taken, read):
    questions = whole_year(kinki)
    sheet = {name: answer if name in ("112A1", "112B1", "112C1", "112D1") else "a" for name in questions}
    paper = exam.score(questions, sheet)["exams"]["2018"]
    assert (paper["kinki_selected"], paper["kinki_selected_full_width"], paper["passed"]) == (taken, read, read < 4)
    assert paper["why"] == ("forbidden choices 4 > 3" if read == 4 else "")
    assert exam.score(questions, sheet | {"112A1": "a"})["exams"]["2018"]["passed"] is True


def test_what_cannot_be_known_is_not_said():
    questions = whole_year()
    sheet = {name: "a" for name in questions}

    def verdict(some, answers):
        return [exam.score(some, answers)["exams"][str(next(iter(some.values())).year)][key] for key in ("passed", "why")]

    without = {name: one for name, one in questions.items() if name[3] not in "CF"}
    assert verdict(without, {name: "a" for name in without}) == [None, "no questions of section C, F"]
    fewer = {name: one for name, one in questions.items() if name != "112A2"}
    assert verdict(fewer, {name: "a" for name in fewer}) == [None, "399 questions of 400"]
    assert verdict(questions, {name: "a" for name in questions if name[3] != "E"}) == [None, "no answers to section E"]
    assert verdict(whole_year(kinki=None), sheet) == [None, "the forbidden choices are unknown"]
    assert verdict(whole_year(year=2030), {name: "a" for name in whole_year(year=2030)}) == [None, "no marks are known of 2030"]


def some():
    return {question.problem_id: question for question in (
        Question("112A1", ("a",), 1, True), Question("112A2", ("b", "c"), 1, False), Question("112B1", ("a",), 3, True),
        Question("113F1", ("7.2",), 0, True, ""), Question("113E1", ("a", "b", "h"), 3, False, "abcdefgh"))}


def test_parts_by_hand():
    report = exam.score(some(), {"112A1": "a", "112A2": "c,b", "112B1": "b", "113F1": "7.2"})
    assert report["all"] == {"n": 5, "right": 3, "accuracy": 0.6, "score": 2, "total": 8}
    assert report["text_only"] == {"n": 3, "right": 2, "accuracy": 2 / 3, "score": 1, "total": 4}
    assert {name: (tally["right"], tally["n"]) for name, tally in report["by_answers"].items()} == {
        "1": (1, 2), "2": (1, 1), "3": (0, 1), "numeric": (1, 1)}
    assert {name: (tally["score"], tally["total"]) for name, tally in report["by_section"].items()} == {
        "112-A": (2, 2), "112-B": (0, 3), "113-E": (0, 3), "113-F": (0, 0)}
    assert {name: tally["right"] for name, tally in report["by_year"].items()} == {"2018": 2, "2019": 1}
    assert report["unanswered"] == 1
    assert json.loads(json.dumps(report)) == report


def test_unanswered_problems_are_wrong():
    report = exam.score(some(), {})
    assert (report["all"]["right"], report["all"]["score"], report["all"]["total"], report["unanswered"]) == (0, 0, 8, 5)


def test_sheets_that_are_refused():
    with pytest.raises(ValueError, match="1 predictions answer no problem of the exam, the first '114A1'"):
        exam.score(some(), {"114A1": "a"})
    with pytest.raises(ValueError, match="the prediction of 112A1 is a list"):
        exam.score(some(), {"112A1": ["a"]})
    with pytest.raises(ValueError, match="no questions to score"):
        exam.score({}, {})


def test_markdown():
    text = exam.markdown(exam.score(some(), {"112A1": "a"}))
    assert exam.PROTOCOL in text
    assert "| all | 5 | 1 | 0.200 | 1/8 |" in text and "| 3 answers | 1 | 0 | 0.000 | 0/3 |" in text
    assert "| 2018 | 0/3 (160) | 1/2 (208) |" in text and "unknown: no questions of section C, D, E, F |" in text
    assert "4 problems have no answer: wrong." in text
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {6}
    text = exam.markdown(exam.score(QUESTIONS["116-A"], {}))
    assert "| 2022 | 0/0 (158) | 1/74 (214) | – | unknown" in text  # one problem is always right
    questions = whole_year("ｂ")
    text = exam.markdown(exam.score(questions, {name: "b" if name[4:] == "1" else "a" for name in questions}))
    assert "| 6 (0 by half-width letters) | no: forbidden choices 6 > 3 |" in text
    only_pictures = {"112A2": some()["112A2"]}
    assert "| text only | 0 | 0 | – | 0/0 |" in exam.markdown(exam.score(only_pictures, {}))
