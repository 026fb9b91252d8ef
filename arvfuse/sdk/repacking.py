"""Repacking files that were left alone: their bytes, which are all stored, rewritten as fewer or smaller blocks.

A file is fragmented when its mean segment is below 1 MiB and fewer are possible, or when its blocks hold more than
twice its bytes. Content and cuts at 64 MiB of the file stay. What ``repack`` made is never fragmented by reason of its
segments, so nobody has to remember what was repacked. Plain calls; store errors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from arvfuse.model.ranges import HOLE, Fetch, Part, Ref, Segment, SegmentMap
from arvfuse.ports import BlockStore
from arvfuse.sdk.pack import PACK_BELOW, Unit, bytes_of, groups, runs
from arvfuse.sdk.putpool import put_parts

MEAN_BYTES: Final = 1 << 20
_MOST_HELD: Final = 2


def is_fragmented(parts: Sequence[Part]) -> bool:
    """Whether the file of these *parts* would be better for a repack. Bytes that are not stored yet: not now."""
    if any(isinstance(ref, int) and ref != HOLE for _, ref, _ in parts):
        return False
    found = list(runs(SegmentMap(parts)))
    return _is_cut_up(found) or _is_spread(found)


def repack(store: BlockStore, temporary: Path, files: Sequence[Sequence[Part]]) -> list[list[Part]]:
    """Store what is fragmented of *files* anew, by way of the file *temporary*: what each consists of then.

    The blocks survive a power cut when this returns."""
    maps = [SegmentMap(parts) for parts in files]
    units = [unit for index, segments in enumerate(maps) for unit in _units(index, segments)]
    places: dict[tuple[int, int], tuple[str, int]] = {}
    for group in _groups(units):
        locator = put_parts(store, temporary, bytes_of(group, _fetching(store)))
        at = 0
        for unit in group:
            places[unit.file, unit.segments[0].start] = locator, at
            at += unit.length
    store.barrier()
    return [_replaced(index, segments, units, places) for index, segments in enumerate(maps)]


def _is_cut_up(found: list[list[Segment]]) -> bool:
    count, size = sum(map(len, found)), _bytes(found)
    return count > len(found) and size < count * MEAN_BYTES


def _is_spread(found: list[list[Segment]]) -> bool:
    """Small files share their blocks with others, who need them: they are not looked at."""
    blocks = {segment.ref for run in found for segment in run}
    size = _bytes(found)
    return size >= PACK_BELOW and sum(_size(ref) for ref in blocks) > _MOST_HELD * size


def _bytes(found: list[list[Segment]]) -> int:
    return sum(segment.length for run in found for segment in run)


def _size(ref: Ref) -> int:
    assert isinstance(ref, str)
    return int(ref.split("+", 2)[1])


def _units(index: int, segments: SegmentMap) -> list[Unit[int]]:
    """What of a file is rewritten: every run of a file whose blocks hold too much, else those that are cut up."""
    found = list(runs(segments))
    wanted = found if _is_spread(found) else [run for run in found if len(run) > 1 and _is_cut_up(found)]
    return [Unit(index, tuple(run), _bytes([run])) for run in wanted]


def _groups(units: list[Unit[int]]) -> Iterator[list[Unit[int]]]:
    """Large ones alone, small ones together."""
    yield from ([unit] for unit in units if unit.length >= PACK_BELOW)
    yield from groups([unit for unit in units if unit.length < PACK_BELOW])


def _fetching(store: BlockStore) -> Fetch:
    def fetch(ref: Ref, offset: int, length: int) -> bytes | memoryview:
        assert isinstance(ref, str)
        return store.fetch_range(ref, offset, length)

    return fetch


def _replaced(
    index: int, segments: SegmentMap, units: list[Unit[int]], places: dict[tuple[int, int], tuple[str, int]]
) -> list[Part]:  # fmt: skip
    fresh = segments.copy()
    for unit in units:
        if unit.file == index:
            start = unit.segments[0].start
            fresh.replace(start, unit.length, *places[index, start])
    return [(segment.length, segment.ref, segment.offset) for segment in fresh]
