"""Packing: what a commit does with the data of changed files that are not in blocks yet.

Small data (inline in the log) are joined into blocks of up to 64 MiB, in path order. Tails of files that grow slowly
are joined with the segments before them by doubling, so a byte is copied a logarithmic number of times; a piece of
64 MiB that became complete is rewritten as one block, so cuts stay where ``put`` makes them. So are pieces of more than
1,024 segments, the most cut up first, but only while the file has more than 16,384, or when the piece lies in more than
128 blocks: a few thousand pages written here and there cost a commit what they hold, not all that lies between them,
and a text that names 16,384 segments is small. Sealed buffer blocks are stored by the put threads; here their segments
are only replaced.
All bytes move through the ports; afterwards every segment of the tree is a locator or a hole.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, wait
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.ranges import HOLE, LOG, Fetch, Ref, Segment, SegmentMap
from arvfuse.ports import BlockStore
from arvfuse.sdk.moved import Entry
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.putpool import Pool, Stored, put_parts
from arvfuse.sdk.replica import ReplicaTree

PACK_BELOW: Final = 1 << 20  # a run of new bytes shorter than this shares a block with others
MANY_SEGMENTS: Final = 1024  # of a piece
MOST_SEGMENTS: Final = 16 * MANY_SEGMENTS  # of a file
MANY_BLOCKS: Final = 128
_READ_BYTES: Final = 4 << 20
_NEAR_BYTES: Final = 16 << 10  # what lies between records of the log that are read together, at most
_TOGETHER_BYTES: Final = 1 << 20


F = TypeVar("F")


def _as_it_is(address: int) -> int:
    return address


class Unit(NamedTuple, Generic[F]):
    """Segments of one file that become one contiguous range of a block. *file*: what its owner knows the file by."""

    file: F
    segments: tuple[Segment, ...]
    length: int
    whole: bool = False  # one segment, which is the file


class Packer:
    """One packing run over some trees. *fetch* reads segments; *stored* gives a sealed block's future."""

    def __init__(
        self, *, store: BlockStore, pool: Pool, spool: Path, fetch: Fetch, place: Callable[[int], int],
        stored: Callable[[int, Sequence[FileNode]], Future[Stored]], numbers: Iterator[int],
    ) -> None:  # fmt: skip
        """*place*: where in the log the bytes of an address lie now, as *fetch* takes it. *stored* is told which files
        need the block."""
        self._store: Final = store
        self._pool: Final = pool
        self._spool: Final = spool
        self._fetch: Final = fetch
        self._place: Final = place
        self._stored: Final = stored
        self._numbers: Final = numbers  # names of temporary files, never the same twice in a directory

    def pack(self, trees: Iterable[ReplicaTree]) -> list[Entry]:
        """Bring every changed file of *trees* into blocks; where log and block ranges went. Store errors."""
        files: list[FileNode] = []  # but for those that are one unit
        jobs: list[tuple[list[Unit[FileNode]], Future[str]]] = []
        users: dict[int, list[FileNode]] = {}

        def small() -> Iterator[Unit[FileNode]]:
            for tree in trees:
                for file in local_files(tree):
                    only = single(file)
                    if only is not None:
                        yield only
                        continue
                    files.append(file)
                    units, direct = plan(file)
                    for unit in units:
                        if unit.length < PACK_BELOW:
                            yield unit
                        else:
                            jobs.append(([unit], self._submit([unit])))
                    for block in direct:
                        users.setdefault(block, []).append(file)

        for group in groups(small()):  # the first are hashed while the next are looked for
            jobs.append((group, self._submit(group)))
        blocks = {block: self._stored(block, needing) for block, needing in users.items()}
        # All of them, also when one fails: they read the log's files, which are closed after a commit.
        running: list[Future[Any]] = [*(future for _, future in jobs), *blocks.values()]
        wait(running)
        locators = [future.result() for _, future in jobs]
        where = {block: block_entries(block, future.result()) for block, future in blocks.items()}
        entries: list[Entry] = []
        places: dict[int, list[tuple[Segment, str, int]]] = {}
        for (group, _), locator in zip(jobs, locators, strict=True):
            at = 0
            for file, segments, _length, whole in group:
                if whole:
                    ((_, length, ref, offset),) = segments
                    entries.append((ref, offset, length, locator, at))  # type: ignore[arg-type] # a place in the log
                    file.segments = SegmentMap(((length, locator, at),))
                    at += length
                    continue
                for segment in segments:
                    places.setdefault(id(file), []).append((segment, locator, at))
                    if not isinstance(segment.ref, str):
                        entries.append((segment.ref, segment.offset, segment.length, locator, at))
                    at += segment.length
        for rows in where.values():
            entries.extend(rows)
        for file in files:
            _replace(file, places.get(id(file), []), where)
        return entries

    def _submit(self, group: list[Unit[FileNode]]) -> Future[str]:
        temporary = self._spool / f"pack{next(self._numbers)}"
        return self._pool.submit(put_parts, self._store, temporary, bytes_of(group, self._fetch, self._place))


