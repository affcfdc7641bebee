"""What a run says while it runs: a line of JSON a step, TensorBoard, and one line on the console."""

import json
import os
import time
from pathlib import Path

import jax

from slm.hardware import PEAK_TFLOPS

METRICS_FILE = "metrics.jsonl"

_MEMORY = 0.95  # of the loss and speed on the console


class Telemetry:
    """Writes the metrics of a run's steps.

    Opening it in an old workdir cuts `metrics.jsonl` back to the step that training goes on from. Without a workdir it
    is silent: of several processes, one speaks.
    """

    def __init__(self, workdir: Path | None, start: int, steps: int, tokens_a_step: int, flops_a_token: float,
                 peak_tflops: float, console_seconds: float, tensorboard: bool):
        self._path = workdir / METRICS_FILE if workdir else None
        self._file = self._board = None
        if workdir:
            truncate_after(self._path, start)
            self._file = open(self._path, "a", encoding="utf-8")  # noqa: SIM115
        if workdir and tensorboard:
            import tensorboardX  # late: only where it is wanted
            self._board = tensorboardX.SummaryWriter(str(workdir / "tensorboard"), purge_step=start)
        self._steps, self._tokens_a_step, self._flops_a_token = steps, tokens_a_step, flops_a_token
        peak = peak_tflops or PEAK_TFLOPS.get(jax.devices()[0].device_kind, 0)
        self._peak = peak * 1e12 * jax.device_count()
        self._console_seconds = console_seconds
        self._last = self._said = time.perf_counter()
        self._loss = self._speed = None

    def step(self, step: int, loss: float, learning_rate: float, grad_norm: float, skipped: int) -> None:
        """Records step `step` (counted from 1), called once each step has ended."""
        if not self._file:
            return
        now = time.perf_counter()
        speed = self._tokens_a_step / (now - self._last)
        self._last = now
        line = {"step": step, "loss": loss, "learning_rate": learning_rate, "grad_norm": grad_norm,
                "tokens_per_second": round(speed, 1), "skipped_steps": skipped}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._write_board(step, line)
        self._loss = loss if self._loss is None else _MEMORY * self._loss + (1 - _MEMORY) * loss
        self._speed = speed if self._speed is None else _MEMORY * self._speed + (1 - _MEMORY) * speed
        if now - self._said >= self._console_seconds or step == self._steps:
            self._said = now
            left = (self._steps - step) * self._tokens_a_step / self._speed
            mfu = f"  MFU {self._speed * self._flops_a_token / self._peak:.1%}" if self._peak else ""
            print(f"step {step}/{self._steps}  loss {self._loss:.4f}  lr {learning_rate:.2e}  norm {grad_norm:.2f}  "
                  f"{self._speed:,.0f} tokens/s{mfu}  skipped {skipped}  {clock(left)} left", flush=True)

    def evaluation(self, step: int, result: dict) -> None:
        """Records a validation on the console and in TensorBoard; its lines are in `validation.jsonl`."""
        if not self._file:
            return
        print(f"step {step}/{self._steps}  validation loss {result['loss']:.4f}  bits per byte "
              f"{result['bits_per_byte']:.4f}", flush=True)
        self._write_board(step, {f"validation/{name}": value for name, value in result.items()
                                 if isinstance(value, float)})

    def resume_clock(self) -> None:
        """What was done since the last step was not training."""
        self._last = time.perf_counter()

    def lines(self) -> list[dict]:
        """The metrics of every step so far, earlier runs included."""
        return truncate_after(self._path, self._steps) if self._path else []

    def close(self) -> None:
        if self._file:
            self._file.close()
        if self._board:
            self._board.close()

    def _write_board(self, step: int, values: dict) -> None:
        if self._board:
            for name, value in values.items():
                self._board.add_scalar(name, value, step)


def truncate_after(path: Path, step: int) -> list[dict]:
    """Cuts a JSON Lines file back to the lines up to `step`, and returns them.

    A line that a kill left half-written is dropped with what follows.
    """
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else ():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            break
        if row["step"] > step:
            break
        kept.append(row)
    aside = path.with_suffix(".writing")
    aside.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in kept), encoding="utf-8")
    os.replace(aside, path)
    return kept


def clock(seconds: float) -> str:
    """Hours, minutes and seconds, as short as they can be."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02d}m" if hours else f"{minutes}m{seconds:02d}s"
