"""A read cache in front of a slow store: a wrapper with the port of the store it wraps.

Any thread may call. Blocks are cached in lines: whole blocks by default, parts where a caller wants small reads of
large blocks to stay small. Whoever reads what is not there fetches the line once for all who wait for it. The cache
answers only for bytes: whether a block exists, and everything that is written, is the store's own affair. If the store
is out of reach, what is cached can still be read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from arvfuse.errors import ArgumentError, Damaged
from arvfuse.model.checks import PIECE_BYTES
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.ports import BlockStore, ahead_bytes
from arvfuse.stores.blocknames import clip, digest_and_size
from arvfuse.stores.flights import Flights
from arvfuse.stores.shelves import Line, Shelf


class Cached:
    """*store* with what was read lately on *shelf*, in lines of *line_bytes* (a multiple of 64 KiB)."""

    def __init__(self, store: BlockStore, shelf: Shelf, *, line_bytes: int = BLOCK_BYTES) -> None:
        if line_bytes < PIECE_BYTES or line_bytes % PIECE_BYTES:
            raise ArgumentError(f"cache lines of {line_bytes} bytes: not a multiple of {PIECE_BYTES}")
        self._store: Final = store
        self._shelf: Final = shelf
        self._line_bytes: Final = line_bytes
        self._flights: Final[Flights[Line, bytes | memoryview]] = Flights()

    def __repr__(self) -> str:
        return f"<Cached {self._shelf!r} {self._store!r}>"

    @property
    def ahead_bytes(self) -> int:
        """A line, which comes as a whole whatever part is asked for; 0 if the wrapped store says so."""
        return self._line_bytes if ahead_bytes(self._store) else 0

    def put(self, data: bytes | memoryview) -> str:
        """As the wrapped store."""
        return self._store.put(data)

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """As the wrapped store; a shelf in a directory links the file, so that what was just written is not fetched."""
        locator = self._store.adopt(path, digest, size, checks)
        if 0 < size <= self._line_bytes:
            self._shelf.adopt(Line(digest, size, 0, self._line_bytes), path, checks)
        return locator

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """From the cache, line by line, or from the wrapped store, with its errors."""
        digest, size = digest_and_size(locator)
        start, end = clip(start, length, size)
        parts: list[bytes | memoryview] = []
        while start < end:
            line = Line(digest, size, start // self._line_bytes, self._line_bytes)
            stop = min(end, line.start + line.length)
            parts.append(self._read(locator, line, start - line.start, stop - line.start))
            start = stop
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def contains(self, locator: str) -> bool:
        """As the wrapped store."""
        return self._store.contains(locator)

    def barrier(self) -> None:
        """As the wrapped store."""
        self._store.barrier()

    def free_bytes(self) -> tuple[int, int]:
        """As the wrapped store."""
        return self._store.free_bytes()

    def close(self) -> None:
        """Close the shelf and the wrapped store."""
        self._shelf.close()
        self._store.close()

    def _read(self, locator: str, line: Line, start: int, end: int) -> bytes | memoryview:
        kept = self._shelf.read(line, start, end)
        if kept is not None:
            return kept
        data = self._flights.run(line, lambda: self._fetch(locator, line))
        return memoryview(data)[start:end]

    def _fetch(self, locator: str, line: Line) -> bytes | memoryview:
        # A flight may have landed between our look at the shelf and the start of this one.
        kept = self._shelf.read(line, 0, line.length)
        if kept is not None:
            return kept
        data = self._store.fetch_range(locator, line.start, line.length)
        if len(data) != line.length:
            raise Damaged(f"block {locator}: {len(data)} bytes at {line.start} instead of {line.length}")
        self._shelf.keep(line, data)
        return data
