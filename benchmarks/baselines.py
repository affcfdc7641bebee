"""What cheap baselines score on JMED-LLM.

    .venv/bin/python -m benchmarks.baselines ../shared/data [--protocol P2|P1|CV]

P1 and P2 are scored on the test rows: choose nothing by looking at them.
"""

import argparse
import time
from pathlib import Path

from slm.scoring import baselines
from slm.scoring.metrics import METRICS
from slm.tasks import jmed_llm
from slm.tasks.task import Item, Task

SECOND = {"kappa": "accuracy", "linear_kappa": "accuracy", "exact_f1": "partial_f1_reference"}


def parts(data_dir: Path, name: str, protocol: str) -> list[tuple[tuple[Item, ...], Task]]:
    """(rows to learn from, rows to score) under a protocol; of CV, of each fold."""
    if protocol != "CV":
        return [(jmed_llm.training(data_dir, name, protocol).items, jmed_llm.test(data_dir)[name])]
    return [(jmed_llm.training(data_dir, name, "CV", fold).items, jmed_llm.fold(data_dir, name, fold))
            for fold in range(jmed_llm.FOLDS)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="the folder that holds JMED-LLM")
    parser.add_argument("--protocol", choices=("P2", "P1", "CV"), default="P2")
    parser.add_argument("--tasks", default=",".join(jmed_llm.SOURCES))
    arguments = parser.parse_args()
    answers = "".join(f"{name:>18}" for name in ("baseline", "majority", "chance"))
    print(f"{'task':16}{'rows':>7}{'headline':>14}{answers}{'seconds':>9}")
    for name in arguments.tasks.split(","):
        jmed_llm.refuse_unknown(name)
        started, gold, found = time.perf_counter(), [], {"baseline": [], "majority": [], "chance": []}
        for learned, task in parts(arguments.data / "JMED-LLM", name, arguments.protocol):
            gold += [item.answer[0] if task.kind == "choice" else item.answer for item in task.items]
            found["baseline"] += baselines.baseline(task, learned, task.items)
            found["majority"] += baselines.majority(learned, task.items, task.kind)
            found["chance"] += baselines.chance(task.items, task.kind, seed=0)
        headline = task.metrics[0]
        values = [f"{METRICS[headline](gold, own):.3f} / {METRICS[SECOND[headline]](gold, own):.3f}"
                  for own in found.values()]
        print(f"{name:16}{len(gold):7}{headline:>14}" + "".join(f"{value:>18}" for value in values)
              + f"{time.perf_counter() - started:9.0f}", flush=True)


if __name__ == "__main__":
    main()
