"""Buffer blocks: blocks being filled, each in a spool file of its own, and the table of those that exist.

A block belongs to one piece of one file until it is sealed; its spool file is position mapped: byte o of the piece
lies at offset o, so bytes that are written again go to the same place. Which ranges count is known to the file's
segments alone. States move by the table in ``model.blockstate`` only.

Descriptors are few: programs write more files between two commits than a process may have open. So an idle block's
file may be closed, and is opened again when it is read or written.

Threading: state, writers and ``closing`` of a block are guarded by the lock of its file's tree; the table, descriptors
and their users by BLOCKS. Reads and writes of spool files hold no lock.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections import OrderedDict
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged, NoSpace, StoreUnavailable
from arvfuse.model.blockstate import Event, State, advance
from arvfuse.sdk.nodes import FileNode
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)

READ_ONLY_MODE: Final = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
IDLE_FILES: Final = 256  # descriptors of spool files in nobody's hand; the usual limit of a process is 1,024


def spool_path(directory: Path, block: int) -> Path:
    """The spool file of buffer block *block* below the mount's directory."""
    return directory / "spool" / str(block)


class DroppedBlock(LookupError):
    """The block was dropped since the segment was read: resolve it again."""


class BufferBlock:
    """One block on its way. *size*: bytes of its spool file; *charged*: what the spool account was charged for it;
    *fd*: the descriptor of its spool file, -1 while that is closed; *users*: who has it in hand; *rewritten*: bytes may
    have been written a second time."""

    __slots__ = (
        "_table", "charged", "closing", "fd", "file", "no", "path", "piece", "rewritten", "seal_seq", "sealed_in",
        "size", "state", "users", "writers",
    )  # fmt: skip

    def __init__(self, table: BlockTable, no: int, file: FileNode, piece: int, path: Path, fd: int) -> None:
        self._table: Final = table
        self.no = no
        self.file = file
        self.piece = piece
        self.path = path
        self.fd = fd
        self.state = State.WRITABLE
        self.writers = 0
        self.closing = False
        self.size = 0
        self.charged = 0
        self.seal_seq = 0
        self.sealed_in = 0  # the tree that has the Seal: its file may move to another
        self.users = 0
        self.rewritten = False

    def __repr__(self) -> str:
        return f"<BufferBlock {self.no} {self.state.name} size={self.size} writers={self.writers}>"

    def advance(self, event: Event) -> None:
        """The only way to another state. InvalidTransition leaves the block as it is."""
        self.state = advance(self.state, event)

    def pwrite(self, data: memoryview, offset: int) -> None:
        """All of *data* at *offset*. NoSpace, StoreUnavailable."""
        try:
            fd = self._table.borrow(self)
            try:
                while len(data):
                    written = os.pwrite(fd, data, offset)
                    data = data[written:]
                    offset += written
            finally:
                self._table.give_back(self)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(str(self.path.parent), "no room in the spool") from exc
            raise StoreUnavailable(f"spool file {self.path}: {exc.strerror}") from exc

    def finish(self) -> None:
        """No more writing: the file is made 0444. If it cannot be, who stores it says so: a commit point goes on."""
        with contextlib.suppress(OSError):
            os.chmod(self.path, READ_ONLY_MODE)


