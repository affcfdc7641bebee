"""An OpenAI-compatible endpoint on this machine: /v1/completions, /v1/chat/completions.

    python -m slm.main --config=configs/serve.py                                     # the newest GGUF export
    python -m slm.main --config=configs/serve.py --config.runtime.model=runs/export-gguf --config.port=9000
    python -m slm.main --config=configs/serve.py --config.host=0.0.0.0 --config.token_file=SECRET.txt

    curl http://127.0.0.1:8080/v1/chat/completions -H 'Content-Type: application/json' \\
        -d '{"messages": [{"role": "user", "content": "糖尿病とは"}], "stream": true}'

It answers this machine only, unless a token is set. Text is neither stored nor logged. There is no encryption: put a
proxy with TLS in front for other machines. Needs pip install 'slm[local]'.
"""

from slm import config
from slm.local.serve import ServeConfig

VARIANTS = {"local": ServeConfig()}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "serve")
