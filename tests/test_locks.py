"""Two of the same command in one workdir: the second ends with a sentence, and what the first holds is released."""

import os
import signal
import subprocess
import sys

import pytest

from slm import jobs
from slm.evaluation.compare import CompareConfig
from slm.local.serve import ServeConfig
from slm.locks import locked

HOLD = "import sys, time; from pathlib import Path; from slm.locks import locked\nwith locked(Path(sys.argv[1])):\n" \
       "    print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock of `tmp_path`."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()


def test_the_second_job_in_a_workdir_is_refused_and_leaves_it_alone(holder, tmp_path):
    with pytest.raises(RuntimeError, match=f"another process is at work in {tmp_path}: wait until it has ended"):
        jobs.run("compare", CompareConfig(runs="a,b"), tmp_path)
    assert not list(tmp_path.iterdir())


def test_chats_and_servers_may_share_a_workdir(holder, tmp_path, monkeypatch):
    monkeypatch.setattr("slm.local.serve.run", lambda config, workdir: {"served": 1})
    assert jobs.run("serve", ServeConfig(), tmp_path) == {"served": 1}


def test_a_killed_process_releases_its_lock(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with locked(tmp_path):
        pass


def test_the_lock_of_an_error_is_released(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path):
        raise KeyError
    with locked(tmp_path), pytest.raises(RuntimeError, match="at work"), locked(tmp_path):
        pass
