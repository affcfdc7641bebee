"""Several processes, other meshes, and SIGTERM: the command line on 127.0.0.1 and pretended devices."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent
STEPS = 40
DEBUG = ["--config=configs/pretrain.py:debug", f"--config.train.steps={STEPS}", "--config.train.save_every=5",
         "--config.train.evaluate_every=20", "--config.train.tensorboard=false"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("processes")
    (path / "configs").symlink_to(ROOT / "configs")
    return path


def start(folder, *arguments, devices=1, **environment):
    flags = f"--xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-m", "slm.main", *arguments], cwd=folder, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(ROOT), "XLA_FLAGS": flags, **environment})


def start_pair(folder, *arguments):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    return [start(folder, *arguments, JAX_COORDINATOR_ADDRESS=address, JAX_NUM_PROCESSES="2", JAX_PROCESS_ID=str(number))
            for number in range(2)]


def finish(*processes, code=0):
    said = [process.communicate(timeout=200) for process in processes]
    for process, (_, err) in zip(processes, said):
        assert process.returncode == code, err
    return said


def lines(workdir):
    path = workdir / "metrics.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(row["step"], row["loss"], row["grad_norm"]) for row in rows]


def wait_for(workdir, steps, process):
    until = time.monotonic() + 120
    while len((workdir / "metrics.jsonl").read_text().splitlines() if workdir.exists() and (
            workdir / "metrics.jsonl").exists() else ()) < steps:
        assert process.poll() is None and time.monotonic() < until, "it ended before it could be stopped"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def stream(folder):
    out, _ = finish(start(folder, *DEBUG, "--prepare"))[0]
    assert (folder / out.splitlines()[-1] / "tokenizer").is_dir()
    return f"--config.stream={out.splitlines()[-1]}"


@pytest.fixture(scope="module")
def whole(folder, stream):
    """The losses of a run on one device that nothing interrupts."""
    finish(start(folder, *DEBUG, stream, "--workdir=runs/whole"))
    return lines(folder / "runs" / "whole")


def assert_the_same(one, other):
    assert [step for step, *_ in one] == [step for step, *_ in other] == list(range(1, STEPS + 1))
    np.testing.assert_allclose([loss for _, loss, _ in one], [loss for _, loss, _ in other], atol=1e-5)


@pytest.mark.slow
def test_two_processes_equal_one_and_survive_the_loss_of_one(folder, stream, whole):
    finish(*start_pair(folder, *DEBUG, stream, "--workdir=runs/pair"))
    pair = lines(folder / "runs" / "pair")
    assert_the_same(pair, whole)
    finish(*start_pair(folder, *DEBUG, stream, "--workdir=runs/pair"))  # done already: all agree that it is
    assert lines(folder / "runs" / "pair") == pair

    killed = folder / "runs" / "killed"
    first, second = start_pair(folder, *DEBUG, stream, "--workdir=runs/killed")
    wait_for(killed, 12, first)
    second.kill()
    second.communicate()
    _, err = first.communicate(timeout=60)
    assert first.returncode != 0 and "Traceback" not in err
    assert "process 0 of 2 lost the others" in err and "start all processes again" in err
    said = finish(*start_pair(folder, *DEBUG, stream, "--workdir=runs/killed"))
    assert "resuming from step" in said[0][0] and " step " not in said[1][0]  # one of them speaks
    assert lines(killed) == pair  # to the last bit


@pytest.mark.slow
def test_eight_devices_then_two_then_one_equal_one_run_throughout(folder, stream, whole):
    workdir = folder / "runs" / "moved"
    for devices, steps in ((8, 7), (2, 19)):
        process = start(folder, *DEBUG, stream, "--workdir=runs/moved", devices=devices)
        wait_for(workdir, steps, process)
        process.send_signal(signal.SIGTERM)
        out, err = finish(process, code=75)[0]  # EX_TEMPFAIL: the scheduler starts it again
        assert "rematerialization" not in err  # the partitioner's word for moving an array whole
        saved = len(lines(workdir))
        assert f"preempted: saved step {saved} of {STEPS}; the same command resumes" in out
        assert max(int(path.name) for path in (workdir / "checkpoints").iterdir()) == saved >= steps
        assert not (workdir / "result.json").exists()
    # A device's checkpoint of eight is read by a process that has one.
    out, _ = finish(start(folder, "--config=configs/generate.py", f"--config.checkpoint={workdir}",
                          "--config.new_tokens=3", "--workdir=runs/generated"))[0]
    assert "患者は→" in out
    out, _ = finish(start(folder, *DEBUG, stream, "--workdir=runs/moved"))[0]
    assert f"resuming from step {saved}" in out
    assert_the_same(lines(workdir), whole)


def test_several_processes_make_no_products(folder):
    for _, err in finish(*start_pair(folder, *DEBUG, "--workdir=runs/none"), code=1):
        assert ("error: 2 processes do not build a token stream together: build it on one machine with python -m slm.main "
                "--config=configs/pretrain.py:debug --prepare and the same settings" in err)


@pytest.mark.parametrize("arguments, environment, message", [
    ([], {"JAX_COORDINATOR_ADDRESS": "127.0.0.1:1"}, "JAX_NUM_PROCESSES is missing, JAX_PROCESS_ID is missing"),
    ([], {"JAX_COORDINATOR_ADDRESS": "a:1", "JAX_NUM_PROCESSES": "two", "JAX_PROCESS_ID": "0"}, "JAX_NUM_PROCESSES=two"),
    (["--config.mesh.tensor=3"], {}, "tensor=3 does not fit 1 devices"),
    (["--config.stream=nowhere"], {}, "nowhere holds no token stream (nowhere/manifest.json is missing)"),
    (["--config.train.checkpoints=gs://bucket/run"], {}, "pip install 'slm[gcs]'"),
])
def test_mistakes_get_one_clear_sentence(folder, stream, arguments, environment, message):
    arguments = arguments if any("stream" in one for one in arguments) else [*arguments, stream]
    process = start(folder, *DEBUG, *arguments, "--workdir=runs/mistake-" + message[:5], **environment)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 1 and message in err and "Traceback" not in err, err


def test_the_checkpoints_of_a_run_stay_its_own(folder, stream, whole):
    _, err = finish(start(folder, *DEBUG, stream, "--config.train.checkpoints=runs/elsewhere", "--workdir=runs/whole"),
                    code=1)[0]
    assert "runs/whole holds a run with config.train.checkpoints='', this one has 'runs/elsewhere'" in err
    assert lines(folder / "runs" / "whole") == whole
    _, err = finish(start(folder, *DEBUG, stream, "--config.train.checkpoints=runs/whole/checkpoints",
                          "--config.optimizer.beta1=0.5", "--workdir=runs/other"), code=1)[0]
    assert "the checkpoint of runs/other is of a run with config.optimizer.beta1=0.9, this one has 0.5" in err


def test_a_mesh_needs_rows_for_its_devices(folder, stream):
    _, err = finish(start(folder, *DEBUG, stream, "--config.rows.batch_size=12", "--workdir=runs/rows", devices=8),
                    code=1)[0]
    assert "rows.batch_size=12 cannot be shared by data=1 × fsdp=8 devices" in err


def test_only_trainings_are_prepared(folder):
    _, err = finish(start(folder, "--config=configs/generate.py", "--prepare"), code=1)[0]
    assert "configs/generate.py has nothing to prepare" in err
