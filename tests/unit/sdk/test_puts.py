"""Blocks on their way to the store."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.model import records
from arvfuse.model.ranges import SegmentMap
from arvfuse.sdk import putpool
from arvfuse.sdk.blocks import spool_path
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.puts import Puts
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.stepper import Stepper
from tests.support.stores import md5, noise

MIB = 1 << 20
DATA = noise(3 * MIB)


class Bench:
    """Puts over a store in memory; ``steps`` runs what is handed in."""

    def __init__(self, directory: Path, *, follows: bool = True) -> None:
        self.steps = Stepper()
        self.store = Faulty(MemoryStore())
        self.stored: list[int] = []
        self.ahead = HashingAhead(directory, self.steps) if follows else None
        self.puts = Puts(self.store, directory, self.steps, self.stored.append, self.ahead)
        self.path = spool_path(directory, 7)
        self.path.parent.mkdir(parents=True)

    def write(self, data: bytes) -> None:
        self.path.write_bytes(data)
        self.puts.written(records.WriteBlock(2, 0, len(data), 7, 0))


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


@pytest.mark.parametrize("follows", [True, False])
def test_a_sealed_block_is_stored_and_told(tmp_path: Path, follows: bool) -> None:
    bench = Bench(tmp_path, follows=follows)
    bench.write(DATA)
    bench.puts.seal(records.Seal(2, 7, ((0, len(DATA)),)), rewritten=False)
    future = bench.puts.put(7, [FileNode(2, None)])
    assert repr(bench.puts) == "<Puts [7]>"
    assert not future.done()
    assert bench.steps.run_until_idle() == 1 + follows
    assert future.result().locator == f"{md5(DATA)}+{len(DATA)}"
    assert (bench.stored, bench.puts.failed()) == ([7], {})
    bench.puts.forget(7)
    assert repr(bench.puts) == "<Puts []>"


@pytest.mark.parametrize("at", [0, MIB, 2 * MIB, len(DATA) - 1])
def test_what_was_hashed_does_not_count_if_the_file_changed_and_no_record_told(bench: Bench, at: int) -> None:
    bench.write(DATA)
    bench.steps.run_until_idle()
    changed = DATA[:at] + bytes([DATA[at] ^ 1]) + DATA[at + 1 :]
    bench.path.write_bytes(changed)
    bench.puts.seal(records.Seal(2, 7, ((0, len(DATA)),)), rewritten=False)
    bench.steps.run_until_idle()
    assert bench.puts.put(7, [FileNode(2, None)]).result().locator == f"{md5(changed)}+{len(changed)}"


def test_a_file_that_became_shorter_than_what_was_hashed(bench: Bench) -> None:
    bench.write(DATA)
    bench.steps.run_until_idle()
    bench.path.write_bytes(DATA[:MIB])
    bench.puts.seal(records.Seal(2, 7, ((0, MIB),)), rewritten=False)
    bench.steps.run_until_idle()
    assert bench.puts.put(7, [FileNode(2, None)]).result().locator == f"{md5(DATA[:MIB])}+{MIB}"


def test_a_failed_put_is_tried_again_by_who_wants_the_block(bench: Bench) -> None:
    bench.write(DATA)
    bench.store.rescript("adopt: FAIL")
    bench.puts.seal(records.Seal(2, 7, ((0, len(DATA)),)), rewritten=False)
    bench.steps.run_until_idle()
    assert list(bench.puts.failed()) == [7]
    assert bench.stored == []
    bench.store.rescript("")
    future = bench.puts.put(7, [FileNode(2, None)])
    bench.steps.run_until_idle()
    assert future.result().locator == f"{md5(DATA)}+{len(DATA)}"
    assert bench.puts.failed() == {}


def test_a_block_that_was_never_sealed_is_what_its_file_uses(bench: Bench) -> None:
    bench.write(DATA)
    file = FileNode(2, None)
    file.segments = SegmentMap(((MIB, 7, MIB),))
    future = bench.puts.put(7, [file])
    bench.steps.run_until_idle()
    assert future.result().locator == f"{md5(DATA[MIB : 2 * MIB])}+{MIB}"


def using(*parts: tuple[int, int]) -> FileNode:
    """A file of ranges (offset, length) of block 7."""
    file = FileNode(2, None)
    file.segments = SegmentMap((length, 7, offset) for offset, length in parts)
    return file


def test_of_a_block_without_a_seal_all_that_any_file_uses_is_stored(bench: Bench) -> None:
    """Its Seal was in a part of the log that is gone; copies of it are left, in several collections."""
    bench.write(DATA)
    first = bench.puts.put(7, [using((10, 20), (100, 50)), using((120, 100))])
    bench.steps.run_until_idle()
    assert first.result().ranges == ((10, 20), (100, 120))
    assert bench.puts.put(7, [using((110, 90))]) is first
    more = bench.puts.put(7, [using((200, 50), (MIB, 7))])  # by the next commit
    bench.steps.run_until_idle()
    assert more.result().ranges == ((10, 20), (100, 150), (MIB, 7))
    assert more.result().locator == f"{md5(DATA[10:30] + DATA[100:250] + DATA[MIB : MIB + 7])}+177"
    bench.puts.forget(7)
    assert bench.puts.put(7, [using((0, 5))]) not in (first, more)
    bench.steps.run_until_idle()
    assert bench.puts.put(7, []).result().ranges == ((0, 5),)


def test_those_that_were_dropped_are_forgotten(bench: Bench) -> None:
    bench.write(DATA)
    for block in (7, 8):
        bench.puts.seal(records.Seal(2, block, ((0, 1),)), rewritten=False)
    bench.puts.forget_but({8})
    assert repr(bench.puts) == "<Puts [8]>"


def test_what_was_hashed_of_a_block_that_is_stored_in_part_is_let_go(bench: Bench) -> None:
    bench.write(DATA)
    bench.puts.seal(records.Seal(2, 7, ((MIB, MIB),)), rewritten=False)
    assert repr(bench.ahead) == "<HashingAhead 1 blocks>"
    bench.steps.run_until_idle()
    assert bench.puts.put(7, [FileNode(2, None)]).result().locator == f"{md5(DATA[MIB : 2 * MIB])}+{MIB}"
    assert repr(bench.ahead) == "<HashingAhead 0 blocks>"


@pytest.mark.parametrize("how", ["sealed", "never sealed"])
def test_what_was_hashed_does_not_count_if_bytes_were_written_in_place(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Whatever the check sums say: they are no match for who knows how they are made."""
    monkeypatch.setattr(putpool, "_has_begun", lambda *_: True)
    bench.write(DATA)
    bench.steps.run_until_idle()
    changed = bytes(MIB) + DATA[MIB:]
    bench.path.write_bytes(changed)
    file = FileNode(2, None)
    if how == "sealed":
        bench.puts.seal(records.Seal(2, 7, ((0, len(DATA)),)), rewritten=True)
    file.segments = SegmentMap(((len(DATA), 7, 0),))
    future = bench.puts.put(7, [file])
    bench.steps.run_until_idle()
    assert future.result().locator == f"{md5(changed)}+{len(changed)}"
