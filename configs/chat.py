"""Chat in the terminal: llama.cpp runs an export, the JAX decoder a training checkpoint.

    python -m slm.main --config=configs/chat.py                                       # the newest GGUF export
    python -m slm.main --config=configs/chat.py --config.runtime.model=runs/sft-sample   # a checkpoint, without export
    echo '糖尿病とは' | python -m slm.main --config=configs/chat.py --config.settings.temperature=0

Nothing leaves the machine, and nothing is stored except by /save. Needs pip install 'slm[local]' for llama.cpp.
"""

from slm import config
from slm.local.chat import ChatConfig

VARIANTS = {"terminal": ChatConfig()}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "chat")
