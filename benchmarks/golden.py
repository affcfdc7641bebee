"""Prompts, reading and metrics of JMED-LLM beside what the benchmark's own code returned.

    .venv/bin/python -m benchmarks.golden ../shared/data

Every prompt hash, every unit and every case of golden/jmed_llm.json.gz; exits with 1 where one disagrees.
"""

import argparse
import gzip
import hashlib
import json
import math
import sys
from collections import Counter
from pathlib import Path

from slm.scoring.metrics import METRICS, kappa
from slm.tasks import tables
from slm.tasks.reading import read_letter, read_list
from slm.tasks.task import without_system

LINEAR = ("crade", "jcsts")
EXTRACTION = ("mrner_disease", "mrner_medicine", "nrner")

# The reference executes these; here they are unread.
EXPRESSIONS = ("[*'ab']", "[x for x in 'ab']", "[0.1+0.2]")

NAMES = {"partial_f1": "partial_f1_reference", "partial_f1_fixed": "partial_f1"}  # theirs → ours


def fingerprint(messages) -> str:
    return hashlib.sha256(json.dumps(messages, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def same(ours: float, theirs: float | None) -> bool:
    return math.isnan(ours) if theirs is None else abs(ours - theirs) <= 1e-9


def list_agrees(output: str, theirs: list, error: str | None) -> bool:
    """`error` is what the reference's metrics raise on their list; it is unread here."""
    ours, unread = read_list(output)
    if error or output in EXPRESSIONS:
        return unread and ours == []
    return repr(ours) == repr(theirs)  # 1 is no True


def metric_of(task: str, theirs: str) -> str:
    return "linear_kappa" if theirs == "kappa" and task in LINEAR else NAMES.get(theirs, theirs)


def prompts(datasets: Path, task: str, hashes: list[list[str]]):
    kind, prompt = (("extraction", tables.extraction_prompt) if task in EXTRACTION
                    else ("choice", tables.choice_prompt))
    items = tables.read(datasets / f"{task}.csv", kind)
    yield f"{task}: rows", len(items) == len(hashes)
    for item, (with_system, without) in zip(items, hashes):
        yield f"{item.id}, with a system turn", fingerprint(prompt(item)) == with_system
        yield f"{item.id}, without", fingerprint(without_system(prompt(item))) == without


def units(golden: dict):
    for output, letter in golden["get_first_uppercase_alphabet"]:
        yield f"letter of {output!r}", read_letter(output) == letter
    for output, theirs, error in golden["get_list_from_string"]:
        yield f"list of {output!r}", list_agrees(output, theirs, error)
    for pair in golden["f1_pairs"]:
        for name in ("exact_f1", "partial_f1"):
            ours = METRICS[NAMES.get(name, name)]([pair["gold"]], [pair["pred"]])
            yield f"{name} of {pair['gold']}, {pair['pred']}", same(ours, pair[name])
    for pair in golden["kappa_pairs"]:
        for name, weights in (("kappa", "none"), ("kappa_linear", "linear")):
            yield f"{name} of {pair['gold']}, {pair['pred']}", same(kappa(pair["gold"], pair["pred"], weights),
                                                                   pair[name])


def cases(case: dict):
    extraction = case["task"] in EXTRACTION
    for output, theirs in zip(case["outputs"], case["extracted"], strict=True):
        yield (f"{case['id']}: reading {output[:60]!r}",
               list_agrees(output, theirs, None) if extraction else read_letter(output) == theirs)
    gold = [read_list(answer)[0] for answer in case["gold"]] if extraction else case["gold"]
    predicted = [read_list(output)[0] if extraction else read_letter(output) for output in case["outputs"]]
    for name, theirs in (case["scores"] | case.get("proposed_not_reference", {})).items():
        ours = METRICS[metric_of(case["task"], name)](gold, predicted)
        yield f"{case['id']}: {name} is {ours}, theirs {theirs}", same(ours, theirs)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="folder with golden/ and JMED-LLM/")
    data = parser.parse_args().data
    path = data / "golden/jmed_llm.json.gz"
    if not path.exists():
        sys.exit(f"{path} is missing: give the folder that has golden/ and JMED-LLM/")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        golden = json.load(file)
    checked, wrong = Counter(), []
    parts = [("prompts", prompts(data / "JMED-LLM/datasets", task, hashes))
             for task, hashes in golden["prompts_sha256"].items()]
    parts += [("units", units(golden["unit"])), *(("cases", cases(case)) for case in golden["cases"])]
    for part, results in parts:
        for what, agrees in results:
            checked[part] += 1
            wrong += [] if agrees else [what]
    for part, count in checked.items():
        print(f"{part}: {count:,} checks")
    print(f"{len(golden['cases'])} cases; {len(EXPRESSIONS)} outputs are expressions, unread here; "
          f"{len(wrong)} disagreements")
    print(*wrong[:50], sep="\n", end="\n" if wrong else "")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
