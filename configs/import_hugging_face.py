"""Import a Llama or Arcee in Hugging Face's format, with its tokenizer, as a checkpoint to fine-tune or evaluate.

    python -m slm.main --config=configs/import_hugging_face.py --config.folder=FOLDER --workdir=runs/imported
    python -m slm.main --config=configs/sft.py --config.checkpoint=runs/imported

The folder holds config.json, the weights as safetensors and tokenizer.json; nothing is downloaded. A model that our own
export wrote keeps our tokenizer. Needs pip install 'slm[export]'.
"""

from slm import config
from slm.export.import_hugging_face import ImportConfig

VARIANTS = {"folder": ImportConfig()}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "import_hugging_face")
