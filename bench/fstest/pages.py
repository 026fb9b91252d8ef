"""What the stress program writes: pages that describe themselves, and models of files made of them.

Owns the page format. Pure but for flip_byte(); no threads. Bytes that are not one of our pages raise BadPage.
"""

from __future__ import annotations

import hashlib
import os
import random
import struct
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple

PAGE_BYTES: Final = 4096
_HEADER: Final = struct.Struct("<8sQQQQQ16s")
_MAGIC: Final = b"fstest01"
_BLANK: Final = bytes(PAGE_BYTES)
_FILLER: Final = random.Random(0).randbytes(65536 + PAGE_BYTES)


class BadPage(ValueError):
    """Bytes that are not a page of this program; the text says in what."""


class Page(NamedTuple):
    """What a page says of itself. *tag* names the file it was written to, whatever
    the file is called now; *number* its place there."""

    seed: int
    writer: int
    version: int
    tag: int
    number: int

    def encode(self) -> bytes:
        """The PAGE_BYTES bytes of this page."""
        start = (self.version * 2654435761 + self.number * 40503 + self.writer * 97 + self.tag) & 0xFFFF
        body = _FILLER[start : start + PAGE_BYTES - _HEADER.size]
        digest = hashlib.blake2b(struct.pack("<5Q", *self) + body, digest_size=16).digest()
        return _HEADER.pack(_MAGIC, *self, digest) + body


def parse_page(data: bytes) -> Page:
    """What the page *data* says of itself; BadPage if it is not whole."""
    if len(data) != PAGE_BYTES:
        raise BadPage(f"{len(data)} bytes instead of {PAGE_BYTES}")
    if data == _BLANK:
        raise BadPage("all zeros")
    magic, *fields, _digest = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise BadPage(f"not one of our pages: {data[:8]!r}...")
    page = Page(*fields)
    if page.encode() != data:
        raise BadPage(f"check sum wrong in what calls itself {page}")
    return page


def flip_byte(path: Path, offset: int = 2000) -> None:
    """Change the byte at *offset* of *path* (if it is that long) in place: the negative control of this program."""
    with open(path, "r+b", buffering=0) as file:
        old = os.pread(file.fileno(), 1, offset)
        if old:
            os.pwrite(file.fileno(), bytes([(old[0] + 1) % 256]), offset)


@dataclass(slots=True)
class Model:
    """What one writer's file must hold: per page its version and how many of its bytes still stand (then zeros)."""

    seed: int
    writer: int
    tag: int
    size: int = 0
    pages: list[tuple[int, int]] = field(default_factory=list)

    def put(self, index: int, version: int) -> bytes:
        """Note that page *index* is written whole, and return the bytes to write."""
        self.pages.extend([(0, 0)] * (index + 1 - len(self.pages)))
        self.pages[index] = (version, PAGE_BYTES)
        self.size = max(self.size, (index + 1) * PAGE_BYTES)
        return Page(self.seed, self.writer, version, self.tag, index).encode()

    def cut(self, size: int) -> None:
        """Note a truncate, up or down."""
        count = -(-size // PAGE_BYTES)
        del self.pages[count:]
        self.pages.extend([(0, 0)] * (count - len(self.pages)))
        if size % PAGE_BYTES:
            version, valid = self.pages[-1]
            self.pages[-1] = (version, min(valid, size % PAGE_BYTES))
        self.size = size

    def expected(self, index: int) -> bytes:
        """The bytes of page *index*, short at the end of the file."""
        version, valid = self.pages[index]
        page = Page(self.seed, self.writer, version, self.tag, index).encode()[:valid] if valid else b""
        return page.ljust(PAGE_BYTES, b"\0")[: self.size - index * PAGE_BYTES]


def explain(got: bytes, want: bytes, index: int) -> str:
    """One line: where the page differs, and what the bytes that came say of themselves."""
    first = next((i for i, (a, b) in enumerate(zip(got, want, strict=False)) if a != b), min(len(got), len(want)))
    says = []
    for data in (got, want):
        try:
            says.append(str(parse_page(data)))
        except BadPage as problem:
            says.append(str(problem))
    return f"byte {index * PAGE_BYTES + first} is wrong: page {index} is {says[0]}; it should be {says[1]}"
