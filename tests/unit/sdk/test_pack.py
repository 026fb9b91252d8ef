"""Packing: what becomes one block, in which order, and what stays where it is."""

from __future__ import annotations

import random
from collections.abc import Iterator
from concurrent.futures import Future
from itertools import count
from pathlib import Path

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE, LOG, Part, Ref, Segment, SegmentMap
from arvfuse.model.records import Base
from arvfuse.sdk.moved import Entry
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.pack import (
    MANY_BLOCKS,
    MANY_SEGMENTS,
    MOST_SEGMENTS,
    PACK_BELOW,
    Packer,
    Unit,
    block_entries,
    bytes_of,
    groups,
    local_files,
    plan,
    runs,
    single,
)
from arvfuse.sdk.putpool import Stored
from arvfuse.sdk.replica import ReplicaTree, make_directories
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session, put_file, saved_contents
from tests.support.stores import md5, noise

A = "a" * 32 + "+67108864"
B = "b" * 32 + "+67108864"
MIB = 1 << 20


def replica() -> ReplicaTree:
    return ReplicaTree(1, Base("record", None, 0, "", 0, "", None), 0, "", Manifest(b""))


def file_of(*parts: Part, base_size: int = 0) -> FileNode:
    file = FileNode(2, replica())
    file.segments = SegmentMap(parts)
    file.base_size = base_size
    return file


def planned(*parts: Part, base_size: int = 0) -> tuple[list[list[tuple[int, int]]], set[int]]:
    """(start, length) of the segments of each unit; the blocks that are stored as they are."""
    units, direct = plan(file_of(*parts, base_size=base_size))
    assert all(unit.length == sum(segment.length for segment in unit.segments) for unit in units)
    return [[(segment.start, segment.length) for segment in unit.segments] for unit in units], direct


def test_neighbours_in_the_log_are_one_unit() -> None:
    assert planned((10, LOG, 500), (5, LOG, 900), (2, LOG, 100)) == ([[(0, 10), (10, 5), (15, 2)]], set())


def test_sealed_blocks_are_stored_as_they_are() -> None:
    parts: list[Part] = [(2 * MIB, 7, 0), (10, LOG, 500), (2 * MIB, 8, 0), (1, A, 0)]
    assert planned(*parts) == ([[(2 * MIB, 10)]], {7, 8})


def test_a_hole_ends_a_unit_and_is_in_none() -> None:
    assert planned((10, LOG, 0), (MIB, HOLE, 0), (10, LOG, 10)) == ([[(0, 10)], [(MIB + 10, 10)]], set())


def test_a_rewritten_middle_copies_nothing_else() -> None:
    assert planned((100, A, 0), (10, LOG, 0), (100, A, 110)) == ([[(100, 10)]], set())
    assert planned((100, A, 0), (100, B, 0)) == ([], set())


def test_a_tail_is_joined_with_what_is_at_most_twice_as_long() -> None:
    assert planned((400, A, 0), (100, B, 0), (60, LOG, 0)) == ([[(400, 100), (500, 60)]], set())
    assert planned((100, A, 0), (60, B, 0), (30, LOG, 0)) == ([[(0, 100), (100, 60), (160, 30)]], set())
    assert planned((10 * MIB, A, 0), (MIB, 7, 0)) == ([], {7})
    assert planned((2 * MIB, A, 0), (MIB, 7, 0)) == ([[(0, 2 * MIB), (2 * MIB, MIB)]], set())


def test_a_piece_that_became_complete_is_one_block() -> None:
    parts: list[Part] = [(BLOCK_BYTES - MIB, A, 0), (MIB, 7, BLOCK_BYTES - MIB)]
    assert planned(*parts) == ([[(0, BLOCK_BYTES - MIB), (BLOCK_BYTES - MIB, MIB)]], set())
    tail: Part = (5, LOG, 0)
    assert planned(*parts, tail) == ([[(0, BLOCK_BYTES - MIB), (BLOCK_BYTES - MIB, MIB)], [(BLOCK_BYTES, 5)]], set())
    assert planned((BLOCK_BYTES, 7, 0), tail) == ([[(BLOCK_BYTES, 5)]], {7})


