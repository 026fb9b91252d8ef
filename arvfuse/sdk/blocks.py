"""Buffer blocks: blocks being filled, each in a spool file of its own, and the table of those that exist.

A block belongs to one piece of one file until it is sealed; its spool file is position mapped: byte o of the piece
lies at offset o, so bytes that are written again go to the same place. Which ranges count is known to the file's
segments alone. States move by the table in ``model.blockstate`` only.

Threading: state, writers and ``closing`` of a block are guarded by the lock of its file's tree; the table by BLOCKS.
Reads and writes of spool files take no lock.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged, NoSpace, StoreUnavailable
from arvfuse.model.blockstate import Event, State, advance
from arvfuse.sdk.nodes import FileNode
from arvfuse.sync import Rank, RankedLock

READ_ONLY_MODE: Final = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH


def spool_path(directory: Path, block: int) -> Path:
    """The spool file of buffer block *block* below the mount's directory."""
    return directory / "spool" / str(block)


class DroppedBlock(LookupError):
    """The block was dropped since the segment was read: resolve it again."""


class BufferBlock:
    """One block on its way. *size*: bytes of its spool file; *charged*: what the spool account was charged for it."""

    __slots__ = ("charged", "closing", "fd", "file", "no", "path", "piece", "seal_seq", "size", "state", "writers")

    def __init__(self, no: int, file: FileNode, piece: int, path: Path, fd: int) -> None:
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

    def __repr__(self) -> str:
        return f"<BufferBlock {self.no} {self.state.name} size={self.size} writers={self.writers}>"

    def advance(self, event: Event) -> None:
        """The only way to another state. InvalidTransition leaves the block as it is."""
        self.state = advance(self.state, event)

    def pwrite(self, data: memoryview, offset: int) -> None:
        """All of *data* at *offset*. NoSpace, StoreUnavailable."""
        try:
            while len(data):
                written = os.pwrite(self.fd, data, offset)
                data = data[written:]
                offset += written
        except OSError as exc:
            if exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise NoSpace(str(self.path.parent), "no room in the spool") from exc
            raise StoreUnavailable(f"spool file {self.path}: {exc.strerror}") from exc

    def finish(self) -> None:
        """No more writing: the file is made 0444. Its descriptor stays for reading."""
        os.fchmod(self.fd, READ_ONLY_MODE)


class BlockTable:
    """The buffer blocks of a mount or session, by number."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._lock: Final = RankedLock(Rank.BLOCKS)
        self._blocks: dict[int, BufferBlock] = {}  # guarded by: _lock
        self._next = 1  # guarded by: _lock
        self._reading = 0  # reads with a descriptor in hand; guarded by: _lock
        self._retired: list[int] = []  # descriptors of dropped blocks; guarded by: _lock

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
        block = BufferBlock(number, file, piece, path, fd)
        with self._lock:
            self._blocks[number] = block
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
            self._reading += 1
        try:
            return pread_exactly(block.fd, offset, length)
        finally:
            self._done_reading()

    def drop(self, number: int) -> BufferBlock | None:
        """Forget the block (DISCARD) and unlink its spool file; its former self."""
        with self._lock:
            block = self._blocks.get(number)
            if block is None:
                return None
            block.advance(Event.DISCARD)
            del self._blocks[number]
            self._retired.append(block.fd)
            idle = [] if self._reading else self._take_retired_locked()
        for fd in idle:
            os.close(fd)
        block.path.unlink(missing_ok=True)
        return block

    def close(self) -> None:
        """Close every descriptor; the files stay for whoever recovers."""
        with self._lock:
            fds = [block.fd for block in self._blocks.values()] + self._take_retired_locked()
            self._blocks.clear()
        for fd in fds:
            os.close(fd)

    def _done_reading(self) -> None:
        with self._lock:
            self._reading -= 1
            idle = [] if self._reading else self._take_retired_locked()
        for fd in idle:
            os.close(fd)

    def _take_retired_locked(self) -> list[int]:
        retired, self._retired = self._retired, []
        return retired


def pread_exactly(fd: int, offset: int, length: int) -> bytes:
    """*length* bytes at *offset*; Damaged if the file ends before."""
    data = os.pread(fd, length, offset)
    while len(data) < length:
        more = os.pread(fd, length - len(data), offset + len(data))
        if not more:
            raise Damaged("a spool file is shorter than what was written to it")
        data += more
    return data
