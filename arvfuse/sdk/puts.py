"""Blocks on their way to the store: which are sealed, which are being put, which failed.

``Puts`` hands a block to the put threads when the log says that it is sealed, or when a commit needs it. Threading:
calls belong to the thread that reads the log and commits; *on_stored* is told from a put thread and must not block.
Failure: a put that failed says why in its future and in ``failed``; the next one who wants the block tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable
from concurrent.futures import Future
from pathlib import Path
from typing import Final

from arvfuse.model import records
from arvfuse.ports import BlockStore
from arvfuse.sdk.blocks import spool_path
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.putpool import Pool, Stored, put_ranges


class Puts:
    """The buffer blocks of one log in *directory*. *ahead*: hashes them while they are written; None: nobody does."""

    def __init__(
        self, store: BlockStore, directory: Path, pool: Pool, on_stored: Callable[[int], None],
        ahead: HashingAhead | None,
    ) -> None:  # fmt: skip
        self._store: Final = store
        self._directory: Final = directory
        self._pool: Final = pool
        self._on_stored: Final = on_stored
        self._ahead: Final = ahead
        self._sealed: dict[int, records.Seal] = {}
        self._unsealed: dict[int, tuple[tuple[int, int], ...]] = {}  # what is stored of others
        self._futures: dict[int, Future[Stored]] = {}

    def __repr__(self) -> str:
        return f"<Puts {sorted({*self._sealed, *self._futures})}>"

    def written(self, write: records.WriteBlock) -> None:
        """The log tells of a write to a block."""
        if self._ahead is not None:
            self._ahead.written(write.block, write.block_offset, write.length)

    def seal(self, seal: records.Seal, *, rewritten: bool) -> None:
        """The log tells that nothing more will be written to a block: it is stored. *rewritten*: bytes may have been
        written in place, so nothing that was hashed before counts."""
        self._sealed[seal.block] = seal
        if rewritten and self._ahead is not None:
            self._ahead.forget(seal.block)
        self._start(seal.block, seal.ranges)

    def put(self, block: int, files: Iterable[FileNode]) -> Future[Stored]:
        """The future of a block that *files* need; a failed put is tried again.

        Of a block whose Seal we have not read what they use is stored: its writer died, or we began when that part of
        the log was gone and copies were left. The next commit may need more of it, and has that stored as well."""
        future = self._futures.get(block)
        is_good = future is not None and not (future.done() and (future.cancelled() or future.exception() is not None))
        seal = self._sealed.get(block)
        before = self._unsealed.get(block, ())
        if seal is not None:
            ranges = before = seal.ranges
        else:
            used = ((s.offset, s.length) for file in files for s in file.segments if s.ref == block)
            ranges = self._unsealed[block] = _union((*before, *used))
        if future is not None and is_good and ranges == before:
            return future
        if seal is None and self._ahead is not None:
            self._ahead.forget(block)
        return self._start(block, ranges)

    def failed(self) -> dict[int, BaseException]:
        """Blocks whose last put failed, and why."""
        return {
            block: error
            for block, future in list(self._futures.items())
            if future.done() and not future.cancelled() and (error := future.exception()) is not None
        }

    def forget(self, block: int) -> None:
        """The side that wrote the block dropped it."""
        self._sealed.pop(block, None)
        self._unsealed.pop(block, None)
        self._futures.pop(block, None)
        if self._ahead is not None:
            self._ahead.forget(block)

    def forget_but(self, there: Container[int]) -> None:
        """All blocks that are not in *there* were dropped."""
        for block in {*self._sealed, *self._futures}:
            if block not in there:
                self.forget(block)

    def _start(self, block: int, ranges: tuple[tuple[int, int], ...]) -> Future[Stored]:
        ahead = self._ahead
        begun = None if ahead is None else lambda: ahead.take(block)
        future = self._pool.submit(put_ranges, self._store, spool_path(self._directory, block), ranges, begun)
        self._futures[block] = future

        def done(finished: Future[Stored]) -> None:
            if not finished.cancelled() and finished.exception() is None:
                self._on_stored(block)

        future.add_done_callback(done)
        return future


def _union(ranges: Iterable[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    """(offset, length) of all bytes of *ranges*, in order."""
    out: list[tuple[int, int]] = []
    for offset, length in sorted(ranges):
        if out and offset <= (end := sum(out[-1])):
            out[-1] = (out[-1][0], max(end, offset + length) - out[-1][0])
        else:
            out.append((offset, length))
    return tuple(out)
