"""Dirty pages on their way to the disk before anybody waits for them.

Stateless; any thread may call. Where the system cannot be asked nothing happens: a later fdatasync takes longer.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

_WRITE: Final = 2  # SYNC_FILE_RANGE_WRITE: start, do not wait


def start_writeback(fd: int) -> None:
    """Ask the kernel to begin writing the file's dirty pages, without waiting: a later fdatasync finds little to do."""
    call = _sync_file_range()
    if call is not None:
        call(fd, 0, 0, _WRITE)


@lru_cache(maxsize=1)
def _sync_file_range() -> Callable[..., int] | None:
    import ctypes  # not needed to read

    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call.argtypes = (ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)
    return call
