"""Fetching ahead of a handle that reads a file from one end to the other, out of a store that is not at hand.

Once a handle has read on for `AFTER_BYTES` (or asks for more than one fetch at once), the next pieces of the file are
fetched in the background: a fixed number of them, in order, at most `AHEAD_BYTES`. Seeking and closing cancel that.
What was fetched is used where the file still refers to the very same bytes of the very same block when they are read,
so a write between the fetch and the read is never missed. Which stores: `ports.ahead_bytes`.

Threading: ``ReadAhead`` is used by one thread at a time, under its handle's lock; its workers fetch blocks, and see
nothing of the tree. Failure: a fetch that failed in the background is never reported; the read that needs the bytes
asks the store itself, and meets what there is to meet.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Generator, Iterator
from concurrent.futures import Future
from typing import Final, NamedTuple, Protocol

from arvfuse.model.ranges import Ref, Segment
from arvfuse.parallel import Executor, parallel_iterator

log = logging.getLogger(__name__)

PREFETCH_THREADS: Final = 2
AFTER_BYTES: Final = 256 << 10
AHEAD_BYTES: Final = 64 << 20
_KEEP_BYTES: Final = 64 << 10  # readline goes back by less than what it looked at


class Source(Protocol):
    """The file of a handle."""

    def size(self) -> int:
        """Bytes of the file now."""
        ...

    def cover(self, offset: int, size: int, limit: int) -> list[Segment]:
        """The first *limit* segments of [offset, offset + size)."""
        ...

    def fetch_part(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        """The bytes of a segment."""
        ...


class _Piece(NamedTuple):
    """Bytes [offset, offset + length) of a block; None if they could not be fetched."""

    ref: Ref
    offset: int
    length: int
    data: bytes | memoryview | None

    def holds(self, ref: Ref, offset: int) -> bool:
        return self.ref == ref and self.data is not None and self.offset <= offset < self.offset + self.length


class ReadAhead:
    """At most *pieces* (two or more) of at most *unit_bytes* each are fetched or wait behind the one that is read.

    A handle says ``reading`` before each read, ``cancel`` when it moves, ``close`` when it ends."""

    def __init__(self, source: Source, *, pieces: int, unit_bytes: int) -> None:
        self._source: Final = source
        self._pieces: Final = pieces
        self._unit_bytes: Final = min(unit_bytes, max(AHEAD_BYTES // pieces, 1))
        self._last = self._end = -1  # the last read: a next one that begins in it or at its end goes on
        self._began = 0  # where the reader began to go on and on, or where fetching ahead failed
        self._window: Generator[_Piece, None, None] | None = None
        self._recent: deque[_Piece] = deque()  # handed out by the window, the newest last
        self._ending: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<ReadAhead {'on' if self._window is not None else 'off'} {self._pieces} x {self._unit_bytes}>"

    def reading(self, offset: int, size: int) -> None:
        """The handle is about to read that. Begins to fetch ahead where it pays."""
        if size <= 0:
            return
        if not self._last <= offset <= self._end:
            self._stop()
            self._began = offset
        self._last, self._end = offset, offset + size
        if self._window is None and self._is_worth_it(offset, size):
            self._window = self._fetch_from(offset, size)

    def fetch(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        """The bytes of a segment: from what was fetched ahead as far as it goes, else as the source gives them."""
        parts: list[bytes | memoryview] = []
        at, end = offset, offset + length
        while at < end:
            piece = self._find(ref, at) if isinstance(ref, str) else None
            if piece is None or piece.data is None:
                parts.append(self._source.fetch_part(ref, at, end - at))
                break
            part = memoryview(piece.data)[at - piece.offset : end - piece.offset]
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def cancel(self) -> None:
        """The reader goes elsewhere: fetch no more. What is under way is not waited for, unless something of an earlier
        cancel still is."""
        self._last = self._end = -1
        self._stop()

    def close(self) -> None:
        """Cancel, and wait for what is under way. Idempotent."""
        self.cancel()
        self._join()

    def _stop(self) -> None:
        self._recent.clear()
        window, self._window = self._window, None
        if window is not None:
            self._join()
            self._ending = threading.Thread(target=window.close, name="arvfuse-ahead-end")
            self._ending.start()

    def _is_worth_it(self, offset: int, size: int) -> bool:
        if size > self._unit_bytes:
            return True
        return offset - self._began >= AFTER_BYTES and offset + size < self._source.size()

    def _find(self, ref: Ref, offset: int) -> _Piece | None:
        """The piece with that byte; None if nothing was fetched that is of use."""
        for known in reversed(self._recent):
            if known.holds(ref, offset):
                return known
        if self._window is None:
            return None
        piece = next(self._window, None)
        if piece is None or not piece.holds(ref, offset):
            # The store is out of reach, or the file is another by now: read on by yourself for a while.
            self._stop()
            self._began = self._end
            return None
        self._recent.append(piece)
        kept = sum(each.length for each in self._recent) - piece.length
        while kept - self._recent[0].length >= _KEEP_BYTES:
            kept -= self._recent.popleft().length
        return piece

    def _fetch_from(self, offset: int, size: int) -> Generator[_Piece, None, None]:
        def build(executor: Executor) -> Iterator[Iterator[Future[_Piece]]]:
            yield (
                executor.submit(self._fetch_piece, ref, at, length, cost=length)
                for length, ref, at in self._parts_from(offset, size)
            )

        return parallel_iterator(build, max_workers=self._pieces, max_bytes=AHEAD_BYTES)

    def _parts_from(self, offset: int, size: int) -> Iterator[tuple[int, Ref, int]]:
        """What lies in blocks from *offset* on, one fetch after another; the first is what the reader waits for."""
        limit = min(size, self._unit_bytes)
        while found := self._source.cover(offset, max(self._source.size() - offset, 0), 1):
            [span] = found
            length = span.length
            if isinstance(span.ref, str):
                length = min(length, limit)
                yield length, span.ref, span.offset
                limit = self._unit_bytes
            offset += length

    def _fetch_piece(self, ref: Ref, offset: int, length: int) -> _Piece:
        try:
            data = self._source.fetch_part(ref, offset, length)
        except Exception as exc:  # top of a thread; a store of a user's may raise what it likes
            log.debug("%s: not fetched ahead: %r", ref, exc)
            return _Piece(ref, offset, length, None)
        return _Piece(ref, offset, length, data if len(data) == length else None)

    def _join(self) -> None:
        ending, self._ending = self._ending, None
        if ending is not None:
            ending.join()
