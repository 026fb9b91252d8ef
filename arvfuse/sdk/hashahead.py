"""Hashing blocks while they are written, so that a commit finds most of the work done.

A block's md5 can only be made from its first byte on, and takes longer than anything else that a commit does. The log
tells which bytes a spool file has; whole pieces in order are hashed by a thread of their own, and their writing to the
disk begins. What is begun counts only while it is true: a block that is written to a second time is followed no longer,
unless from its first byte on; of writes in place no record tells, but the Seal of the block does (REWRITTEN). Who takes
the result compares the check sums of each piece with the file as it is then, too: they find what went wrong, not what
somebody made to look the same.

Threading: ``written`` and ``forget`` belong to the thread that reads the log, ``take`` to any; steps run in the pool.
Failure: whatever goes wrong here, the block is hashed from its begin when it is stored.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections import OrderedDict
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged
from arvfuse.model.checks import PIECE_BYTES, BlockHasher
from arvfuse.sdk.blocks import spool_path
from arvfuse.sdk.putpool import Pool, read_ranges
from arvfuse.sync import Rank, RankedLock
from arvfuse.writeback import start_writeback

log = logging.getLogger(__name__)

BEGIN_BYTES: Final = 2 << 20
"""So many bytes must wait to be hashed: a small file takes no longer at the commit, and may be gone before it."""
STEP_BYTES: Final = 8 << 20
"""Of one block at a time: others have their turn, and who takes a block waits no longer than that takes."""
GRAIN_BYTES: Final = PIECE_BYTES
"""Whole pieces at a time, which is the fast case of a BlockHasher."""
MOST_BLOCKS: Final = 256
"""Those that were written to last: nobody tells of blocks that were dropped before they were sealed."""
_MOST_PARTS: Final = 64  # of a block that is written in another order


class _Followed:
    """A block that is written from its begin on. *end*: its bytes up to there have been written once; *later*: begin
    and end of parts behind; *step*: what hashes now, or will; *over*: given up or taken. The hasher belongs to the step
    while there is one. guarded by: HashingAhead._lock"""

    __slots__ = ("end", "hasher", "later", "over", "step")

    def __init__(self) -> None:
        self.end = 0
        self.later: dict[int, int] = {}
        self.step: Future[None] | None = None
        self.over = False
        self.hasher: Final = BlockHasher()

    def grow(self, offset: int, length: int) -> bool:
        """Note a write; False if it is not one that can be followed."""
        if offset < self.end or offset in self.later or len(self.later) >= _MOST_PARTS:
            return False
        self.later[offset] = offset + length
        while (end := self.later.pop(self.end, None)) is not None:
            self.end = end
        return not self.later or self.end <= min(self.later)

    def next_step(self) -> Future[None] | None:
        """A step that has to be handed in now, if one is due."""
        if self.over or self.step is not None or self.end - self.hasher.size < BEGIN_BYTES:
            return None
        self.step = Future()
        return self.step


class HashingAhead:
    """The blocks of one log that are being written. Owns no thread: *pool* is its owner's, and should be of its own."""

    def __init__(self, directory: Path, pool: Pool) -> None:
        self._directory: Final = directory
        self._pool: Final = pool
        self._lock: Final = RankedLock(Rank.LEAF)
        self._followed: Final[OrderedDict[int, _Followed]] = OrderedDict()  # guarded by: _lock

    def __repr__(self) -> str:
        with self._lock:
            return f"<HashingAhead {len(self._followed)} blocks>"

    def written(self, block: int, offset: int, length: int) -> None:
        """The log says that *length* bytes at *offset* of the block's spool file were written."""
        with self._lock:
            followed = self._followed.get(block)
            if followed is None:
                followed = self._followed[block] = _Followed()
                if len(self._followed) > MOST_BLOCKS:
                    self._followed.popitem(last=False)[1].over = True
            self._followed.move_to_end(block)
            if not followed.grow(offset, length):
                self._drop_locked(block, followed)
            step = followed.next_step()
        self._submit(block, followed, step)

    def take(self, block: int) -> BlockHasher | None:
        """What was hashed of the block, from its begin on in whole pieces; it is not followed any more. None: nothing.

        Waits for a step that runs."""
        with self._lock:
            followed = self._followed.get(block)
            if followed is None:
                return None
            self._drop_locked(block, followed)
            step = followed.step
        if step is not None and not step.cancel():
            step.result()
        return followed.hasher if followed.hasher.size else None

    def forget(self, block: int) -> None:
        """The block is stored or dropped."""
        with self._lock:
            followed = self._followed.get(block)
            if followed is not None:
                self._drop_locked(block, followed)

    def _drop_locked(self, block: int, followed: _Followed) -> None:
        del self._followed[block]
        followed.over = True

    def _submit(self, block: int, followed: _Followed, step: Future[None] | None) -> None:
        if step is not None:
            with contextlib.suppress(RuntimeError):  # the pool was closed: we are ending
                self._pool.submit(self._run, block, followed, step)

    def _run(self, block: int, followed: _Followed, step: Future[None]) -> None:
        if not step.set_running_or_notify_cancel():
            return
        with self._lock:
            end = min(followed.end - followed.end % GRAIN_BYTES, followed.hasher.size + STEP_BYTES)
            over = followed.over
        failed = False
        try:
            if not over:
                _hash(spool_path(self._directory, block), followed.hasher, end)
        except (OSError, Damaged) as exc:
            log.debug("block %d is not hashed ahead: %s", block, exc)
            failed = True
        finally:
            step.set_result(None)
        with self._lock:
            followed.step = None
            if failed and not followed.over:  # who stores it will say what is wrong with it
                self._drop_locked(block, followed)
            following = followed.next_step()
        self._submit(block, followed, following)


def _hash(path: Path, hasher: BlockHasher, end: int) -> None:
    """Feed the file's bytes up to *end*. OSError; Damaged: it has not so many."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        start_writeback(fd)
        for view in read_ranges(path, fd, [(hasher.size, end - hasher.size)]):
            hasher.update(view)
    finally:
        os.close(fd)
