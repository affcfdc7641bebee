"""Scores of IgakuQA beside what the benchmark's own code returned.

    .venv/bin/python -m benchmarks.golden_igakuqa ../shared/data

Every case and every aggregate of golden/igakuqa.json.gz; exits with 1 where one disagrees.
"""

import argparse
import gzip
import json
import sys
from collections import Counter
from pathlib import Path

from slm.tasks import exam, igakuqa
from slm.tasks.exam import Question


def question_of(row: dict) -> Question:
    """Of a year whose files are not there: what is scored is known, forbidden choices are not."""
    letters = "" if row["answer"][0][0].isdigit() else "abcde"
    return Question(row["problem_id"], tuple(row["answer"]), int(row["points"]), row["text_only"], letters)


def same(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= 1e-9


def gold(case: dict, loaded: dict[str, Question]):
    for row in case["gold"]:
        if row["problem_id"] in loaded:
            ours, theirs = loaded[row["problem_id"]], question_of(row)
            facts = [(one.answer, one.points, one.text_only) for one in (ours, theirs)]
            yield f"{case['id']}, {ours.problem_id}: {facts[0]}, theirs {facts[1]}", facts[0] == facts[1]


def cases(case: dict, loaded: dict[str, Question]):
    questions = {row["problem_id"]: loaded.get(row["problem_id"], question_of(row)) for row in case["gold"]}
    report = exam.score(questions, {row["problem_id"]: row["prediction"] for row in case["preds"]})
    for tally in (report["all"], report["by_section"][case["section"]]):
        for name, theirs in case["scores"].items():
            yield f"{case['id']}: {name} is {tally[name]}, theirs {theirs}", same(tally[name], theirs)


def aggregates(theirs: dict, golden_cases: list[dict], loaded: dict[str, Question]):
    year = {name: question for name, question in loaded.items() if question.year == theirs["year"]}
    sheet = {row["problem_id"]: row["prediction"] for case in golden_cases
             if case["id"].endswith(f"/{theirs['baseline']}") for row in case["preds"] if row["problem_id"] in year}
    report = exam.score(year, sheet)
    paper, parts = report["exams"][str(theirs["year"])], report["text_only"]
    ours = {name: report["all"][name] for name in ("accuracy", "score", "total")}
    ours |= {name: paper[name] for name in ("required", "general", "kinki_selected")}
    ours |= {"text_only_accuracy": parts["accuracy"], "text_only_n": parts["n"]}
    for name in theirs.keys() - {"baseline", "year"}:
        yield f"{theirs['baseline']}, {theirs['year']}: {name} is {ours.get(name)}, theirs {theirs[name]}", (
            name in ours and same(ours[name], theirs[name]))


def marks(year: str, theirs: list[int], loaded: dict[str, Question]):
    yield f"marks of {year}", exam.MARKS[int(year)] == (theirs[0], theirs[2])
    of_year = {name: question for name, question in loaded.items() if question.year == int(year)}
    if of_year:
        paper = exam.score(of_year, {})["exams"][year]
        yield f"points of {year}", [paper["required_total"], paper["general_total"]] == [theirs[1], theirs[3]]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with golden/ and IgakuQA/")
    data = parser.parse_args().data
    with gzip.open(data / "golden/igakuqa.json.gz", "rt", encoding="utf-8") as file:
        golden = json.load(file)
    _, loaded = igakuqa.load(data / "IgakuQA")
    parts = [(part, results(case, loaded)) for part, results in (("gold", gold), ("cases", cases))
             for case in golden["cases"]]
    parts += [("aggregates", aggregates(row, golden["cases"], loaded)) for row in golden["aggregate"]]
    parts += [("marks", marks(year, row, loaded))
              for year, row in golden["meta"]["pass_marks_required_general"].items()]
    checked, wrong = Counter(), []
    for part, results in parts:
        for what, agrees in results:
            checked[part] += 1
            wrong += [] if agrees else [what]
    for part, count in checked.items():
        print(f"{part}: {count:,} checks")
    known = sum(case["gold"][0]["problem_id"] in loaded for case in golden["cases"])
    print(f"{len(golden['cases'])} cases, {known} of them with the files of their year; {len(golden['aggregate'])} "
          f"aggregates; {len(wrong)} disagreements")
    print(*wrong[:50], sep="\n", end="\n" if wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