def local_files(tree: ReplicaTree) -> Iterator[FileNode]:
    """The files with segments in the log or in buffer blocks, in path order, then the unlinked ones."""
    for directory in tree.changed_directories():
        nodes = tree.table(directory).nodes
        for name in sorted(nodes):
            node = nodes[name]
            if isinstance(node, FileNode) and not node.pristine and node.is_local:
                yield node
    for file in tree.orphans.values():
        if not file.pristine and file.is_local:
            yield file


def single(file: FileNode) -> Unit[FileNode] | None:
    """The unit of a small file that is one range of the log, as most are."""
    if len(file.segments) != 1:
        return None
    (only,) = file.segments
    return Unit(file, (only,), only.length, True) if only.ref == LOG and only.length < PACK_BELOW else None


def plan(file: FileNode) -> tuple[list[Unit[FileNode]], set[int]]:
    """(units to be packed, buffer blocks that are stored as they are) of a file."""
    units: list[Unit[FileNode]] = []
    direct: set[int] = set()
    found = list(runs(file.segments))
    crowded = _crowded(found)
    for number, run in enumerate(found):
        join = 0 if number in crowded else _join_from(run, file)
        for index, segment in enumerate(run[:join]):
            if segment.ref == LOG:
                previous = units[-1] if units and index and units[-1].segments[-1] is run[index - 1] else None
                if previous is not None:
                    units[-1] = Unit(file, (*previous.segments, segment), previous.length + segment.length)
                else:
                    units.append(Unit(file, (segment,), segment.length))
            elif isinstance(segment.ref, int):
                direct.add(segment.ref)
        if join < len(run):
            tail = tuple(run[join:])
            units.append(Unit(file, tail, sum(s.length for s in tail)))
    return units, direct


def groups(units: Iterable[Unit[F]]) -> Iterator[list[Unit[F]]]:
    """Units in order, in groups that fill a block each."""
    group: list[Unit[F]] = []
    size = 0
    for unit in units:
        if size + unit.length > BLOCK_BYTES and group:
            yield group
            group, size = [], 0
        group.append(unit)
        size += unit.length
    if group:
        yield group


def bytes_of(
    group: Iterable[Unit[Any]], fetch: Fetch, place: Callable[[int], int] = _as_it_is
) -> Iterator[bytes | memoryview]:
    """The bytes of *group* in order. *place*: where in the log the bytes of an address lie now, as *fetch* takes it.

    What lies side by side in the log, as that of files written one after another, is read together: a read of its own
    for each 4 KiB took longer than to hash them."""
    near: list[tuple[int, int]] = []  # (address, length) of what is read together
    begin = end = 0
    for unit in group:
        for _, length, ref, offset in unit.segments:
            if ref == LOG:
                address = place(offset)
                if near and end <= address <= end + _NEAR_BYTES and address + length - begin <= _TOGETHER_BYTES:
                    near.append((address, length))
                else:
                    yield from _read_log(near, fetch)
                    begin, near = address, [(address, length)]
                end = address + length
                continue
            yield from _read_log(near, fetch)
            near = []
            for start in range(0, length, _READ_BYTES):
                yield fetch(ref, offset + start, min(_READ_BYTES, length - start))
    yield from _read_log(near, fetch)


