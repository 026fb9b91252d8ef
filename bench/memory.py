"""Memory that is the machine's before it is used.

A virtual machine may hand free memory back to its host (free page reporting of the memory balloon), on ours within two
seconds. The first touch of such a page takes it from the host again: 0.8 s for a GiB, where to copy a GiB into pages
that are there takes 0.35 s. Which step of a comparison pays that is chance, so before each the memory that it will need
is touched and freed. On a machine that keeps its memory this changes nothing. No threads.
"""

from __future__ import annotations

import mmap


def supply(size: int) -> None:
    """Touch *size* bytes and free them: for a second or two the next to ask for pages has them at once."""
    if size > 0:
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_POPULATE", 0)
        mmap.mmap(-1, size, flags=flags).close()
