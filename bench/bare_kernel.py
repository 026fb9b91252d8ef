"""The ceiling of the kernel transport: an in-memory file system on /dev/fuse in Python that hashes and stores nothing.

`python -m bench.bare_kernel MOUNTPOINT` serves until it is unmounted. It asks the kernel for what the kernel driver
asks for (write-back, 1 MiB requests, readdirplus, parallel operations in directories), waits for requests the same
ways (``--latency``), and does nothing else. Bytes go into 64 MiB buffers that are allocated and touched before the
mount is ready (``--preallocate MIB``), so what is measured is the way, not the memory. Needs the right to mount(2).

Threading: one reader unless told otherwise; what two readers could spoil is done under one lock.
"""

from __future__ import annotations

import argparse
import errno
import itertools
import stat
import struct
import threading
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from bench.bare_transport import LATENCIES, MOST_BYTES, Buffer, Handler, Reply, mount, read_ahead, serve

BUFFER_BYTES: Final = 1 << 26
SMALL_BYTES: Final = 1 << 16
"""A file up to here is one bytearray of its own: 20,000 small files must not take a buffer each."""

ATTR: Final = struct.Struct("<6Q10I")
ENTRY: Final = struct.Struct("<QQQQII")
ATTR_REPLY: Final = struct.Struct("<QII")
OPEN_REPLY: Final = struct.Struct("<QII")
WRITE_REPLY: Final = struct.Struct("<II")
STATFS_REPLY: Final = struct.Struct("<5Q4I24x")
INIT_REPLY: Final = struct.Struct("<IIIIHHIIHHI28x")
DIRENT: Final = struct.Struct("<QQII")
MOVE: Final = struct.Struct("<QQII")  # fuse_read_in and fuse_write_in: handle, offset, size, flags
SETATTR: Final = struct.Struct("<II8xQ8xQQQIIII")

ROOT: Final = 1
TIMEOUT_S: Final = 300
KEEP_CACHE: Final = 1 << 1
MINOR: Final = 38
WANTED: Final = (
    1 << 0  # ASYNC_READ
    | 1 << 5  # BIG_WRITES
    | 1 << 13  # DO_READDIRPLUS
    | 1 << 14  # READDIRPLUS_AUTO
    | 1 << 16  # WRITEBACK_CACHE
    | 1 << 18  # PARALLEL_DIROPS
    | 1 << 22  # MAX_PAGES
    | 1 << 28  # HANDLE_KILLPRIV_V2: with ENODATA one GETXATTR for each file, not for each write
)
WRITEBACK: Final = 1 << 16
SET_MODE, SET_SIZE, SET_MTIME, SET_MTIME_NOW = 1, 1 << 3, 1 << 5, 1 << 8


class Node:
    """A file or, with *entries*, a directory. Bytes past *size* are whatever was there before."""

    __slots__ = ("entries", "lookups", "mode", "mtime_ns", "no", "parent", "pieces", "size", "small")

    def __init__(self, no: int, mode: int, parent: Node | None) -> None:
        self.no = no
        self.mode = mode
        self.parent = parent
        self.size = 0
        self.lookups = 0
        self.mtime_ns = time.time_ns()
        self.entries: dict[bytes, Node] | None = {} if stat.S_ISDIR(mode) else None
        self.small: bytearray | None = bytearray()
        self.pieces: list[bytearray] = []

    def attributes(self) -> bytes:
        seconds, nanoseconds = divmod(self.mtime_ns, 1_000_000_000)
        size, links = self.size, 1 if self.entries is None else 2
        return ATTR.pack(
            self.no, size, (size + 511) >> 9, seconds, seconds, seconds, nanoseconds, nanoseconds, nanoseconds,
            self.mode, links, 0, 0, 0, 4096, 0,
        )  # fmt: skip


