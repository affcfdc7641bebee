"""Evaluations side by side, each compared with the first on the same rows (paired bootstrap, Holm).

    python -m slm.main --config=configs/compare.py --config.runs=runs/evaluate-a,runs/evaluate-b
"""

from slm import config
from slm.evaluation.compare import CompareConfig

VARIANTS = {"leaderboards": CompareConfig(runs="runs/evaluate-jmed_llm,runs/evaluate-other")}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "compare")
