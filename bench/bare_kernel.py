"""The ceiling of the kernel transport: an in-memory file system on /dev/fuse in Python that hashes and stores nothing.

`python -m bench.bare_kernel MOUNTPOINT` serves until it is unmounted. It asks the kernel for what the kernel driver
asks for (write-back, 1 MiB requests, readdirplus, parallel operations in directories), waits for requests the same
ways (``--latency``), and does nothing else. Bytes go into 64 MiB buffers that are allocated and touched before the
mount is ready (``--preallocate MIB``), so what is measured is the way, not the memory. SIGUSR1 makes the kernel forget
every name and page (for measurements that begin cold). Needs the right to mount(2).

Threading: one reader unless told otherwise.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.bare_transport import (
    LATENCIES,
    MOST_BYTES,
    READ_AHEAD_BYTES,
    Handler,
    Reply,
    mount,
    notify,
    read_ahead,
    serve,
)
from bench.bare_tree import Node, Tree

ATTR: Final = struct.Struct("<6Q10I")
ENTRY: Final = struct.Struct("<QQQQII")
ATTR_REPLY: Final = struct.Struct("<QII")
OPEN_REPLY: Final = struct.Struct("<QII")
WRITE_REPLY: Final = struct.Struct("<II")
STATFS_REPLY: Final = struct.Struct("<5Q4I24x")
INIT_REPLY: Final = struct.Struct("<IIIIHHIIHHI28x")
DIRENT: Final = struct.Struct("<QQII")
MOVE: Final = struct.Struct("<QQII")  # what fuse_read_in and fuse_write_in begin with: handle, offset, size, flags
WRITE_IN_BYTES: Final = 40
SETATTR: Final = struct.Struct("<II8xQ8xQQQIIII")
INVALIDATE_INODE: Final = struct.Struct("<Qqq")
INVALIDATE_ENTRY: Final = struct.Struct("<QII")
NOTIFY_INVALIDATE_INODE: Final = 2
NOTIFY_INVALIDATE_ENTRY: Final = 3

ROOT: Final = 1
TIMEOUT_S: Final = 300
KEEP_CACHE: Final = 1 << 1
MINOR: Final = 38
WRITEBACK: Final = 1 << 16
WANTED: Final = (
    1 << 0  # ASYNC_READ
    | 1 << 5  # BIG_WRITES
    | 1 << 13  # DO_READDIRPLUS
    | 1 << 14  # READDIRPLUS_AUTO
    | WRITEBACK
    | 1 << 18  # PARALLEL_DIROPS
    | 1 << 22  # MAX_PAGES
    | 1 << 28  # HANDLE_KILLPRIV_V2: with ENODATA one GETXATTR for each file, not for each write
)
SET_MODE, SET_SIZE, SET_MTIME, SET_MTIME_NOW = 1, 1 << 3, 1 << 5, 1 << 8


class BareFiles:
    """The tree as handlers by opcode."""

    def __init__(self, preallocate_bytes: int, *, writeback: bool = True) -> None:
        self._wanted: Final = WANTED if writeback else WANTED & ~WRITEBACK
        self.tree: Final = Tree(preallocate_bytes)
        self._nodes: Final = self.tree.nodes
        self._listings: Final[dict[int, list[tuple[bytes, Node]]]] = {}
        # ACCESS is not there: with ENOSYS the kernel never asks again.
        self.handlers: Final[Mapping[int, Handler]] = {
            1: self._lookup, 2: self._forget, 3: self._getattr, 4: self._setattr, 8: self._mknod, 9: self._mkdir,
            10: self._unlink, 11: self._rmdir, 12: self._rename, 14: self._open, 15: self._read, 16: self._write,
            17: self._statfs, 18: _done, 20: _done, 22: _no_data, 23: _no_names, 25: _done, 26: self._init,
            27: self._opendir, 28: self._readdir, 29: self._releasedir, 30: _done, 35: self._create,
            36: _unanswered, 38: _done, 42: self._batch_forget, 44: self._readdirplus, 45: self._rename2,
        }  # fmt: skip

    def forget_all(self, fd: int) -> None:
        """Have the kernel drop every name and page. While nobody uses the mount: it takes locks that requests hold."""
        for name, node in list(self._nodes[ROOT].children().items()):
            notify(fd, NOTIFY_INVALIDATE_ENTRY, INVALIDATE_ENTRY.pack(ROOT, len(name), 0) + name + b"\0")
            if node.entries is None:
                notify(fd, NOTIFY_INVALIDATE_INODE, INVALIDATE_INODE.pack(node.no, 0, 0))
        notify(fd, NOTIFY_INVALIDATE_INODE, INVALIDATE_INODE.pack(ROOT, 0, 0))

    def _init(self, _no: int, body: memoryview) -> Reply:
        _major, minor, readahead, offered = struct.unpack_from("<IIII", body)
        return INIT_REPLY.pack(
            7, min(minor, MINOR), max(readahead, READ_AHEAD_BYTES), self._wanted & offered, 256, 192, MOST_BYTES, 1,
            MOST_BYTES >> 12, 0, 0,
        )  # fmt: skip

    # names

    def _lookup(self, no: int, body: memoryview) -> Reply:
        node = self._nodes[no].children().get(bytes(body[:-1]))
        return errno.ENOENT if node is None else _entry(node)

    def _create(self, no: int, body: memoryview) -> Reply:
        _flags, mode = struct.unpack_from("<II", body)
        node = self.tree.make(no, bytes(body[16:-1]), mode)
        return _entry(node) + OPEN_REPLY.pack(node.no, KEEP_CACHE, 0)

    def _mknod(self, no: int, body: memoryview) -> Reply:
        (mode,) = struct.unpack_from("<I", body)
        return _entry(self.tree.make(no, bytes(body[16:-1]), mode))

    def _mkdir(self, no: int, body: memoryview) -> Reply:
        (mode,) = struct.unpack_from("<I", body)
        return _entry(self.tree.make(no, bytes(body[8:-1]), stat.S_IFDIR | mode))

    def _unlink(self, no: int, body: memoryview) -> Reply:
        self.tree.remove(no, bytes(body[:-1]))
        return 0

    def _rmdir(self, no: int, body: memoryview) -> Reply:
        name = bytes(body[:-1])
        if self._nodes[no].children()[name].entries:
            return errno.ENOTEMPTY
        self.tree.remove(no, name)
        return 0

    def _rename(self, no: int, body: memoryview) -> Reply:
        return self._move(no, struct.unpack_from("<Q", body)[0], body[8:])

    def _rename2(self, no: int, body: memoryview) -> Reply:
        target, flags = struct.unpack_from("<QI", body)
        return errno.EINVAL if flags else self._move(no, target, body[16:])

    def _move(self, no: int, target: int, names: memoryview) -> Reply:
        old, new = bytes(names[:-1]).split(b"\0")
        self.tree.move(no, old, target, new)
        return 0

    # attributes

    def _getattr(self, no: int, _body: memoryview) -> Reply:
        return ATTR_REPLY.pack(TIMEOUT_S, 0, 0) + _attributes(self._nodes[no])

    def _setattr(self, no: int, body: memoryview) -> Reply:
        node = self._nodes[no]
        valid, _, size, _atime, mtime, _ctime, _, mtime_nsec, _, mode = SETATTR.unpack_from(body)
        if valid & SET_SIZE:
            self.tree.resize(node, size)
        if valid & SET_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & SET_MTIME_NOW:
            node.mtime_ns = time.time_ns()
        elif valid & SET_MTIME:
            node.mtime_ns = mtime * 1_000_000_000 + mtime_nsec
        return ATTR_REPLY.pack(TIMEOUT_S, 0, 0) + _attributes(node)

    def _statfs(self, _no: int, _body: memoryview) -> Reply:
        return STATFS_REPLY.pack(1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096, 0)

    def _forget(self, no: int, body: memoryview) -> Reply:
        self.tree.forget(no, *struct.unpack_from("<Q", body))
        return None

    def _batch_forget(self, _no: int, body: memoryview) -> Reply:
        (count,) = struct.unpack_from("<I", body)
        for no, lookups in struct.iter_unpack("<QQ", body[8 : 8 + count * 16]):
            self.tree.forget(no, lookups)
        return None

    # bytes; the handle of a file is its number

    def _open(self, no: int, _body: memoryview) -> Reply:
        return OPEN_REPLY.pack(no, KEEP_CACHE, 0)

    def _read(self, no: int, body: memoryview) -> Reply:
        _handle, offset, size, _ = MOVE.unpack_from(body)
        return self.tree.read(self._nodes[no], offset, size)

    def _write(self, no: int, body: memoryview) -> Reply:
        _handle, offset, size, _ = MOVE.unpack_from(body)
        self.tree.write(self._nodes[no], offset, body[WRITE_IN_BYTES : WRITE_IN_BYTES + size])
        return WRITE_REPLY.pack(size, 0)

    # listings

    def _opendir(self, no: int, _body: memoryview) -> Reply:
        handle = next(self.tree.numbers)
        self._listings[handle] = self.tree.listing(no)
        return OPEN_REPLY.pack(handle, 0, 0)

    def _readdir(self, _no: int, body: memoryview) -> Reply:
        return self._list(body, plus=False)

    def _readdirplus(self, _no: int, body: memoryview) -> Reply:
        return self._list(body, plus=True)

    def _list(self, body: memoryview, *, plus: bool) -> Reply:
        handle, offset, size, _ = MOVE.unpack_from(body)
        entries, found, used = self._listings[handle], list[bytes](), 0
        for index in range(offset, len(entries)):
            name, node = entries[index]
            length = DIRENT.size + len(name) + (ENTRY.size + ATTR.size if plus else 0)
            padding = -length % 8
            used += length + padding
            if used > size:
                break
            if plus:
                dots = name in (b".", b"..")  # the kernel keeps no count of these
                found.append(bytes(ENTRY.size + ATTR.size) if dots else _entry(node))
            found.append(DIRENT.pack(node.no, index + 1, len(name), node.mode >> 12) + name + bytes(padding))
        return b"".join(found)

    def _releasedir(self, _no: int, body: memoryview) -> Reply:
        self._listings.pop(struct.unpack_from("<Q", body)[0], None)
        return 0


def _entry(node: Node) -> bytes:
    node.lookups += 1
    return ENTRY.pack(node.no, 0, TIMEOUT_S, TIMEOUT_S, 0, 0) + _attributes(node)


def _attributes(node: Node) -> bytes:
    seconds, nanoseconds = divmod(node.mtime_ns, 1_000_000_000)
    size, links = node.size, 1 if node.entries is None else 2
    return ATTR.pack(
        node.no, size, (size + 511) >> 9, seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds,
        node.mode, links, 0, 0, 0, 4096, 0,
    )  # fmt: skip


def _done(_no: int, _body: memoryview) -> Reply:
    return 0


def _no_data(_no: int, _body: memoryview) -> Reply:
    return errno.ENODATA


def _no_names(_no: int, _body: memoryview) -> Reply:
    return WRITE_REPLY.pack(0, 0)


def _unanswered(_no: int, _body: memoryview) -> Reply:
    return None


def _counted(handlers: Mapping[int, Handler], counts: Counter[int]) -> Mapping[int, Handler]:
    def counting(opcode: int, handler: Handler) -> Handler:
        def count(no: int, body: memoryview) -> Reply:
            counts[opcode] += 1
            return handler(no, body)

        return count

    return {opcode: counting(opcode, handler) for opcode, handler in handlers.items()}


def main(argv: Sequence[str] | None = None) -> None:
    """Mount and serve."""
    parser = argparse.ArgumentParser(prog="bare_kernel", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("mountpoint", type=Path)
    parser.add_argument("--preallocate", type=int, default=0, metavar="MIB")
    parser.add_argument("--latency", choices=LATENCIES, default="auto")
    parser.add_argument("--readers", type=int, default=0, metavar="N", help="threads that read requests")
    parser.add_argument("--no-writeback", action="store_true", help="every write(2) is a request")
    parser.add_argument("--count", action="store_true", help="print the requests by opcode at the end")
    options = parser.parse_args(argv)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    files = BareFiles(options.preallocate << 20, writeback=not options.no_writeback)
    counts: Counter[int] = Counter()
    handlers = _counted(files.handlers, counts) if options.count else files.handlers
    fd = mount(options.mountpoint, name="bare")
    ended = threading.Event()

    def beside() -> None:
        read_ahead(options.mountpoint, READ_AHEAD_BYTES)
        while signal.sigwait([signal.SIGUSR1]) and not ended.is_set():
            files.forget_all(fd)

    helper = threading.Thread(target=beside, name="beside")
    helper.start()
    try:
        serve(fd, handlers, latency=options.latency, readers=options.readers)
    finally:
        ended.set()
        os.kill(os.getpid(), signal.SIGUSR1)
        helper.join()
    for opcode, count in counts.most_common():
        print(f"opcode {opcode}: {count}")


if __name__ == "__main__":
    main()
