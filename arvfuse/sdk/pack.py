"""Packing: what a commit does with the data of changed files that are not in blocks yet.

Small data (inline in the log) are joined into blocks of up to 64 MiB, in path order. Tails of files that grow slowly
are joined with the segments before them by doubling, so a byte is copied a logarithmic number of times; a piece of
64 MiB that became complete, or that consists of more than 1,024 segments, is rewritten as one block, so cuts stay
where ``put`` makes them. Sealed buffer blocks are stored by the put threads; here their segments are only replaced.
All bytes move through the ports; afterwards every segment of the tree is a locator or a hole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
MANY_SEGMENTS: Final = 1024
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
        stored: Callable[[int, FileNode], Future[Stored]], numbers: Iterator[int],
    ) -> None:  # fmt: skip
        """*place*: where in the log the bytes of an address lie now, as *fetch* takes it."""
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
        blocks: dict[int, Future[Stored]] = {}

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
                        if block not in blocks:
                            blocks[block] = self._stored(block, file)

        for group in groups(small()):  # the first are hashed while the next are looked for
            jobs.append((group, self._submit(group)))
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
            if isinstance(node, FileNode) and not node.pristine and _is_local(node):
                yield node
    for file in tree.orphans.values():
        if not file.pristine and _is_local(file):
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
    for run in runs(file.segments):
        join = _join_from(run, file)
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
    """Where the live ranges of a stored buffer block went."""
    rows: list[Entry] = []
    at = 0
    for offset, length in stored.ranges:
        rows.append((block, offset, length, stored.locator, at))
        at += length
    return rows


def _is_local(file: FileNode) -> bool:
    for _, _, ref, _ in file.segments:  # noqa: SIM110 # a generator for each changed file takes longer
        if isinstance(ref, int) and ref != HOLE:
            return True
    return False


def runs(segments: Iterable[Segment]) -> Iterator[list[Segment]]:
    """Maximal neighbouring segments without holes, inside one piece each."""
    run: list[Segment] = []
    for segment in segments:
        for part in _cut(segment):
            if run and (part.ref == HOLE or part.start % BLOCK_BYTES == 0):
                yield run
                run = []
            if part.ref != HOLE:
                run.append(part)
    if run:
        yield run


def _cut(segment: Segment) -> Iterator[Segment]:
    """The segment, cut where a piece of the file ends."""
    start, length, ref, offset = segment
    while length:
        part = min(length, BLOCK_BYTES - start % BLOCK_BYTES)
        yield Segment(start, part, ref, offset)
        start, length = start + part, length - part
        if ref != HOLE:
            offset += part


def _join_from(run: list[Segment], file: FileNode) -> int:
    """The index from which the run's segments become one; len(run) if none do."""
    if len(run) == 1 or not any(isinstance(s.ref, int) for s in run):
        return len(run)
    end = run[-1].start + run[-1].length
    whole = run[0].start % BLOCK_BYTES == 0 and end % BLOCK_BYTES == 0
    if (whole and file.base_size < end) or len(run) > MANY_SEGMENTS:
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
    for whole in file.segments:
        for segment in _cut(whole):
            if segment.start in packed:
                parts.append(packed[segment.start])
            elif isinstance(segment.ref, int) and segment.ref > 0:
                parts.extend(_look_up(segment, where[segment.ref]))
            else:
                parts.append((segment.length, segment.ref, segment.offset))
    file.segments = SegmentMap(parts)


def _look_up(segment: Segment, rows: list[Entry]) -> Iterator[tuple[int, Ref, int]]:
    start, left = segment.offset, segment.length
    for _, first, length, locator, offset in rows:
        if left and first <= start < first + length:
            part = min(left, first + length - start)
            yield part, locator, offset + start - first
            start += part
            left -= part
    assert not left, f"block {segment.ref} was sealed without bytes that a file uses"
