"""Where the lines of a manifest are, in a file: a text of 100,000 directories is opened without looking at it.

What `scanning.scan` finds, as a file beside the text; the format is in doc/formats.md. Paths are decoded when somebody
asks for them. Pure; an index never changes, any thread may use it. Failure: Damaged for what is no such file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from mmap import mmap
from typing import Final, overload

import xxhash

from arvfuse.errors import Damaged
from arvfuse.model import sealed
from arvfuse.model.normalizing import Path, Text
from arvfuse.model.scanning import Index

MAGIC: Final = b"arvfslin"
FORMAT_VERSION: Final = 1
COUNTS: Final = struct.Struct("<QQQQ")
"""Behind the header: length of the text, its xxh3_64, number of lines, bytes of paths."""

LINE: Final = struct.Struct("<QQ")
"""Where the line begins in the text, where its path begins in the paths."""

_LINES_AT: Final = sealed.HEADER.size + COUNTS.size
_PATHS_OF: Final = struct.Struct("<8xQ8xQ")
_NUMBER: Final = struct.Struct("<Q")


class _Starts(Sequence[int]):
    """Positions of lines, and of the end."""

    def __init__(self, data: bytes | mmap, count: int) -> None:
        self._data: Final = data
        self._count: Final = count

    def __len__(self) -> int:
        return self._count + 1

    @overload
    def __getitem__(self, at: int) -> int: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[int]: ...
    def __getitem__(self, at: int | slice) -> int | Sequence[int]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        if not 0 <= at <= self._count:
            raise IndexError(at)
        return int(_NUMBER.unpack_from(self._data, _LINES_AT + LINE.size * at)[0])


class _Paths(Sequence[Path]):
    """The directories that lines are about."""

    def __init__(self, data: bytes | mmap, count: int) -> None:
        self._data: Final = data
        self._count: Final = count
        self._texts_at: Final = _LINES_AT + LINE.size * (count + 1)

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Path: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Path]: ...
    def __getitem__(self, at: int | slice) -> Path | Sequence[Path]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(self._count))]
        if not 0 <= at < self._count:
            raise IndexError(at)
        start, end = _PATHS_OF.unpack_from(self._data, _LINES_AT + LINE.size * at)
        return tuple(self._data[self._texts_at + start : self._texts_at + end].split(b"/")) if start < end else ()


def encode_lines(index: Index, text: Text, key: bytes) -> bytes:
    """The file for *text*, which is normal: *index* is what a scan of it found."""
    lines, paths = bytearray(), bytearray()
    for start, path in zip(index.starts, [*index.paths, None], strict=True):
        lines += LINE.pack(start, len(paths))
        paths += b"/".join(path or ())
    counts = COUNTS.pack(len(text), check_of(text), len(index.paths), len(paths))
    return sealed.seal(MAGIC, FORMAT_VERSION, key, (counts, lines, paths))


def decode_lines(data: bytes | mmap, key: bytes, text: Text, *, verify: bool) -> Index:
    """The index in a file, for *text*. *verify*: compare all of both with their checks, for who trusts neither."""
    if sealed.unseal(data, MAGIC, FORMAT_VERSION) != key:
        raise Damaged("line index: that of another text")
    if len(data) < _LINES_AT:
        raise Damaged(f"line index: {len(data)} bytes")
    text_bytes, text_check, count, path_bytes = COUNTS.unpack_from(data, sealed.HEADER.size)
    if _LINES_AT + LINE.size * (count + 1) + path_bytes != len(data) or text_bytes != len(text):
        raise Damaged(f"line index: {len(data)} bytes for {count} lines, {text_bytes} bytes of text for {len(text)}")
    if verify:
        sealed.verify(data)
        if check_of(text) != text_check:
            raise Damaged("line index: its text is another")
    return Index(_Paths(data, count), _Starts(data, count))


def check_of(text: Text) -> int:
    """What tells one text from others."""
    check = xxhash.xxh3_64()
    for piece in _pieces(text):
        check.update(piece)
    return check.intdigest()


def _pieces(text: Text) -> Iterator[memoryview]:
    view = memoryview(text)
    for at in range(0, len(view), 1 << 20):
        yield view[at : at + (1 << 20)]
