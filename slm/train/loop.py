"""The loop that pretraining and fine-tuning share: restore → step → log → validate → save."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax
from jax.sharding import Mesh

from slm import config as configs
from slm import distributed, process, sharding
from slm.checkpoint import Checkpoints
from slm.data import loader
from slm.model import decoder
from slm.train import validation
from slm.train.step import CompiledStep, TrainState
from slm.train.telemetry import Telemetry, truncate_after

VALIDATION_FILE = "validation.jsonl"
_MOST_SKIPPED = 50  # steps in a row; then training has diverged


@dataclasses.dataclass(frozen=True)
class LoopConfig:
    """When to stop, validate, checkpoint and log; only `steps` and `patience` change what is learned."""
    steps: int = 1000
    evaluate_every: int = 250
    save_every: int = 250
    keep: int = 2
    console_seconds: float = 10.0
    tensorboard: bool = True
    peak_tflops: float = 0.0  # of one device; 0: its maker's figure where it is known
    patience: int = 0  # validations without a better one before training stops; 0: it never stops early
    checkpoints: str = ""  # a folder or gs://BUCKET/… that all processes reach; empty: in the workdir

    def __post_init__(self):
        for name in ("steps", "evaluate_every", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ValueError(f"train.{name}={getattr(self, name)}: give at least 1")


@dataclasses.dataclass(frozen=True)
class Training:
    """What `fit` trains, on what.

    Attributes:
      rows: {train, validation: {source: its rows of `seq_len` tokens}}.
      mixture: {source: weight}; None reads every row once an epoch.
      bytes_per_token: {validation source: UTF-8 bytes of text a token in the loss}.
      learning_rate: by step.
      about: what every checkpoint records: stream, tokenizer, config, of a fine-tuning its base and provenance.
      params: to begin with; None: fresh ones. With LoRA, adapters are always fresh.
      frozen: the base's parameters, of LoRA.
      validation_rows: of each source, at validations on the way; 0: all. The last one always reads all.
      score: parameters → {task: {metric, value, baseline, rows}} of held-out items, part of each validation.
    """
    compiled: CompiledStep
    mesh: Mesh
    rows: Mapping[str, Mapping[str, Any]]
    mixture: Mapping[str, float] | None
    bytes_per_token: Mapping[str, float]
    learning_rate: Callable[[int], float]
    about: Mapping[str, Any]
    seed: int
    batch_size: int
    seq_len: int
    flops_per_token: float
    params: decoder.Params | None = None
    frozen: decoder.Params | None = None
    validation_rows: int = 0
    score: Callable[[decoder.Params], dict[str, dict]] | None = None

    @property
    def tokens_per_step(self) -> int:
        return self.batch_size * self.seq_len

    def initial(self) -> TrainState:
        state = self.compiled.initial(jax.random.key(self.seed))
        return state if self.params is None else {**state, "params": self.params}

    def step(self, state: TrainState, batch: loader.Batch) -> tuple[TrainState, dict]:
        return self.compiled.train(state, sharding.to_devices(batch, self.mesh), *self._frozen)

    def validate(self, state: TrainState, last: bool) -> dict[str, Any]:
        """{loss, bits_per_byte, bits_per_byte_by_source}; the last reads all rows."""
        result = validation.measure(
            lambda batch: self.compiled.evaluate(
                state["params"], sharding.to_devices(batch, self.mesh), *self._frozen),
            self.rows["validation"], self.bytes_per_token, self.batch_size,
            None if last else self.validation_rows or None, *self._share)
        return result | ({"scores": self.score(state["params"])} if self.score else {})

    def batches(self, start: int):
        """The batches from step `start` on, this process' share of each."""
        return loader.iterate(loader.training(
            self.rows["train"], self.batch_size, self.seed, self.mixture, *self._share), start)

    @property
    def _frozen(self) -> list[decoder.Params]:
        return [] if self.frozen is None else [self.frozen]

    @property
    def _share(self) -> tuple[int, int]:
        return sharding.share_of_process(self.mesh, self.batch_size)