def test_a_rewrite_in_a_piece_that_was_complete_before_is_not_a_reason_to_copy_it() -> None:
    parts: list[Part] = [(BLOCK_BYTES - MIB, A, 0), (MIB, 7, 0), (BLOCK_BYTES, A, 0)]
    assert planned(*parts, base_size=2 * BLOCK_BYTES) == ([], {7})


def cut_up(count: int, *, blocks: int = 2) -> list[Part]:
    """A piece of 64 MiB in *count* segments, of which one, of ten bytes, is in the log."""
    stored = [f"{number:032x}+67108864" for number in range(blocks)]
    parts: list[Part] = [(10, stored[number % blocks], 0) for number in range(count - 2)]
    return [*parts, (10, LOG, 0), (BLOCK_BYTES - 10 * (count - 1), A, 100)]


def lengths_of_units(*parts: Part) -> list[int]:
    units, _ = planned(*parts, base_size=sum(part[0] for part in parts))
    return [len(unit) for unit in units]


def test_pages_written_here_and_there_copy_nothing_else() -> None:
    assert lengths_of_units(*cut_up(MOST_SEGMENTS)) == [1]
    assert lengths_of_units(*cut_up(MANY_SEGMENTS - 1, blocks=MANY_BLOCKS)) == [1]


def test_of_a_file_of_very_many_segments_the_most_cut_up_pieces_are_rewritten() -> None:
    worst, bad, small = cut_up(MOST_SEGMENTS - 200), cut_up(MANY_SEGMENTS + 5), cut_up(100)
    assert lengths_of_units(*small, *bad, *worst) == [1, 1, MOST_SEGMENTS - 200]
    more = [part for _ in range(16) for part in bad]
    # Each that is rewritten takes 1,028 away: of 16 one is enough.
    assert sorted(lengths_of_units(*more)) == [*[1] * 15, MANY_SEGMENTS + 5]
    stored: list[Part] = [(length, B if ref == LOG else ref, offset) for length, ref, offset in more]
    assert sorted(lengths_of_units(*stored, *bad)) == [MANY_SEGMENTS + 5]  # what is stored alone is not looked at


def test_a_piece_that_lies_in_very_many_blocks_is_rewritten() -> None:
    # The log counts as one; the last segment is of a block of its own.
    assert lengths_of_units(*cut_up(MANY_SEGMENTS + 1, blocks=MANY_BLOCKS - 2)) == [1]
    assert lengths_of_units(*cut_up(MANY_SEGMENTS + 1, blocks=MANY_BLOCKS)) == [MANY_SEGMENTS + 1]


def test_a_segment_is_cut_where_a_piece_ends() -> None:
    units, direct = planned((BLOCK_BYTES - 4, HOLE, 0), (10, LOG, 300))
    assert (units, direct) == ([[(BLOCK_BYTES - 4, 4)], [(BLOCK_BYTES, 6)]], set())


def test_groups_fill_a_block_each_in_order() -> None:
    sizes = [PACK_BELOW - 1] * 130
    units = [plan(file_of((size, LOG, 0)))[0][0] for size in sizes]
    made = list(groups(units))
    assert [unit for group in made for unit in group] == units
    assert [len(group) for group in made] == [64, 64, 2]
    assert list(groups([])) == []


def test_a_group_holds_the_bytes_of_its_units_a_part_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arvfuse.sdk.pack._READ_BYTES", 4)
    data = noise(100)
    asked: list[tuple[Ref, int, int]] = []

    def fetch(ref: Ref, offset: int, length: int) -> bytes:
        asked.append((ref, offset, length))
        return data[offset : offset + length]

    units = [Unit("one", (Segment(0, 3, LOG, 10), Segment(3, 6, 7, 20)), 9), Unit("two", (Segment(5, 2, "x", 90),), 2)]
    assert b"".join(bytes_of(units, fetch)) == data[10:13] + data[20:26] + data[90:92]
    assert asked == [(LOG, 10, 3), (7, 20, 4), (7, 24, 2), ("x", 90, 2)]


