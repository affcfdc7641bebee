"""What fine-tuned models have learned of the benchmarks, and where a fine-tuning keeps them."""

from pathlib import Path

# Of a model: JMED-LLM's protocol, its tasks and IgakuQA's years; whether text that nobody compared with the benchmark
# went in; the share of documents that all of its trainings held out.
NOTHING_LEARNED = {"protocol": "P0", "jmed_llm": [], "igakuqa": [], "unchecked": False, "held_out": 1.0}


def folder_of(workdir: Path, seed: int, fold: int | None) -> Path:
    """The workdir of one model of a fine-tuning."""
    return workdir / ("" if fold is None else f"fold-{fold}") / f"seed-{seed}"