class BareFiles:
    """A tree of directories and files in memory, as handlers by opcode."""

    def __init__(self, preallocate_bytes: int, *, writeback: bool = True) -> None:
        self._wanted: Final = WANTED if writeback else WANTED & ~WRITEBACK
        self._numbers: Final = itertools.count(ROOT + 1)
        self._lock: Final = threading.Lock()  # growth of a file, and which buffers are spare
        self._nodes: Final = {ROOT: Node(ROOT, stat.S_IFDIR | 0o777, None)}
        self._listings: Final[dict[int, list[tuple[bytes, Node]]]] = {}
        self._spare: Final = [bytearray(b"\1" * BUFFER_BYTES) for _ in range(-(-preallocate_bytes // BUFFER_BYTES))]
        self.handlers: Final[Mapping[int, Handler]] = {
            1: self._lookup, 2: self._forget, 3: self._getattr, 4: self._setattr, 8: self._mknod, 9: self._mkdir,
            10: self._unlink, 11: self._rmdir, 12: self._rename, 14: self._open, 15: self._read, 16: self._write,
            17: self._statfs, 18: _done, 20: _done, 22: _no_data, 23: _no_names, 25: _done, 26: self._init,
            27: self._opendir, 28: self._readdir, 29: self._releasedir, 30: _done, 35: self._create,
            36: _unanswered, 38: _done, 42: self._batch_forget, 44: self._readdirplus, 45: self._rename2,
        }  # fmt: skip

    def _init(self, _no: int, body: memoryview) -> Reply:
        _major, minor, readahead, offered = struct.unpack_from("<IIII", body)
        return INIT_REPLY.pack(
            7, min(minor, MINOR), max(readahead, MOST_BYTES), self._wanted & offered, 256, 192, MOST_BYTES, 1,
            MOST_BYTES >> 12, 0, 0,
        )  # fmt: skip

    # names

    def _lookup(self, no: int, body: memoryview) -> Reply:
        node = self._directory(no).get(bytes(body[:-1]))
        return errno.ENOENT if node is None else self._entry(node)

    def _create(self, no: int, body: memoryview) -> Reply:
        _flags, mode = struct.unpack_from("<II", body)
        node = self._new(no, bytes(body[16:-1]), mode)
        return self._entry(node) + OPEN_REPLY.pack(node.no, KEEP_CACHE, 0)

    def _mknod(self, no: int, body: memoryview) -> Reply:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._new(no, bytes(body[16:-1]), mode))

    def _mkdir(self, no: int, body: memoryview) -> Reply:
        (mode,) = struct.unpack_from("<I", body)
        return self._entry(self._new(no, bytes(body[8:-1]), stat.S_IFDIR | mode))

    def _unlink(self, no: int, body: memoryview) -> Reply:
        self._gone(self._directory(no).pop(bytes(body[:-1]), None))
        return 0

    def _rmdir(self, no: int, body: memoryview) -> Reply:
        entries, name = self._directory(no), bytes(body[:-1])
        if entries[name].entries:
            return errno.ENOTEMPTY
        self._gone(entries.pop(name))
        return 0

    def _rename(self, no: int, body: memoryview) -> Reply:
        return self._move(no, struct.unpack_from("<Q", body)[0], body[8:])

    def _rename2(self, no: int, body: memoryview) -> Reply:
        target, flags = struct.unpack_from("<QI", body)
        return errno.EINVAL if flags else self._move(no, target, body[16:])

    def _move(self, no: int, target: int, names: memoryview) -> Reply:
        old, new = bytes(names[:-1]).split(b"\0")
        source, into = self._directory(no), self._directory(target)
        node = source.pop(old)
        self._gone(into.get(new))
        into[new] = node
        node.parent = self._nodes[target]
        return 0

    def _new(self, parent: int, name: bytes, mode: int) -> Node:
        above = self._nodes[parent]
        node = Node(next(self._numbers), mode, above)
        self._nodes[node.no] = node
        assert above.entries is not None
        above.entries[name] = node
        return node

    def _directory(self, no: int) -> dict[bytes, Node]:
        entries = self._nodes[no].entries
        assert entries is not None
        return entries

    def _entry(self, node: Node) -> bytes:
        node.lookups += 1
        return ENTRY.pack(node.no, 0, TIMEOUT_S, TIMEOUT_S, 0, 0) + node.attributes()

    # attributes

    def _getattr(self, no: int, _body: memoryview) -> Reply:
        return ATTR_REPLY.pack(TIMEOUT_S, 0, 0) + self._nodes[no].attributes()

    def _setattr(self, no: int, body: memoryview) -> Reply:
        node = self._nodes[no]
        valid, _, size, _atime, mtime, _ctime, _, mtime_nsec, _, mode = SETATTR.unpack_from(body)
        if valid & SET_SIZE:
            with self._lock:
                self._resize_locked(node, size)
        if valid & SET_MODE:
            node.mode = stat.S_IFMT(node.mode) | stat.S_IMODE(mode)
        if valid & SET_MTIME_NOW:
            node.mtime_ns = time.time_ns()
        elif valid & SET_MTIME:
            node.mtime_ns = mtime * 1_000_000_000 + mtime_nsec
        return ATTR_REPLY.pack(TIMEOUT_S, 0, 0) + node.attributes()

    def _statfs(self, _no: int, _body: memoryview) -> Reply:
        return STATFS_REPLY.pack(1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096, 0)

    def _forget(self, no: int, body: memoryview) -> Reply:
        self._less(no, *struct.unpack_from("<Q", body))
        return None

    def _batch_forget(self, _no: int, body: memoryview) -> Reply:
        (count,) = struct.unpack_from("<I", body)
        for no, lookups in struct.iter_unpack("<QQ", body[8 : 8 + count * 16]):
            self._less(no, lookups)
        return None

    def _less(self, no: int, lookups: int) -> None:
        node = self._nodes[no]
        node.lookups -= lookups
        if not node.lookups and node.parent is None and no != ROOT:
            self._drop(node)

    def _gone(self, node: Node | None) -> None:
        """*node* has no name any more; its bytes stay until the kernel has forgotten it."""
        if node is not None:
            node.parent = None
            if not node.lookups:
                self._drop(node)

    def _drop(self, node: Node) -> None:
        self._nodes.pop(node.no, None)
        with self._lock:
            self._spare.extend(node.pieces)
            node.pieces = []

    # bytes

    def _open(self, no: int, _body: memoryview) -> Reply:
        return OPEN_REPLY.pack(no, KEEP_CACHE, 0)

    def _read(self, no: int, body: memoryview) -> Reply:
        node = self._nodes[no]
        _handle, offset, size, _ = MOVE.unpack_from(body)
        size = min(size, node.size - offset)
        if size <= 0:
            return b""
        if node.small is not None:
            return bytes(node.small[offset : offset + size])
        piece, at = divmod(offset, BUFFER_BYTES)
        if at + size <= BUFFER_BYTES:
            return memoryview(node.pieces[piece])[at : at + size]
        found: list[Buffer] = []
        while size:
            part = memoryview(node.pieces[piece])[at : at + size]
            found.append(part)
            size -= len(part)
            piece, at = piece + 1, 0
        return found

    def _write(self, no: int, body: memoryview) -> Reply:
        node = self._nodes[no]
        _handle, offset, size, _ = MOVE.unpack_from(body)
        end = offset + size
        if end > node.size:
            with self._lock:
                if end > node.size:
                    self._resize_locked(node, end, hole_end=offset)
        data = body[40 : 40 + size]
        if node.small is not None:
            node.small[offset:end] = data
        else:
            self._copy(node.pieces, offset, data)
        return WRITE_REPLY.pack(size, 0)

    def _copy(self, pieces: Sequence[bytearray], offset: int, data: Buffer) -> None:
        piece, at = divmod(offset, BUFFER_BYTES)
        done = 0
        while done < len(data):
            part = data[done : done + BUFFER_BYTES - at]
            pieces[piece][at : at + len(part)] = part
            done += len(part)
            piece, at = piece + 1, 0

    def _resize_locked(self, node: Node, size: int, *, hole_end: int | None = None) -> None:
        """Give *node* room for *size* bytes; what lies between its old end and *hole_end* becomes zeroes."""
        old, zero_to = node.size, size if hole_end is None else hole_end
        if node.small is not None and size <= SMALL_BYTES:
            del node.small[size:]
            node.small.extend(bytes(size - len(node.small)))
        else:
            wanted = -(-size // BUFFER_BYTES)
            while len(node.pieces) < wanted:
                node.pieces.append(self._spare.pop() if self._spare else bytearray(BUFFER_BYTES))
            self._spare.extend(node.pieces[wanted:])
            del node.pieces[wanted:]
            if node.small is not None:
                self._copy(node.pieces, 0, node.small[:size])
                node.small = None
            for at in range(old, zero_to, MOST_BYTES):
                self._copy(node.pieces, at, bytes(min(MOST_BYTES, zero_to - at)))
            if not size:
                node.small = bytearray()
        node.size = size

    # listings

    def _opendir(self, no: int, _body: memoryview) -> Reply:
        node, handle = self._nodes[no], next(self._numbers)
        assert node.entries is not None
        self._listings[handle] = [(b".", node), (b"..", node.parent or node), *node.entries.items()]
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
                found.append(bytes(ENTRY.size + ATTR.size) if dots else self._entry(node))
            found.append(DIRENT.pack(node.no, index + 1, len(name), node.mode >> 12) + name + bytes(padding))
        return b"".join(found)

    def _releasedir(self, _no: int, body: memoryview) -> Reply:
        self._listings.pop(struct.unpack_from("<Q", body)[0], None)
        return 0


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
    files = BareFiles(options.preallocate << 20, writeback=not options.no_writeback)
    counts: Counter[int] = Counter()
    handlers = _counted(files.handlers, counts) if options.count else files.handlers
    fd = mount(options.mountpoint, name="bare")
    opening = threading.Thread(target=read_ahead, args=(options.mountpoint, MOST_BYTES), name="read-ahead")
    opening.start()
    serve(fd, handlers, latency=options.latency, readers=options.readers)
    opening.join()
    for opcode, count in counts.most_common():
        print(f"opcode {opcode}: {count}")


if __name__ == "__main__":
    main()
