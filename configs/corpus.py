"""A corpus: cleaned, filtered, personal information masked, duplicates dropped, split into training and validation.

    python -m slm.main --config=configs/corpus.py                                       # the bundled sample text
    python -m slm.main --config=configs/corpus.py:files --config.corpus.files='DIR/*.jsonl.gz'   # your own text
    python -m slm.main --config=configs/corpus.py:ncvc --config.corpus.sources.oscar.files='DIR/*.jsonl.zst' \\
        --config.corpus.executor=slurm --config.corpus.executor_options=partition=cpu,time=24:00:00     # the paper's
    ... --config.corpus.benchmarks='JMED-LLM/datasets/*.csv'    # drop what holds a benchmark's items
    ... --config.corpus.curated=false                           # only normalise and drop exact duplicates
"""

from slm import config
from slm.corpus.recipes import NCVC
from slm.corpus.sources import CorpusConfig
from slm.products.corpus_job import CorpusJobConfig

VARIANTS = {
    "sample": CorpusJobConfig(corpus=CorpusConfig(curated=True)),
    "files": CorpusJobConfig(corpus=CorpusConfig(curated=True)),
    "ncvc": CorpusJobConfig(corpus=NCVC),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "corpus")
