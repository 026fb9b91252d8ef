"""Segment maps: what each operation makes of the list, and that the list stays canonical."""

from __future__ import annotations

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.model.ranges import HOLE, LOG, Part, Ref, Segment, SegmentMap

A = "0cc175b9c0f1b6a831c399e269772661+1000"
B = "92eb5ffee6ae2fec3ad71c777531578f+1000"


def parts(content: SegmentMap) -> list[Part]:
    content.check_invariants()
    return [(s.length, s.ref, s.offset) for s in content]


def scattered(segments: int, length: int = 10) -> SegmentMap:
    """Segments of different blocks, none of which continues its neighbour."""
    return SegmentMap((length, 1 + k % 7, k * 100) for k in range(segments))


def test_a_segment_knows_its_end():
    assert Segment(start=5, length=3, ref=A, offset=100).end == 8


def test_refs_that_are_not_blocks():
    assert LOG == 0
    assert HOLE == -1
    data: Ref = A
    part: Part = (1, data, 0)
    assert parts(SegmentMap([part])) == [part]


def test_an_empty_map():
    content = SegmentMap()
    assert (content.size, len(content), list(content), content.cover(0, 10)) == (0, 0, [], [])
    assert content == SegmentMap([(0, A, 7)])
    content.check_invariants()


def test_the_constructor_joins_what_continues_and_drops_what_is_empty():
    content = SegmentMap([(10, A, 0), (0, B, 5), (5, A, 10), (3, HOLE, 9), (4, HOLE, 2), (1, A, 15)])
    assert parts(content) == [(15, A, 0), (7, HOLE, 0), (1, A, 15)]
    assert content.size == 23
    with pytest.raises(ArgumentError):
        SegmentMap([(-1, A, 0)])


def test_sequential_appends_are_one_segment():
    content = SegmentMap()
    for k in range(1000):
        content.replace(k * 100, 100, 7, k * 100)
    assert list(content) == [Segment(0, 100_000, 7, 0)]


def test_an_append_from_elsewhere_is_a_segment_of_its_own():
    content = SegmentMap([(10, 7, 0)])
    content.replace(10, 5, 7, 11)
    content.replace(15, 5, 8, 16)
    assert parts(content) == [(10, 7, 0), (5, 7, 11), (5, 8, 16)]


def test_a_write_beyond_the_end_leaves_a_hole():
    content = SegmentMap([(10, A, 0)])
    content.replace(15, 5, 3, 0)
    assert parts(content) == [(10, A, 0), (5, HOLE, 0), (5, 3, 0)]


def test_nothing_written_changes_nothing():
    content = SegmentMap([(10, A, 0)])
    for start in (0, 5, 10, 20):
        content.replace(start, 0, B, 0)
    assert parts(content) == [(10, A, 0)]


def test_an_overwrite_splits_and_the_same_bytes_again_heal():
    content = SegmentMap([(10, A, 50)])
    content.replace(3, 4, B, 0)
    assert parts(content) == [(3, A, 50), (4, B, 0), (3, A, 57)]
    content.replace(3, 4, A, 53)
    assert parts(content) == [(10, A, 50)]


def test_an_overwrite_across_several_segments():
    content = SegmentMap([(10, A, 0), (10, B, 0), (10, A, 100)])
    content.replace(5, 20, 9, 0)
    assert parts(content) == [(5, A, 0), (20, 9, 0), (5, A, 105)]


def test_an_overwrite_that_runs_past_the_end():
    content = SegmentMap([(10, A, 0), (10, B, 0)])
    content.replace(15, 20, 9, 0)
    assert parts(content) == [(10, A, 0), (5, B, 0), (20, 9, 0)]
    assert content.size == 35


@pytest.mark.parametrize(
    ("start", "length", "ref", "offset", "expected"),
    [
        (10, 5, A, 10, [(15, A, 0), (5, B, 5), (10, A, 200)]),  # continues the segment before
        (15, 5, A, 195, [(10, A, 0), (5, B, 0), (15, A, 195)]),  # the one behind continues it
        (10, 10, 5, 0, [(10, A, 0), (10, 5, 0), (10, A, 200)]),
        (0, 30, B, 0, [(30, B, 0)]),
        (0, 10, B, 90, [(10, B, 90), (10, B, 0), (10, A, 200)]),
    ],
)
def test_neighbours_that_continue_are_joined(start, length, ref, offset, expected):
    content = SegmentMap([(10, A, 0), (10, B, 0), (10, A, 200)])
    content.replace(start, length, ref, offset)
    assert parts(content) == expected