def test_where_the_live_ranges_of_a_block_went() -> None:
    rows: list[Entry] = [(7, 100, 10, A, 0), (7, 500, 3, A, 10)]
    assert block_entries(7, Stored(A, ((100, 10), (500, 3)))) == rows


def test_local_files_come_in_path_order_and_those_without_a_name_last() -> None:
    tree = replica()
    names = [(b"b",), (b"a",), (b"d", b"z"), (b"c", b"y"), (b"c.",), (b"clean",)]
    files = {}
    for number, path in enumerate(names):
        parent = tree.root
        if len(path) > 1:
            parent = make_directories(tree, path[:-1], 0)
        file = files[path] = FileNode(10 + number, tree)
        tree.attach(parent, path[-1], file, 0)
        parts: list[Part] = [(5, A, 0)] if path == (b"clean",) else [(5, LOG, number * 100)]
        tree.set_segments(file, parts, 0)
    orphan = FileNode(99, tree)
    orphan.segments = SegmentMap([(5, LOG, 0)])
    tree.orphans[99] = orphan
    found = list(local_files(tree))
    expected = [(b"a",), (b"b",), (b"c.",), (b"c", b"y"), (b"d", b"z")]
    assert found == [*(files[path] for path in expected), orphan]


class Counting(MemoryStore):
    """Knows how many bytes it was given."""

    given = 0

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        self.given += size
        return super().adopt(path, digest, size, checks)


@pytest.fixture
def store() -> Counting:
    return Counting()


@pytest.fixture
def session(tmp_path: Path, store: Counting) -> Iterator[Session]:
    with Session(tmp_path / "m", store=store, catalog=make_catalog(), pool=InlinePool()) as session:
        yield session


def test_small_files_share_a_block_in_path_order(session: Session, store: Counting) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    directory = tree.mkdir(tree.root, b"d")
    put_file(tree, b"z", b"zz", directory)
    put_file(tree, b"b", b"bbb")
    put_file(tree, b"a", b"aaaa")
    put_file(tree, b"empty", b"")
    session.committed()
    joined = b"aaaabbbzz"
    assert list(store.blocks()) == [f"{md5(joined)}+9"]
    text = session.catalog.manifest(session.catalog.get(record.uuid).pdh).decode()
    assert text == f". {md5(joined)}+9 0:4:a 4:3:b 0:0:empty\n./d {md5(joined)}+9 7:2:z\n"


def test_the_same_tree_gives_the_same_hash_whatever_the_order(session: Session) -> None:
    made = random.Random(1)
    contents = {b"f%d" % number: noise(made.randrange(60_000)) for number in range(40)}
    contents[b"big"] = noise(3 * MIB)
    hashes = set()
    for name in ("one", "two", "three"):
        record = session.catalog.create(name=name)
        tree = session.open(record)
        names = list(contents)
        made.shuffle(names)
        for each in names:
            file = tree.create(tree.root, each)
            for at in range(0, len(contents[each]), 50_000):
                tree.write(file, at, contents[each][at : at + 50_000])
        session.committed(tree)
        hashes.add(session.catalog.get(record.uuid).pdh)
        assert saved_contents(session.catalog, session.store, record.uuid) == {(k,): v for k, v in contents.items()}
    assert len(hashes) == 1


def test_a_byte_of_a_slowly_growing_file_is_copied_a_few_times_only(session: Session, store: Counting) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    file = tree.create(tree.root, b"log")
    line = noise(1000)
    appends = 128
    for number in range(appends):
        tree.write(file, number * len(line), line)
        session.committed()
    assert saved_contents(session.catalog, store, record.uuid) == {(b"log",): line * appends}
    spec = Manifest(session.catalog.manifest(session.catalog.get(record.uuid).pdh)).listing(()).files[b"log"]
    assert len(spec.segments()) <= 8
    assert store.given <= appends * len(line) * 8


