"""What a pretraining would need, and how long it would take, on machines one does not have: its step is compiled.

    python -m slm.main --config=configs/plan.py:ncvc_slm_1,topology=v4-32
    python -m slm.main --config=configs/plan.py:ncvc_slm_1,topology=v4-32,batch=256,grad_accum_steps=1 \\
        --config.price=3.22
    python -m slm.main --config=configs/plan.py:ncvc_slm_1,topology=v5e-16/v5p-8/h100-8,remat=full/dots   # a table
    python -m slm.main --config=configs/plan.py:slm_1b --config.topology=v6e-8,v6e-16

For TPUs: pip install 'slm[tpu]'; for the memory of an H100 as its compiler plans it: pip install 'slm[plan_h100]'.
"""

import runpy
from pathlib import Path

from slm import config
from slm.planning.plan import PlanConfig

PRETRAIN = runpy.run_path(str(Path(__file__).with_name("pretrain.py")))["VARIANTS"]
VARIANTS = {name: PlanConfig(recipe=PRETRAIN[name]) for name in ("ncvc_slm_1", "slm_1b", "small", "laptop", "debug")}


def get_config(argument=None):
    return config.select(argument, VARIANTS, "plan")
