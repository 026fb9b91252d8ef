"""What identifies a block and what checks its pieces: md5 of the whole, xxh3_64 of each 64 KiB.

Pure; any thread may call, a `BlockHasher` belongs to one. The check sums let a small read be verified by itself; they
find rot, not malice: a block's name (md5) is what identifies content.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64, xxh3_64_digest

from arvfuse.model.digests import md5

PIECE_BYTES: Final = 1 << 16
"""Length of what one check sum covers; the last piece of a block may be shorter."""


def piece_checks(view: bytes | bytearray | memoryview) -> bytes:
    """Eight bytes, big-endian, for each piece of *view*, one after the other; empty for an empty block."""
    with memoryview(view) as whole, whole.cast("B") as data:
        return b"".join(xxh3_64_digest(data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))


class BlockHasher:
    """The name and the check sums of a block that is fed in portions of any length. ``size``: bytes fed so far.

    Whole pieces in a row are the fast case: feed multiples of `PIECE_BYTES` where that is possible."""

    __slots__ = ("_checks", "_left", "_md5", "_piece", "size")

    def __init__(self) -> None:
        self._md5 = md5()
        self._checks = bytearray()  # of complete pieces
        self._piece = xxh3_64()  # the piece that has begun
        self._left = PIECE_BYTES  # what it takes still
        self.size = 0

    def update(self, view: bytes | bytearray | memoryview) -> None:
        """Feed the next bytes of the block."""
        with memoryview(view) as whole, whole.cast("B") as data:
            self._md5.update(data)
            self.size += len(data)
            at = 0
            if self._left < PIECE_BYTES:
                at = min(self._left, len(data))
                self._begun(data[:at])
            whole_pieces = at + (len(data) - at) // PIECE_BYTES * PIECE_BYTES
            self._checks += piece_checks(data[at:whole_pieces])
            self._begun(data[whole_pieces:])

    def digest(self) -> str:
        """The md5 of what was fed, 32 hex digits."""
        return self._md5.hexdigest()

    def checks(self) -> bytes:
        """`piece_checks` of what was fed."""
        return bytes(self._checks) + (self._piece.digest() if self._left < PIECE_BYTES else b"")

    def _begun(self, part: memoryview) -> None:
        """*part* belongs to the piece that has begun and may complete it."""
        self._piece.update(part)
        self._left -= len(part)
        if not self._left:
            self._checks += self._piece.digest()
            self._piece.reset()
            self._left = PIECE_BYTES
