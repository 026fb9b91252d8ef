"""A tree of directories and files in memory, for the bare file systems: nothing is hashed, stored or logged.

Big files lie in pieces of 64 MiB buffers that are allocated and touched beforehand. Threading: any thread; growth of
files and the spare pieces are under one lock, names rely on each dict operation being atomic. Failure: KeyError for
what is not there.
"""

from __future__ import annotations

import itertools
import stat
import threading
import time
from collections.abc import Sequence
from typing import Final

BUFFER_BYTES: Final = 1 << 26
SMALL_BYTES: Final = 1 << 16
"""A file up to here is one bytearray of its own: 20,000 small files must not take a piece each."""
PIECE_BYTES: Final = 1 << 20
"""What a bigger file takes at a time: as much as one request, so that most need one piece alone."""
_ZEROES: Final = bytes(1 << 20)

Buffer = bytes | bytearray | memoryview


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
        self.pieces: list[memoryview] = []

    def children(self) -> dict[bytes, Node]:
        """The names of a directory."""
        assert self.entries is not None
        return self.entries


class Tree:
    """Nodes by number; number 1 is the root."""

    def __init__(self, preallocate_bytes: int) -> None:
        self.numbers: Final = itertools.count(2)
        self.nodes: Final = {1: Node(1, stat.S_IFDIR | 0o777, None)}
        self._lock: Final = threading.Lock()
        buffers = [memoryview(bytearray(b"\1" * BUFFER_BYTES)) for _ in range(-(-preallocate_bytes // BUFFER_BYTES))]
        starts = range(0, BUFFER_BYTES, PIECE_BYTES)
        self._spare: Final = [buffer[at : at + PIECE_BYTES] for buffer in buffers for at in starts]

    def make(self, parent: int, name: bytes, mode: int) -> Node:
        """A new node under a name."""
        above = self.nodes[parent]
        node = Node(next(self.numbers), mode, above)
        self.nodes[node.no] = node
        above.children()[name] = node
        return node

    def remove(self, parent: int, name: bytes) -> None:
        """Take a name away; what it named goes when the kernel has forgotten it."""
        self._gone(self.nodes[parent].children().pop(name))

    def move(self, parent: int, name: bytes, new_parent: int, new_name: bytes) -> None:
        """Rename, replacing what is there."""
        source, target = self.nodes[parent], self.nodes[new_parent]
        node = source.children().pop(name)
        self._gone(target.children().get(new_name))
        target.children()[new_name] = node
        node.parent = target

    def forget(self, no: int, lookups: int) -> None:
        """The kernel gave up *lookups* references."""
        node = self.nodes[no]
        node.lookups -= lookups
        if node.lookups <= 0 and node.parent is None and no != 1:
            self._drop(node)

    def listing(self, no: int) -> list[tuple[bytes, Node]]:
        """A snapshot of a directory, with its dots."""
        node = self.nodes[no]
        return [(b".", node), (b"..", node.parent or node), *node.children().items()]

    def read(self, node: Node, offset: int, size: int) -> Buffer | list[Buffer]:
        """The bytes, without a copy where the file is big."""
        size = min(size, node.size - offset)
        if size <= 0:
            return b""
        if node.small is not None:
            return bytes(node.small[offset : offset + size])
        piece, at = divmod(offset, PIECE_BYTES)
        if at + size <= PIECE_BYTES:
            return node.pieces[piece][at : at + size]
        found: list[Buffer] = []
        while size:
            part = node.pieces[piece][at : at + size]
            found.append(part)
            size -= len(part)
            piece, at = piece + 1, 0
        return found

    def write(self, node: Node, offset: int, data: Buffer) -> None:
        """One copy, into the file's buffer."""
        end = offset + len(data)
        if end > node.size:
            with self._lock:
                if end > node.size:
                    self._resize_locked(node, end, hole_end=offset)
        if node.small is not None:
            node.small[offset:end] = data
        else:
            _copy(node.pieces, offset, data)

    def resize(self, node: Node, size: int) -> None:
        """Cut the file off, or let it grow by zeroes."""
        with self._lock:
            self._resize_locked(node, size, hole_end=size)

    def _gone(self, node: Node | None) -> None:
        if node is not None:
            node.parent = None
            if node.lookups <= 0:
                self._drop(node)

    def _drop(self, node: Node) -> None:
        self.nodes.pop(node.no, None)
        with self._lock:
            self._spare.extend(node.pieces)
            node.pieces = []

    def _resize_locked(self, node: Node, size: int, *, hole_end: int) -> None:
        """Give *node* room for *size* bytes; what lies between its old end and *hole_end* becomes zeroes."""
        old = node.size
        if node.small is not None and size <= SMALL_BYTES:
            del node.small[size:]
            node.small.extend(bytes(size - len(node.small)))
        else:
            wanted = -(-size // PIECE_BYTES)
            while len(node.pieces) < wanted:
                node.pieces.append(self._spare.pop() if self._spare else memoryview(bytearray(PIECE_BYTES)))
            self._spare.extend(node.pieces[wanted:])
            del node.pieces[wanted:]
            if node.small is not None:
                _copy(node.pieces, 0, node.small[:size])
                node.small = None
            for at in range(old, hole_end, len(_ZEROES)):
                _copy(node.pieces, at, memoryview(_ZEROES)[: hole_end - at])
            if not size:
                node.small = bytearray()
        node.size = size


def _copy(pieces: Sequence[memoryview], offset: int, data: Buffer) -> None:
    piece, at = divmod(offset, PIECE_BYTES)
    if at + len(data) <= PIECE_BYTES:
        pieces[piece][at : at + len(data)] = data
        return
    done = 0
    while done < len(data):
        part = data[done : done + PIECE_BYTES - at]
        pieces[piece][at : at + len(part)] = part
        done += len(part)
        piece, at = piece + 1, 0
