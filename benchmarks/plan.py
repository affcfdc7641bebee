"""The plan table of docs/LOG.md: several settings for each pod, and the fastest that fits. About a minute a setting.

    .venv/bin/python -m benchmarks.plan                  # all of them; what runs/plans.jsonl holds is not done again
    .venv/bin/python -m benchmarks.plan --only=v5e --preset=slm_1b

Everything it says of time is a prediction.
"""

import argparse
import dataclasses
import json
import runpy
from pathlib import Path

import jax

from slm import hardware
from slm.planning import plan

# topology → (rows a step, rows a device and part, remat); memory decides what is worth trying.
SETTINGS = {
    "v4-8": [(1024, 16, "full"), (1024, 8, "dots"), (1024, 16, "dots")],
    "v4-32": [(256, 16, "full"), (1024, 16, "full"), (1024, 8, "dots"), (1024, 16, "dots")],
    "v5e-16": [(1024, 8, "full"), (1024, 16, "full"), (1024, 4, "dots"), (1024, 8, "dots")],
    "v5e-256": [(1024, 4, "full"), (1024, 4, "dots")],
    "v5p-8": [(1024, 32, "full"), (1024, 16, "dots"), (1024, 32, "dots")],
    "v5p-16": [(1024, 32, "full"), (1024, 16, "dots"), (1024, 32, "dots")],
    "v6e-8": [(1024, 16, "full"), (1024, 8, "dots"), (1024, 16, "dots")],
    "v6e-16": [(1024, 16, "full"), (1024, 8, "dots"), (1024, 16, "dots")],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="topologies whose name begins so")
    parser.add_argument("--preset", default="ncvc_slm_1")
    parser.add_argument("--done", type=Path, default=Path("runs/plans.jsonl"))
    options = parser.parse_args()
    jax.config.update("jax_platforms", "cpu")
    base = runpy.run_path("configs/plan.py")["VARIANTS"][options.preset]
    done = [json.loads(line) for line in options.done.read_text().splitlines()] if options.done.exists() else []
    options.done.parent.mkdir(parents=True, exist_ok=True)
    best = []
    for name, tried in SETTINGS.items():
        if not name.startswith(options.only):
            continue
        plans = []
        for rows, part, remat in tried:
            key = [options.preset, name, rows, part, remat]
            found = next((line["plan"] for line in done if line["key"] == key), None)
            if not found:
                steps = str(rows // (part * hardware.topology(name).devices))
                asked = dataclasses.replace(base, topology=name, batch=str(rows), grad_accum_steps=steps, remat=remat)
                topology, recipe = next(plan.settings(asked))
                found = plan.plan(recipe, topology)
                with options.done.open("a") as file:
                    file.write(json.dumps({"key": key, "plan": found}) + "\n")
            plans.append(found)
        print(plan.table(plans), flush=True)
        fitting = [one for one in plans if one["fits"] and one["batch_size"] == 1024]
        best += [min(fitting, key=lambda one: one["hours_for_run"])] if fitting else []
    print(f"\nThe fastest that fits, 1,024 rows a step:\n\n{plan.table(best)}")


if __name__ == "__main__":
    main()