@dataclasses.dataclass
class Outcome:
    """What a training ends with.

    Attributes:
      steps: done; fewer than planned where it stopped early.
      validations: of the whole run, in order.
      metrics: of every step of the whole run.
      seconds_to_first_step: since the process started; None: no step was left to do.
    """
    steps: int
    validations: list[dict]
    metrics: list[dict]
    seconds_to_first_step: float | None

    def speed(self, tokens_per_step: int) -> dict[str, float | None]:
        """{tokens_per_second, train_seconds} of the steps whose time is known."""
        # A process' first step compiles and is not timed; of a run that was moved, earlier metrics may be missing.
        seconds = [tokens_per_step / line["tokens_per_second"] for line in self.metrics if line["tokens_per_second"]]
        return {"tokens_per_second": len(seconds) * tokens_per_step / sum(seconds) if seconds else None,
                "train_seconds": sum(seconds)}


def fit(training: Training, config: LoopConfig, workdir: Path) -> Outcome:
    """Trains to `config.steps`, from the newest checkpoint of `workdir` if there is one.

    Of several processes the first writes the files; each calls this.

    Raises:
      ValueError: the checkpoint was made with other data, tokenizer, base or model.
      RuntimeError: training has diverged.
      SystemExit: SIGTERM arrived: the state is saved, and the same command resumes.
    """
    preemption = distributed.Preemption()  # first: what follows may take long
    try:
        with jax.set_mesh(training.mesh):
            return _fit(training, config, workdir, preemption)
    finally:
        preemption.close()


def _fit(training: Training, config: LoopConfig, workdir: Path, preemption: distributed.Preemption) -> Outcome:
    checkpoints = Checkpoints(config.checkpoints or workdir / "checkpoints", config.keep)
    start = checkpoints.latest() or 0
    if start > config.steps:
        raise ValueError(f"{workdir} has been trained for {start} steps, more than train.steps={config.steps}: raise "
                         "it, or choose another --workdir")
    first = distributed.is_first()
    if start:
        _refuse_other(workdir, checkpoints.about(start), training.about)
        if first:
            print(f"resuming from step {start} of {workdir}", flush=True)
        state = checkpoints.restore(start, training.compiled.abstract)
    else:
        state = training.initial()
    validations = Validations(workdir / VALIDATION_FILE if first else None, start)
    telemetry = Telemetry(workdir if first else None, start, config.steps, training.tokens_per_step,
                          training.flops_per_token, config.peak_tflops, config.console_seconds, config.tensorboard)
    reporter = _Reporter(telemetry, training.learning_rate)
    seconds_to_first_step, number, preempted = None, start, False
    # An accelerator is kept busy by reading the metrics of step t once step t + 1 is on its way. A CPU computes
    # while it dispatches: there, reading late would only credit the time to the wrong step.
    late = jax.default_backend() != "cpu"

    def stops_early() -> bool:
        return config.patience > 0 and bool(distributed.broadcast_from_first(validations.ended(config.patience)))

    last_step = start if stops_early() else config.steps
    for number, batch in zip(range(start + 1, last_step + 1), training.batches(start)):
        state, metrics = training.step(state, batch)
        if seconds_to_first_step is None:
            jax.block_until_ready(metrics)
            seconds_to_first_step = process.seconds()
            if first:
                print(f"first step after {seconds_to_first_step:.1f} s", flush=True)
        reporter.add(number, metrics)
        last = number == last_step
        preempted = not last and preemption.reached(number)
        to_validate = last or number % config.evaluate_every == 0
        to_save = last or preempted or number % config.save_every == 0
        if to_validate or to_save or not late:
            reporter.flush()
        if preempted:  # at once: a validation may take longer than the time that is left
            checkpoints.save(number, state, {"step": number, **training.about}, None)
            checkpoints.wait()
        if to_validate:
            validations.add(number, training.validate(state, last), last)
            if not last and stops_early():
                last = True
                if training.validation_rows:
                    validations.add(number, training.validate(state, True), True)
            telemetry.evaluation(number, validations.lines[-1])
        if (to_save or last or (to_validate and config.patience)) and not preempted:  # it may be the best
            checkpoints.save(number, state, {"step": number, **training.about}, validations.at(number))
        if to_validate or to_save:
            telemetry.resume_clock()
        if preempted or last:
            break
    checkpoints.close()
    telemetry.close()
    if preempted:
        if first:
            print(f"preempted: saved step {number} of {config.steps}; the same command resumes", flush=True)
        raise SystemExit(distributed.PREEMPTED)
    # Finished before: all processes must agree to validate, and only the first has read the validations on disk.
    if number == start and (distributed.processes() > 1 or not validations.lines):
        result = training.validate(state, True)
        if not validations.lines:
            validations.add(start, result, True)
    return Outcome(number, validations.lines, telemetry.lines(), seconds_to_first_step)