def test_holes_are_joined_from_both_sides():
    content = SegmentMap([(5, HOLE, 0), (5, A, 0), (5, HOLE, 0)])
    content.replace(5, 5, HOLE, 77)
    assert parts(content) == [(15, HOLE, 0)]
    content.replace(4, 2, HOLE, 1)
    assert parts(content) == [(15, HOLE, 0)]


@pytest.mark.parametrize("call", [lambda m: m.replace(-1, 2, A, 0), lambda m: m.replace(0, -2, A, 0)])
def test_negative_positions_and_lengths_are_refused(call):
    content = SegmentMap([(10, A, 0)])
    for refused in (call, lambda m: m.truncate(-1), lambda m: m.cover(-1, 5), lambda m: m.cover(0, -1)):
        with pytest.raises(ArgumentError):
            refused(content)
    assert parts(content) == [(10, A, 0)]


def test_truncate():
    content = SegmentMap([(10, A, 0), (10, B, 0)])
    content.truncate(25)
    assert parts(content) == [(10, A, 0), (10, B, 0), (5, HOLE, 0)]
    content.truncate(25)
    assert content.size == 25
    content.truncate(15)
    assert parts(content) == [(10, A, 0), (5, B, 0)]
    content.truncate(10)
    assert parts(content) == [(10, A, 0)]
    content.truncate(0)
    assert parts(content) == []
    content.truncate(3)
    content.truncate(7)
    assert parts(content) == [(7, HOLE, 0)]


def test_truncate_drops_chunks():
    content = scattered(2000)
    content.truncate(3_005)
    assert (content.size, len(content)) == (3_005, 301)
    assert content == SegmentMap([*parts(scattered(300)), (5, 1 + 300 % 7, 30_000)])


def test_cover_clips_both_ends():
    content = SegmentMap([(10, A, 0), (10, HOLE, 0), (10, B, 7)])
    assert content.cover(3, 4) == [Segment(3, 4, A, 3)]
    assert content.cover(5, 20) == [Segment(5, 5, A, 5), Segment(10, 10, HOLE, 0), Segment(20, 5, B, 7)]
    assert content.cover(12, 3) == [Segment(12, 3, HOLE, 0)]
    assert content.cover(25, 100) == [Segment(25, 5, B, 12)]
    assert content.cover(30, 1) == []
    assert content.cover(5, 0) == []


def test_the_limit_of_cover_is_exact():
    content = scattered(1000)
    for limit in (0, 1, 2, 255, 256, 257, 994, 995, 5000):
        found = content.cover(55, 100_000, limit)
        assert len(found) == min(limit, 995)
        assert found == content.cover(55, 100_000)[:limit]
    assert content.cover(0, 10, -1) == []


def test_a_copy_goes_its_own_way():
    content = scattered(600)
    twin = content.copy()
    assert twin == content
    twin.replace(5, 4000, 99, 0)
    twin.check_invariants()
    assert content == scattered(600)
    assert twin != content


def test_equality_is_of_content_not_of_chunks():
    built = SegmentMap()
    for start in range(9990, -10, -10):  # backwards, so the chunks are cut elsewhere
        k = start // 10
        built.replace(start, 10, 1 + k % 7, k * 100)
    built.check_invariants()
    assert built == scattered(1000)
    assert built != scattered(999)
    assert built != [*built]
    with pytest.raises(TypeError):
        hash(built)


def test_remap_replaces_refs_and_joins_the_result():
    content = SegmentMap([(10, 1, 0), (10, B, 5), (10, 2, 0), (5, HOLE, 0)])

    def stored(segment: Segment) -> list[Part] | None:
        return (
            [(segment.length, A, {1: 0, 2: 10}[segment.ref])]
            if isinstance(segment.ref, int) and segment.ref > 0
            else None
        )

    assert content.remap(stored)
    assert parts(content) == [(10, A, 0), (10, B, 5), (10, A, 10), (5, HOLE, 0)]
    assert not content.remap(stored)
    assert content.remap(lambda s: [(0, 3, 9), (4, A, 0), (s.length - 4, A, 4)])
    assert parts(content) == [(10, A, 0), (10, A, 0), (10, A, 0), (5, A, 0)]


@pytest.mark.parametrize("count", [1, 600])
def test_remap_that_says_the_same_is_no_change(count):
    content = scattered(count)
    assert not content.remap(lambda s: [(s.length, s.ref, s.offset)])
    assert not content.remap(lambda s: None)
    assert content == scattered(count)


