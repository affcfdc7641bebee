"""A corpus: normalised, exact duplicates dropped, split into training and validation.

    python -m slm.main --config=configs/corpus.py                                       # the text the project brings
    python -m slm.main --config=configs/corpus.py:files --config.corpus.files='DIR/*.jsonl.gz'   # one's own
"""

from slm import config
from slm.corpus.sources import CorpusJobConfig


def get_config(argument=None):
    return config.select(argument, {"sample": CorpusJobConfig(), "files": CorpusJobConfig()}, "corpus")
