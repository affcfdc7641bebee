"""Run one instruction over many records: extract entities, classify, or summarise, one JSON line per record.

    python -m slm.main --config=configs/annotate.py:diseases --config.records=NOTES      # a folder of .txt files
    python -m slm.main --config=configs/annotate.py:drugs --config.records=notes.csv --config.text_column=body \\
        --config.id_column=number --config.runtime.model=runs/export-gguf
    python -m slm.main --config=configs/annotate.py:findings --config.records='NOTES/*/report-*.txt'
    python -m slm.main --config=configs/annotate.py:classify --config.records=notes.jsonl \\
        --config.instruction.labels='改善|不変|悪化'
    python -m slm.main --config=configs/annotate.py:labels --config.records=NOTES \\
        --config.checkpoint=runs/sft-classify            # by label heads, fast, with confidences
    python -m slm.main --config=configs/annotate.py:summarise --config.records=NOTES --config.settings.max_tokens=200
    python -m slm.main --config=configs/annotate.py --config.records=NOTES --config.instruction.file=OWN.json

OWN.json holds kind (extract, classify or summarise), system, prompt with {text} for the record, and labels. The lines
are written to annotations.jsonl in the workdir; re-run the same command to resume. The default model is the newest GGUF
export under runs/. Nothing leaves the machine. The annotations are not medical advice, and people must check them.
Needs pip install 'slm[local]'.
"""

from slm import config
from slm.local.annotate import AnnotateConfig
from slm.local.instructions import Instruction
from slm.tasks.tables import EXTRACTION_SYSTEM

# The prompts match those of slm.sample.tasks, on which extraction is fine-tuned.
PROMPTS = {
    "diseases": "次の診療記録から、患者本人に認められた症状と病名をすべて抜き出してください。\n「{text}」",
    "drugs": "次の診療記録から、薬の名前をすべて抜き出してください。\n「{text}」",
    "findings": "次の診療記録から、患者本人に認められた異常所見をすべて抜き出してください。\n「{text}」",
}
VARIANTS = {name: AnnotateConfig(Instruction("extract", EXTRACTION_SYSTEM, prompt))
            for name, prompt in PROMPTS.items()}
VARIANTS["classify"] = AnnotateConfig(Instruction(
    "classify", "与えられた診療記録に最もあてはまる分類を、選択肢から1つだけ答えてください。",
    "選択肢: {labels}\n診療記録:\n「{text}」"))
VARIANTS["labels"] = AnnotateConfig(Instruction("labels", "", ""))
VARIANTS["summarise"] = AnnotateConfig(Instruction(
    "summarise", "与えられた診療記録を、書かれていることだけを用いて簡潔に要約してください。", "診療記録:\n「{text}」"))


def get_config(argument=None):
    return config.select(argument, VARIANTS, "annotate")
