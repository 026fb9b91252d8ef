"""The hash functions that name content: md5 for blocks and texts, blake2b for what stays on this machine.

Pure; any thread may call. OpenSSL, which hashlib reads in, takes 6 ms to load: it is loaded with the first digest, so
a mount answers before it is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hashlib import _Hash
    from mmap import mmap


def md5(data: bytes | bytearray | memoryview | mmap = b"") -> _Hash:
    """md5 as a name, not as protection, of *data* and of what is fed to it afterwards."""
    import hashlib  # see above

    return hashlib.md5(data, usedforsecurity=False)


def blake2b(data: bytes, size: int) -> bytes:
    """*size* bytes of BLAKE2b of *data*."""
    import hashlib  # see above

    return hashlib.blake2b(data, digest_size=size).digest()
