"""What was adopted but may not survive a power cut yet, and the barrier that makes it so.

Any thread may call. Only names are kept (a few dozen bytes per block since the last barrier); the flushing itself is
the caller's function and runs without a lock. If it fails, everything of that batch is owed again: the next barrier
either makes good or fails too, so no commit slips past a lost block (promise D5).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Final

from arvfuse.sync import Rank, RankedLock

_Flush = Callable[[set[str], set[Path]], None]


class Unsynced:
    """Blocks (digests) and directories with changes that were not flushed."""

    def __init__(self) -> None:
        self._lock: Final = RankedLock(Rank.LEAF)
        self._blocks: set[str] = set()  # guarded by: _lock
        self._directories: set[Path] = set()  # guarded by: _lock
        self._running: Future[None] | None = None  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<Unsynced {len(self._blocks)} blocks, {len(self._directories)} directories>"

    def note_block(self, digest: str) -> None:
        """The bytes of block *digest* are to be flushed."""
        with self._lock:
            self._blocks.add(digest)

    def note_directory(self, path: Path) -> None:
        """The entries of *path* are to be flushed."""
        with self._lock:
            self._directories.add(path)

    def barrier(self, flush: _Flush) -> None:
        """Everything noted before this call is flushed when it returns; raises what *flush* raises."""
        while True:
            with self._lock:
                running = self._running
                if running is None:
                    blocks, directories = self._blocks, self._directories
                    if not blocks and not directories:
                        return
                    self._blocks, self._directories = set(), set()
                    landed = self._running = Future()
                    break
            # Another caller took what we need along; it is not safe before that one is through. If it fails, the
            # batch is owed again and ours is the next try.
            wait([running])
        done = False
        try:
            flush(blocks, directories)
            done = True
        finally:
            with self._lock:
                if not done:
                    self._blocks |= blocks
                    self._directories |= directories
                self._running = None
            landed.set_result(None)
