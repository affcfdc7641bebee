"""The board of floors: what cheap baselines reach on JMED-LLM, which every model must beat.

    .venv/bin/python -m benchmarks.floors ../shared/data --protocol P2

DATA holds JMED-LLM/datasets/ and golden/jmed_llm_split.json.gz. Protocols: P1 trains on every row but the test rows,
P2 also leaves out the documents of test rows, CV is five folds of documents over all rows. No setting was chosen on a
test row.
"""

import argparse
import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path

from slm.evaluation import floors, metrics
from slm.tasks import tables
from slm.tasks.task import Item

# task: (headline, [(file of all rows, tags of the task; none: all)])
TASKS = {
    "jmmlu_med": ("kappa", [("JMMLU-Med", "")]), "crade": ("linear_kappa", [("CRADE", "")]),
    "rrtnm": ("kappa", [("RRTNM", "")]), "smdis": ("kappa", [("SMDIS", "")]),
    "jcsts": ("linear_kappa", [("JCSTS", "")]),
    "mrner_disease": ("exact_f1", [("CRNER", "d"), ("RRNER", "d")]),
    "mrner_medicine": ("exact_f1", [("CRNER", "m-key m-val")]), "nrner": ("exact_f1", [("NRNER", "")])}


def document(question: str) -> str:
    """What the question is about: everything after its first line, or all of it."""
    return question.partition("\n")[2] or question


def every_row(data: Path, split: dict, name: str) -> list[tuple[Item, str, int]]:
    """(item, split, fold) of all rows of a task."""
    headline, files = TASKS[name]
    found = []
    for file, tags in files:
        items = tables.read(data / f"JMED-LLM/datasets/all/{file}.csv", kind(headline), document)
        if file == "JCSTS":  # not in the split file: P2 drops what has a sentence of a test row
            test = tables.read(data / "JMED-LLM/datasets/jcsts.csv", "choice", document)
            asked, sentences = {item.document for item in test}, {line for item in test for line in lines(item)}
            places = ["test" if item.document in asked else "shares" if sentences & lines(item) else "train"
                      for item in items]
            rows = [(0, "", place, "", 0) for place in places]
        else:
            rows = split[file]["rows"]
        for item, row in zip(items, rows, strict=True):
            if not tags or item.tag in tags.split():
                found.append((item, row[2], row[4]))
    return found


def lines(item: Item) -> set[str]:
    """The two sentences of a pair, without what names them."""
    return {line.partition(":")[2].strip() for line in item.document.split("\n")}


def kind(headline: str) -> str:
    return "extraction" if headline == "exact_f1" else "choice"


def parts(data: Path, split: dict, name: str, protocol: str) -> list[tuple[list[Item], list[Item]]]:
    """(training rows, test rows), once or for each fold."""
    rows = every_row(data, split, name)
    if protocol == "CV":
        return [([item for item, _, fold in rows if fold != number], [item for item, _, fold in rows if fold == number])
                for number in sorted({fold for _, _, fold in rows})]
    test = tables.read(data / f"JMED-LLM/datasets/{name}.csv", kind(TASKS[name][0]), document)
    learned = [item for item, place, _ in rows if place == "train" or (protocol == "P1" and place != "test")]
    return [(learned, list(test))]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--protocol", choices=("P1", "P2", "CV"), default="P2")
    parser.add_argument("--tasks", default="", help="a few, with commas between; all when empty")
    flags = parser.parse_args()
    with gzip.open(flags.data / "golden/jmed_llm_split.json.gz", "rt", encoding="utf-8") as file:
        split = json.load(file)
    print(f"{flags.protocol}. The second is accuracy, or partial F1 as the reference computes it; majority and chance\n"
          "are scored by the headline.\n\n| task | learned from | rows | headline | floor | second | majority | chance "
          "| seconds |\n|---|--:|--:|---|--:|--:|--:|--:|--:|", flush=True)
    for name in flags.tasks.split(",") if flags.tasks else TASKS:
        if (flags.protocol, name) != ("CV", "jcsts"):  # which has no folds
            print(line(name, parts(flags.data, split, name, flags.protocol)), flush=True)


def line(name: str, folds: Sequence[tuple[list[Item], list[Item]]]) -> str:
    """A row of the table; the folds' answers are scored together."""
    headline = TASKS[name][0]
    begun = time.perf_counter()
    test = [item for _, asked in folds for item in asked]
    task = tables.task(name, kind(headline), tuple(test), headline)
    answers = [answer for train, asked in folds for answer in floors.floor(task, train, asked)]
    seconds = time.perf_counter() - begun
    commonest = [answer for train, asked in folds for answer in floors.majority(train, asked, task.kind)]
    gold = [item.answer[0] if task.kind == "choice" else item.answer for item in test]
    second = "accuracy" if task.kind == "choice" else "partial_f1_reference"
    found = [metrics.METRICS[metric](gold, given) for metric, given in (
        (headline, answers), (second, answers), (headline, commonest),
        (headline, floors.chance(test, task.kind, seed=0)))]
    learned = sum(len(train) for train, _ in folds) // len(folds)
    return " | ".join([f"| {name}", str(learned), str(len(test)), headline, *(f"{score:.3f}" for score in found),
                       f"{seconds:.0f} |"])


if __name__ == "__main__":
    main()