def test_remap_of_what_is_one_range():
    content = SegmentMap([(10, LOG, 500)])
    with pytest.raises(ArgumentError):
        content.remap(lambda s: [(9, A, 0)])
    assert parts(content) == [(10, LOG, 500)]
    assert content.remap(lambda s: [(4, A, 7), (6, B, 0)])
    assert parts(content) == [(4, A, 7), (6, B, 0)]
    content = SegmentMap([(10, LOG, 500)])
    assert content.remap(lambda s: [(10, HOLE, 500)])
    content.check_invariants()
    assert parts(content) == [(10, HOLE, 0)]


def test_remap_touches_one_chunk_of_many():
    content = scattered(1000)
    last = content.cover(2550, 10)[0]

    def joined(segment: Segment) -> list[Part] | None:  # the last of the first chunk now runs on into the second
        return [(10, 1 + 256 % 7, 256 * 100 - 10)] if segment == last else None

    assert content.remap(joined)
    content.check_invariants()
    assert len(content) == 999
    assert content.cover(0, 2550) == scattered(1000).cover(0, 2550)
    assert content.cover(2570, 9000) == scattered(1000).cover(2570, 9000)


def test_remap_of_other_length_changes_nothing():
    content = SegmentMap([(10, 1, 0), (10, 2, 0)])
    with pytest.raises(ArgumentError):
        content.remap(lambda s: [(9, A, 0)] if s.ref == 2 else [(10, B, 0)])
    assert parts(content) == [(10, 1, 0), (10, 2, 0)]


def test_many_overwrites_split_chunks_and_big_ones_empty_them():
    content = SegmentMap([(100_000, A, 0)])
    for k in range(5000):
        content.replace(k * 7919 % 10_000 * 10, 5, 3, k * 1000)
    content.check_invariants()
    assert len(content) == 10_000
    owner = [(s.ref, s.offset + k) for s in content for k in range(s.length)]
    for k in range(0, 100_000, 2000):
        content.replace(k, 1990, 4, k * 3)
        owner[k : k + 1990] = [(4, k * 3 + n) for n in range(1990)]
        content.check_invariants()
    assert [(s.ref, s.offset + k) for s in content for k in range(s.length)] == owner


def test_chunks_that_became_small_are_joined():
    content = scattered(1024)
    for first in (0, 256, 512):
        content.replace(first * 10, 2500, 50 + first, 0)
    assert len(content) == 1024 - 3 * 249
    content.replace(2500, 20, 99, 0)
    content.replace(2520, 20, 98, 0)
    assert parts(content)[:5] == [(2500, 50, 0), (20, 99, 0), (20, 98, 0), *parts(scattered(1024))[254:256]]


def test_an_overwrite_from_one_full_chunk_into_the_next():
    for left, right in ((255, 257), (200, 511), (0, 999), (255, 256), (256, 300)):
        content = scattered(1000)
        content.replace(left * 10 + 5, (right - left) * 10, 50, 0)
        expected = [*parts(scattered(left)), (5, 1 + left % 7, left * 100), ((right - left) * 10, 50, 0)]
        assert parts(content)[: left + 2] == expected
        assert content.size == 10_000


def test_joining_across_a_chunk_border():
    content = scattered(600)
    before = content.cover(2559, 1)[0]
    behind = content.cover(2560, 1)[0]
    content.replace(2560, 10, before.ref, before.offset + 1)  # continues the last one of the chunk before
    content.check_invariants()
    assert content.cover(2550, 20) == [Segment(2550, 20, before.ref, before.offset - 9)]
    content = scattered(600)
    content.replace(2550, 10, behind.ref, behind.offset + 1000 - 10)
    content.replace(2560, 10, behind.ref, behind.offset + 1000)  # joins to the left
    content.check_invariants()
    assert len(content) == 599
    content = scattered(600)
    content.replace(2560, 10, 60, 10)
    content.replace(2550, 10, 60, 0)  # is continued by the first one of the chunk behind
    content.check_invariants()
    assert content.cover(2550, 20) == [Segment(2550, 20, 60, 0)]


def test_an_overwrite_of_two_full_chunks_to_the_middle_makes_three():
    content = scattered(512)
    content.replace(2555, 10, 50, 0)
    content.check_invariants()
    assert len(content) == 513


def test_repr_shows_size_and_the_first_segments():
    assert repr(SegmentMap([(3, 7, 4), (2, HOLE, 0)])) == "<SegmentMap 5 bytes, 2 segments: 0+3=7@4, 3+2=-1@0>"
    assert repr(scattered(9)).endswith(", ...>")