def _read_log(near: list[tuple[int, int]], fetch: Fetch) -> Iterator[bytes | memoryview]:
    """The bytes at addresses that rise."""
    if not near:
        return
    begin, end = near[0][0], near[-1][0] + near[-1][1]
    if len(near) == 1:
        for start in range(begin, end, _READ_BYTES):
            yield fetch(LOG, start, min(_READ_BYTES, end - start))
        return
    data = memoryview(fetch(LOG, begin, end - begin))
    for address, length in near:
        yield data[address - begin : address - begin + length]


def block_entries(block: int, stored: Stored) -> list[Entry]:
    """Where the live ranges of a stored buffer block went, by their offset in it."""
    rows: list[Entry] = []
    at = 0
    for offset, length in stored.ranges:
        rows.append((block, offset, length, stored.locator, at))
        at += length
    rows.sort(key=_offset_of)
    return rows


def runs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Maximal neighbouring segments without holes, inside one piece each."""
    run: list[Segment] = []
    for part in _pieces(segments):
        if run and (part.ref == HOLE or part.start % BLOCK_BYTES == 0):
            yield run
            run = []
        if part.ref != HOLE:
            run.append(part)
    if run:
        yield run


def _pieces(segments: Iterable[Segment]) -> Iterator[Segment]:
    """The segments, cut where a piece of the file ends."""
    for segment in segments:
        start, length, ref, offset = segment
        if start % BLOCK_BYTES + length <= BLOCK_BYTES:
            yield segment
            continue
        while length:
            part = min(length, BLOCK_BYTES - start % BLOCK_BYTES)
            yield Segment(start, part, ref, offset)
            start, length = start + part, length - part
            if ref != HOLE:
                offset += part


def _crowded(found: Sequence[list[Segment]]) -> set[int]:
    """Which of a file's runs are rewritten because they are in too many segments or blocks."""
    many = [number for number, run in enumerate(found) if len(run) > MANY_SEGMENTS and _has_local(run)]
    count = sum(map(len, found))
    chosen: set[int] = set()
    for number in sorted(many, key=lambda number: -len(found[number])):
        run = found[number]
        if count > MOST_SEGMENTS or len({segment.ref for segment in run}) > MANY_BLOCKS:
            chosen.add(number)
            count -= len(run) - 1
    return chosen


def _has_local(run: list[Segment]) -> bool:
    return any(isinstance(segment.ref, int) for segment in run)


def _join_from(run: list[Segment], file: FileNode) -> int:
    """The index from which the run's segments become one; len(run) if none do."""
    if len(run) == 1 or not _has_local(run):
        return len(run)
    end = run[-1].start + run[-1].length
    whole = run[0].start % BLOCK_BYTES == 0 and end % BLOCK_BYTES == 0
    if whole and file.base_size < end:
        return 0
    if isinstance(run[-1].ref, str) or end != file.size:
        return len(run)
    total = run[-1].length
    index = len(run) - 1
    while index and run[index - 1].length <= 2 * total:
        index -= 1
        total += run[index].length
    return index if index < len(run) - 1 else len(run)


def _replace(file: FileNode, places: list[tuple[Segment, str, int]], where: dict[int, list[Entry]]) -> None:
    """Let the file's segments say where their bytes are now."""
    parts: list[tuple[int, Ref, int]] = []
    packed = {segment.start: (segment.length, locator, at) for segment, locator, at in places}
    for start, length, ref, offset in _pieces(file.segments):
        if start in packed:
            parts.append(packed[start])
        elif isinstance(ref, int) and ref > 0:
            parts.extend(_look_up(ref, offset, length, where[ref]))
        else:
            parts.append((length, ref, offset))
    file.segments = SegmentMap(parts)


def _look_up(block: int, offset: int, length: int, rows: list[Entry]) -> Iterator[tuple[int, Ref, int]]:
    """Where the bytes of *block* went. *rows*: of block_entries()."""
    number = bisect_right(rows, offset, key=_offset_of) - 1
    while length:
        assert 0 <= number < len(rows), f"block {block} was sealed without bytes that a file uses"
        _, first, held, locator, at = rows[number]
        assert first <= offset < first + held, f"block {block} was sealed without bytes that a file uses"
        part = min(length, first + held - offset)
        yield part, locator, at + offset - first
        offset, length, number = offset + part, length - part, number + 1


def _offset_of(row: Entry) -> int:
    return row[1]
