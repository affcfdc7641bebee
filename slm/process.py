"""This process: when it started, and memory settings that no library makes for us."""

import ctypes
import sys
import time

STARTED = time.perf_counter()  # main imports this module first

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def seconds() -> float:
    """Since the process started."""
    return time.perf_counter() - STARTED


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory, so that the kernel does not map and zero each step's buffers again.

    Training on CPU is about 1.5 times as fast with it (docs/LOG.md); no number changes. Only Linux with glibc has these
    settings, and they must be made before threads exist.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        mallopt(_ARENA_MAX, 1)
