"""Generate text from a checkpoint: continuations of prompts, or a fine-tuned model's answers.

    python -m slm.main --config=configs/generate.py --config.checkpoint=runs/pretrain-laptop \\
        --config.prompts='患者は|主訴は' --config.sampler.temperature=0.7
"""

from slm import config
from slm.generate import GenerateConfig
from slm.inference.sampling import GREEDY

VARIANTS = {"sample": GenerateConfig(), "greedy": GenerateConfig(sampler=GREEDY)}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "generate")
