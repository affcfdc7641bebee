"""EleutherAI's lm-evaluation-harness on a checkpoint (pip install 'slm[lm-eval]'): its table, and `result.json`.

    python -m slm.main --config=configs/harness.py --config.jmed_llm.data_dir=JMED-LLM      # the newest fine-tuned
    python -m slm.main --config=configs/harness.py:igakuqa --config.igakuqa.years=2020
    python -m slm.main --config=configs/harness.py --config.tasks=mgsm_direct_ja \\
        --config.chat=false                                                                  # any task of the harness
    python -m slm.main --config=configs/harness.py --config.tasks=NAME --config.include=FOLDER   # YAML of one's own

Without data_dir our two benchmarks are downloaded at the revision that was studied; the harness downloads its own
tasks. Other models run ours with the harness's own command:

    lm_eval run --model hf --model_args pretrained=MODEL --apply_chat_template --tasks jmed_llm \\
        --include_path slm/evaluation/harness_tasks --metadata '{"jmed_llm": "JMED-LLM"}'
"""

from slm import config
from slm.evaluation.harness import HarnessConfig

VARIANTS = {
    "jmed_llm": HarnessConfig(),
    "jmed_llm_free": HarnessConfig(tasks="jmed_llm_free"),
    "igakuqa": HarnessConfig(tasks="igakuqa,igakuqa_likelihood"),
}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "harness")
