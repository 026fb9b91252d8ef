"""A directory as an index: its names in order, each a subdirectory or a file with size and segments.

What is in an index is searched and read where it lies, in bytes or in a mapped file, so a directory of a million files
costs no object per file and no time before its first answer. The format is in doc/formats.md; everything in it can be
made again from the manifest's text, so what is damaged or of another version is thrown away (`Damaged` says so).

Pure: reading and writing files is ``sdk.indexfiles``. An index never changes; any thread may use it.
"""

from __future__ import annotations

import struct
import sys
from array import array
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from mmap import mmap
from operator import itemgetter
from typing import Final

from arvfuse.errors import Damaged, InvalidManifest
from arvfuse.model import sealed
from arvfuse.model.ranges import Part
from arvfuse.model.streams import FileSpec, Stream, iter_tokens, parse_head, shown

MAGIC: Final = b"arvfsdir"
FORMAT_VERSION: Final = 1
COUNTS: Final = struct.Struct("<QQQQQ")
"""Behind the header, how much there is of: entries, locators, numbers in the span table, bytes of names, of texts."""

ENTRY: Final = struct.Struct("<QQQ")
"""Where the name begins, size, place."""

LOCATOR: Final = struct.Struct("<QQ")
"""Where its block begins in the line's data, where its text begins."""

NO_KEY: Final = bytes(sealed.KEY_BYTES)

_ENTRIES_AT: Final = sealed.HEADER.size + COUNTS.size
_DIRECTORY: Final = (1 << 64) - 1  # as a place
_SPANS: Final = 1 << 63  # a place with this bit is a position in the span table, else one in the line's data
_NUMBER: Final = struct.Struct("<Q")
_NAME: Final = struct.Struct("<Q16xQ")  # of an entry and the one behind it
_FIRST_BATCH: Final = 64  # what one readdir of the kernel takes, about
_BATCH: Final = 512

_name_of: Final = itemgetter(0)


class DirectoryIndex:
    """The entries of one directory, by position in the order of their names.

    Damaged if the header is not that of an index as long as *data*; `verify` looks at the rest."""

    __slots__ = ("_count", "_data", "_locators", "_names_at", "_spans_at", "_texts_at", "key")

    def __init__(self, data: bytes | mmap) -> None:
        self.key: Final = sealed.unseal(data, MAGIC, FORMAT_VERSION)
        if len(data) < _ENTRIES_AT:
            raise Damaged(f"directory index: {len(data)} bytes")
        entries, locators, spans, names, texts = map(int, COUNTS.unpack_from(data, sealed.HEADER.size))
        self._data: Final = data
        self._count: Final = entries
        self._locators: Final = _ENTRIES_AT + ENTRY.size * (entries + 1)
        self._spans_at: Final = self._locators + LOCATOR.size * (locators + 1)
        self._names_at: Final = self._spans_at + _NUMBER.size * spans
        self._texts_at: Final = self._names_at + names
        if self._texts_at + texts != len(data):
            raise Damaged(f"directory index: {len(data)} bytes instead of {self._texts_at + texts}")

    def __repr__(self) -> str:
        return f"<DirectoryIndex {self._count} entries, {len(self._data)} bytes>"

    def __len__(self) -> int:
        return self._count

    @property
    def memory_bytes(self) -> int:
        """What it costs beside the page cache."""
        return len(self._data) if isinstance(self._data, bytes) else 0

    def verify(self) -> None:
        """Read all of it and compare with its check. Damaged."""
        sealed.verify(self._data)

    def name(self, at: int) -> bytes:
        """The name at a position."""
        start, end = _NAME.unpack_from(self._data, _ENTRIES_AT + ENTRY.size * at)
        return self._data[self._names_at + start : self._names_at + end]

    def find(self, name: bytes) -> int:
        """The position of *name*, -1 if it is not there."""
        at = bisect_left(range(self._count), name, key=self.name)
        return at if at < self._count and self.name(at) == name else -1

    def is_dir(self, at: int) -> bool:
        return bool(ENTRY.unpack_from(self._data, _ENTRIES_AT + ENTRY.size * at)[2] == _DIRECTORY)

    def spec(self, at: int) -> FileSpec:
        """The file at a position, which is no directory."""
        _, size, place = ENTRY.unpack_from(self._data, _ENTRIES_AT + ENTRY.size * at)
        if place < _SPANS:
            return FileSpec(self, place, size)
        first = self._spans_at + _NUMBER.size * (place - _SPANS)
        (count,) = _NUMBER.unpack_from(self._data, first)
        numbers = struct.unpack_from(f"<{2 * count}Q", self._data, first + _NUMBER.size)
        spec = FileSpec(self, numbers[0], numbers[1])
        for position, length in zip(numbers[2::2], numbers[3::2], strict=True):
            spec.extend(self, position, length)
        return spec

    def walk(self, start: int = 0) -> Iterator[tuple[bytes, bool]]:
        """(name, is a directory) of the positions from *start* on."""
        data, names = self._data, self._names_at
        first, step = start, _FIRST_BATCH
        while first < self._count:
            count = min(step, self._count - first)
            numbers = struct.unpack_from(f"<{3 * count + 1}Q", data, _ENTRIES_AT + ENTRY.size * first)
            base = numbers[0]
            text = data[names + base : names + numbers[-1]]
            for at in range(0, 3 * count, 3):
                yield text[numbers[at] - base : numbers[at + 3] - base], numbers[at + 2] == _DIRECTORY
            first, step = first + count, min(2 * step, _BATCH)

    def cut(self, position: int, size: int) -> Iterator[Part]:
        """The parts of blocks that make up [position, position + size) of the line's data."""
        count = (self._spans_at - self._locators) // LOCATOR.size - 1
        at = bisect_right(range(1, count + 1), position, key=self._starts_at)
        while size > 0:
            start, text = LOCATOR.unpack_from(self._data, self._locators + LOCATOR.size * at)
            end, text_end = LOCATOR.unpack_from(self._data, self._locators + LOCATOR.size * (at + 1))
            length = min(end - position, size)
            if length > 0:
                locator = self._data[self._texts_at + text : self._texts_at + text_end].decode("ascii")
                yield length, locator, position - start
                position += length
                size -= length
            at += 1

    def _starts_at(self, locator: int) -> int:
        start: int = _NUMBER.unpack_from(self._data, self._locators + LOCATOR.size * locator)[0]
        return start


