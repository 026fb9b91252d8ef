"""Where bytes went: a sorted file ``moved/<N>-<tree>`` from log and block ranges to locators (doc/formats.md).

Written by the committer before it saves, read by the side that wrote the log to replace its references. Little
endian: magic, count of entries, count of locators; entries (space, start, length, locator index, offset) sorted by
(space, start); locators as length-prefixed text. Space 0 is the log, others are block numbers. Immutable once made.
"""

from __future__ import annotations

import os
import struct
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged
from arvfuse.model.ranges import HOLE, Ref, Segment

_HEAD: Final = struct.Struct("<8sII")
_ENTRY: Final = struct.Struct("<qQQIQ")
_MAGIC: Final = b"arvmoved"

Entry = tuple[int, int, int, str, int]  # space, start, length, locator, offset in the block


def write_moved(path: Path, entries: Iterable[Entry]) -> None:
    """Make the file; whoever reads it finds it whole. An old one of the same name is replaced."""
    numbers: dict[str, int] = {}
    rows = [
        (space, start, length, numbers.setdefault(locator, len(numbers)), offset)
        for space, start, length, locator, offset in _disjoint(entries)
    ]
    texts = [locator.encode() for locator in numbers]
    data = b"".join(
        [
            _HEAD.pack(_MAGIC, len(rows), len(texts)),
            *(_ENTRY.pack(*row) for row in rows),
            *(struct.pack("<H", len(text)) + text for text in texts),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".new")
    with open(temporary, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)


class Moved:
    """The table, searched where it lies: of what is not looked up nothing but the starts is read."""

    def __init__(self, data: bytes) -> None:
        """Damaged if *data* is no such table."""
        self._data: Final = data
        if len(data) < _HEAD.size:
            raise Damaged("table of moved ranges: shorter than its header")
        magic, self._count, texts = _HEAD.unpack_from(data)
        position = _HEAD.size + self._count * _ENTRY.size
        if magic != _MAGIC or position > len(data):
            raise Damaged("table of moved ranges: not one, or cut off")
        self._locators: Final[list[str]] = []
        for _ in range(texts):
            length = int.from_bytes(data[position : position + 2], "little")
            position += 2
            self._locators.append(data[position : position + length].decode("ascii", "replace"))
            position += length
        if position != len(data):
            raise Damaged("table of moved ranges: its locators are cut off")
        self._starts: Final = array("Q")
        self._spaces: Final[dict[int, tuple[int, int]]] = {}  # space -> first row, and the one behind its last
        self._note_starts()

    @classmethod
    def read(cls, path: Path) -> Moved:
        """The table in *path*. OSError if it cannot be read."""
        return cls(path.read_bytes())

    def __len__(self) -> int:
        return int(self._count)

    def entries(self) -> Iterator[Entry]:
        """All that it says, in order."""
        for space, start, length, locator, offset in _ENTRY.iter_unpack(self._rows()):
            yield space, start, length, self._locators[locator], offset

    def resolve(self, segment: Segment) -> list[tuple[int, Ref, int]] | None:
        """The parts that stand for *segment* now; None if it refers to nothing that moved, or not wholly."""
        if isinstance(segment.ref, str) or segment.ref == HOLE:
            return None
        space, start, left = segment.ref, segment.offset, segment.length
        low, high = self._spaces.get(space, (0, 0))
        at = bisect_right(self._starts, start, low, high) - 1
        parts: list[tuple[int, Ref, int]] = []
        while left:
            if not low <= at < high:
                return None
            _, first, length, locator, offset = _ENTRY.unpack_from(self._data, _HEAD.size + at * _ENTRY.size)
            if not first <= start < first + length:
                return None
            part = min(left, first + length - start)
            parts.append((part, self._locators[locator], offset + start - first))
            start += part
            left -= part
            at += 1
        return parts

    def _note_starts(self) -> None:
        space, begin = 0, 0
        for row, (found, start, *_) in enumerate(_ENTRY.iter_unpack(self._rows())):
            if found != space:
                self._spaces[space] = (begin, row)
                space, begin = found, row
            self._starts.append(start)
        self._spaces[space] = (begin, len(self._starts))

    def _rows(self) -> memoryview:
        return memoryview(self._data)[_HEAD.size : _HEAD.size + self._count * _ENTRY.size]


def _disjoint(entries: Iterable[Entry]) -> Iterator[Entry]:
    """*entries* in order, without what an earlier one says already: copies let two files pack the same bytes."""
    last, end = 0, -1
    for space, start, length, locator, offset in sorted(entries, key=lambda e: (e[0], e[1], -e[2])):
        skip = max(0, end - start) if space == last else 0
        if skip < length:
            yield space, start + skip, length - skip, locator, offset + skip
            last, end = space, start + length
