"""Synthesised textbooks over diseases and drugs: `documents.jsonl` in the workdir, one more source of a corpus.

    python -m slm.main --config=configs/textbooks.py                      # from the project's own tables, offline
    python -m slm.main --config=configs/textbooks.py:endpoint --config.base_url=http://localhost:8000/v1 \\
        --config.model=MODEL --config.lexicons=MANBYO.xlsx,PRICE_LIST.xlsx --config.dry_run=true    # how long?
    python -m slm.main --config=configs/corpus.py:files --config.corpus.profile=textbook \\
        --config.corpus.files=runs/textbooks-sample/documents.jsonl

The endpoint is any OpenAI-compatible server (vLLM, Ollama, llama.cpp); --config.api_key_variable=NAME names the
environment's variable with its key, if it wants one. Run the same command again to resume.
"""

from slm import config
from slm.corpus.textbooks import TextbooksConfig

VARIANTS = {
    "sample": TextbooksConfig(),
    "endpoint": TextbooksConfig(backend="openai", size=100_000),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "textbooks")
