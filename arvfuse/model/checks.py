"""Check sums of the pieces of a block: xxh3_64 of each 64 KiB, so that a small read is verified by itself.

Pure; any thread may call it. They find rot, not malice: a block's name (md5) is what identifies content.
"""

from __future__ import annotations

from typing import Final

from xxhash import xxh3_64_digest

PIECE_BYTES: Final = 1 << 16
"""Length of what one check sum covers; the last piece of a block may be shorter."""


def piece_checks(view: bytes | bytearray | memoryview) -> bytes:
    """Eight bytes, big-endian, for each piece of *view*, one after the other; empty for an empty block."""
    with memoryview(view) as whole, whole.cast("B") as data:
        return b"".join(xxh3_64_digest(data[at : at + PIECE_BYTES]) for at in range(0, len(data), PIECE_BYTES))
