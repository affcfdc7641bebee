"""A Llama or Arcee in Hugging Face's format, with its tokenizer, into a checkpoint: to fine-tune, evaluate or ask it.

    python -m slm.main --config=configs/import_hugging_face.py --config.folder=FOLDER --workdir=runs/taken-in
    python -m slm.main --config=configs/sft.py --config.checkpoint=runs/taken-in

The folder holds config.json, the weights as safetensors and tokenizer.json; nothing is downloaded. What our own export
wrote comes back with our tokenizer. Needs pip install 'slm[export]'.
"""

from slm import config
from slm.export.import_hugging_face import ImportConfig

VARIANTS = {"folder": ImportConfig()}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "import_hugging_face")
