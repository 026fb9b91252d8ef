"""What all trees of one mount or session have in common: numbers, log, buffer blocks, spool account, the store.

Threading: any thread; each part has its own lock. Owns no thread.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from arvfuse.errors import LogFailed, StoreUnavailable
from arvfuse.model import records
from arvfuse.model.blockstate import Event, State
from arvfuse.model.ranges import HOLE, LOG, Ref
from arvfuse.model.records import HEADER
from arvfuse.ports import BlockStore, Clock
from arvfuse.sdk.blocks import BlockTable, BufferBlock
from arvfuse.sdk.carrying import Copy
from arvfuse.sdk.log import LogWriter, sync_directory
from arvfuse.sdk.undo import Undo
from arvfuse.sync import Rank, RankedLock, SpoolAccount

STALL_BOUND_S: Final = 300.0

_BOUNDARY: Final = records.CODES[records.Boundary]
_FILE_LOCKS: Final = 64
_ZEROS: Final = bytes(1 << 20)


class Numbers:
    """Numbers that are never given twice. Threading: any thread, under any lock but another leaf."""

    def __init__(self, first: int = 1) -> None:
        self._lock: Final = RankedLock(Rank.LEAF, 1)
        self._next = first  # guarded by: _lock

    def next(self) -> int:
        return self.take(1)

    def take(self, count: int) -> int:
        """The first of *count* numbers in a row."""
        with self._lock:
            first = self._next
            self._next = first + count
        return first


class LogUse:
    """What one log file holds of one tree: ``last`` is its last record there."""

    __slots__ = ("_marks", "_size", "last")

    def __init__(self) -> None:
        self.last = 0
        self._size = 0
        self._marks: list[tuple[int, int]] = []  # commit points, with the bytes up to there

    def add(self, seq: int, size: int, *, boundary: bool = False) -> None:
        """Record *seq* of *size* bytes; *boundary*: a commit point."""
        self.last = max(self.last, seq)
        self._size += size
        if boundary:
            self._marks.append((seq, self._size))

    def needed_bytes(self, asof: int) -> int:
        """The bytes that a commit up to record *asof*, a commit point, did not cover."""
        if self.last <= asof:
            return 0
        return self._size - max((size for seq, size in self._marks if seq <= asof), default=0)


class Shared:
    """The parts that every LiveTree of a workspace uses."""

    def __init__(
        self, directory: Path, *, log: LogWriter, store: BlockStore, clock: Clock, spool: SpoolAccount,
        numbers: Numbers, stall_bound_s: float = STALL_BOUND_S,
    ) -> None:  # fmt: skip
        self.directory: Final = directory
        self.log: Final = log
        self.undo: Final = Undo(log)
        self.store: Final = store
        self.clock: Final = clock
        self.spool: Final = spool
        self.numbers: Final = numbers
        self.stall_bound_s: Final = stall_bound_s
        self.stamps: Final = Numbers()
        # called when a tree has something to commit for the first time since it had nothing; under its lock
        self.begun: Callable[[], None] = _nothing
        self.sealed_seq = 0  # the newest Seal record: there is something to store; written under locks of trees
        self.blocks: Final = BlockTable(directory)
        self._file_locks: Final = [RankedLock(Rank.FILE, number) for number in range(_FILE_LOCKS)]
        # held by whoever lets segments appear in another file or tree (copy, move), and by the sweep after a commit
        self.sharing: Final = RankedLock(Rank.FILE, -1)
        self._lock: Final = RankedLock(Rank.LEAF)
        self._log_uses: dict[int, dict[int, LogUse]] = {}  # log file -> tree -> its records; guarded by: _lock
        self._log_charges: dict[int, int] = defaultdict(int)  # log file -> bytes charged; guarded by: _lock
        # tree -> the trees that Moves joined to it, each with the newest such record; guarded by: _lock
        self._ties: dict[int, dict[int, int]] = defaultdict(dict)
        self._unused: list[BufferBlock] = []  # blocks to discard outside the locks; guarded by: _lock

    def file_lock(self, node: int) -> RankedLock:
        """The lock that makes writes and truncations of one file serial, held across page-cache I/O as the kernel's."""
        return self._file_locks[node % _FILE_LOCKS]

    def append(self, tree: int, code: int, body: bytes) -> int:
        """Queue a record of *tree*; the number of the log file into which it goes."""
        seq, address = self.log.append(tree, code, body)
        self._note(tree, seq, address >> 32, len(body) + HEADER.size, 0)
        return address >> 32

    def append_in(
        self, number: int, tree: int, code: int, body: bytes, data: bytes | memoryview = b"", *, flags: int = 0,
        wall_ns: int = 0,
    ) -> tuple[int, int] | None:  # fmt: skip
        """Queue a record of *tree* in log file *number*; (number, address of the data), None if that is full."""
        placed = self.log.append_in(number, tree, code, body, data, flags=flags, wall_ns=wall_ns)
        if placed is not None:
            size = HEADER.size + len(body) + len(data)
            self._note(tree, placed[0], number, size, len(data), boundary=code == _BOUNDARY)
            if len(data):
                self.spool.charge(len(data))
        return placed

    def flush(self, seq: int) -> None:
        """The change of record *seq*, with all before it, survives our death. LogFailed: it, and all that the log does
        not have, is undone. No lock held but that of a file."""
        try:
            self.log.flush(seq)
        except LogFailed:
            self.undo.roll_back()
            raise

    def pace(self) -> None:
        """Hold a writer that is ahead of the store until there is room in the spool; its bytes are accepted already.

        StoreUnavailable if the store made no progress for the stall bound. No lock held."""
        if self.spool.full and not self.spool.wait_for_room(self.stall_bound_s, self.clock):
            raise _stalled()

    def fail_stalled(self) -> None:
        """As pace(), for those who wait for a Future of the spool."""
        self.spool.fail_stalled(self.stall_bound_s, self.clock, _stalled)

    def log_uses(self, number: int) -> dict[int, LogUse]:
        """tree -> what log file *number* holds of it."""
        with self._lock:
            return dict(self._log_uses.get(number, {}))

    def carry(self, number: int, copies: Sequence[Copy]) -> None:
        """Write *copies* of the records of log file *number* that are needed behind all others, and delete it.
        LogFailed; OSError if it cannot be deleted."""
        if copies:
            target = self.log.carry(copies)
            for copy in copies:
                self._note(copy.tree, copy.seq, target, len(copy.data), copy.inline_bytes)
            self.spool.charge(sum(copy.inline_bytes for copy in copies))
        with self._lock:  # also if it cannot be deleted now: nobody needs it
            self._log_uses.pop(number, None)
        self.drop_log(number)

    def drop_log(self, number: int) -> None:
        """Delete a log file that no tree needs and no segment refers to."""
        self.log.drop(number)
        with self._lock:
            self._log_uses.pop(number, None)
            charged = self._log_charges.pop(number, 0)
        if charged:
            self.spool.credit(charged)

    def fetch(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        """The bytes of a segment. DroppedLog, DroppedBlock: the segment is out of date. Store errors as they are."""
        if isinstance(ref, str):
            return self.store.fetch_range(ref, offset, length)
        if ref == LOG:
            return self.log.read(offset, length)
        if ref == HOLE:
            return memoryview(_ZEROS)[:length] if length <= len(_ZEROS) else bytes(length)
        return self.blocks.read(ref, offset, length)

    def tie(self, one: int, other: int, seq: int) -> None:
        """Move record *seq* joins two trees: they are committed together until both are."""
        with self._lock:
            self._ties[one][other] = seq
            self._ties[other][one] = seq

    def tied(self, trees: set[int]) -> set[int]:
        """*trees* with all that are joined to them."""
        with self._lock:
            found, todo = set(trees), list(trees)
            while todo:
                more = self._ties.get(todo.pop(), {}).keys() - found
                found |= more
                todo.extend(more)
            return found

    def untie(self, trees: set[int], seq: int) -> None:
        """*trees* were committed together up to record *seq*; what moved since joins them still."""
        with self._lock:
            for tree in trees:
                for other, moved in list(self._ties.get(tree, {}).items()):
                    if moved <= seq:
                        del self._ties[tree][other]
                        self._ties[other].pop(tree, None)

    def discard_later(self, block: BufferBlock) -> None:
        """A writable block that turned out unused while locks are held."""
        with self._lock:
            self._unused.append(block)

    def discard_unused(self) -> None:
        """Discard what discard_later collected. No lock held."""
        with self._lock:
            unused, self._unused = self._unused, []
        for block in unused:
            self.discard(block)

    def discard(self, block: BufferBlock, *, later: bool = False) -> None:
        """Drop a block that no segment refers to, with its spool file; *later*: that is left for unlink_left()."""
        if self.blocks.drop(block.no, later=later) is not None:
            self._uncharge(block)

    def stored(self, number: int) -> None:
        """The store has the block's bytes: they wait on disk no more."""
        block = self.blocks.get(number)
        if block is not None and block.state is State.ERROR:
            block.advance(Event.RETRY)  # a commit did, before we heard of the failure
        if block is not None and block.state is State.PENDING:
            block.advance(Event.STORED)
            self._uncharge(block)

    def sync_block(self, number: int) -> None:
        """The bytes of a buffer block survive a power cut; one that is gone was stored behind a barrier."""
        block = self.blocks.get(number)
        if block is None:
            return
        try:
            fd = os.open(block.path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return
        try:
            os.fdatasync(fd)
        finally:
            os.close(fd)

    def sync_spool(self) -> None:
        """The names of spool files survive a power cut."""
        sync_directory(self.directory / "spool")

    def _note(
        self, tree: int, seq: int, number: int, size: int, inline_bytes: int, *, boundary: bool = False
    ) -> None:  # fmt: skip
        with self._lock:
            uses = self._log_uses.get(number)
            if uses is None:
                uses = self._log_uses[number] = {}
            use = uses.get(tree)
            if use is None:
                use = uses[tree] = LogUse()
            use.add(seq, size, boundary=boundary)
            if inline_bytes:
                self._log_charges[number] += inline_bytes

    def _uncharge(self, block: BufferBlock) -> None:
        charged, block.charged = block.charged, 0
        if charged:
            self.spool.credit(charged)


def _nothing() -> None:
    """Nobody wants to know."""


def _stalled() -> StoreUnavailable:
    return StoreUnavailable("the spool is full and the store takes nothing; what was written is kept")
