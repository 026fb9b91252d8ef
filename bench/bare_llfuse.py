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
from collections.abc import Iterator, Sequence
from typing import Any, Final

import llfuse

from bench.bare_tree import Node, Tree

TIMEOUT_S: Final = 300


class Bare(llfuse.Operations):  # type: ignore[misc] # llfuse has no types
    """The tree as llfuse's handlers; all run while holding its global lock."""

    def __init__(self, preallocate: int) -> None:
        super().__init__()
        self._tree: Final = Tree(preallocate)
        self._listings: Final[dict[int, list[tuple[bytes, Node]]]] = {}
        self._handles: Final = itertools.count(1)

    def lookup(self, parent: int, name: bytes, ctx: Any) -> Any:
        node = self._tree.nodes[parent].children().get(name)
        if node is None:
            raise llfuse.FUSEError(errno.ENOENT)
        return _entry(node)

    def forget(self, inodes: Sequence[tuple[int, int]]) -> None:
        for no, lookups in inodes:
            self._tree.forget(no, lookups)

    def getattr(self, inode: int, ctx: Any) -> Any:
        return _attributes(self._tree.nodes[inode])

    def setattr(self, inode: int, attr: Any, fields: Any, handle: int | None, ctx: Any) -> Any:
        node = self._tree.nodes[inode]
        if fields.update_size:
            self._tree.resize(node, attr.st_size)
        if fields.update_mode:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(attr.st_mode)
        if fields.update_mtime:
            node.mtime_ns = attr.st_mtime_ns
        return _attributes(node)

    def create(self, parent: int, name: bytes, mode: int, flags: int, ctx: Any) -> Any:
        node = self._tree.make(parent, name, stat.S_IFREG | stat.S_IMODE(mode))
        return node.no, _entry(node)

    def mkdir(self, parent: int, name: bytes, mode: int, ctx: Any) -> Any:
        return _entry(self._tree.make(parent, name, stat.S_IFDIR | stat.S_IMODE(mode)))

    def unlink(self, parent: int, name: bytes, ctx: Any) -> None:
        self._tree.remove(parent, name)

    def rmdir(self, parent: int, name: bytes, ctx: Any) -> None:
        if self._tree.nodes[parent].children()[name].entries:
            raise llfuse.FUSEError(errno.ENOTEMPTY)
        self._tree.remove(parent, name)

    def rename(self, parent: int, name: bytes, new_parent: int, new_name: bytes, ctx: Any) -> None:
        self._tree.move(parent, name, new_parent, new_name)

    def open(self, inode: int, flags: int, ctx: Any) -> int:
        return inode

    def opendir(self, inode: int, ctx: Any) -> int:
        handle = next(self._handles)
        self._listings[handle] = self._tree.listing(inode)[2:]
        return handle

    def readdir(self, handle: int, offset: int) -> Iterator[tuple[bytes, Any, int]]:
        for index, (name, node) in enumerate(self._listings[handle][offset:], start=offset + 1):
            yield name, _attributes(node), index

    def releasedir(self, handle: int) -> None:
        del self._listings[handle]

    def read(self, handle: int, offset: int, size: int) -> Any:
        found = self._tree.read(self._tree.nodes[handle], offset, size)
        return b"".join(found) if isinstance(found, list) else bytes(found)

    def write(self, handle: int, offset: int, data: bytes) -> int:
        self._tree.write(self._tree.nodes[handle], offset, data)
        return len(data)

    def flush(self, handle: int) -> None: ...

    def fsync(self, handle: int, datasync: bool) -> None: ...

    def release(self, handle: int) -> None: ...

    def getxattr(self, inode: int, name: bytes, ctx: Any = None) -> bytes:
        raise llfuse.FUSEError(errno.ENOSYS)

    def statfs(self, ctx: Any) -> Any:
        data = llfuse.StatvfsData()
        data.f_bsize = data.f_frsize = 4096
        data.f_blocks = data.f_bfree = data.f_bavail = 1 << 30
        data.f_files = data.f_ffree = 1 << 20
        return data


def _entry(node: Node) -> Any:
    node.lookups += 1
    return _attributes(node)


def _attributes(node: Node) -> Any:
    entry = llfuse.EntryAttributes()
    entry.st_ino = node.no
    entry.entry_timeout = entry.attr_timeout = TIMEOUT_S
    entry.st_mode = node.mode
    entry.st_size = node.size
    entry.st_nlink = 1 if node.entries is None else 2
    entry.st_blksize = 1 << 17
    entry.st_mtime_ns = node.mtime_ns
    return entry


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
