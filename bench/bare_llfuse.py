"""The ceiling of the llfuse transport: an in-memory file system that hashes nothing and stores nothing.

`python -m bench.bare_llfuse MOUNTPOINT` serves until it is unmounted. Bytes go into 64 MiB buffers that are allocated
and touched before the mount is ready (``--preallocate MIB``), so what is measured is the way, not the memory.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import signal
import stat
from typing import Any, Final

import llfuse

BUFFER_BYTES: Final = 1 << 26


class Bare(llfuse.Operations):  # type: ignore[misc] # llfuse has no types
    """One directory of files."""

    def __init__(self, preallocate: int) -> None:
        super().__init__()
        self._numbers = itertools.count(2)
        self._names: dict[bytes, int] = {}
        self._sizes: dict[int, int] = {}
        self._buffers: dict[int, list[bytearray]] = {}
        self._spare = [bytearray(b"\1" * BUFFER_BYTES) for _ in range(-(-preallocate // BUFFER_BYTES))]

    def _attributes(self, inode: int) -> Any:
        entry = llfuse.EntryAttributes()
        entry.st_ino = inode
        entry.entry_timeout = entry.attr_timeout = 300
        entry.st_mode = stat.S_IFDIR | 0o777 if inode == llfuse.ROOT_INODE else stat.S_IFREG | 0o666
        entry.st_size = self._sizes.get(inode, 0)
        entry.st_nlink = 1
        entry.st_blksize = 1 << 17
        return entry

    def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        if name not in self._names:
            raise llfuse.FUSEError(errno.ENOENT)
        return self._attributes(self._names[name])

    def getattr(self, inode: int, ctx: Any) -> Any:
        return self._attributes(inode)

    def setattr(self, inode: int, attr: Any, fields: Any, handle: int | None, ctx: Any) -> Any:
        if fields.update_size:
            self._sizes[inode] = attr.st_size
        return self._attributes(inode)

    def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        inode = next(self._numbers)
        self._names[name] = inode
        self._sizes[inode] = 0
        self._buffers[inode] = []
        return inode, self._attributes(inode)

    def open(self, inode: int, flags: int, ctx: Any) -> int:
        return inode

    def opendir(self, inode: int, ctx: Any) -> int:
        return inode

    def readdir(self, handle: int, offset: int) -> Any:
        for index, (name, inode) in enumerate(list(self._names.items())[offset:], start=offset + 1):
            yield name, self._attributes(inode), index

    def read(self, handle: int, offset: int, size: int) -> bytes:
        piece, at = divmod(offset, BUFFER_BYTES)
        size = max(0, min(size, self._sizes[handle] - offset, BUFFER_BYTES - at))
        return bytes(memoryview(self._buffers[handle][piece])[at : at + size]) if size else b""

    def write(self, handle: int, offset: int, data: bytes) -> int:
        buffers = self._buffers[handle]
        piece, at = divmod(offset, BUFFER_BYTES)
        while len(buffers) <= piece:
            buffers.append(self._spare.pop() if self._spare else bytearray(BUFFER_BYTES))
        buffers[piece][at : at + len(data)] = data
        self._sizes[handle] = max(self._sizes[handle], offset + len(data))
        return len(data)

    def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        inode = self._names.pop(name)
        self._spare.extend(self._buffers.pop(inode, []))

    def statfs(self, ctx: Any) -> Any:
        data = llfuse.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 1 << 30
        data.f_files = data.f_ffree = 1 << 20
        return data


def main() -> None:
    """Mount and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mountpoint")
    parser.add_argument("--preallocate", type=int, default=0, metavar="MIB")
    parser.add_argument("--workers", type=int, default=8)
    options = parser.parse_args()
    signal.signal(signal.SIGUSR1, lambda *_: None)
    fuse_options = set(llfuse.default_options) | {"fsname=bare", "big_writes", "max_read=131072"}
    fuse_options.discard("nonempty")
    llfuse.init(Bare(options.preallocate << 20), options.mountpoint, fuse_options)
    try:
        llfuse.main(workers=options.workers)
    finally:
        llfuse.close()


if __name__ == "__main__":
    main()
