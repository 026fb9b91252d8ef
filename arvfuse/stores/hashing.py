"""Read a file once and say what block it is.

Stateless: any thread may call with a descriptor of its own or a shared one (only preads). An OSError passes as it is.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Final, NamedTuple

from arvfuse.model.checks import PIECE_BYTES, BlockHasher

# A whole number of pieces; small enough to stay in the L2 cache between md5 and xxh3.
CHUNK_BYTES: Final = 16 * PIECE_BYTES


class Hashed(NamedTuple):
    """What was found in a file: its md5 (hex), its bytes, xxh3_64 of each 64 KiB."""

    digest: str
    size: int
    checks: bytes


def hash_file(fd: int) -> Hashed:
    """Hash everything in *fd*, from its start. Memory: one chunk."""
    hasher = BlockHasher()
    buffer = memoryview(bytearray(CHUNK_BYTES))
    while got := read_into(fd, buffer, hasher.size):
        hasher.update(buffer[:got])
    return Hashed(hasher.digest(), hasher.size, hasher.checks())


def read_into(fd: int, view: memoryview, offset: int) -> int:
    """Fill *view* from *offset* of the file; fewer bytes only at its end. (A short pread is no end of file.)"""
    done = 0
    while done < len(view):
        got = os.preadv(fd, [view[done:]], offset + done)
        if not got:
            break
        done += got
    return done


def write_all(fd: int, view: memoryview, offset: int) -> None:
    """Write the whole *view* at *offset*, however short the single writes are."""
    while view:
        done = os.pwrite(fd, view, offset)
        view = view[done:]
        offset += done


def same_content(fd: int, size: int, read: Callable[[int, int], bytes]) -> bool:
    """Whether the file holds exactly the *size* bytes that *read* (offset, length) gives.

    Compared as bytes, a memcmp: memoryviews are compared element by element, a hundred times slower."""
    if os.fstat(fd).st_size != size:
        return False
    buffer = bytearray(min(CHUNK_BYTES, size))
    for offset in range(0, size, CHUNK_BYTES):
        length = min(CHUNK_BYTES, size - offset)
        if length < len(buffer):
            del buffer[length:]  # the last chunk
        with memoryview(buffer) as view:
            got = read_into(fd, view, offset)
        if got != length or buffer != read(offset, length):
            return False
    return True
