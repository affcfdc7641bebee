"""`python -m slm.main --config=configs/JOB.py[:VARIANT[,key=value…]] [--config.field=value …] [--workdir=DIR]`"""

import importlib.util
import os
import sys

from slm import distributed, process

process.keep_freed_memory()  # before any library starts threads, each of which would get a heap
# Compiled steps are kept for the next run; jax reads this when it is first imported.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", os.path.abspath("runs/products/compiled"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.2")
if importlib.util.find_spec("libtpu") and not distributed.tpu_is_here() and not importlib.util.find_spec("jax_plugins"):
    os.environ.setdefault("JAX_PLATFORMS", "cpu")  # libtpu is installed for planning, and warns that no TPU is here

import itertools  # noqa: E402
import re  # noqa: E402
import runpy  # noqa: E402
import traceback  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

from absl import app, flags, logging  # noqa: E402
from ml_collections import config_flags  # noqa: E402

from slm import config as configs  # noqa: E402
from slm import jobs  # noqa: E402

_CONFIG = config_flags.DEFINE_config_file("config", None, "what to run: configs/JOB.py:VARIANT", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "the folder of the run (default: runs/JOB-VARIANT)")
_PREPARE = flags.DEFINE_bool("prepare", False, "only build what the run needs, and print the folder to give to its "
                             "processes (as --config.stream)")
_READABLE = flags.DEFINE_bool("readable_by_others", False, "let other users of this machine read what is written, as "
                              "your umask allows; by default files are 0600 and folders 0700")
_TRACEBACK = flags.DEFINE_bool("traceback", False, "show where an error came from, with its text")


def main(arguments: list[str]) -> None:
    if len(arguments) > 1:
        raise app.UsageError(f"{arguments[1]!r} is not a flag: settings are given as --config.name=value")
    logging.set_verbosity(logging.ERROR)  # Orbax reports every file it renames
    if not _READABLE.value:
        os.umask(0o077)  # what jobs write may hold records and answers
    name = _CONFIG.value.job
    job = jobs.JOBS[name]
    config: Any = configs.freeze(job.config_class(), _CONFIG.value)
    if _PREPARE.value:
        if not job.multi_process:
            raise ValueError(f"configs/{name}.py has nothing to prepare: run it without --prepare")
        print(job.module.prepare(config))
        return
    jobs.run(name, config, Path(_WORKDIR.value or f"runs/{name}-{_CONFIG.value.variant}"))


def find_config(arguments: list[str]) -> list[str]:
    """A command line, with its config from the current folder, or else from this package."""
    replaced = list(arguments)
    for index, argument in enumerate(arguments):
        flag = "--config=" if argument.startswith("--config=") else ""
        path, colon, variant = argument.removeprefix(flag).partition(":")
        if (flag or arguments[index - 1] == "--config") and not Path(path).exists():
            bundled = Path(__file__).parent / path
            if not bundled.exists():
                sys.exit(f"error: {path} is missing: known are {', '.join(f'configs/{job}.py' for job in jobs.JOBS)}")
            replaced[index] = f"{flag}{bundled}{colon}{variant}"
    return replaced


def _parse(arguments: list[str]) -> list[str]:
    """Parses flags; an unknown setting is an error that lists the known ones."""
    arguments = find_config(arguments)
    try:
        _check_settings(arguments)
        return flags.FLAGS(arguments)
    except (flags.Error, ValueError) as error:
        if "--traceback" in arguments:
            raise
        sys.exit(f"error: {str(error).strip().splitlines()[-1]}")  # ml_collections wraps an error in a traceback


def _check_settings(arguments: list[str]) -> None:
    named = [value for flag, value in itertools.pairwise(arguments) if flag == "--config"]
    named += [argument.partition("=")[2] for argument in arguments if argument.startswith("--config=")]
    settings = [argument.removeprefix("--config.").partition("=")[0] for argument in arguments
                if argument.startswith("--config.")]
    if not named or not settings:
        return
    path, _, variant = named[-1].partition(":")
    known = configs.names(runpy.run_path(path)["get_config"](variant or None))
    for setting in settings:
        if setting not in known:
            raise ValueError(f"--config.{setting} is no setting of {Path(path).name}"
                             f"{configs.renamed(setting, known)}: known are {', '.join(known)}")


def _is_message(error: BaseException) -> bool:
    """Whether an error is one of our own sentences about the input, or the system's about a file or a device.

    Ours are raised by a `raise` in this package. The same types from a library, or from Python itself (an `int` of the
    wrong text), are nobody's sentence, and may hold a record.
    """
    if isinstance(error, OSError) or type(error).__name__ == "JaxRuntimeError":  # the latter: out of memory, say
        return True
    file, line = _raised(error)
    return (isinstance(error, (ValueError, RuntimeError)) and Path(file).is_relative_to(Path(__file__).parent)
            and line.startswith("raise"))


def _raised(error: BaseException) -> tuple[str, str]:
    """File and source line that raised an error; of one that a worker process passed on, those in the worker."""
    passed_on = getattr(error.__cause__, "tb", None)  # a RemoteTraceback's text
    if isinstance(passed_on, str):
        indented = re.search(r"^Traceback \(most recent call last\):\n((?: .*\n)+)", passed_on, re.MULTILINE)
        lines = re.findall(r'^  File "(.+)", line \d+.*\n    (.*)', indented[1] if indented else "", re.MULTILINE)
        return lines[-1] if lines else ("", "")
    frames = traceback.extract_tb(error.__traceback__)
    return (frames[-1].filename, frames[-1].line or "") if frames else ("", "")


def _fault(error: BaseException) -> str:
    """An unexpected error without its text, which may hold a record."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__)
              if Path(frame.filename).is_relative_to(Path(__file__).parent)]
    where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno} ({frames[-1].name})" if frames else "a library"
    return (f"{type(error).__name__} in {where}: a fault of the program or one of its libraries, or input that nobody "
            "thought of. Please report it with this line; --traceback shows all of it, which may include input text")


def run() -> None:
    """Parses flags and runs the job; what the user can correct is reported in one sentence."""
    table = "\n".join(f"  configs/{name}.py  {job.summary}" for name, job in jobs.JOBS.items())
    sys.modules["__main__"].__doc__ = f"{__doc__}\n\nJobs:\n{table}\n"
    flags.mark_flag_as_required("config")
    try:
        app.run(main, flags_parser=_parse)
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command resumes")
    except Exception as error:
        if "--traceback" in sys.argv:
            raise
        message = " ".join(str(error).split()) if _is_message(error) else _fault(error)
        if "jax" in sys.modules and distributed.processes() > 1:
            distributed.end_with(error, message)
        sys.exit(f"error: {message}")


if __name__ == "__main__":
    run()
