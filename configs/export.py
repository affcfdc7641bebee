"""Export a checkpoint for transformers (safetensors) or llama.cpp (GGUF), with a proof that it computes the same.

    python -m slm.main --config=configs/export.py:hugging_face --config.checkpoint=runs/pretrain-laptop
    python -m slm.main --config=configs/export.py:hugging_face --config.dtype=bfloat16
    python -m slm.main --config=configs/export.py:gguf --config.kinds=q8_0,q4_0
    python -m slm.main --config=configs/export.py:gguf --config.kinds=q4_k_m      # with llama-quantize on the PATH

The default checkpoint is the newest under runs/. Needs pip install 'slm[export]', and for the proof
'slm[hugging_face]' or 'slm[local]'.
"""

from slm import config
from slm.export.export import ExportConfig

VARIANTS = {"hugging_face": ExportConfig(), "gguf": ExportConfig(format="gguf")}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "export")
