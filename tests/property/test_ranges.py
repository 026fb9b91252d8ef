"""A file of segments against a bytearray: any sequence of operations gives the same bytes.

Every ref is a source of bytes that differ everywhere, so a wrong offset shows. ``HYPOTHESIS_PROFILE=long`` runs the
long search."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.model.ranges import HOLE, LOG, Segment, SegmentMap
from tests.support.profiles import searching

LIMIT = 300
LOCATORS = ("0cc175b9c0f1b6a831c399e269772661+1024", "92eb5ffee6ae2fec3ad71c777531578f+1024")
REFS = (*LOCATORS, LOG, 1, 2)
SOURCE = {ref: b"".join(hashlib.sha256(f"{ref}/{k}".encode()).digest() for k in range(32)) for ref in REFS}


def resolve(segment: Segment) -> bytes:
    if segment.ref == HOLE:
        return bytes(segment.length)
    return SOURCE[segment.ref][segment.offset : segment.offset + segment.length]


def content_of(segments: SegmentMap) -> bytes:
    return b"".join(map(resolve, segments))


position = st.integers(0, LIMIT)
length = st.integers(0, LIMIT // 4)
replacing = st.tuples(st.just("replace"), position, length, st.sampled_from((*REFS, HOLE)), st.integers(0, 64))
continuing = st.tuples(st.just("continue"), position, length)
truncating = st.tuples(st.just("truncate"), position)
remapping = st.tuples(st.just("remap"), st.sampled_from((LOG, 1, 2)), st.sampled_from(LOCATORS))
copying = st.tuples(st.just("copy"))
operations = st.lists(st.one_of(replacing, continuing, truncating, remapping, copying), max_size=40)


@searching(full=5000, quick=150)
@given(operations, st.data())
def test_any_sequence_gives_the_bytes_of_a_bytearray(steps, data):
    segments, model = SegmentMap(), bytearray()
    for step in steps:
        match step:
            case "replace", start, count, ref, offset:
                write(segments, model, start, count, ref, offset)
            case "continue", start, count:  # what a sequential writer does: goes on where the segment before ended
                for before in segments.cover(max(0, start - 1), 1)[:1]:
                    if before.ref != HOLE and before.offset + 1 + count <= 1024:
                        write(segments, model, before.start + 1, count, before.ref, before.offset + 1)
            case "truncate", size:
                segments.truncate(size)
                del model[size:]
                model.extend(bytes(size - len(model)))
            case "remap", ref, locator:
                moved(segments, model, ref, locator)
            case _:
                old, segments = segments, segments.copy()
                old.replace(0, LIMIT, HOLE, 0)
        segments.check_invariants()
        assert segments.size == len(model)
    assert content_of(segments) == model
    start, count = data.draw(position), data.draw(length)
    covered = segments.cover(start, count)
    assert b"".join(map(resolve, covered)) == model[start : start + count]
    limit = data.draw(st.integers(0, 5))
    assert segments.cover(start, count, limit) == covered[:limit]
    assert SegmentMap((s.length, s.ref, s.offset) for s in segments) == segments


def write(segments: SegmentMap, model: bytearray, start: int, count: int, ref, offset: int) -> None:
    segments.replace(start, count, ref, offset)
    if count:
        model.extend(bytes(max(0, start - len(model))))
        model[start : start + count] = resolve(Segment(start, count, ref, offset))


def moved(segments: SegmentMap, model: bytearray, ref: int, locator: str) -> None:
    """Every second byte of what is in *ref* is replaced by bytes of *locator*."""

    def parts(segment: Segment):
        if segment.ref != ref:
            return None
        half = segment.length // 2
        model[segment.start : segment.start + half] = SOURCE[locator][segment.offset : segment.offset + half]
        return [(half, locator, segment.offset), (segment.length - half, ref, segment.offset + half)]

    segments.remap(parts)


@searching(full=5000, quick=150)
@given(st.lists(st.tuples(st.integers(0, 12), st.binary(min_size=1, max_size=6)), min_size=1, max_size=12))
def test_small_overlapping_writes_from_one_growing_buffer(writes):
    """How the ancestor lost data: a buffer block that only grows, and writes that begin where a range begins."""
    assert written(writes) == modelled(writes)


@pytest.mark.parametrize(
    ("writes", "expected"),
    [
        ([(0, b"mgjb"), (3, b"jj"), (3, b"hckj"), (3, b"zrb")], b"mgjzrbj"),
        ([(0, b"t"), (0, b"bmm"), (0, b"aqha")], b"aqha"),
    ],
)
def test_the_ancestors_lost_writes_are_not_lost(writes, expected):
    assert written(writes) == modelled(writes) == expected


def written(writes: list[tuple[int, bytes]]) -> bytes:
    segments, buffer = SegmentMap(), bytearray()
    for start, data in writes:
        segments.replace(start, len(data), 1, len(buffer))
        buffer += data
        segments.check_invariants()
    return b"".join(bytes(s.length) if s.ref == HOLE else buffer[s.offset : s.offset + s.length] for s in segments)


def modelled(writes: list[tuple[int, bytes]]) -> bytes:
    model = bytearray()
    for start, data in writes:
        model.extend(bytes(max(0, start - len(model))))
        model[start : start + len(data)] = data
    return bytes(model)


@searching(full=100, quick=5)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_many_segments_in_many_chunks(seed, span):
    """Thousands of writes over a file of many chunks against a table of who owns each byte."""
    size = 3000
    segments = SegmentMap([(size, 1, 0)])
    owner: list[tuple[int, int]] = [(1, k) for k in range(size)]
    state = seed
    for number in range(2, 1500):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        start, count = (state >> 33) % size, 1 + (state >> 20) % span
        if (state >> 50) % 64 == 0:
            count *= 20
        segments.replace(start, count, number, 0)
        owner[start : start + count] = [(number, k) for k in range(count)]
    segments.check_invariants()
    assert [(s.ref, s.offset + k) for s in segments for k in range(s.length)] == owner
