"""Fine-tuning: a base model becomes one that answers.

    python -m slm.main --config=configs/sft.py                                   # on generated tasks, for a first try
    python -m slm.main --config=configs/sft.py:messages --config.sets.own.files='DIR/*.jsonl' \\
        --config.checkpoint=runs/pretrain-laptop                                 # {"messages": […]} a line
    python -m slm.main --config=configs/sft.py:alpaca --config.sets.own.files='DIR/*.jsonl' --config.lora.rank=16
    python -m slm.main --config=configs/sft.py:jmed_llm --config.jmed_llm.data_dir=JMED-LLM --config.seeds=3
    python -m slm.main --config=configs/sft.py:jmed_llm_cv --config.jmed_llm.data_dir=JMED-LLM    # five folds
    ... --config.train.patience=3       # ends when three validations bring nothing, and keeps the best
"""

import dataclasses

from slm import config
from slm.data.sets import SetConfig
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.sft import SftConfig

TUNED = OptimizerConfig(name="muon", learning_rate=1e-3, muon_learning_rate=5e-3, weight_decay=0.01, final_share=0.0)
LAPTOP = SftConfig(optimizer=TUNED, train=LoopConfig(evaluate_every=100, save_every=100))

# What of JMED-LLM is learned from, and how often; a small model repeats the small sets. Under P2 all answers that CRADE
# has left are the same.
P2 = tuple(SetConfig(*own) for own in (
    ("jmmlu_med", "jmed_llm", "", 1.0), ("rrtnm", "jmed_llm", "", 3.0), ("smdis", "jmed_llm", "", 1.0, 3000),
    ("jcsts", "jmed_llm", "", 1.0, 1000), ("mrner_disease", "jmed_llm", "", 4.0),
    ("mrner_medicine", "jmed_llm", "", 4.0), ("nrner", "jmed_llm", "", 2.0)))
CV = tuple(SetConfig(*own) for own in (
    ("crade", "jmed_llm"), ("rrtnm", "jmed_llm", "", 2.0), ("mrner_disease", "jmed_llm", "", 2.0),
    ("mrner_medicine", "jmed_llm", "", 2.0), ("nrner", "jmed_llm")))

VARIANTS = {
    "sample": LAPTOP,
    "demo": dataclasses.replace(LAPTOP, epochs=1.0),  # what `make demo` runs
    "messages": dataclasses.replace(LAPTOP, sets=(SetConfig("own", "messages", "conversations.jsonl"),)),
    "alpaca": dataclasses.replace(LAPTOP, sets=(SetConfig("own", "alpaca", "instructions.jsonl"),)),
    "choice": dataclasses.replace(LAPTOP, sets=(SetConfig("own", "choice", "questions.csv"),)),
    "extraction": dataclasses.replace(LAPTOP, sets=(SetConfig("own", "extraction", "questions.csv"),)),
    "jmed_llm": dataclasses.replace(LAPTOP, sets=P2, epochs=2.0),
    "jmed_llm_cv": dataclasses.replace(LAPTOP, sets=CV, protocol="CV", epochs=2.0),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "sft")