class _Reporter:
    """Reads the metrics of a step once the next one is on its way, and notices divergence."""

    def __init__(self, telemetry: Telemetry, learning_rate: Callable[[int], float]):
        self._telemetry, self._learning_rate = telemetry, learning_rate
        self._pending: tuple[int, dict] | None = None
        self._skipped: int | None = None  # so far
        self._in_a_row = 0

    def add(self, number: int, metrics: dict) -> None:
        self.flush()
        self._pending = number, metrics

    def flush(self) -> None:
        if not self._pending:
            return
        number, metrics = self._pending
        self._pending = None
        values = {name: float(value) for name, value in jax.device_get(metrics).items()}
        skipped = int(values["skipped"])
        self._telemetry.step(number, values["loss"], float(self._learning_rate(number - 1)), values["grad_norm"],
                             skipped)
        self._in_a_row = self._in_a_row + 1 if self._skipped is not None and skipped > self._skipped else 0
        self._skipped = skipped
        if self._in_a_row >= _MOST_SKIPPED:
            raise RuntimeError(f"{self._in_a_row} steps in a row were skipped up to step {number} (loss "
                               f"{values['loss']:.4g}, gradient norm {values['grad_norm']:.4g}): training has "
                               "diverged; lower the learning rates, or look at the data, and start again")


class Validations:
    """`validation.jsonl`, cut back to the step that training resumes from; without a path it is only remembered."""

    def __init__(self, path: Path | None, start: int):
        self._path = path
        self.lines = truncate_after(path, start) if path else []

    def add(self, step: int, result: dict, last: bool) -> None:
        self.lines.append({"step": step, **result, **({"last": True} if last else {})})
        if self._path:
            with open(self._path, "a", encoding="utf-8") as file:
                file.write(json.dumps(self.lines[-1], ensure_ascii=False) + "\n")

    def ended(self, patience: int) -> bool:
        """Whether training has stopped: so many validations since the best, or the last one is done."""
        losses = [validation.rank(line) for line in self.lines if not line.get("last")]
        stale = len(losses) - 1 - losses.index(min(losses)) if losses else 0
        return stale >= patience

    def at(self, step: int) -> float | None:
        line = self.lines[-1] if self.lines else {}
        return validation.rank(line) if line.get("step") == step else None


def _refuse_other(workdir: Path, saved: Mapping[str, Any], current: Mapping[str, Any]) -> None:
    for name in ("stream", "tokenizer", "base"):
        if saved.get(name) != current.get(name):
            raise ValueError(f"the checkpoint in {workdir} was trained on {name} {saved.get(name)}, this run has "
                             f"{current.get(name)}: choose another --workdir, or restore what it was trained on")
    for name, (old, new) in configs.differences(saved["config"], current["config"]).items():
        raise ValueError(f"the checkpoint of {workdir} is of a run with {name}={old!r}, this one has {new!r}: give "
                         "another --workdir and --config.train.checkpoints, or the old setting to resume")
