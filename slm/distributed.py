"""Several processes, one run: discovered from the environment, ended together.

A TPU pod runs a process a host, a GPU cluster a process a GPU. Process 0 writes the files.
"""

import importlib.util
import os
import signal
import sys
import threading
from pathlib import Path
from typing import NoReturn

PREEMPTED = 75  # exit code (EX_TEMPFAIL): saved, start the same command again
_HEARTBEAT_SECONDS = 25  # of silence, after which a process counts as dead
_LOST = ("Gloo", "UNAVAILABLE", "DEADLINE_EXCEEDED", "ABORTED", "Connection", "heartbeat", "NCCL")
_EXPLICIT = ("JAX_COORDINATOR_ADDRESS", "JAX_NUM_PROCESSES", "JAX_PROCESS_ID")


def tpu_is_here() -> bool:
    """Whether this machine has a TPU; newer ones are devices of Google's behind VFIO, as are others of other makers."""
    google = any(path.read_text().strip() == "0x1ae0" for path in Path("/sys/bus/pci/devices").glob("*/vendor"))
    return any(Path("/dev").glob("accel[0-9]*")) or (google and any(Path("/dev/vfio").glob("[0-9]*")))


def initialize() -> None:
    """Joins the other processes of this run, if the environment names any; call it before anything is computed.

    Explicit: JAX_COORDINATOR_ADDRESS (HOST:PORT of process 0), JAX_NUM_PROCESSES and JAX_PROCESS_ID. Slurm: a step that
    `srun` started with several tasks. TPU: a TPU machine with libtpu.

    Raises:
      ValueError: of the three explicit settings some are missing or no numbers.
    """
    settings = {name: os.environ[name] for name in _EXPLICIT if name in os.environ}
    chosen: dict = {}
    if settings:
        missing = [name for name in _EXPLICIT if name not in settings]
        wrong = [f"{name}={settings[name]}" for name in _EXPLICIT[1:] if not settings.get(name, "0").isdecimal()]
        if missing or wrong:
            raise ValueError(f"to join processes explicitly, {', '.join(_EXPLICIT)} are all needed, the last two as "
                             f"numbers: {', '.join([*(f'{name} is missing' for name in missing), *wrong])}")
        chosen = {"coordinator_address": settings[_EXPLICIT[0]], "num_processes": int(settings[_EXPLICIT[1]]),
                  "process_id": int(settings[_EXPLICIT[2]]), "cluster_detection_method": "deactivate"}
    elif int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1:
        chosen = {"cluster_detection_method": "slurm"}
    elif not (tpu_is_here() and importlib.util.find_spec("libtpu") and os.environ.get("JAX_PLATFORMS") != "cpu"):
        return
    import jax
    if jax.distributed.is_initialized():  # a second run in a notebook
        return
    try:
        jax.distributed.initialize(**chosen, heartbeat_timeout_seconds=_HEARTBEAT_SECONDS, shutdown_timeout_seconds=60)
    except ValueError:
        if chosen:
            raise  # else: a single TPU machine, whose environment names no neighbours


def processes() -> int:
    import jax
    return jax.process_count() if jax.distributed.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    import jax
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def broadcast_from_first(value: int) -> int:
    """The first process' value, for all of them."""
    if processes() == 1:
        return value
    import numpy as np
    from jax.experimental import multihost_utils
    return int(multihost_utils.broadcast_one_to_all(np.int32(value)))


class Preemption:
    """Notices SIGTERM, with which schedulers announce that a machine is about to be taken away."""

    def __init__(self):
        self._asked, self._before = False, None
        if processes() == 1 and threading.current_thread() is threading.main_thread():  # of several, jax listens
            self._before = signal.signal(signal.SIGTERM, self._ask)

    def _ask(self, *_) -> None:
        self._asked = True

    def reached(self, step: int) -> bool:
        """Whether to save and end after `step`; the same answer in every process."""
        if processes() == 1:
            return self._asked
        from jax.experimental import multihost_utils
        return multihost_utils.reached_preemption_sync_point(step)

    def close(self) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)


def end_with(error: Exception, message: str) -> NoReturn:
    """Ends one of several processes at once, with a sentence: a polite end would wait for those that are gone."""
    import jax
    text = " ".join(str(error).split())
    if isinstance(error, jax.errors.JaxRuntimeError) and any(sign in text for sign in _LOST):
        message = (f"process {jax.process_index()} of {jax.process_count()} lost the others ({text[:200]}): start all "
                   "processes again, they resume from the last checkpoint")
    print(f"error: {message}", file=sys.stderr, flush=True)
    sys.stdout.flush()
    os._exit(1)