def build_index(line: bytes, dirs: Iterable[bytes], number: int = 1, *, key: bytes = NO_KEY) -> bytes:
    """The index of a directory of which *line* is the line (without its line feed; empty if it has none).

    *dirs*: the names of its subdirectories, in order; *number*: the line's, for InvalidManifest. *key* says of which
    directory of which text it is, for who finds it in a file."""
    stream = Stream([])
    tokens: Iterable[tuple[bytes, int, int]] = ()
    if line:
        _, stream, start = parse_head(line, number)
        if stream.size >= _SPANS:
            raise InvalidManifest(f"line {number}: {stream.size} bytes of data")
        tokens = iter_tokens(line, start, stream, number)
    writer, below = _Writer(number), list(dirs)
    if not writer.add(tokens, below):  # the line is not in order: rare, so that may cost an object per file
        writer = _Writer(number)
        in_order = sorted(iter_tokens(line, start, stream, number), key=_name_of)
        assert writer.add(in_order, below), "sorted"
    return writer.finish(stream, key)


class _Writer:
    """Entries in order of their names, as they are collected."""

    def __init__(self, number: int) -> None:
        self._number: Final = number
        self._entries: Final = array("Q")
        self._spans: Final = array("Q")
        self._names: Final = bytearray()

    def add(self, tokens: Iterable[tuple[bytes, int, int]], dirs: Iterable[bytes]) -> bool:
        """Take in files and directories; False if the files are not in order."""
        entries, names = self._entries, self._names
        directories = iter(dirs)
        directory = next(directories, None)
        last: bytes | None = None
        for name, position, size in tokens:
            if last is not None and name <= last:
                if name < last:
                    return False
                self._extend(position, size)
                continue
            while directory is not None and directory <= name:
                if directory == name:
                    raise InvalidManifest(f"line {self._number}: {shown(name)} is a file and a directory")
                self._add_directory(directory)
                directory = next(directories, None)
            entries.append(len(names))
            entries.append(size)
            entries.append(position if size else 0)
            names += name
            last = name
        while directory is not None:
            self._add_directory(directory)
            directory = next(directories, None)
        return True

    def finish(self, stream: Stream, key: bytes) -> bytes:
        """The index."""
        count = len(self._entries) // 3
        self._entries.extend((len(self._names), 0, 0))
        locators, texts = array("Q"), bytearray()
        start = 0
        for locator in stream.locators:
            locators.append(start)
            locators.append(len(texts))
            texts += locator.encode("ascii")
            start += int(locator[33:].partition("+")[0])
        locators.extend((start, len(texts)))
        for each in (self._entries, self._spans, locators):
            if sys.byteorder == "big":
                each.byteswap()
        counts = COUNTS.pack(count, len(stream.locators), len(self._spans), len(self._names), len(texts))
        numbers = [column.tobytes() for column in (self._entries, locators, self._spans)]
        return sealed.seal(MAGIC, FORMAT_VERSION, key, (counts, *numbers, self._names, texts))

    def _add_directory(self, name: bytes) -> None:
        self._entries.extend((len(self._names), 0, _DIRECTORY))
        self._names.extend(name)

    def _extend(self, position: int, size: int) -> None:
        """A further token of the file that came last."""
        if not size:
            return
        before, place = self._entries[-2:]
        self._entries[-2] = before + size
        if not before:
            self._entries[-1] = position
            return
        if place < _SPANS:
            self._entries[-1] = _SPANS + len(self._spans)
            self._spans.extend((1, place, before))
        self._spans[self._entries[-1] - _SPANS] += 1
        self._spans.extend((position, size))


EMPTY: Final = DirectoryIndex(build_index(b"", ()))
"""The index of a directory without entries."""
