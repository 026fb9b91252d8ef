"""What files that can be made again have in common: a header that says what they are, how long, of what, and a check.

Whoever finds such a file cut off, damaged, of another version or of something else gets `Damaged`, throws it away and
makes it again. Pure; any thread.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from mmap import mmap
from typing import Final

import xxhash

from arvfuse.errors import Damaged

HEADER: Final = struct.Struct("<8sIIQQ16s")
"""Magic, version, 0, xxh3_64 of all behind itself, length of the whole, key."""

KEY_BYTES: Final = 16

_CHECKED_FROM: Final = 24
_PIECE_BYTES: Final = 1 << 20


def seal(magic: bytes, version: int, key: bytes, parts: Sequence[bytes | bytearray | memoryview]) -> bytes:
    """A file of *parts*; *key* says of what it is."""
    length = HEADER.size + sum(map(len, parts))
    check = xxhash.xxh3_64(HEADER.pack(magic, version, 0, 0, length, key)[_CHECKED_FROM:])
    for part in parts:
        check.update(part)
    return b"".join((HEADER.pack(magic, version, 0, check.intdigest(), length, key), *parts))


def unseal(data: bytes | mmap, magic: bytes, version: int) -> bytes:
    """The key of a file that is as it should be as far as its header says. Damaged."""
    if len(data) < HEADER.size:
        raise Damaged(f"{magic.decode()} file: {len(data)} bytes")
    found, found_version, _, _, length, key = HEADER.unpack_from(data)
    if found != magic or found_version != version:
        raise Damaged(f"{magic.decode()} file: begins with {found!r}, version {found_version}")
    if length != len(data):
        raise Damaged(f"{magic.decode()} file: {len(data)} bytes instead of {length}")
    return bytes(key)


def verify(data: bytes | mmap) -> None:
    """Read all of an unsealed file and compare it with its check. Damaged."""
    check = xxhash.xxh3_64()
    for at in range(_CHECKED_FROM, len(data), _PIECE_BYTES):  # piece by piece: other threads get their turn
        check.update(data[at : at + _PIECE_BYTES])
    if check.intdigest() != HEADER.unpack_from(data)[3]:
        raise Damaged(f"{bytes(data[:8])!r} file: its check does not match")