class BlockTable:
    """The buffer blocks of a mount or session, by number."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._lock: Final = RankedLock(Rank.BLOCKS)
        self._blocks: dict[int, BufferBlock] = {}  # guarded by: _lock
        self._next = 1  # guarded by: _lock
        self._idle: OrderedDict[int, BufferBlock] = OrderedDict()  # open, unused, oldest first; guarded by: _lock
        self._left: list[Path] = []  # files of dropped blocks; guarded by: _lock

    def new(self, file: FileNode, piece: int) -> BufferBlock:
        """A WRITABLE block with an empty spool file. NoSpace, StoreUnavailable."""
        with self._lock:
            number = self._next
            self._next += 1
        path = spool_path(self._directory, number)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            try:
                fd = os.open(path, flags, 0o600)
            except FileNotFoundError:
                path.parent.mkdir(parents=True, exist_ok=True)
                fd = os.open(path, flags, 0o600)
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(str(path.parent), "no room in the spool") from exc
            raise StoreUnavailable(f"spool file {path}: {exc.strerror}") from exc
        block = BufferBlock(self, number, file, piece, path, fd)
        with self._lock:
            self._blocks[number] = block
            surplus = self._rest_locked(block)
        _close(surplus)
        return block

    def get(self, number: int) -> BufferBlock | None:
        """The block, if it still exists."""
        with self._lock:
            return self._blocks.get(number)

    def all(self) -> list[BufferBlock]:
        """A snapshot, ascending by number."""
        with self._lock:
            return [self._blocks[number] for number in sorted(self._blocks)]

    def read(self, number: int, offset: int, length: int) -> bytes:
        """Bytes of a block that is not dropped yet; short never (what was reserved was written). DroppedBlock."""
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                raise DroppedBlock(number)
        try:
            fd = self.borrow(block)
        except FileNotFoundError:
            raise DroppedBlock(number) from None
        try:
            return pread_exactly(fd, offset, length)
        finally:
            self.give_back(block)

    def borrow(self, block: BufferBlock) -> int:
        """A descriptor of the block's spool file, opened if need be, until it is given back. OSError."""
        with self._lock:
            if block.fd >= 0:
                block.users += 1
                self._idle.pop(block.no, None)
                return block.fd
        writable = block.state is State.WRITABLE
        try:
            fd = os.open(block.path, (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
        except PermissionError:  # sealed since we looked: who asks wants to read, as writers keep it from being sealed
            fd = os.open(block.path, os.O_RDONLY | os.O_CLOEXEC)
        with self._lock:
            surplus = [fd] if block.fd >= 0 else []
            if not surplus:
                block.fd = fd
            block.users += 1
            self._idle.pop(block.no, None)
        _close(surplus)
        return block.fd

    def give_back(self, block: BufferBlock) -> None:
        """What borrow() gave is used no more."""
        with self._lock:
            block.users -= 1
            surplus = [] if block.users else self._rest_locked(block)
        _close(surplus)

    def drop(self, number: int, *, later: bool = False) -> BufferBlock | None:
        """Forget the block (DISCARD) and unlink its spool file; its former self. A file that cannot be unlinked, or
        is to be *later*, is left for unlink_left()."""
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                return None
            block.advance(Event.DISCARD)
            del self._blocks[number]
            surplus = [] if block.users else self._rest_locked(block)
        _close(surplus)
        if later or not _unlink(block.path):
            with self._lock:
                self._left.append(block.path)
        return block

    @property
    def left(self) -> bool:
        """Whether there are spool files for unlink_left()."""
        return bool(self._left)

    def unlink_left(self) -> None:
        """Unlink the spool files that are to be now, and try again those that could not be."""
        with self._lock:
            left, self._left = self._left, []
        failed = [path for path in left if not _unlink(path)]
        with self._lock:
            self._left += failed

    def close(self) -> None:
        """Close every descriptor; the files stay for whoever recovers."""
        with self._lock:
            fds = [_taken(block) for block in self._blocks.values() if block.fd >= 0]
            self._blocks.clear()
            self._idle.clear()
        _close(fds)

    def _rest_locked(self, block: BufferBlock) -> list[int]:
        """Nobody has the block's descriptor in hand: it is kept for the next, or given up; what is to be closed."""
        if block.fd < 0:
            return []
        if block.no not in self._blocks:
            self._idle.pop(block.no, None)
            return [_taken(block)]
        self._idle[block.no] = block
        self._idle.move_to_end(block.no)
        return [_taken(self._idle.popitem(last=False)[1]) for _ in range(len(self._idle) - IDLE_FILES)]


def _taken(block: BufferBlock) -> int:
    fd, block.fd = block.fd, -1
    return fd


def _unlink(path: Path) -> bool:
    try:
        path.unlink(missing_ok=True)
    except OSError as exc:
        log.warning("not deleted, tried again later: %s", exc)
        return False
    return True


def _close(fds: list[int]) -> None:
    for fd in fds:
        os.close(fd)


def pread_exactly(fd: int, offset: int, length: int) -> bytes:
    """*length* bytes at *offset*; Damaged if the file ends before."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise Damaged("a spool file is shorter than what was written to it")
        data += more
    return data
