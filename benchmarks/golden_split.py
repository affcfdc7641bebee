"""The split of JMED-LLM against the golden one, row by row, and what `leaks` finds in it.

    .venv/bin/python -m benchmarks.golden_split ../shared/data

Exits with 1 on any disagreement: a row of the golden file, the number of rows of JCSTS that are left (EVALUATION.md), a
training row in which `leaks` finds a test document of its own task, or a planted test document that it does not find.
"""

import argparse
import gzip
import hashlib
import json
import unicodedata
from collections import Counter
from pathlib import Path

from slm.tasks import split, tables

JCSTS_LEFT = 3179  # as EVALUATION.md has it: of distinct rows; the golden file has no JCSTS rows


def questions(path: Path) -> list[str]:
    kind = "extraction" if "ner" in path.stem.lower() else "choice"
    return [item.question for item in tables.read(path, kind)]


def compare(name: str, rows: list[str], found: list[split.Assignment], golden: list[list]) -> int:
    """How many rows agree with the golden ones: row, hash of the question, split, joint, fold."""
    ours = [[index, hashlib.sha256(question.encode()).hexdigest()[:16], each.split, each.joint, each.fold]
            for index, (question, each) in enumerate(zip(rows, found))]
    for mine, theirs in zip(ours, golden):
        if mine != theirs:
            print(f"{name}: ours {mine}, golden {theirs}")
    return sum(mine == theirs for mine, theirs in zip(ours, golden))


def planted(tests: dict[str, list[str]], hosts: list[str]) -> list[tuple[str, str]]:
    """Each test question in the middle of a host text: as it is, in NFKC, and with white space after every third."""
    forms = {"as it is": str, "NFKC": lambda text: unicodedata.normalize("NFKC", text),
             "white space": lambda text: "".join(c + "\n　 "[i // 3 % 3] * (i % 3 == 0) for i, c in enumerate(text))}
    texts = []
    for task, rows in tests.items():
        for row, question in enumerate(rows):
            host = hosts[row % len(hosts)]
            texts += [(f"{task} {row} {form}", host[:len(host) // 2] + change(question) + host[len(host) // 2:])
                      for form, change in forms.items()]
    return texts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("shared", type=Path)
    shared = parser.parse_args().shared
    folder = shared / "JMED-LLM/datasets"
    with gzip.open(shared / "golden/jmed_llm_split.json.gz", "rt", encoding="utf-8") as file:
        golden = json.load(file)
    sets = {name: questions(folder / f"all/{name}.csv") for name in split.TESTS}
    tests = {path.stem: questions(path) for path in sorted(folder.glob("*.csv"))}
    wrong = 0
    for name, found in split.assign(sets, tests).items():
        counts = Counter(each.split for each in found)
        counts["joint"] = sum(each.joint for each in found)
        if name in golden:
            agree = compare(name, sets[name], found, golden[name]["rows"])
            wrong += agree != len(found) or agree != len(golden[name]["rows"])
            verdict = f"{agree:,} of {len(golden[name]['rows']):,} golden rows agree"
        else:
            items = tables.read(shared / "JMED-LLM/datasets/all/JCSTS.csv", "choice")
            left = {(item.question, item.answer) for item, each in zip(items, found) if each.split == "train"}
            wrong += len(left) != JCSTS_LEFT
            verdict = f"{len(left):,} distinct rows left, {JCSTS_LEFT:,} wanted"
        train = [(str(row), question) for row, (question, each) in enumerate(zip(sets[name], found))
                 if each.split == "train"]
        own = {test: tests[test] for test in split.TESTS[name]}
        others = {test: rows for test, rows in tests.items() if test not in own}
        false = {row for row, _, _ in split.leaks(train, own)}
        wrong += bool(false)
        foreign = {row for row, _, _ in split.leaks(train, others)}
        joint = sum(found[int(row)].joint for row in foreign)
        print(f"{name}: {len(found):,} rows; {verdict}; {dict(counts)}; training rows with a document of an own test "
              f"{len(false)}, of another task's {len(foreign)} ({joint} of them joint)")
    with gzip.open(shared / "text/wikipedia_leads.jsonl.gz", "rt", encoding="utf-8") as file:
        hosts = [json.loads(line)["text"] for line in file]
    harmless = len(split.leaks([(str(row), host) for row, host in enumerate(hosts)], tests))
    texts = planted(tests, hosts)
    hits = {name for name, task, row in split.leaks(texts, tests) if name.startswith(f"{task} {row} ")}
    print(f"planted: {len(hits):,} of {len(texts):,} found; in {len(hosts):,} Wikipedia leads {harmless} found")
    return int(bool(wrong) or harmless > 0 or len(hits) != len(texts))


if __name__ == "__main__":
    raise SystemExit(main())
