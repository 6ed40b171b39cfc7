"""How the C library keeps memory that is free again: on a device it goes back to the system at once."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8  # of glibc's malloc.h
KEPT_BYTES = 64 * 1024
"""Free memory at the heap's end that is kept for what comes next."""
APART_BYTES = 32 * 1024
"""Blocks from this size on (a run of frames, a batch) get pages of their own, and leave no holes in the heap."""


def give_back() -> None:
    """Settle it before there are threads. Without effect where the C library is another than glibc.

    glibc by itself keeps whatever a busy moment took, once in each thread's arena.
    """
    with suppress(AttributeError, OSError):
        settle = ctypes.CDLL(None).mallopt
        settle(_ARENA_MAX, 1)
        settle(_TRIM_THRESHOLD, KEPT_BYTES)
        settle(_MMAP_THRESHOLD, APART_BYTES)


def tidy() -> None:
    """Give back what start-up left behind in the midst of the heap, as modules do while they are imported."""
    gc.collect()
    gc.freeze()  # what is there now stays: no collection needs to look at it again
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
