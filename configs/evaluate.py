"""Evaluation: answers in `answers/`, leaderboard in `leaderboard.md` and `result.json`, statistics in `report.json`.

    python -m slm.main --config=configs/evaluate.py --config.jmed_llm.data_dir=JMED-LLM        # the newest fine-tuned
    python -m slm.main --config=configs/evaluate.py --config.checkpoint=runs/pretrain-laptop   # P0
    python -m slm.main --config=configs/evaluate.py:igakuqa --config.igakuqa.years=2020
    python -m slm.main --config=configs/evaluate.py:j_clinicalbench --config.j_clinicalbench.data_dir=J-ClinicalBench \\
        --config.checkpoint=WORKDIR                                       # findings, by a head that tags
    python -m slm.main --config=configs/evaluate.py:tables --config.tables.own.file=test.csv \\
        --config.tables.own.train_file=train.csv                          # one's own, in the columns of JMED-LLM
    python -m slm.main --config=configs/evaluate.py:text --config.corpus.files='DIR/*.jsonl'   # bits per byte
    ... --config.backend=openai --config.base_url=http://localhost:8000/v1 --config.model=NAME \\
        --config.choice=free --config.extraction=free                     # any OpenAI-compatible server
    ... --config.backend=hugging_face --config.model=FOLDER --config.extraction=free

Without data_dir a benchmark is downloaded at the revision that was studied, J-ClinicalBench is not.
"""

from slm import config
from slm.evaluation.evaluate import EvaluateConfig
from slm.tasks.tables import TableConfig

VARIANTS = {
    "jmed_llm": EvaluateConfig(),
    "igakuqa": EvaluateConfig(benchmark="igakuqa"),
    "j_clinicalbench": EvaluateConfig(benchmark="j_clinicalbench"),
    "sample": EvaluateConfig(benchmark="sample"),
    "tables": EvaluateConfig(benchmark="tables", tables=(TableConfig("own", "questions.csv"),)),
    "text": EvaluateConfig(benchmark="text"),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "evaluate")