def test_holes_are_no_bytes(session: Session, store: Counting) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    file = tree.create(tree.root, b"f")
    tree.write(file, 5_000_000, b"end")
    tree.write(file, 100, b"start")
    session.committed()
    assert store.given == len(b"start") + len(b"end")
    content = bytes(100) + b"start" + bytes(5_000_000 - 105) + b"end"
    assert saved_contents(session.catalog, store, record.uuid) == {(b"f",): content}
    assert bytes(tree.read(file, 0, 1 << 23)) == content


def test_an_unlinked_file_that_is_open_is_packed_but_named_nowhere(session: Session) -> None:
    tree = session.open(session.catalog.create(name="c"))
    file = put_file(tree, b"f", b"still here")
    tree.opened(file, write=True)
    tree.unlink(tree.root, b"f")
    (outcome,) = session.committed()
    assert outcome.text == b""
    assert [ref for _, ref, _ in file.parts()] == [f"{md5(b'still here')}+10"]
    assert bytes(tree.read(file, 0, 100)) == b"still here"


def test_a_failure_comes_when_all_that_runs_has_ended(tmp_path: Path) -> None:
    store = Faulty(MemoryStore(), "adopt: FAIL")
    tree = replica()
    for name, length in ((b"a", 10), (b"b", 2 * MIB)):
        file = FileNode(0, tree)
        tree.attach(tree.root, name, file, 0)
        tree.set_segments(file, [(length, LOG, 0)], 0)
    packer = Packer(
        store=store, pool=InlinePool(), spool=tmp_path, fetch=lambda ref, offset, length: bytes(length),
        place=lambda address: address, stored=lambda block, file: pytest.fail("nothing is sealed"), numbers=count(1),
    )  # fmt: skip
    with pytest.raises(StoreUnavailable):
        packer.pack([tree])
    assert store.calls("adopt") == 2
    assert {part[1] for file in local_files(tree) for part in file.parts()} == {LOG}  # nothing of it is half done
    entries = packer.pack([tree])
    assert [(space, start) for space, start, *_ in entries] == [(LOG, 0), (LOG, 0)]
    assert list(local_files(tree)) == []


@pytest.mark.parametrize(
    ("segments", "right"),
    [
        (((10, 1, 0), (10, 1, 50)), True),
        (((5, 1, 2), (3, 1, 57)), True),
        (((20, 1, 40),), False),
        (((20, 1, 0),), False),
        (((10, 1, 10),), False),
        (((10, 1, 60),), False),
    ],
)
def test_only_bytes_that_a_block_was_sealed_with_are_said_to_be_in_the_store(
    tmp_path: Path, segments: tuple[Part, ...], right: bool
) -> None:
    """What lies between the ranges that its Seal named is nowhere: better no commit than another place of the block."""
    tree, stored = replica(), Future[Stored]()
    file = FileNode(0, tree)
    tree.attach(tree.root, b"f", file, 0)
    tree.set_segments(file, [*segments, (1, A, 0)], 0)  # the last is stored: there is no tail to join
    stored.set_result(Stored(B, ((50, 10), (0, 10))))
    packer = Packer(
        store=MemoryStore(), pool=InlinePool(), spool=tmp_path, fetch=lambda ref, offset, length: bytes(length),
        place=lambda address: address, stored=lambda block, file: stored, numbers=count(1),
    )  # fmt: skip
    if not right:
        with pytest.raises(AssertionError, match="sealed without bytes"):
            packer.pack([tree])
        return
    packer.pack([tree])
    # Its ranges stand in the store in the order in which the Seal named them.
    wanted = [(length, B, offset + 10 if offset < 50 else offset - 50) for length, _, offset in segments]
    assert file.parts() == [*wanted, (1, A, 0)]


