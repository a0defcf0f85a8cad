"""Set how the C library keeps freed memory, which matters for training on a CPU."""

from __future__ import annotations

import ctypes
import sys

# Parameters of glibc's mallopt(3).
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4
LARGEST_INT = 2**31 - 1


def keep_freed_memory() -> None:
    """Make glibc reuse freed blocks instead of returning them to the system.

    PyTorch allocates every activation again on a CPU. By default glibc maps each large block and
    unmaps it when it is freed. Small networks then spend as long in page faults as in arithmetic.
    Does nothing without glibc.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, LARGEST_INT)
        mallopt(M_TOP_PAD, 64 << 20)
