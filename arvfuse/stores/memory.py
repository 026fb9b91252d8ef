"""A store in a dictionary: for tests, and for content that need not outlive the process.

Any thread may call. Blocks are immutable bytes, so what was checked when it came in needs no check when it goes out;
there is nothing to survive the death of the process, so both promises of the port hold in an empty sense.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from arvfuse.errors import BlockMissing, Damaged, DigestCollision
from arvfuse.model.checks import piece_checks
from arvfuse.model.digests import md5
from arvfuse.model.locators import EMPTY_BLOCK
from arvfuse.stores.blocknames import check_block, clip, digest_and_size
from arvfuse.stores.diskerrors import translated
from arvfuse.sync import Rank, RankedLock


class MemoryStore:
    """A BlockStore of bytes objects."""

    ahead_bytes: Final = 0

    def __init__(self) -> None:
        self._lock: Final = RankedLock(Rank.LEAF)
        self._blocks: dict[str, bytes] = {}  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<MemoryStore {len(self._blocks)} blocks>"

    def put(self, data: bytes | memoryview) -> str:
        """Keep a copy of *data*."""
        return self._keep(bytes(data))

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """Keep the bytes of the file at *path*. Damaged if they are not the block that was announced."""
        check_block(digest, size)
        with translated(path, "adopt"):
            data = path.read_bytes()
        if len(data) != size or piece_checks(data) != checks or md5(data).hexdigest() != digest:
            raise Damaged(f"{path}: not the {size} bytes of block {digest} that were announced")
        return self._keep(data)

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """A view of the kept bytes; BlockMissing."""
        digest, size = digest_and_size(locator)
        start, end = clip(start, length, size)
        if start == end:
            return b""
        block = self._blocks.get(digest)
        if block is None or len(block) != size:
            raise BlockMissing(f"block {digest}+{size} is not in memory")
        return memoryview(block)[start:end]

    def contains(self, locator: str) -> bool:
        """Whether the block is kept."""
        digest, size = digest_and_size(locator)
        return not size or len(self._blocks.get(digest, b"")) == size

    def barrier(self) -> None:
        """Nothing: there is no disk."""

    def free_bytes(self) -> tuple[int, int]:
        """(0, 0): not known."""
        return 0, 0

    def close(self) -> None:
        """Nothing to give back; the blocks stay, as they would on a disk."""

    def blocks(self) -> Iterator[str]:
        """The locators of all blocks, sorted."""
        with self._lock:
            found = sorted(f"{digest}+{len(data)}" for digest, data in self._blocks.items())
        return iter(found)

    def _keep(self, data: bytes) -> str:
        digest = md5(data).hexdigest()
        check_block(digest, len(data))
        if not data:
            return EMPTY_BLOCK
        with self._lock:
            kept = self._blocks.setdefault(digest, data)
        if kept is not data and kept != data:
            raise DigestCollision(f"block {digest}: other content with the same md5; the new one is refused")
        return f"{digest}+{len(data)}"
