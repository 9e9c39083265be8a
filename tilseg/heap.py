"""Keep memory that is freed, so that the next prediction need not be given it page by page, and
give it back after the last one."""

from __future__ import annotations

import ctypes
import functools
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import Any

_MAX_INT = 2**31 - 1
# Parameter of mallopt (from glibc's malloc.h), variable that says the same to a new process, value.
_SETTINGS = (
    (-4, "MALLOC_MMAP_MAX_", 0),
    (-1, "MALLOC_TRIM_THRESHOLD_", _MAX_INT),
    (-8, "MALLOC_ARENA_MAX", 1),
)
# For the environment of processes begun by this one.
ENVIRONMENT = {name: value for _, name, value in _SETTINGS}

# In the size that stands before every block (glibc's malloc.c): "of another heap than the main".
_NON_MAIN_ARENA = 4
_MOST_HEAPS = 100


@functools.cache
def keep_freed_memory() -> bool:
    """Tell glibc to keep large freed blocks in the process; False where libc is another.

    By default every activation of a network is mapped from the system and given back, and each
    of its pages is faulted in and zeroed again in the next layer: two fifths of the time of a
    prediction in float32. Memory stays bounded: what is freed is used again, and the process
    keeps the most it ever had at once, plus the gaps between blocks that are still in use (up
    to a half more, measured on U-Nets).

    Only the main heap keeps what it is given back. A thread may have been given another, if
    there was one before this was called: see `thread_of_kept_heap`.
    """
    libc = _glibc()
    if libc is None:
        return False
    return all(libc.mallopt(parameter, value) for parameter, _, value in _SETTINGS)


def give_back_freed_memory() -> None:
    """Let the system have what is free in the process; the next prediction is slower to begin."""
    libc = _glibc()
    if libc is not None:
        libc.malloc_trim(0)


def thread_of_kept_heap(name: str) -> ThreadPoolExecutor:
    """An executor of one thread whose memory comes from the heap that is kept.

    glibc hands its heaps to new threads in turn, so threads are begun until one has the right
    one. On another than that a network gave 2.0 Mpix/s instead of 3.2.
    """
    others: list[ThreadPoolExecutor] = []
    while True:
        executor = ThreadPoolExecutor(1, thread_name_prefix=name)
        if executor.submit(_has_kept_heap).result() or len(others) == _MOST_HEAPS:
            break
        others.append(executor)
    for other in others:
        other.shutdown()
    return executor


def _has_kept_heap() -> bool:
    libc = _glibc()
    if libc is None or not keep_freed_memory():
        return True
    # Larger than what a thread keeps for itself of blocks it was lent by others.
    block = libc.malloc(2**14)
    size = ctypes.c_size_t.from_address(block - ctypes.sizeof(ctypes.c_size_t)).value
    libc.free(ctypes.c_void_p(block))
    return not size & _NON_MAIN_ARENA


@functools.cache
def _glibc() -> Any:
    """The C library, or None where it is another than glibc."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return None
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = (ctypes.c_size_t,)
    libc.malloc_trim.argtypes = (ctypes.c_size_t,)
    return libc