def packed_from(log: bytes, tmp_path: Path, segments: list[tuple[int, int]], moved: int = 0) -> tuple[bytes, list[int]]:
    """The bytes of files that are ranges of *log* in one block, and the lengths of the reads. *moved*: how much lower
    the log lies than its addresses say."""
    store, tree, reads = MemoryStore(), replica(), list[int]()
    for number, (offset, length) in enumerate(segments):
        file = FileNode(0, tree)
        tree.attach(tree.root, b"f%04d" % number, file, 0)
        tree.set_segments(file, [(length, LOG, offset + moved)], 0)

    def fetch(ref: object, offset: int, length: int) -> bytes:
        assert ref == LOG
        reads.append(length)
        assert offset + length <= len(log)
        return log[offset : offset + length]

    packer = Packer(
        store=store, pool=InlinePool(), spool=tmp_path, fetch=fetch, place=lambda address: address - moved,
        stored=lambda block, file: pytest.fail("nothing is sealed"), numbers=count(1),
    )  # fmt: skip
    entries = packer.pack([tree])
    assert {entry[:3] for entry in entries} == {(LOG, offset + moved, length) for offset, length in segments}
    (locator,) = {entry[3] for entry in entries}
    assert list(local_files(tree)) == []
    return bytes(store.fetch_range(locator, 0, sum(length for _, length in segments))), reads


def test_what_lies_side_by_side_in_the_log_is_read_together(tmp_path: Path) -> None:
    log = noise(4 * MIB)
    segments = [(100 + 4200 * number, 4096) for number in range(500)]
    content, reads = packed_from(log, tmp_path, segments, moved=7)
    assert content == b"".join(log[offset : offset + length] for offset, length in segments)
    assert len(reads) == 3, "a MiB each"
    assert max(reads) <= MIB


@pytest.mark.parametrize("seed", range(3))
def test_whatever_the_order_in_the_log_the_bytes_are_those_of_the_files(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    log = noise(2 * MIB)
    segments = [(4000 * number, choose.randrange(1, 4001)) for number in range(400)]
    cut = sorted(choose.sample(range(400), 20))
    mixed = [
        each
        for low, high in zip([0, *cut], [*cut, 400], strict=True)
        for each in segments[low:high][:: choose.choice([1, -1])]
    ]
    content, reads = packed_from(log, tmp_path, mixed)
    assert content == b"".join(log[offset : offset + length] for offset, length in mixed)
    assert len(reads) < len(segments)


def test_most_files_are_one_unit() -> None:
    unit = single(file_of((10, LOG, 500)))
    assert unit is not None
    assert (unit.length, unit.whole, [s.offset for s in unit.segments]) == (10, True, [500])
    for parts in ([(10, LOG, 500), (1, LOG, 900)], [(10, 7, 0)], [(10, A, 0)], [(PACK_BELOW, LOG, 0)], []):
        assert single(file_of(*parts)) is None


def test_a_complete_piece_of_a_big_file_becomes_one_block(session: Session, store: Counting) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    file = tree.create(tree.root, b"f")
    data = noise(16 * MIB) * 4 + b"rest"
    tree.write(file, 0, memoryview(data)[: 50 * MIB])
    session.committed()
    tree.write(file, 50 * MIB, memoryview(data)[50 * MIB :])
    session.committed()
    text = session.catalog.manifest(session.catalog.get(record.uuid).pdh).decode()
    assert text == f". {md5(data[:BLOCK_BYTES])}+{BLOCK_BYTES} {md5(b'rest')}+4 0:{len(data)}:f\n"
    assert bytes(tree.read(file, BLOCK_BYTES - 2, 10)) == data[BLOCK_BYTES - 2 :]


def test_runs_end_at_holes_and_where_a_piece_of_the_file_does() -> None:
    parts = [(10, A, 0), (5, B, 0), (7, HOLE, 0), (BLOCK_BYTES, A, 5), (3, 7, 0)]
    found = [[(s.start, s.length, s.offset) for s in run] for run in runs(SegmentMap(parts))]
    assert found == [
        [(0, 10, 0), (10, 5, 0)], [(22, BLOCK_BYTES - 22, 5)],
        [(BLOCK_BYTES, 22, BLOCK_BYTES - 17), (BLOCK_BYTES + 22, 3, 0)],
    ]  # fmt: skip
