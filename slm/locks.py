"""Locks on folders. The system releases them when a process ends, however it ends."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

_HELD: set[int] = set()


# A process that is forked meanwhile (datatrove's manager) may outlive a killed run: it must not hold its locks.
def _close() -> None:
    while _HELD:
        os.close(_HELD.pop())


os.register_at_fork(after_in_child=_close)


@contextlib.contextmanager
def locked(folder: Path, wait: bool = False) -> Iterator[None]:
    """Holds the lock of an existing folder.

    Args:
      wait: for another process that holds it.

    Raises:
      RuntimeError: another process holds it, and `wait` is false.
    """
    lock = os.open(folder, os.O_RDONLY)
    _HELD.add(lock)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            raise RuntimeError(f"another process is at work in {folder}: wait until it has ended, or give another "
                               "--workdir") from None
        yield
    finally:
        _HELD.discard(lock)
        os.close(lock)
