"""The quality classifier of the corpus pipeline.

    python -m slm.main --config=configs/quality.py --config.labels=labels.jsonl.gz           # {"text": …, "label": 0|1}
    python -m slm.main --config=configs/quality.py --config.reference='GOOD/*.jsonl.gz' \\
        --config.poor='runs/products/corpus-…/dropped/*.jsonl'      # bootstrapped
    python -m slm.main --config=configs/quality.py:transformer --config.labels=labels.jsonl.gz \\
        --config.checkpoint=runs/pretrain-laptop                # as in the paper; much slower
"""

from slm import config
from slm.quality.training import QualityConfig

VARIANTS = {"linear": QualityConfig(), "transformer": QualityConfig(model="transformer")}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "quality")
