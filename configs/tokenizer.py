"""A tokenizer, and the table that compares it with plainer ones.

    python -m slm.main --config=configs/tokenizer.py              # what the laptop model reads
    python -m slm.main --config=configs/tokenizer.py:size_32k --config.corpus.files='DIR/*.jsonl.gz' \\
        --config.tokenizer.lexicons=DISEASES.txt.gz,DRUGS.txt
"""

from slm import config
from slm.products.tokenizer_job import TokenizerJobConfig
from slm.tokenization import vocabulary
from slm.tokenization.vocabulary import VocabularyConfig

VARIANTS = {
    "laptop": TokenizerJobConfig(tokenizer=vocabulary.LAPTOP),
    "size_8k": TokenizerJobConfig(tokenizer=VocabularyConfig(size=8000)),
    "size_32k": TokenizerJobConfig(tokenizer=VocabularyConfig(size=32_768)),
    "debug": TokenizerJobConfig(tokenizer=VocabularyConfig(size=3072)),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "tokenizer")
