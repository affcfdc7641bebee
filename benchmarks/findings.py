"""What the baseline scores on the findings of J-ClinicalBench, and which training rows repeat the test.

    .venv/bin/python -m benchmarks.findings ../shared/data/J-ClinicalBench [--protocol P1|P2] [--rows folds|test]

`folds` are five of the radiology reports among the training rows, by document: choose by them, and nothing by looking
at the test rows.
"""

import argparse
from pathlib import Path

from slm.evaluation import leaderboard
from slm.files import markdown_table
from slm.scoring import baselines
from slm.scoring.answer_modes import Answer
from slm.tasks import annotated, j_clinicalbench


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path)
    parser.add_argument("--protocol", choices=("P1", "P2"), default="P2")
    parser.add_argument("--rows", choices=("folds", "test"), default="folds")
    arguments = parser.parse_args()
    rows = j_clinicalbench.training(arguments.data_dir, arguments.protocol).items
    everything = j_clinicalbench.training(arguments.data_dir, "P1").items
    print(f"{arguments.protocol}: {len(rows)} of {len(everything)} training rows")
    if arguments.rows == "test":
        parts = [(rows, j_clinicalbench.test(arguments.data_dir).items)]
    else:
        reports = [item for item in rows if item.document.startswith("train_rr")]
        others = [item for item in rows if not item.document.startswith("train_rr")]
        parts = [([*learn, *others], tuple(asked)) for learn, asked in baselines._folds(reports)]
    task = annotated.task("findings", [item for _, asked in parts for item in asked])
    cues = [answer for learn, asked in parts for answer in baselines.tagging(learn, asked)]
    commonest = [answer for learn, asked in parts for answer in baselines.tagging(learn, asked, cues=False)]
    answers = [Answer(item.id, "", value) for item, value in zip(task.items, cues)]
    line, report = leaderboard.line(task, [answers], arguments.protocol, "dictionary", 0, commonest, commonest, 2000, 0)
    table = [[name, str(sum(len(item.answer) for item in task.items)), leaderboard.cell(value),
              f"{line['majority'][name]:.3f}"] for name, value in line["metrics"].items()]
    table += [[f"label_f1, {label}", str(row["entities"]), leaderboard.cell(row), f"{row['majority']:.3f}"]
              for label, row in report["by_label"].items()]
    print(f"{len(task.items)} rows of {len({item.document for item in task.items})} documents\n")
    print(markdown_table(["", "entities", "dictionary and cues [95%]", "dictionary, commonest label"], table))
    difference = report["against_baseline"]
    print(f"difference of label F1: {leaderboard.cell(difference)}, p {difference['p']:.4f}")


if __name__ == "__main__":
    main()
