"""`python -m slm.main --config=configs/JOB.py[:VARIANT[,key=value…]] [--config.field=value …] [--workdir=DIR]`"""

import importlib.util
import os
import sys
import time

from slm import distributed
from slm.memory import keep_freed_memory

STARTED = time.perf_counter()
keep_freed_memory()  # before any library starts threads, which would bring heaps of their own
# Compiled steps are kept for the next run; jax reads this when it is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath("runs/products/compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if importlib.util.find_spec("libtpu") and not distributed.tpu_is_here() and not importlib.util.find_spec("jax_plugins"):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu is here for planning, and complains of the missing TPU

from pathlib import Path  # noqa: E402

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from slm import config as configs  # noqa: E402
from slm import jobs  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "what to run: configs/JOB.py:VARIANT", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the run is kept (default: runs/JOB-VARIANT)")
_PREPARE = flags.DEFINE_bool("prepare", False, "only make what the run needs, and print the folder to give to its "
                             "processes (as --config.stream)")
_TRACEBACK = flags.DEFINE_bool("traceback", False, "show where an error came from")


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is not a flag: settings are given as --config.name=value")
    logging.set_verbosity(logging.ERROR)  # Orbax tells of every file it renames
    job = jobs.JOBS[_CONFIG.value.job]
    config = configs.freeze(job.config_class(), _CONFIG.value)
    if _PREPARE.value:
        print(jobs.prepare(config.job, config))
        return
    jobs.run(config.job, config, Path(_WORKDIR.value or f"runs/{config.job}-{config.variant}"), STARTED)


def _parse(arguments: list[str]) -> list[str]:
    """Parses flags; of an error inside a config file, ml_collections gives the traceback, of which the end is said."""
    try:
        return flags.FLAGS(jobs.find_config(arguments))
    except flags.Error as error:
        if "--traceback" in arguments:
            raise
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")


def run() -> None:
    """Parses flags and runs the job; what the user can mend is said in one sentence."""
    table = "\n".join(f"  configs/{name}.py  {job.summary}" for name, job in jobs.JOBS.items())
    sys.modules["__main__"].__doc__ = f"{__doc__}\n\nJobs:\n{table}\n"
    flags.mark_flag_as_required("config")
    try:
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on")
    except (ValueError, OSError, KeyError, AttributeError, TypeError, RuntimeError) as error:
        if "--traceback" in sys.argv:
            raise
        if "jax" in sys.modules and distributed.processes() > 1:
            distributed.end_with(error)
        sys.exit(f"error: {' '.join(str(error).split())}")


if __name__ == "__main__":
    run()
