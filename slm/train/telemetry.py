"""Metrics while a training runs: a line of JSON a step, TensorBoard, and one line on the console."""

import itertools
import json
import time
from pathlib import Path

import jax

from slm import files
from slm.hardware import PEAK_TFLOPS

METRICS_FILE = "metrics.jsonl"

_EMA_DECAY = 0.95  # of the loss and speed on the console


class Telemetry:
    """Writes the metrics of a run's steps.

    Opening it in an old workdir truncates `metrics.jsonl` to the step that training resumes from. Without a workdir it
    is silent: of several processes, one reports. The first step of a process compiles, so its speed is not recorded.
    """

    def __init__(self, workdir: Path | None, start: int, steps: int, tokens_per_step: int, flops_per_token: float,
                 peak_tflops: float, console_seconds: float, tensorboard: bool):
        self._path = workdir / METRICS_FILE if workdir else None
        self._file = self._tensorboard = None
        if self._path:
            truncate_after(self._path, start)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        if workdir and tensorboard:
            import tensorboardX  # late: only where it is wanted
            self._tensorboard = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=start)
        self._steps, self._tokens_per_step, self._flops_per_token = steps, tokens_per_step, flops_per_token
        peak = peak_tflops or PEAK_TFLOPS.get(jax.devices()[0].device_kind, 0)
        self._peak = peak * 1e12 * jax.device_count()
        self._console_seconds = console_seconds
        self._last: float | None = None  # when the last step ended
        self._loss: float | None = None
        self._speed: float | None = None
        self._printed = time.perf_counter()

    def step(self, step: int, loss: float, learning_rate: float, grad_norm: float, skipped: int) -> None:
        """Records step `step` (counted from 1), called once each step has ended."""
        if not self._file:
            return
        now = time.perf_counter()
        speed = None if self._last is None else self._tokens_per_step / (now - self._last)
        self._last = now
        line = {"step": step, "loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm,
                "tokens_per_second": speed and round(speed, 1), "skipped_steps": skipped}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._write_tensorboard(step, line)
        self._loss, self._speed = _average(self._loss, loss), _average(self._speed, speed)
        if now - self._printed >= self._console_seconds or step == self._steps:
            self._printed = now
            print(f"step {step}/{self._steps}  loss {self._loss:.4f}  lr {learning_rate:.2e}  norm {grad_norm:.2f}  "
                  f"{self._rate(step)}skipped {skipped}", flush=True)

    def _rate(self, step: int) -> str:
        if not self._speed:
            return ""
        left = (self._steps - step) * self._tokens_per_step / self._speed
        mfu = f"  MFU {self._speed * self._flops_per_token / self._peak:.1%}" if self._peak else ""
        return f"{self._speed:,.0f} tokens/s{mfu}  {clock(left)} left  "

    def evaluation(self, step: int, result: dict) -> None:
        """Records a validation on the console and in TensorBoard; its lines are in `validation.jsonl`."""
        if not self._file:
            return
        seen = _scores(result["scores"]) if "scores" in result else f"bits per byte {result['bits_per_byte']:.4f}"
        print(f"step {step}/{self._steps}  validation loss {result['loss']:.4f}  {seen}", flush=True)
        self._write_tensorboard(step, {f"validation/{name}": value for name, value in result.items()
                                 if isinstance(value, float)})

    def resume_clock(self) -> None:
        """Leaves out the time since the last step, which was not training."""
        if self._last is not None:
            self._last = time.perf_counter()

    def lines(self) -> list[dict]:
        """The metrics of every step so far, earlier runs included."""
        return truncate_after(self._path, self._steps) if self._path else []

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._tensorboard:
            self._tensorboard.close()

    def _write_tensorboard(self, step: int, values: dict) -> None:
        if self._tensorboard:
            for name, value in values.items():
                if value is not None:
                    self._tensorboard.add_scalar(name, value, step)


def _scores(scores: dict[str, dict]) -> str:
    """Of held-out items: smdis kappa 0.853 (baseline 0.792)."""
    return ", ".join(f"{name} {score['metric']} {score['value']:.3f}"
                     + (f" (baseline {score['baseline']:.3f})" if score["baseline"] is not None else "")
                     for name, score in scores.items())


def _average(average: float | None, value: float | None) -> float | None:
    if average is None or value is None:
        return value if average is None else average
    return _EMA_DECAY * average + (1 - _EMA_DECAY) * value


def truncate_after(path: Path, step: int) -> list[dict]:
    """Truncates a JSON Lines file to the lines up to `step`, and returns them.

    A line that a kill left half-written is dropped with what follows.
    """
    kept = list(itertools.takewhile(lambda row: row["step"] <= step, files.read_whole_json_lines(path)))
    files.write_json_lines(path, kept)
    return kept


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as short as they can be."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
