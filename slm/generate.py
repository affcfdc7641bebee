"""The generate job: continuations of prompts, or a fine-tuned model's answers to them."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from slm import checkpoint, files
from slm.inference.engine import Engine
from slm.inference.sampling import Sampler
from slm.text import chat
from slm.text.tokenizer import END_OF_TURN, Tokenizer
from slm.workdir import PRIVATE


@dataclasses.dataclass(frozen=True)
class GenerateConfig:
    """The generate job."""
    job: str = "generate"
    variant: str = "sample"
    checkpoint: str = ""  # a training, fine-tuning, or WORKDIR/checkpoints/STEP; empty: the newest under runs/
    prompts: str = dataclasses.field(default="患者は|主訴は|糖尿病とは、", metadata={PRIVATE: True})  # PROMPT[|PROMPT…]
    prompts_file: str = ""  # one prompt per line, instead
    new_tokens: int = 100
    seed: int = 0
    sampler: Sampler = Sampler()


def run(config: GenerateConfig, workdir: Path) -> dict:
    """Prints and records a continuation of each prompt; returns what `result.json` holds."""
    source, step = checkpoint.resolve(config.checkpoint)
    engine, tokenizer = Engine.load(source, step)
    if config.prompts_file:
        prompts = Path(config.prompts_file).read_text(encoding="utf-8").splitlines()
    else:
        prompts = config.prompts.split("|")
    fine_tuned = checkpoint.read_about(source, step)["config"].get("job") == "sft"
    texts = complete(engine, tokenizer, prompts, config.new_tokens, config.sampler, config.seed, answer=fine_tuned)
    for prompt, text in zip(prompts, texts):
        print(f"{prompt}→{text}\n")
    samples = workdir / "samples.jsonl"
    files.write_json_lines(samples, ({"prompt": prompt, "text": text} for prompt, text in zip(prompts, texts)))
    return {"checkpoint": str(source), "samples": str(samples), "prompts": len(prompts)}


def complete(engine: Engine, tokenizer: Tokenizer, prompts: Sequence[str], new_tokens: int, sampler: Sampler,
             seed: int, answer: bool) -> list[str]:
    """Continuations of prompts as text; or, with `answer`, the assistant's answers to them."""
    end = tokenizer.special(END_OF_TURN) if answer else tokenizer.end_of_document
    if answer:
        ids = [chat.encode(tokenizer, [{"role": "user", "content": prompt}], reply=True).ids for prompt in prompts]
    else:
        ids = [[end, *tokenizer.encode(prompt)] for prompt in prompts]
    return [tokenizer.decode(continuation) for continuation in engine.generate(ids, new_tokens, sampler, end, seed)]
