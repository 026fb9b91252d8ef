"""Names of blocks as the stores use them: locator -> (digest, size), hints left aside.

Pure; safe from any thread. Raises InvalidLocator or ArgumentError, nothing else.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

from arvfuse.errors import ArgumentError
from arvfuse.model.locators import BLOCK_BYTES, Locator

_HEX: Final = frozenset("0123456789abcdef")


# Parsing costs more than a cached pread of 4 KiB; the readers of a file name the same few blocks again and again.
@lru_cache(maxsize=16384)
def digest_and_size(locator: str) -> tuple[str, int]:
    """(32 hex digits, bytes) of *locator*, whatever hints it carries. Raises InvalidLocator."""
    parsed = Locator.parse(locator)
    return parsed.digest, parsed.size


def is_digest(name: str) -> bool:
    """Whether *name* is 32 lower-case hex digits."""
    return len(name) == 32 and _HEX.issuperset(name)


def check_block(digest: str, size: int) -> None:
    """Raise ArgumentError unless *digest* and *size* (bytes) can name a block."""
    if not is_digest(digest):
        raise ArgumentError(f"{digest!r} is not an md5 digest")
    if not 0 <= size <= BLOCK_BYTES:
        raise ArgumentError(f"a block of {size} bytes: blocks have at most {BLOCK_BYTES}")


def clip(start: int, length: int, size: int) -> tuple[int, int]:
    """(start, end) of the asked range, cut at the block's *size*. Raises ArgumentError for negative numbers."""
    if start < 0 or length < 0:
        raise ArgumentError(f"range of {length} bytes at {start}")
    return start, max(start, min(start + length, size))
