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
from itertools import accumulate
from mmap import mmap
from operator import add, itemgetter, lt
from typing import Final

from arvfuse.errors import Damaged, InvalidManifest
from arvfuse.model import sealed
from arvfuse.model.ranges import Part
from arvfuse.model.streams import Data, FileSpec, Stream, batches, parse_head, read_tokens, shown

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
_TEXT: Final = struct.Struct("<8xQ8xQ")  # of a locator and the one behind it
_FIRST_BATCH: Final = 64  # what one readdir of the kernel takes, about
_BATCH: Final = 512
_FEW_DIGITS: Final = 18  # below 2^63
_FEW_LOCATORS: Final = 1024  # as objects they are found in a quarter of the time

_name_of: Final = itemgetter(0)


class DirectoryIndex:
    """The entries of one directory, by position in the order of their names.

    Damaged if the header is not that of an index as long as *data*; `verify` looks at the rest."""

    __slots__ = ("_blocks", "_count", "_data", "_locators", "_names_at", "_spans_at", "_texts_at", "key")

    def __init__(self, data: bytes | mmap) -> None:
        self.key: Final = sealed.unseal(data, MAGIC, FORMAT_VERSION)
        if len(data) < _ENTRIES_AT:
            raise Damaged(f"directory index: {len(data)} bytes")
        entries, locators, spans, names, texts = map(int, COUNTS.unpack_from(data, sealed.HEADER.size))
        self._data: Final = data
        self._blocks: Data | None = None  # what files are cut from
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
        blocks = self._blocks if self._blocks is not None else self._find_blocks()
        if place < _SPANS:
            return FileSpec(blocks, place, size)
        first = self._spans_at + _NUMBER.size * (place - _SPANS)
        (count,) = _NUMBER.unpack_from(self._data, first)
        numbers = struct.unpack_from(f"<{2 * count}Q", self._data, first + _NUMBER.size)
        spec = FileSpec(blocks, numbers[0], numbers[1])
        for position, length in zip(numbers[2::2], numbers[3::2], strict=True):
            spec.extend(blocks, position, length)
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
        count = self._locator_count()
        at = bisect_right(range(1, count + 1), position, key=self._starts_at)
        while size > 0:
            start, end = self._starts_at(at), self._starts_at(at + 1)
            length = min(end - position, size)
            if length > 0:
                yield length, self._locator(at), position - start
                position += length
                size -= length
            at += 1

    def _find_blocks(self) -> Data:
        count = self._locator_count()
        found: Data = self if count > _FEW_LOCATORS else Stream([self._locator(at) for at in range(count)])
        self._blocks = found
        return found

    def _locator_count(self) -> int:
        return (self._spans_at - self._locators) // LOCATOR.size - 1

    def _locator(self, at: int) -> str:
        start, end = _TEXT.unpack_from(self._data, self._locators + LOCATOR.size * at)
        return self._data[self._texts_at + start : self._texts_at + end].decode("ascii")

    def _starts_at(self, locator: int) -> int:
        start: int = _NUMBER.unpack_from(self._data, self._locators + LOCATOR.size * locator)[0]
        return start


def build_index(line: bytes, dirs: Iterable[bytes], number: int = 1, *, key: bytes = NO_KEY) -> bytes:
    """The index of a directory of which *line* is the line (without its line feed; empty if it has none).

    *dirs*: the names of its subdirectories, in order; *number*: the line's, for InvalidManifest. *key* says of which
    directory of which text it is, for who finds it in a file."""
    stream, start = Stream([]), len(line)
    if line:
        _, stream, start = parse_head(line, number)
        if stream.size >= _SPANS:
            raise InvalidManifest(f"line {number}: {stream.size} bytes of data")
    below = list(dirs)
    writer = _Writer(number, below)
    for tokens in batches(line, start):
        if not (writer.add_plain(tokens, stream.size) or writer.add(read_tokens(tokens, stream, number))):
            # The line is not in order: rare, so that may cost an object per file.
            writer = _Writer(number, below)
            in_order = [token for tokens in batches(line, start) for token in read_tokens(tokens, stream, number)]
            assert writer.add(sorted(in_order, key=_name_of)), "sorted"
            break
    return writer.finish(stream, key)


class _Writer:
    """Entries in order of their names, as they are collected."""

    def __init__(self, number: int, dirs: list[bytes]) -> None:
        self._number: Final = number
        self._entries: Final = array("Q")
        self._spans: Final = array("Q")
        self._names: Final = bytearray()
        self._dirs: Final = dirs
        self._next_dir = 0
        self._last: bytes | None = None  # name of the last file

    def add_plain(self, tokens: list[tuple[bytes, bytes, bytes]], total: int) -> bool:
        """Take in tokens that have nothing special, which is nearly all of them; else False, and nothing is done."""
        raw_positions, raw_sizes, names = zip(*tokens, strict=True) if tokens else ((), (), ())
        text = b"".join(names)
        if not names or b"\\" in text or b"." in names or not all(map(lt, names, names[1:])):
            return False
        if self._last is not None and names[0] <= self._last:
            return False
        if self._next_dir < len(self._dirs) and self._dirs[self._next_dir] <= names[-1]:
            return False
        if max(map(len, raw_positions)) > _FEW_DIGITS or max(map(len, raw_sizes)) > _FEW_DIGITS:
            return False
        positions, sizes = list(map(int, raw_positions)), list(map(int, raw_sizes))
        if max(map(add, positions, sizes)) > total:
            return False
        starts = list(accumulate(map(len, names), initial=len(self._names)))
        block = array("Q", bytes(ENTRY.size * len(names)))
        block[0::3], block[1::3], block[2::3] = array("Q", starts[:-1]), array("Q", sizes), array("Q", positions)
        self._entries.extend(block)
        self._names.extend(text)
        self._last = names[-1]
        return True

    def add(self, tokens: Iterable[tuple[bytes, int, int]]) -> bool:
        """Take in files; False if they are not in order."""
        for name, position, size in tokens:
            last = self._last
            if last is not None and name <= last:
                if name < last:
                    return False
                self._extend(position, size)
                continue
            self._add_directories(name)
            self._entries.extend((len(self._names), size, position if size else 0))
            self._names.extend(name)
            self._last = name
        return True

    def finish(self, stream: Stream, key: bytes) -> bytes:
        """The index."""
        self._add_directories(None)
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

    def _add_directories(self, before: bytes | None) -> None:
        """Take in the directories that come before a file of that name; None: the rest."""
        while self._next_dir < len(self._dirs):
            name = self._dirs[self._next_dir]
            if before is not None and name >= before:
                if name == before:
                    raise InvalidManifest(f"line {self._number}: {shown(name)} is a file and a directory")
                return
            self._entries.extend((len(self._names), 0, _DIRECTORY))
            self._names.extend(name)
            self._next_dir += 1

    def _extend(self, position: int, size: int) -> None:
        """A further token of the file that came last."""
        if not size:
            return
        before, place = self._entries[-2:]
        if before + size >= _SPANS:
            raise InvalidManifest(f"line {self._number}: a file of {before + size} bytes")
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
