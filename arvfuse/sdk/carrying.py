"""Carrying what is still needed of mostly covered log files forward, so that these can go.

A log file is kept by a single record that no commit covers, as when the record of one collection cannot be saved. When
the log is longer than twice what is needed of it and ``SLACK_BYTES``, such records are copied into one Carried record
(doc/formats.md). Data keep the address at which they stood first; ``Places`` says where they are now.

Threading: ``Places`` is guarded by its owner. Failure: OSError if a file cannot be read; Damaged.
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.errors import Damaged
from arvfuse.model import records
from arvfuse.model.records import CODES, FILE_HEADER, HEADER, INLINE_BODY_BYTES, address_of, split_address

SLACK_BYTES: Final = 128 << 20
_WINDOW_BYTES: Final = 1 << 20
_DATA_FROM: Final = HEADER.size + INLINE_BODY_BYTES
_BASE: Final = CODES[records.Base]
_MOVE: Final = CODES[records.Move]
_INLINE: Final = CODES[records.WriteInline]
_CARRIED: Final = CODES[records.Carried]


class Places:
    """Where inline data are that are not where they stood first."""

    def __init__(self) -> None:
        self._starts: list[int] = []
        self._rows: dict[int, tuple[int, int]] = {}  # first address -> length, address now

    def __len__(self) -> int:
        return len(self._rows)

    def note(self, carried: records.Carried) -> None:
        """What is in a Carried record is there now."""
        for record, _, end in carried.records:
            if isinstance(record.body, records.WriteInline) and record.body.length:
                self._rows[record.body.address] = record.body.length, end - record.body.length
        self._starts = sorted(self._rows)

    def find(self, address: int) -> int | None:
        """The address at which the byte of log address *address* is now, if it was carried."""
        index = bisect_right(self._starts, address) - 1
        if index < 0:
            return None
        first = self._starts[index]
        length, now = self._rows[first]
        return now + address - first if address < first + length else None

    def keep(self, files: set[int]) -> None:
        """Forget what is in other files than these."""
        self._rows = {first: row for first, row in self._rows.items() if row[1] >> 32 in files}
        self._starts = sorted(self._rows)


class Copy(NamedTuple):
    """A record to be carried: the address behind it where it stood first, its bytes, and what they say."""

    end: int
    data: bytes
    seq: int
    tree: int
    inline_bytes: int


class Needed(NamedTuple):
    """What of a log file has to stay. *record*: by tree and number; *data*: by first address and length."""

    record: Callable[[int, int], bool]
    data: Callable[[int, int], bool]


def choose(files: Mapping[int, tuple[int, int]], slack_bytes: int) -> int | None:
    """The file to carry from, if the log is longer than it may be. *files*: number -> (bytes, bytes needed).

    The newest file is written to and never chosen; one of which more than half is needed is not worth it."""
    size, needed = sum(size for size, _ in files.values()), sum(needed for _, needed in files.values())
    if size <= 2 * needed + slack_bytes:
        return None
    full = {number: row for number, row in files.items() if number != max(files) and 2 * row[1] <= row[0]}
    return min(full, key=lambda number: (full[number][1], number), default=None)


def copies(path: Path, number: int, needed: Needed) -> list[Copy]:
    """The records of log file *number* that are *needed*, and the Bases of the trees that they name; ascending."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        bases: dict[int, list[Copy]] = {}
        found: list[Copy] = []
        trees: set[int] = set()
        for end, start, length, seq, tree, code in _records(fd, number):
            first = end - length
            is_base = code == _BASE
            inline_bytes = length - _DATA_FROM if code == _INLINE else 0
            wanted = needed.record(tree, seq) or (inline_bytes and needed.data(first + _DATA_FROM, inline_bytes))
            if not is_base and not wanted and code != _MOVE:
                continue
            copy = Copy(end, _read(fd, start, length), seq, tree, inline_bytes)
            if is_base:
                bases.setdefault(tree, []).append(copy)
                continue
            named = {tree}
            if code == _MOVE:
                body = records.decode(code, memoryview(copy.data)[HEADER.size :], end)
                assert isinstance(body, records.Move)
                named.add(body.source_tree)
                if not wanted and not needed.record(body.source_tree, seq):
                    continue
            found.append(copy)
            trees |= named
        named_bases = [copy for tree in trees for copy in bases.get(tree, ())]
        return sorted([*named_bases, *found], key=lambda copy: copy.seq)
    finally:
        os.close(fd)


def _records(fd: int, number: int) -> Iterator[tuple[int, int, int, int, int, int]]:
    """(address behind it where it stood first, position now, length, number, tree, type) of each record."""
    for start, length, seq, tree, code in _heads(fd):
        end = address_of(number, start + length)
        if code != _CARRIED:
            yield end, start, length, seq, tree, code
            continue
        body = records.decode(code, memoryview(_read(fd, start + HEADER.size, length - HEADER.size)), end)
        assert isinstance(body, records.Carried)
        for record, inner, inner_end in body.records:
            position = split_address(inner)[1]
            yield record.end, position, inner_end - inner, record.seq, record.tree, CODES[type(record.body)]


def _heads(fd: int) -> Iterator[tuple[int, int, int, int, int]]:
    """(position, length, number, tree, type) of each record of a file, which is read in windows, not as a whole."""
    window, at, position = b"", 0, FILE_HEADER.size
    while True:
        if position + HEADER.size > at + len(window):
            window, at = os.pread(fd, _WINDOW_BYTES, position), position
            if len(window) < HEADER.size:
                return
        length, _, seq, _, tree, code, _, _ = HEADER.unpack_from(window, position - at)
        yield position, length, seq, tree, code
        position += max(length, HEADER.size)


def _read(fd: int, position: int, length: int) -> bytes:
    data = os.pread(fd, length, position)
    if len(data) != length:
        raise Damaged("a log file is shorter than what was written to it")
    return data
