import json

import pytest

from slm.train import loop, telemetry
from slm.train.telemetry import Telemetry


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_step_is_a_line_and_the_console_shows_the_last(tmp_path, capsys):
    run = Telemetry(tmp_path, 0, 3, 128, 1e6, 0.5, 1000, tensorboard=True)
    for step in (1, 2, 3):
        run.step(step, 2.0 / step, 1e-3, 0.5, 0)
    run.evaluation(3, {"loss": 1.0, "bits_per_byte": 1.5})
    run.close()
    read = lines(tmp_path / "metrics.jsonl")
    assert [line["step"] for line in read] == [1, 2, 3]
    assert set(read[0]) == {"step", "loss", "learning_rate", "grad_norm", "tokens_per_second", "skipped_steps"}
    assert list((tmp_path / "tensorboard").glob("events*"))
    out = capsys.readouterr().out
    assert "step 3/3" in out and "MFU" in out and "tokens/s" in out and "bits per byte 1.5000" in out


def test_speed_and_mfu_leave_out_the_first_step_and_count_all_devices(tmp_path, monkeypatch, capsys):
    """Of a process, the first step compiles; of eight devices, the peak is eight times that of one."""
    now = [0.0]
    monkeypatch.setattr(telemetry.time, "perf_counter", lambda: now[0])
    monkeypatch.setattr(telemetry.jax, "device_count", lambda: 8)
    run = Telemetry(tmp_path, 0, 3, 100, 1e10, peak_tflops=0.5, console_seconds=1000, tensorboard=False)
    for step, moment in enumerate((60.0, 61.0, 62.0), 1):
        now[0] = moment
        run.step(step, 1.0, 1e-3, 0.5, 0)
    run.close()
    assert [line["tokens_per_second"] for line in lines(tmp_path / "metrics.jsonl")] == [None, 100.0, 100.0]
    out = capsys.readouterr().out
    assert "100 tokens/s" in out and "MFU 25.0%" in out  # 1e12 FLOPs a second of 8 × 0.5e12


def test_an_old_file_is_cut_back_and_a_half_line_dropped(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(1, 6)) + '{"step": 6, "lo')
    Telemetry(tmp_path, 3, 10, 128, 1e6, 0, 1000, tensorboard=False).close()
    assert [line["step"] for line in lines(path)] == [1, 2, 3]
    assert [row["step"] for row in telemetry.truncate_after(path, 2)] == [1, 2]
    assert telemetry.truncate_after(tmp_path / "new.jsonl", 0) == []


@pytest.mark.parametrize("seconds, text", [(3.4, "3s"), (0, "0s"), (75, "1m15s"), (7260, "2h01m")])
def test_clock(seconds, text):
    assert telemetry.clock(seconds).removeprefix("0m0").removeprefix("0m") == text


def test_fifty_skipped_steps_in_a_row_end_the_training():
    silent = Telemetry(None, 0, 200, 1, 1.0, 0.0, 1.0, False)
    reporter = loop._Reporter(silent, lambda step: 0.1)

    def report(number, skipped):
        reporter.add(number, {"loss": 1.0, "grad_norm": 2.0, "skipped": skipped})
        reporter.flush()
    for number in range(1, 60):
        report(number, number // 2)  # every other step
    skipped = number // 2
    for number in range(60, 109):
        skipped += 1
        report(number, skipped)
    with pytest.raises(RuntimeError, match=r"50 steps in a row were skipped up to step 109 \(loss 1, gradient norm 2\)"):
        report(109, skipped + 1)
