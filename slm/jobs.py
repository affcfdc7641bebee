"""The table of jobs: what `--config=configs/NAME.py` runs."""

import contextlib
import dataclasses
import importlib
from pathlib import Path
from typing import Any

from slm import locks
from slm import workdir as workdirs


@dataclasses.dataclass(frozen=True)
class Job:
    """A job: its frozen config, and `run(config, workdir) -> result` beside it.

    Attributes:
      config: MODULE:CLASS, imported when the job runs.
      resumable: the same command resumes an interrupted run; other jobs start over.
      shares_workdir: several processes may use it at the same time; of other jobs the second one is refused.
      multi_process: several processes may run it together; `prepare(config)` beside it makes what they need.
    """
    summary: str
    config: str
    resumable: bool = False
    shares_workdir: bool = False
    multi_process: bool = False

    @property
    def module(self) -> Any:
        return importlib.import_module(self.config.partition(":")[0])

    def config_class(self) -> type:
        return getattr(self.module, self.config.partition(":")[2])


JOBS = {
    "corpus": Job("sources → clean, private, deduplicated corpus", "slm.products.corpus_job:CorpusJobConfig"),
    "textbooks": Job("lexicons → synthesised textbooks", "slm.corpus.textbooks:TextbooksConfig"),
    "quality": Job("labels, or good and dropped text → quality classifier", "slm.quality.training:QualityConfig"),
    "tokenizer": Job("corpus → Unigram over morphemes, compared with others",
                     "slm.products.tokenizer_job:TokenizerJobConfig"),
    "pretrain": Job("corpus → base model", "slm.train.pretrain:PretrainConfig", resumable=True, multi_process=True),
    "sft": Job("base model and conversations → fine-tuned models", "slm.train.sft:SftConfig", resumable=True,
               multi_process=True),
    "evaluate": Job("model and benchmark → leaderboard, every answer kept", "slm.evaluation.evaluate:EvaluateConfig",
                    resumable=True),
    "compare": Job("evaluations → leaderboards side by side, differences tested",
                   "slm.evaluation.compare:CompareConfig"),
    "harness": Job("checkpoint → lm-evaluation-harness, any of its tasks and ours",
                   "slm.evaluation.harness:HarnessConfig"),
    "plan": Job("preset and pod → memory, time and cost, before renting", "slm.planning.plan:PlanConfig"),
    "figures": Job("workdirs → figures, PNG and SVG", "slm.report.figures_job:FiguresConfig"),
    "export": Job("checkpoint → Hugging Face or GGUF, proven equal", "slm.export.export:ExportConfig"),
    "import_hugging_face": Job("Hugging Face Llama or Arcee → a checkpoint of ours",
                               "slm.export.import_hugging_face:ImportConfig"),
    "annotate": Job("instruction and records → answers, a line each", "slm.local.annotate:AnnotateConfig",
                    resumable=True),
    "chat": Job("exported or trained model → a chat in the terminal", "slm.local.chat:ChatConfig",
                shares_workdir=True),
    "serve": Job("exported model → an OpenAI-compatible endpoint on this machine", "slm.local.serve:ServeConfig",
                 shares_workdir=True),
    "generate": Job("checkpoint and prompts → text", "slm.generate:GenerateConfig"),
}


def run(name: str, config: Any, workdir: Path) -> dict:
    """Runs a job in its workdir, which then holds `config.json`, `result.json` and what the job makes."""
    job = JOBS[name]
    if job.multi_process:
        from slm import distributed
        distributed.initialize()
        if not distributed.is_first():
            return job.module.run(config, workdir)
    workdir.mkdir(parents=True, exist_ok=True)
    with contextlib.nullcontext() if job.shares_workdir else locks.locked(workdir):
        workdirs.begin(workdir, config, job.resumable, exclusive=not job.shares_workdir)
        result = job.module.run(config, workdir)
        workdirs.write_result(workdir, result)
    return result
