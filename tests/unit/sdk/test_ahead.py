"""Fetching ahead: how much, in which order, until when; and that what is read is always what the file says."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.model.ranges import HOLE, Ref, Segment, SegmentMap
from arvfuse.sdk.ahead import AFTER_BYTES, AHEAD_BYTES, PREFETCH_THREADS, ReadAhead, Source
from arvfuse.sdk.collection import Collection
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host
from tests.support.stores import noise

PATIENCE_S = 30.0
UNIT = 1000
DATA, OTHER = noise(40 * UNIT), noise(40 * UNIT, 1)


class Blocks:
    """A file in one block, or as *parts* say. Every fetch is counted; from *held_from* on they wait for ``go``."""

    def __init__(self, parts: list[tuple[int, Ref, int]] | None = None, *, held_from: int = len(DATA)) -> None:
        self.map = SegmentMap(parts or [(len(DATA), "block", 0)])
        self.held_from = held_from
        self.go = threading.Event()
        self.failing = False
        self.asked: list[tuple[int, int]] = []  # offset, length
        self.began = threading.Semaphore(0)
        self.covered: list[int] = []
        self.threads: set[str] = set()

    def size(self) -> int:
        return self.map.size

    def cover(self, offset: int, size: int, limit: int) -> list[Segment]:
        self.covered.append(limit)
        return self.map.cover(offset, size, limit)

    def fetch_part(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        if ref == HOLE:
            return bytes(length)
        self.asked.append((offset, length))
        self.threads.add(threading.current_thread().name)
        self.began.release()
        if offset >= self.held_from:
            assert self.go.wait(PATIENCE_S)
        if self.failing:
            raise StoreUnavailable("down")
        return (DATA if ref == "block" else OTHER)[offset : offset + length]

    def await_fetches(self, count: int) -> None:
        for _ in range(count):
            assert self.began.acquire(timeout=PATIENCE_S)


def read(ahead: ReadAhead, source: Blocks, offset: int, size: int) -> bytes:
    """As a handle does."""
    ahead.reading(offset, size)
    return b"".join(ahead.fetch(part.ref, part.offset, part.length) for part in source.map.cover(offset, size))


@pytest.fixture(autouse=True)
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arvfuse.sdk.ahead.AFTER_BYTES", 2 * UNIT)
    monkeypatch.setattr("arvfuse.sdk.ahead._KEEP_BYTES", UNIT)


def started(source: Blocks, pieces: int = 3) -> ReadAhead:
    """A reader that has read two pieces, and would have the rest fetched ahead from now on."""
    ahead = ReadAhead(source, pieces=pieces, unit_bytes=UNIT)
    assert [read(ahead, source, at, UNIT) for at in (0, UNIT)] == [DATA[:UNIT], DATA[UNIT : 2 * UNIT]]
    source.await_fetches(2)
    assert "off" in repr(ahead)
    return ahead


def test_a_reader_that_reads_on_has_exactly_so_many_pieces_ahead_of_it() -> None:
    source = Blocks(held_from=3 * UNIT)
    asked: Source = source
    assert asked.cover(0, 1, 1)
    ahead = started(source)
    assert read(ahead, source, 2 * UNIT, 500) == DATA[2 * UNIT : 2 * UNIT + 500]
    source.await_fetches(4)  # the one that was read, and three more; nobody has to ask for them
    assert "on" in repr(ahead)
    source.go.set()
    ahead.close()
    # The first piece is what the reader waits for, so it is no bigger than what was asked for.
    assert sorted(source.asked)[2:] == [(2000, 500), (2500, 1000), (3500, 1000), (4500, 1000)]
    assert set(source.covered) == {1}
    assert any(name.startswith("arvfuse-parallel") for name in source.threads)


def test_what_was_fetched_is_not_fetched_again() -> None:
    source = Blocks()
    ahead = started(source)
    got = b"".join(read(ahead, source, at, 700) for at in range(2 * UNIT, len(DATA), 700))
    ahead.close()
    assert got == DATA[2 * UNIT :]
    taken = sorted(source.asked)
    assert [at for at, _ in taken] == [0] + [sum(length for _, length in taken[:n]) for n in range(1, len(taken))]


def test_one_big_read_is_fetched_piece_by_piece() -> None:
    source = Blocks()
    ahead = ReadAhead(source, pieces=2, unit_bytes=UNIT)
    assert read(ahead, source, 0, len(DATA)) == DATA
    ahead.close()
    assert sorted(source.asked) == [(at, UNIT) for at in range(0, len(DATA), UNIT)]


def test_seeking_cancels_and_waits_for_nothing_closing_waits() -> None:
    source = Blocks(held_from=4 * UNIT)
    ahead = started(source)
    read(ahead, source, 2 * UNIT, UNIT)
    source.await_fetches(4)
    ahead.cancel()  # two are under way still
    assert read(ahead, source, 3 * UNIT, 10) == DATA[3 * UNIT : 3 * UNIT + 10]
    assert source.asked[-1] == (3 * UNIT, 10)
    count = len(source.asked)
    source.go.set()
    ahead.close()
    ahead.close()
    assert len(source.asked) == count
    assert not any(thread.name.startswith("arvfuse-") for thread in threading.enumerate())


@pytest.mark.parametrize("offset", [0, 7 * UNIT])
def test_reading_elsewhere_cancels(offset: int) -> None:
    source = Blocks()
    ahead = started(source)
    read(ahead, source, 2 * UNIT, UNIT)
    assert read(ahead, source, offset, 10) == DATA[offset : offset + 10]
    assert "off" in repr(ahead)
    ahead.close()


def test_nothing_is_fetched_ahead_of_who_jumps_about_or_reaches_the_end() -> None:
    source = Blocks()
    ahead = ReadAhead(source, pieces=3, unit_bytes=UNIT)
    for at in (5, 20, 3, 11, 30):
        read(ahead, source, at * UNIT, UNIT)
    read(ahead, source, 39 * UNIT, 0)
    read(ahead, source, 37 * UNIT, UNIT)
    read(ahead, source, 38 * UNIT, UNIT)
    read(ahead, source, 39 * UNIT, UNIT)
    assert [at // UNIT for at, _ in source.asked] == [5, 20, 3, 11, 30, 37, 38, 39]
    assert "off" in repr(ahead)


def test_a_failure_ahead_is_met_by_the_read_itself_and_by_nobody_else() -> None:
    source = Blocks()
    ahead = started(source)
    source.failing = True
    with pytest.raises(StoreUnavailable):
        read(ahead, source, 2 * UNIT, UNIT)
    source.failing = False
    assert read(ahead, source, 2 * UNIT, UNIT) == DATA[2 * UNIT : 3 * UNIT]
    assert "off" in repr(ahead)  # for a while nothing is tried ahead
    for at in (3, 4, 5):
        assert read(ahead, source, at * UNIT, UNIT) == DATA[at * UNIT : (at + 1) * UNIT]
    assert "on" in repr(ahead)
    source.failing = True
    ahead.close()  # nobody reads what fails now


def test_bytes_in_no_block_are_passed_over_and_those_of_changed_files_never_used() -> None:
    parts: list[tuple[int, Ref, int]] = [(2500, "block", 0), (5000, HOLE, 0), (4000, "block", 10_000)]
    source = Blocks(parts)
    ahead = started(source)
    assert read(ahead, source, 2000, 1000) == DATA[2000:2500] + bytes(500)
    assert read(ahead, source, 3000, 4600) == bytes(4500) + DATA[10_000:10_100]
    source.map.replace(7600, 1000, "block", 20_000)
    assert read(ahead, source, 7600, 1500) == DATA[20_000:21_000] + DATA[11_100:11_600]
    ahead.close()
    source = Blocks()
    ahead = started(source)
    read(ahead, source, 2 * UNIT, UNIT)
    source.map.replace(3 * UNIT, 500, "other", 3 * UNIT)
    assert read(ahead, source, 3 * UNIT, UNIT) == OTHER[3000:3500] + DATA[3500:4000]
    ahead.close()


def test_a_reader_may_go_back_by_a_line() -> None:
    source = Blocks()
    ahead = started(source)
    read(ahead, source, 2 * UNIT, UNIT)
    for at in range(2 * UNIT + 100, 9 * UNIT, 300):
        assert read(ahead, source, at, UNIT) == DATA[at : at + UNIT]
        assert "on" in repr(ahead)
    ahead.close()
    taken = sorted(source.asked)
    assert len(set(taken)) == len(taken)


class Far(MemoryStore):
    """A store that says nothing about itself, and knows how often it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: list[int] = []

    def __getattribute__(self, name: str) -> Any:
        if name == "ahead_bytes":
            raise AttributeError(name)
        return super().__getattribute__(name)

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        self.reads.append(length)
        return super().fetch_range(locator, start, length)


@pytest.mark.parametrize(("threads", "expected"), [(PREFETCH_THREADS, True), (1, True), (0, False)])
def test_handles_read_ahead_from_stores_that_are_not_at_hand(tmp_path: Path, threads: int, expected: bool) -> None:
    content, far = noise(20 << 20), Far()
    host = make_host(tmp_path, far, num_prefetch_threads=threads)
    collection = Collection(host=host)
    with collection.open("f", "wb") as handle:
        handle.write(content)
    collection.manifest_text()
    far.reads.clear()
    with collection.open("f", "rb") as handle:
        assert handle.read() == content
    assert (len(far.reads) > 1) == expected
    with collection.open("f", "rb") as handle:
        assert b"".join(handle.readall(100_000)) == content
    with collection.open("f", "rb") as handle:
        assert b"".join(handle) == content
        assert handle.seek(3) == 3
        assert handle.read(4) == content[3:7]
    host.close()


def test_the_bounds() -> None:
    assert (AFTER_BYTES, AHEAD_BYTES) == (256 << 10, 64 << 20)
    assert "4 x 16777216" in repr(ReadAhead(Blocks(), pieces=4, unit_bytes=64 << 20))
