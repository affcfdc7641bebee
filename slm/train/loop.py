"""The thin loop that every training shares: restore → step → log late → evaluate → save."""

import dataclasses
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax

from slm import config as configs
from slm import distributed
from slm.checkpoint import Checkpoints
from slm.train.telemetry import Telemetry, truncate_after

VALIDATION_FILE = "validation.jsonl"


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When to stop, look, save and speak; none of it changes what is learned, but `steps`."""
    steps: int = 1000
    evaluate_every: int = 250
    save_every: int = 250
    keep: int = 2
    console_seconds: float = 10.0
    tensorboard: bool = True
    peak_tflops: float = 0.0  # of one device; 0: its maker's figure where it is known
    patience: int = 0  # validations without a lower loss before training stops; 0: it never stops early
    checkpoints: str = ""  # a folder or gs://BUCKET/… that all processes reach; empty: in the workdir

    def __post_init__(self):
        for name in ("steps", "evaluate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}={getattr(self, name)}: give at least 1")


@dataclasses.dataclass
class Outcome:
    """What a run of the loop ends with."""
    validations: list[dict]  # of the whole run, in order
    metrics: list[dict]      # of every step of the whole run
    seconds_to_first_step: float | None  # None: there was no step left to do


def run(config: LoopConfig, workdir: Path, *, initial: Callable[[], Any], abstract: Any,
        step: Callable[[Any, Any], tuple[Any, dict]], batches: Callable[[int], Iterator[Any]],
        learning_rate: Callable[[int], float], evaluate: Callable[[Any, bool], dict], about: Callable[[int], dict],
        tokens_a_step: int, flops_a_token: float, started: float) -> Outcome:
    """Trains to `config.steps`, from the newest checkpoint of `workdir` if there is one.

    Args:
      initial: makes the state of step 0; `abstract` has its shapes.
      step: (state, batch) → (state, metrics loss, grad_norm, skipped), jitted.
      batches: the batches from a step on.
      evaluate: (state, whether it is the last) → {loss, bits_per_byte, …}.
      about: what a checkpoint of a step records beside the state.
      started: `time.perf_counter()` when the process began its work.

    Of several processes the first writes the files; each calls this with functions of all devices.

    Raises:
      ValueError: the checkpoint was made with other data, tokenizer or model.
      SystemExit: told to end (SIGTERM): saved, and the same command goes on.
    """
    preemption = distributed.Preemption()  # first: what follows may take long
    try:
        return _run(config, workdir, preemption, initial, abstract, step, batches, learning_rate, evaluate, about,
                    tokens_a_step, flops_a_token, started)
    finally:
        preemption.close()


def _run(config, workdir, preemption, initial, abstract, step, batches, learning_rate, evaluate, about, tokens_a_step,
         flops_a_token, started) -> Outcome:
    checkpoints = Checkpoints(config.checkpoints or workdir / "checkpoints", config.keep)
    start = checkpoints.latest() or 0
    if start > config.steps:
        raise ValueError(f"{workdir} has been trained for {start} steps, more than train.steps={config.steps}: raise "
                         "it, or choose another --workdir")
    first = distributed.is_first()
    if start:
        _refuse_other(workdir, checkpoints.about(start), about(start))
        if first:
            print(f"going on from step {start} of {workdir}", flush=True)
        state = checkpoints.restore(start, abstract)
    else:
        state = initial()
    if first:
        workdir.mkdir(parents=True, exist_ok=True)
    validations = _Validations(workdir / VALIDATION_FILE if first else None, start)
    telemetry = Telemetry(workdir if first else None, start, config.steps, tokens_a_step, flops_a_token,
                          config.peak_tflops, config.console_seconds, config.tensorboard)
    first_step_seconds = None
    # An accelerator is kept busy by reading the metrics of step t once step t + 1 is on its way. A CPU computes
    # while it dispatches: there, reading late would only credit the time to the wrong step.
    late = jax.default_backend() != "cpu"
    pending = None

    def report(number: int, metrics: dict) -> None:
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        telemetry.step(number, values["loss"], float(learning_rate(number - 1)), values["grad_norm"],
                       int(values["skipped"]))


    def stale() -> bool:
        return config.patience > 0 and distributed.broadcast_from_first(validations.stale()) >= config.patience

    ends = start if stale() else config.steps
    for number, batch in zip(range(start + 1, ends + 1), batches(start)):
        state, metrics = step(state, batch)
        if number == start + 1:
            jax.block_until_ready(metrics)
            first_step_seconds = time.perf_counter() - started
            if first:
                print(f"first step after {first_step_seconds:.1f} s", flush=True)
        if pending:
            report(*pending)
        pending = (number, metrics)
        last = number == config.steps
        to_evaluate = last or number % config.evaluate_every == 0
        to_end = not last and preemption.reached(number)
        to_save = last or to_end or number % config.save_every == 0
        if to_evaluate or to_save or not late:
            report(*pending)
            pending = None
            if to_end:  # at once: an evaluation may take longer than the time that is left
                checkpoints.save(number, state, about(number), None)
                checkpoints.wait()
            if to_evaluate:
                result = evaluate(state, last)
                validations.add(number, result)
                telemetry.evaluation(number, result)
                last = last or stale()
                to_save = to_save or last or config.patience > 0  # it may be the best
            if to_save and not to_end:
                checkpoints.save(number, state, about(number), validations.at(number))
        if to_evaluate or to_save:
            telemetry.resume_clock()
        if to_end or last:
            break
    else:
        to_end = False
    checkpoints.close()
    telemetry.close()
    if to_end:
        if first:
            print(f"told to end: saved step {number} of {config.steps}; the same command goes on", flush=True)
        raise SystemExit(distributed.PREEMPTED)
    # A run that was done before: all processes must agree to evaluate, and only the first has read what there is.
    if start == config.steps and (distributed.processes() > 1 or not validations.lines):
        result = evaluate(state, True)
        if not validations.lines:
            validations.add(start, result)
    return Outcome(validations.lines, telemetry.lines(), first_step_seconds)


class _Validations:
    """`validation.jsonl`, cut back to the step that training goes on from; without a path it is only remembered."""

    def __init__(self, path: Path | None, start: int):
        self._path = path
        self.lines = truncate_after(path, start) if path else []

    def add(self, step: int, result: dict) -> None:
        self.lines.append({"step": step, **result})
        if self._path:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.lines[-1], ensure_ascii=False) + "\n")

    def stale(self) -> int:
        """How many validations there were since the one with the lowest loss."""
        losses = [line["loss"] for line in self.lines]
        return len(losses) - 1 - losses.index(min(losses)) if losses else 0

    def at(self, step: int) -> float | None:
        line = self.lines[-1] if self.lines else {}
        return line["bits_per_byte"] if line.get("step") == step else None


def _refuse_other(workdir: Path, saved: dict, here: dict) -> None:
    for name in ("stream", "tokenizer"):
        if saved[name] != here[name]:
            raise ValueError(f"the checkpoint in {workdir} was trained on {name} {saved[name]}, this run has "
                             f"{here[name]}: choose another --workdir, or bring back the old data")
    for name, (old, new) in configs.differences(saved["config"], here["config"]).items():
        raise ValueError(f"the checkpoint of {workdir} is of a run with {name}={old!r}, this one has {new!r}: give "
                         "another --workdir and --config.train.checkpoints, or the old setting to go on")
