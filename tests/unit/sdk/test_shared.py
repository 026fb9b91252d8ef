"""What the trees of a workspace share: ties, the account of the spool, and who reads what from where."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from arvfuse.errors import BlockMissing, StoreUnavailable
from arvfuse.model.blockstate import Event, State
from arvfuse.model.ranges import HOLE, LOG
from arvfuse.sdk.blocks import DroppedBlock
from arvfuse.sdk.log import DroppedLog, LogWriter
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.shared import STALL_BOUND_S, LogUse, Numbers, Shared
from arvfuse.stores.memory import MemoryStore
from arvfuse.sync import SpoolAccount
from tests.support.clock import FakeClock
from tests.support.hosts import make_host

LIMIT = 1000


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def shared(tmp_path: Path, clock: FakeClock) -> Iterator[Shared]:
    (tmp_path / "spool").mkdir()
    log = LogWriter(tmp_path, boot_id=bytes(16), clock=clock, file_bytes=330)
    shared = Shared(
        tmp_path, log=log, store=MemoryStore(), clock=clock, spool=SpoolAccount(LIMIT), numbers=Numbers(),
        stall_bound_s=5,
    )  # fmt: skip
    yield shared
    log.close()
    shared.blocks.close()


def test_numbers_are_never_given_twice() -> None:
    numbers, found = Numbers(7), []

    def take() -> None:
        found.extend(numbers.next() for _ in range(1000))

    threads = [threading.Thread(target=take, name=f"taker{number}") for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == list(range(7, 4007))


def test_ties_reach_as_far_as_they_go(shared: Shared) -> None:
    shared.tie(1, 2, 10)
    shared.tie(2, 3, 10)
    shared.tie(8, 9, 10)
    assert shared.tied({1}) == shared.tied({3}) == {1, 2, 3}
    assert shared.tied({2, 8}) == {1, 2, 3, 8, 9}
    assert shared.tied({5}) == {5}
    assert shared.tied(set()) == set()


def test_what_was_committed_together_is_tied_no_more(shared: Shared) -> None:
    shared.tie(1, 2, 10)
    shared.tie(2, 3, 10)
    shared.tie(8, 9, 10)
    shared.untie({1, 2, 3}, 10)
    shared.untie({5}, 10)
    assert [shared.tied({no}) for no in (1, 2, 3)] == [{1}, {2}, {3}]
    assert shared.tied({9}) == {8, 9}
    shared.tie(1, 9, 11)
    assert shared.tied({1}) == {1, 8, 9}
    shared.untie({1, 8, 9}, 10)  # by a commit that began before the newest move
    assert shared.tied({1}) == {1, 9}


def test_each_kind_of_reference_is_read_where_it_lies(shared: Shared) -> None:
    locator = shared.store.put(b"stored bytes")
    placed = shared.append_in(shared.append(1, 8, bytes(16)), 1, 8, bytes(16), b"inline bytes")
    assert placed is not None
    address = placed[1]
    block = shared.blocks.new(cast(FileNode, None), 0)
    block.pwrite(memoryview(b"buffered bytes"), 0)
    assert bytes(shared.fetch(locator, 7, 5)) == b"bytes"
    assert bytes(shared.fetch(LOG, address + 7, 5)) == b"bytes"
    assert bytes(shared.fetch(block.no, 9, 5)) == b"bytes"
    assert bytes(shared.fetch(HOLE, 12345, 5)) == bytes(5)
    assert bytes(shared.fetch(HOLE, 0, 3_000_000)) == bytes(3_000_000)


def test_a_reference_out_of_date_says_so_and_a_lost_block_is_something_else(shared: Shared) -> None:
    with pytest.raises(DroppedLog):
        shared.fetch(LOG, 77 << 32, 1)
    with pytest.raises(DroppedBlock):
        shared.fetch(77, 0, 1)
    with pytest.raises(BlockMissing):
        shared.fetch("a" * 32 + "+10", 0, 1)


def test_a_log_file_knows_its_trees_and_its_bytes(shared: Shared) -> None:
    for tree, size in ((1, 100), (2, 0), (1, 20)):
        assert shared.append_in(1, tree, 8, bytes(16), bytes(size)) is not None
    assert shared.append_in(1, 3, 8, bytes(16), bytes(150)) is None  # does not fit there
    assert shared.append_in(2, 3, 8, bytes(16), bytes(150)) is not None
    shared.log.flush(4)

    def last(number: int) -> dict[int, int]:
        return {tree: use.last for tree, use in shared.log_uses(number).items()}

    assert (last(1), last(2), last(9)) == ({1: 3, 2: 2}, {3: 4}, {})
    assert shared.spool.level == 270
    shared.drop_log(1)
    assert (shared.spool.level, last(1), shared.log.numbers()) == (150, {}, [2])


def test_a_block_is_charged_until_it_is_stored_or_gone(shared: Shared) -> None:
    one, two = (shared.blocks.new(cast(FileNode, None), 0) for _ in range(2))
    for block in (one, two):
        block.charged = 100
        shared.spool.charge(100)
    one.advance(Event.SEAL)
    shared.stored(one.no)
    shared.stored(one.no)
    shared.stored(99)
    assert (one.state, shared.spool.level) == (State.COMMITTED, 100)
    shared.discard(two)
    shared.discard(two)
    assert (shared.spool.level, shared.blocks.all()) == (0, [one])
    shared.stored(two.no)
    assert shared.spool.level == 0


def test_what_turns_out_unused_under_a_lock_is_discarded_later(shared: Shared) -> None:
    block = shared.blocks.new(cast(FileNode, None), 0)
    shared.discard_later(block)
    assert block.path.exists()
    shared.discard_unused()
    shared.discard_unused()
    assert (block.path.exists(), shared.blocks.all()) == (False, [])


def test_a_writer_within_the_limit_never_waits(shared: Shared, clock: FakeClock) -> None:
    shared.spool.charge(LIMIT)
    shared.pace()
    assert (clock.sleepers, shared.stall_bound_s, STALL_BOUND_S) == (0, 5, 300)


def test_a_writer_ahead_of_the_store_waits_for_room(shared: Shared, clock: FakeClock) -> None:
    shared.spool.charge(LIMIT + 2)
    writer = threading.Thread(target=shared.pace, name="writer")
    writer.start()
    clock.wait_for_sleepers()
    shared.spool.credit(1)
    clock.wait_for_sleepers()
    shared.spool.credit(1)
    writer.join()
    assert shared.spool.waiting == 0


def test_a_store_that_takes_nothing_is_an_error(shared: Shared, clock: FakeClock) -> None:
    shared.spool.charge(LIMIT + 2)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            shared.pace()
        except StoreUnavailable as exc:
            failures.append(exc)

    writer = threading.Thread(target=write, name="writer")
    writer.start()
    clock.wait_for_sleepers()
    clock.advance(5)
    writer.join()
    assert [str(failure) for failure in failures] == [
        "the spool is full and the store takes nothing; what was written is kept"
    ]


def test_a_block_that_is_gone_needs_no_sync(shared: Shared) -> None:
    block = shared.blocks.new(cast(FileNode, None), 0)
    shared.sync_block(block.no)
    shared.sync_spool()
    block.path.unlink()
    shared.sync_block(block.no)
    shared.discard(block)
    shared.sync_block(block.no)
    assert shared.blocks.get(block.no) is None


def test_one_file_has_one_lock(shared: Shared) -> None:
    assert shared.file_lock(5) is shared.file_lock(5)
    assert shared.file_lock(5) is not shared.file_lock(6)


def test_what_a_commit_left_uncovered_in_a_log_file() -> None:
    use = LogUse()
    for seq in range(1, 5):
        use.add(seq, 100)
    use.add(5, 10, boundary=True)
    use.add(6, 1000)
    assert use.last == 6
    assert [use.needed_bytes(asof) for asof in (0, 4, 5, 6, 9)] == [1410, 1410, 1000, 0, 0]


def test_who_keeps_house_is_woken_by_the_first_change_after_a_commit(tmp_path):
    woken = []
    host = make_host(tmp_path, MemoryStore())
    tree = host.workspace.open_tree(None, None)
    host.workspace.shared.begun = lambda: woken.append(tree.dirty)
    tree.create(tree.root, b"one")
    tree.create(tree.root, b"two")
    assert woken == [True]
