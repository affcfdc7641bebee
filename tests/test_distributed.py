import os
import threading

import jax
import pytest

from slm import distributed


@pytest.mark.parametrize("cause, said", [
    ("UNAVAILABLE: Gloo all-reduce failed: Connection reset by peer", "lost the others (UNAVAILABLE: Gloo"),
    ("RESOURCE_EXHAUSTED: Out of memory allocating 12 GB", "error: RESOURCE_EXHAUSTED: Out of memory allocating 12 GB\n")])
def test_a_process_says_what_ended_it(monkeypatch, capsys, cause, said):
    codes = []
    monkeypatch.setattr(os, "_exit", codes.append)
    distributed.end_with(jax.errors.JaxRuntimeError(cause), cause)
    assert codes == [1] and said in capsys.readouterr().err


def test_sigterm_is_heard_in_the_main_thread_only_and_given_back():
    import signal
    before = signal.getsignal(signal.SIGTERM)
    preemption = distributed.Preemption()
    assert not preemption.reached(1)
    os.kill(os.getpid(), signal.SIGTERM)
    assert preemption.reached(2)
    preemption.close()
    assert signal.getsignal(signal.SIGTERM) is before
    made = []
    thread = threading.Thread(target=lambda: made.append(distributed.Preemption()))
    thread.start()
    thread.join()
    assert not made[0].reached(1)


def test_without_an_environment_that_tells_of_others_a_process_is_alone(monkeypatch):
    monkeypatch.setattr(distributed, "tpu_is_here", lambda: False)
    for name in ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID", "SLURM_STEP_NUM_TASKS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", pytest.fail)
    distributed.initialize()
    assert distributed.processes() == 1 and distributed.is_first()


def test_a_slurm_step_of_several_tasks_is_joined(monkeypatch):
    called = {}
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "16")
    monkeypatch.setattr(jax.distributed, "initialize", lambda **chosen: called.update(chosen))
    distributed.initialize()
    assert called["cluster_detection_method"] == "slurm" and called["heartbeat_timeout_seconds"] <= 60
