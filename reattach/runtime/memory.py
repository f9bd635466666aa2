"""Advice to the C library's allocator, and to the garbage collector."""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_KEPT_BYTES = 64 << 20
_LARGEST_FROM_HEAP = 32 << 20
_ARENAS = 2

_NEW_OBJECTS = 50_000


def keep_freed_buffers() -> None:
    """For a process that works through data in buffers of megabytes: freed ones are used again.

    glibc would give each back to the kernel, and take it again for the next batch, page fault by page fault.
    That took more time than reading the data did. At most 64 MiB are kept, in each of two heaps. Call it
    before threads start. C libraries that have no such setting are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_FROM_HEAP)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)


def collect_seldom() -> None:
    """For a process that makes some hundred thousand objects at once and keeps them, as a plan does.

    The collector would look at all of them after each few hundred, and then again: a sixth of the time of an
    import of many small relations, and more for each the more there are. What the process has by now is not
    looked at any more. Cycles wait until there are 50,000 objects more than before, a few megabytes.
    """
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS)
