"""Fine-tuning: a base model becomes one that answers.

    python -m slm.main --config=configs/sft.py                                   # on generated tasks, for a first try
    python -m slm.main --config=configs/sft.py:messages --config.sets.own.files='DIR/*.jsonl' \\
        --config.checkpoint=runs/pretrain-laptop                                 # {"messages": […]} a line
    python -m slm.main --config=configs/sft.py:alpaca --config.sets.own.files='DIR/*.jsonl' --config.lora.rank=16
    python -m slm.main --config=configs/sft.py:jmed_llm --config.jmed_llm.data_dir=JMED-LLM --config.seeds=3
    python -m slm.main --config=configs/sft.py:jmed_llm_cv --config.jmed_llm.data_dir=JMED-LLM    # five folds
    python -m slm.main --config=configs/sft.py:classify --config.sets.own.files=QUESTIONS.csv     # labels, not words
    python -m slm.main --config=configs/sft.py:tag --config.sets.own.files=QUESTIONS.csv          # labelled spans
    python -m slm.main --config=configs/sft.py:annotated --config.sets.own.files=TEXTS.jsonl      # … by position
    python -m slm.main --config=configs/sft.py:findings --config.j_clinicalbench.data_dir=J-ClinicalBench
    python -m slm.main --config=configs/sft.py:jmed_llm_labels --config.jmed_llm.data_dir=JMED-LLM
    python -m slm.main --config=configs/sft.py:notes --config.sets.notes.files=DISEASES.txt.gz,DRUGS.txt   # synthetic
    ... --config.train.patience=3       # ends when three validations bring nothing, and keeps the best

A fine-tuned model is a checkpoint like any other (WORKDIR/seed-0): the next fine-tuning may begin with it.
"""

import dataclasses

from slm import config
from slm.data.sets import SetConfig
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.sft import SftConfig
from slm.train.step import StepConfig

LAPTOP = SftConfig(
    optimizer=OptimizerConfig(name="muon", learning_rate=1e-3, muon_learning_rate=5e-3, weight_decay=0.01,
                              final_share=0.0),
    train=LoopConfig(evaluate_every=100, save_every=100))


def own(kind: str, files: str) -> SftConfig:
    return dataclasses.replace(LAPTOP, sets=(SetConfig("own", kind, files),))


# Read until it is learned: rows are few, and the best validation is kept.
LABELS = dataclasses.replace(
    LAPTOP, head="labels", batch_size=2, epochs=12.0, validation_share=0.1, optimizer=dataclasses.replace(
        LAPTOP.optimizer, learning_rate=4e-3, muon_learning_rate=0.015), step=StepConfig(noise=0.1),
    train=LoopConfig(evaluate_every=50, save_every=200, patience=8))


def labels(kind: str) -> SftConfig:
    return dataclasses.replace(LABELS, sets=(SetConfig("own", kind, "questions.csv"),))


def jmed_llm(*sets: tuple, protocol: str) -> SftConfig:
    """(task, weight, limit) of each: a small model repeats the small sets, and reads most questions in few words."""
    optimizer = dataclasses.replace(LAPTOP.optimizer, learning_rate=2e-3, muon_learning_rate=8e-3)
    return dataclasses.replace(
        LAPTOP, protocol=protocol, batch_size=2, epochs=2.0, optimizer=optimizer, train=LoopConfig(
            evaluate_every=500, save_every=250, patience=6),
        sets=tuple(SetConfig(name, "jmed_llm", "", weight, limit, short=0.8) for name, weight, limit in sets))


VARIANTS = {
    "sample": LAPTOP,
    "demo": dataclasses.replace(LAPTOP, batch_size=2, epochs=2.0),  # what `make demo` runs
    "messages": own("messages", "conversations.jsonl"),
    "alpaca": own("alpaca", "instructions.jsonl"),
    "choice": own("choice", "questions.csv"),
    "extraction": own("extraction", "questions.csv"),
    "classify": labels("choice"),
    "tag": labels("extraction"),
    "annotated": labels("annotated"),
    "findings": dataclasses.replace(LABELS, protocol="P2", batch_size=4, epochs=8.0, sets=(
        SetConfig("findings", "j_clinicalbench"),)),
    "jmed_llm_labels": dataclasses.replace(
        LABELS, protocol="P2", batch_size=4, epochs=8.0, train=LoopConfig(evaluate_every=200, save_every=200),
        sets=tuple(SetConfig(name, "jmed_llm", "", weight) for name, weight in (
            ("nrner", 1.0), ("mrner_disease", 2.0), ("mrner_medicine", 2.0), ("rrtnm", 4.0), ("smdis", 0.5),
            ("jcsts", 0.3)))),
    # The two that need more than the others: three reports in four are held back for the test, and pairs are compared.
    "jmed_llm_pairs": dataclasses.replace(
        LABELS, protocol="P2", batch_size=4, epochs=3.0, train=dataclasses.replace(LABELS.train, evaluate_every=100),
        sets=(SetConfig("rrtnm", "jmed_llm", "", 15.0), SetConfig("jcsts", "jmed_llm", "", 1.0))),
    # One's own conversations with another set beside them, and the examinations of some years: weights mix them.
    "mixed": dataclasses.replace(LAPTOP, sets=(SetConfig("own", "messages", "conversations.jsonl", weight=2.0),
                                               SetConfig("more", "alpaca", "instructions.jsonl"))),
    "igakuqa": dataclasses.replace(LAPTOP, sets=(SetConfig("2018", "igakuqa"), SetConfig("2019", "igakuqa"))),
    "notes": dataclasses.replace(LAPTOP, epochs=1.0, sets=(
        SetConfig("notes", "lexicon_notes", "diseases.txt,drugs.txt", limit=5000),)),
    # CRADE is not learned under P2: all the answers that it has left are the same.
    "jmed_llm": jmed_llm(("nrner", 3.0, 0), ("mrner_disease", 8.0, 0), ("mrner_medicine", 8.0, 0), ("rrtnm", 4.0, 0),
                         ("jmmlu_med", 1.0, 0), ("smdis", 1.0, 0), ("jcsts", 1.0, 1000), protocol="P2"),
    "jmed_llm_cv": jmed_llm(("crade", 1.0, 300), ("mrner_disease", 2.0, 0), ("mrner_medicine", 2.0, 0),
                            ("rrtnm", 1.0, 0), protocol="CV"),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "sft")
