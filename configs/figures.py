"""Draw figures, PNG and SVG, from workdirs; the default is each job's newest run under runs/.

    python -m slm.main --config=configs/figures.py
    python -m slm.main --config=configs/figures.py --config.pretrain=runs/pretrain-laptop --config.sft=runs/sft-p2 \\
        --config.evaluate=runs/evaluate-jmed_llm
    python -m slm.main --config=configs/figures.py:architecture,preset=ncvc_slm_1
    python -m slm.main --config=configs/figures.py:embedding --config.lexicons=diseases.txt,drugs.txt
"""

from slm import config
from slm.report.figures_job import FIGURES, FiguresConfig

VARIANTS = {"all": FiguresConfig(), **{name: FiguresConfig(figure=name) for name in FIGURES}}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "figures")
