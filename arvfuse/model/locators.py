"""Names of blocks: ``md5+size[+hints]``, and the blocks of nothing but zeros.

Pure functions and frozen values; any thread may use them. Text that is no locator raises InvalidLocator. Blocks of
zeros are known by name, so that a hole that was stored as such a block is a hole again when the file is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from arvfuse.errors import InvalidLocator

BLOCK_BYTES: Final = 1 << 26
"""The largest block, and the length of the pieces that big files are cut into."""

EMPTY_BLOCK: Final = "d41d8cd98f00b204e9800998ecf8427e+0"
"""The block without bytes: stands where the format wants a block and there is no data."""

ZERO_BLOCKS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "93b885adfe0da089cdf634904fd59f71+1": 1,
        "c4103f122d27677c9db144cae1394a66+2": 2,
        "f1d3ff8443297732862df21dc4e57262+4": 4,
        "7dea362b3fac8e00956a4952a3d4f474+8": 8,
        "4ae71336e44bf9bf79d2752e234818a5+16": 16,
        "70bc8f4b72a86921468bf8e8441dce51+32": 32,
        "3b5d3c7d207e37dceeedd301e35e2e58+64": 64,
        "f09f35a5637839458e462e6350ecbce4+128": 128,
        "348a9791dc41b89796ec3808b5b5262f+256": 256,
        "bf619eac0cdf3f68d496ea9344137e8b+512": 512,
        "0f343b0931126a20f133d67c2b018a3b+1024": 1024,
        "c99a74c555371a433d121f551d6c6398+2048": 2048,
        "620f0b67a91f7f74151bc5be745b7110+4096": 4096,
        "0829f71740aab1ab98b33eae21dee122+8192": 8192,
        "ce338fe6899778aacfc28414f2d9498b+16384": 16384,
        "bb7df04e1b0a2570657527a7e108ae23+32768": 32768,
        "fcd6bcb56c1689fcef28b57c22475bad+65536": 65536,
        "0dfbe8aa4c20b52e1b8bf3cb6cbdf193+131072": 131072,
        "ec87a838931d4d5d2e94a04644788a55+262144": 262144,
        "59071590099d21dd439896592338bf95+524288": 524288,
        "b6d81b360a5672d80c27430f39153e2c+1048576": 1048576,
        "b2d1236c286a3c0704224fe4105eca49+2097152": 2097152,
        "b5cfa9d6c8febd618f91ac2843d50a1c+4194304": 4194304,
        "96995b58d4cbf6aaa9041b4f00c7f6ae+8388608": 8388608,
        "2c7ab85a893283e98c931e9511add182+16777216": 16777216,
        "58f06dd588d8ffb3beb46ada6309436b+33554432": 33554432,
        "7f614da9329cd3aebf59b91aadc30bf0+67108864": 67108864,
    }
)
"""Stripped locator -> size, of every block of zeros whose size is a power of two."""

_BY_EXPONENT: Final = tuple(ZERO_BLOCKS)
_LOCATOR: Final = re.compile(r"([0-9a-f]{32})\+([0-9]{1,18})((?:\+[A-Z][-A-Za-z0-9@_]*)*)", re.ASCII)
_EXPIRY: Final = re.compile(r"[AR][^@]*@([0-9a-f]{1,8})", re.ASCII)


class Locator(NamedTuple):
    """A parsed locator. *hints* are kept as they came, in their order, without their plus signs."""

    digest: str
    size: int
    hints: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Locator:
        """The locator written as *text*; InvalidLocator if it is none (no size, size not first, a bad hint)."""
        match = _LOCATOR.fullmatch(text)
        if match is None:
            raise InvalidLocator(f"not a block locator: {text[:200]!r}")
        digest, size, hints = match.groups()
        return cls(digest, int(size), tuple(hints.split("+")[1:]))

    def __str__(self) -> str:
        return "+".join((self.digest, str(self.size), *self.hints))

    @property
    def stripped(self) -> str:
        """Digest and size alone: what the content is, without who may read it and where it lies."""
        return f"{self.digest}+{self.size}"

    @property
    def signature(self) -> str | None:
        """The local permission hint (``A...``), or None."""
        return next((hint for hint in self.hints if hint[0] == "A"), None)

    @property
    def expires_at_s(self) -> int | None:
        """When the first signature (local or of a remote cluster) ends, in seconds since 1970 UTC; None without one."""
        for hint in self.hints:
            match = _EXPIRY.fullmatch(hint)
            if match is not None:
                return int(match[1], 16)
        return None

    def for_request(self) -> str:
        """The text for the path of a request: the permission hint moved before all others."""
        hints = sorted(self.hints, key=lambda hint: hint[0] != "A")
        return "+".join((self.digest, str(self.size), *hints))


def strip_token(token: str) -> str:
    """*token*, a valid locator, without its hints; the text of digest and size stays as it is."""
    end = token.find("+", 33)
    return token if end < 0 else token[:end]


def zero_locator(size: int) -> str:
    """The smallest known block of zeros with at least *size* bytes; the 64 MiB one if none is that large."""
    return _BY_EXPONENT[min(max(size - 1, 0).bit_length(), len(_BY_EXPONENT) - 1)]
