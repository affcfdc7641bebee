"""Memory settings of the process that no library sets for us."""

import ctypes
import sys

# From glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """Tells glibc to keep freed memory, so that each step's buffers are not mapped and zeroed anew by the kernel.

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
