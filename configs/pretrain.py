"""Pretraining, from documents to a base model.

    python -m slm.main --config=configs/pretrain.py               # laptop model, the text the project brings
    python -m slm.main --config=configs/pretrain.py --config.corpus.files='DIR/*.jsonl.gz'   # one's own text
    python -m slm.main --config=configs/pretrain.py:debug         # seconds
    python -m slm.main --config=configs/pretrain.py:ncvc_slm_1    # the paper's 1.2B
"""

import dataclasses

from slm import config
from slm.corpus.recipes import NCVC
from slm.corpus.sources import CorpusConfig
from slm.model.presets import PRESETS
from slm.tokenization import vocabulary
from slm.tokenization.vocabulary import VocabularyConfig
from slm.train.loop import LoopConfig
from slm.train.optimizer import OptimizerConfig
from slm.train.pretrain import PretrainConfig, RowsConfig
from slm.train.step import StepConfig

LAPTOP = PretrainConfig(
    model=PRESETS["laptop"], tokenizer=vocabulary.LAPTOP, rows=RowsConfig(batch_size=4, seq_len=512),
    optimizer=OptimizerConfig(name="muon", learning_rate=3e-3, muon_learning_rate=0.02, schedule="warmup_stable_decay",
                              decay_share=0.5, final_share=0.0, weight_decay=0.01),
    train=LoopConfig(steps=3600, evaluate_every=900, save_every=300))  # 30 minutes on two cores

VARIANTS = {
    "laptop": LAPTOP,
    # What `make demo` runs: the same, for two minutes.
    "demo": dataclasses.replace(LAPTOP, train=LoopConfig(steps=250, evaluate_every=50, save_every=125)),
    "debug": PretrainConfig(
        model=PRESETS["debug"], tokenizer=VocabularyConfig(size=PRESETS["debug"].vocabulary_size),
        corpus=CorpusConfig(sample_megabytes=0.5), rows=RowsConfig(batch_size=8, seq_len=64),
        optimizer=OptimizerConfig(name="muon", learning_rate=1e-2),
        train=LoopConfig(steps=30, evaluate_every=15, save_every=15)),
    "small": PretrainConfig(
        model=PRESETS["small"], tokenizer=VocabularyConfig(size=32_768),
        rows=RowsConfig(batch_size=256, seq_len=2048), step=StepConfig(grad_accum_steps=1),
        train=LoopConfig(steps=10_000, evaluate_every=1000, save_every=500)),
    # 24,000 steps of 1,024 × 2,048 tokens: the paper's 50B, of the corpus that configs/corpus.py:ncvc makes.
    **{name: PretrainConfig(
        corpus=NCVC, model=PRESETS[name], tokenizer=VocabularyConfig(size=32_768),
        rows=RowsConfig(batch_size=1024, seq_len=2048), step=StepConfig(grad_accum_steps=4),
        train=LoopConfig(steps=24_000, evaluate_every=1000, save_every=500)) for name in ("ncvc_slm_1", "slm_1b")},
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "pretrain")
