"""What a file consists of: an ordered list of segments, each naming where some of its bytes are.

A `SegmentMap` covers its file from 0 to ``size`` without gaps. Holes are segments too, so nothing here knows about
"nothing there". Segments sit in chunks of at most 256, found by bisection; positions are absolute, so an overwrite in
the middle touches one or two chunks and never shifts the rest. Appending to the last segment is O(1).

Threading: none; the owner of the file (its tree) guards the map. Failure: arguments that mean nothing raise
`ArgumentError` and change nothing.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, NamedTuple

from arvfuse.errors import ArgumentError

Ref = str | int
"""Where bytes are: a locator (str), a buffer block number (int > 0), `LOG` or `HOLE`."""

LOG: Final = 0
"""Ref of data kept inline in the log; the offset is the log address of the first byte."""

HOLE: Final = -1
"""Ref of zeros that are stored nowhere; the offset is always 0."""

Part = tuple[int, Ref, int]
"""(length, ref, offset): a segment that does not say where in the file it is."""

Fetch = Callable[[Ref, int, int], bytes | memoryview]
"""What gives the bytes of (ref, offset, length)."""

_CHUNK: Final = 256  # a split copies at most this many pointers; bisection within costs 8 comparisons
_SPARSE: Final = 64  # a chunk below this is joined with its right neighbour ...
_JOINED: Final = 192  # ... when both together are at most this, so that the joined one has room


class Segment(NamedTuple):
    """Bytes [start, start + length) of the file are bytes [offset, offset + length) of *ref*."""

    start: int
    length: int
    ref: Ref
    offset: int

    @property
    def end(self) -> int:
        """First position behind the segment."""
        return self.start + self.length


# Chunks are compared with one-tuples, (position,): a tuple sorts before every longer one that begins with it, so
# bisection runs in C without a key function.
_Chunk = list[Any]


class SegmentMap:
    """Ordered segments of one file, always in one canonical form.

    Invariants: contiguous from 0 to size; no empty segment; no two neighbours that could be one (same ref, adjacent
    offsets, or both holes); offset 0 in holes; no empty chunk; ``_starts[i]`` is the start of chunk i.

    >>> content = SegmentMap([(10, "a" * 32 + "+10", 0)])
    >>> content.replace(4, 2, 7, 0)
    >>> [(s.start, s.length, s.offset) for s in content]
    [(0, 4, 0), (4, 2, 0), (6, 4, 6)]
    """

    __slots__ = ("_chunks", "_count", "_size", "_starts")
    __hash__ = None  # type: ignore[assignment]  # mutable

    def __init__(self, segments: Iterable[Part] = ()) -> None:
        """The content that *segments* (length, ref, offset) give one after another; empty ones are left out."""
        self._chunks: list[_Chunk] = []
        self._starts: list[int] = []
        self._size = 0
        self._count = 0
        for length, ref, offset in segments:
            if length < 0:
                raise ArgumentError(f"a segment cannot have {length} bytes")
            if length:
                self._append(length, ref, offset)

    @property
    def size(self) -> int:
        """Bytes of the file."""
        return self._size

    def __len__(self) -> int:
        """Number of segments."""
        return self._count

    def __iter__(self) -> Iterator[Segment]:
        for chunk in self._chunks:
            yield from chunk

    def __eq__(self, other: object) -> bool:
        """Same bytes from the same places (the form is canonical, so that is the same segments)."""
        if not isinstance(other, SegmentMap):
            return NotImplemented
        return self._size == other._size and self._count == other._count and list(self) == list(other)

    def __repr__(self) -> str:
        shown = ", ".join(f"{s.start}+{s.length}={s.ref}@{s.offset}" for s in self.cover(0, self._size, 4))
        return f"<SegmentMap {self._size} bytes, {self._count} segments: {shown}{', ...' if self._count > 4 else ''}>"

    def replace(self, start: int, length: int, ref: Ref, offset: int) -> None:
        """Make [start, start + length) come from ``ref[offset:]``, overwriting or extending the file.

        A gap between the old size and *start* becomes a hole. Nothing happens if *length* is 0."""
        size = self._size
        if start == size and length > 0:
            self._append(length, ref, offset)
        elif start < 0 or length < 0:
            raise ArgumentError(f"cannot replace {length} bytes at {start}")
        elif start > size and length:
            self._append(start - size, HOLE, 0)
            self._append(length, ref, offset)
        elif length:
            self._overwrite(start, length, ref, 0 if ref == HOLE else offset)

    def truncate(self, size: int) -> None:
        """Make the file *size* bytes long; growing adds a hole."""
        if size < 0:
            raise ArgumentError(f"a file cannot have {size} bytes")
        if size > self._size:
            self._append(size - self._size, HOLE, 0)
        elif size == 0:
            self._chunks, self._starts = [], []
            self._size = self._count = 0
        elif size < self._size:
            at, i = self._find(size - 1)
            chunk = self._chunks[at]
            last: Segment = chunk[i]
            self._count -= len(chunk) - i - 1 + sum(map(len, self._chunks[at + 1 :]))
            del self._chunks[at + 1 :], self._starts[at + 1 :]
            chunk[i:] = [Segment(last.start, size - last.start, last.ref, last.offset)]
            self._size = size

    def cover(self, start: int, length: int, limit: int | None = None) -> list[Segment]:
        """The segments of [start, start + length), clipped to it and to the file; the first *limit* of them, exactly.

        Empty beyond the end of the file."""
        if start < 0 or length < 0:
            raise ArgumentError(f"cannot cover {length} bytes at {start}")
        end = min(start + length, self._size)
        if start >= end or (limit is not None and limit <= 0):
            return []
        at, i = self._find(start)
        chunk = self._chunks[at]
        found: list[Segment] = []
        while True:
            segment: Segment = chunk[i]
            found.append(segment)
            if segment.start + segment.length >= end or len(found) == limit:
                break
            i += 1
            if i == len(chunk):
                at, i = at + 1, 0
                chunk = self._chunks[at]
        found[-1] = _clip(found[-1], start, end)
        found[0] = _clip(found[0], start, end)
        return found

    def copy(self) -> SegmentMap:
        """An independent map with the same content; the segments are shared."""
        twin = SegmentMap()
        twin._chunks = [chunk.copy() for chunk in self._chunks]
        twin._starts = self._starts.copy()
        twin._size, twin._count = self._size, self._count
        return twin

    def remap(self, fn: Callable[[Segment], Iterable[Part] | None]) -> bool:
        """Let *fn* say for each segment what it becomes: parts of the same total length, or None to keep it.

        Returns whether anything changed. If *fn* raises or its lengths do not add up, nothing is changed."""
        if self._count == 1:  # most files; a part that takes the place of the whole needs no new map
            only: Segment = self._chunks[0][0]
            answer = fn(only)
            if answer is None:
                return False
            parts = list(answer)
            if len(parts) == 1 and parts[0][0] == only.length:
                _, ref, offset = parts[0]
                part = Segment(0, only.length, ref, 0 if ref == HOLE else offset)
                self._chunks[0][0] = part
                return part != only
            return self._remap(lambda _: parts)
        return self._remap(fn)

    def _remap(self, fn: Callable[[Segment], Iterable[Part] | None]) -> bool:
        fresh = SegmentMap()
        touched = False
        for chunk in self._chunks:
            answers = [fn(segment) for segment in chunk]
            if all(answer is None for answer in answers):
                fresh._append_chunk(chunk)
                continue
            touched = True
            segment: Segment
            for segment, parts in zip(chunk, answers, strict=True):
                for length, ref, offset in ((segment.length, segment.ref, segment.offset),) if parts is None else parts:
                    if length > 0:
                        fresh._append(length, ref, offset)
                if fresh._size != segment.start + segment.length:
                    raise ArgumentError(f"{segment} cannot become {fresh._size - segment.start} bytes")
        if not touched or fresh == self:
            return False
        self._chunks, self._starts, self._count = fresh._chunks, fresh._starts, fresh._count
        return True

    def check_invariants(self) -> None:
        """Assert what the class promises; O(n), for tests and tools."""
        assert len(self._starts) == len(self._chunks)
        assert self._starts == [chunk[0].start for chunk in self._chunks]
        assert all(0 < len(chunk) <= _CHUNK for chunk in self._chunks)
        position = count = 0
        previous: Segment | None = None
        for segment in self:
            assert segment.start == position, f"{segment} does not begin at {position}"
            assert segment.length > 0, f"{segment} is empty"
            assert segment.ref != HOLE or segment.offset == 0, f"{segment} is a hole with an offset"
            assert previous is None or not _continues(previous, segment.ref, segment.offset), f"{segment} continues"
            position += segment.length
            count += 1
            previous = segment
        assert (position, count) == (self._size, self._count)

    def _append(self, length: int, ref: Ref, offset: int) -> None:
        """Add *length* > 0 bytes at the end."""
        size = self._size
        self._size = size + length
        if size:
            chunk = self._chunks[-1]
            last: Segment = chunk[-1]
            if last.ref == ref and (last.offset + last.length == offset or ref == HOLE):
                chunk[-1] = Segment(last.start, last.length + length, ref, last.offset)
                return
            if len(chunk) < _CHUNK:
                chunk.append(Segment(size, length, ref, 0 if ref == HOLE else offset))
                self._count += 1
                return
        self._chunks.append([Segment(size, length, ref, 0 if ref == HOLE else offset)])
        self._starts.append(size)
        self._count += 1

    def _append_chunk(self, chunk: _Chunk) -> None:
        """Add the segments of *chunk*, which begins at size, with the least work."""
        if self._size and _continues(self._chunks[-1][-1], chunk[0].ref, chunk[0].offset):
            for segment in chunk:
                self._append(segment.length, segment.ref, segment.offset)
        else:
            self._chunks.append(chunk.copy())
            self._starts.append(self._size)
            self._size = chunk[-1].end
            self._count += len(chunk)

    def _find(self, position: int) -> tuple[int, int]:
        """(chunk, index in it) of the segment that holds *position* < size."""
        at = bisect_right(self._starts, position) - 1
        return at, bisect_left(self._chunks[at], (position + 1,)) - 1

    def _overwrite(self, start: int, length: int, ref: Ref, offset: int) -> None:
        """replace() where *start* lies in the file."""
        chunks = self._chunks
        at, i = self._find(start)
        last_at, j = at, i
        end = start + length
        if end > self._size:
            self._size = end
        first: Segment = chunks[at][i]
        last = first
        if end > first.start + first.length:
            last_at, j = self._find(end - 1)  # beyond the old end that is the last segment
            last = chunks[last_at][j]

        # What stays of the first and last segment touched, or the neighbour there if the new bytes continue it.
        parts: list[Segment] = []
        if first.start < start:
            left = Segment(first.start, start - first.start, first.ref, first.offset)
            if _continues(left, ref, offset):
                start, offset = left.start, left.offset
            else:
                parts.append(left)
        elif start:
            before_at, before = (at, i - 1) if i else (at - 1, len(chunks[at - 1]) - 1)
            left = chunks[before_at][before]
            if _continues(left, ref, offset):
                at, i, start, offset = before_at, before, left.start, left.offset
        new = Segment(start, end - start, ref, offset)
        last_end = last.start + last.length
        tail: Segment | None = None
        if last_end > end:
            tail = _clip(last, end, last_end)
            if _continues(new, tail.ref, tail.offset):
                new = Segment(start, last_end - start, ref, offset)
                tail = None
        elif last_end == end < self._size:
            after_at, after = (last_at, j + 1) if j + 1 < len(chunks[last_at]) else (last_at + 1, 0)
            right: Segment = chunks[after_at][after]
            if _continues(new, right.ref, right.offset):
                last_at, j = after_at, after
                new = Segment(start, right.start + right.length - start, ref, offset)
        parts.append(new)
        if tail is not None:
            parts.append(tail)
        self._splice(at, i, last_at, j, parts)

    def _splice(self, at: int, i: int, last_at: int, j: int, parts: list[Segment]) -> None:
        """Put *parts* in the place of everything from segment (at, i) to (last_at, j), both included."""
        chunks, starts = self._chunks, self._starts
        chunk = chunks[at]
        if at == last_at:
            self._count += len(parts) - (j + 1 - i)
            chunk[i : j + 1] = parts
        else:
            rest = chunks[last_at][j + 1 :]
            self._count += len(parts) + len(rest) - (len(chunk) - i) - sum(map(len, chunks[at + 1 : last_at + 1]))
            chunk[i:] = parts
            chunk.extend(rest)
            del chunks[at + 1 : last_at + 1], starts[at + 1 : last_at + 1]
        if len(chunk) > _CHUNK:
            step = -(-len(chunk) // (len(chunk) // _CHUNK + 1))  # equal pieces, so that each has room again
            pieces = [chunk[k : k + step] for k in range(0, len(chunk), step)]
            chunks[at : at + 1] = pieces
            starts[at : at + 1] = [piece[0].start for piece in pieces]
        elif len(chunk) < _SPARSE and at + 1 < len(chunks) and len(chunk) + len(chunks[at + 1]) <= _JOINED:
            chunk.extend(chunks.pop(at + 1))
            del starts[at + 1]


def _continues(left: Segment, ref: Ref, offset: int) -> bool:
    """Whether ``ref[offset:]`` behind *left* is more of the same."""
    return left.ref == ref and (left.offset + left.length == offset or ref == HOLE)


def _clip(segment: Segment, start: int, end: int) -> Segment:
    """The part of *segment* within [start, end), which it meets."""
    skip = start - segment.start
    if skip <= 0:
        if segment.start + segment.length <= end:
            return segment
        skip = 0
    first = segment.start + skip
    last = min(segment.start + segment.length, end)
    return Segment(first, last - first, segment.ref, segment.offset + skip if segment.ref != HOLE else 0)
