"""Hashing while a block is written: what is hashed when, and that it never counts when it is not true any more."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.model.checks import PIECE_BYTES
from arvfuse.sdk import hashahead
from arvfuse.sdk.blocks import spool_path
from arvfuse.sdk.hashahead import BEGIN_BYTES, GRAIN_BYTES, MOST_BLOCKS, STEP_BYTES, HashingAhead
from arvfuse.sdk.putpool import PutPool
from tests.support.stepper import Stepper
from tests.support.stores import md5, noise

MIB = 1 << 20
DATA = noise(STEP_BYTES + 3 * MIB)


class Writer:
    """Writes a spool file and tells of it."""

    def __init__(self, directory: Path) -> None:
        self.steps = Stepper()
        self.ahead = HashingAhead(directory, self.steps)
        self.path = spool_path(directory, 7)
        self.path.parent.mkdir(parents=True)
        self.path.touch()

    def write(self, offset: int, length: int, data: bytes = DATA, *, block: int = 7) -> None:
        with self.path.open("r+b") as file:
            file.seek(offset)
            file.write(data[offset : offset + length])
        self.ahead.written(block, offset, length)


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    return Writer(tmp_path)


def test_whole_pieces_are_hashed_as_they_come(writer: Writer) -> None:
    assert GRAIN_BYTES == PIECE_BYTES
    writer.write(0, BEGIN_BYTES - 1)
    assert writer.steps.pending == []  # a small file is not hashed ahead
    writer.write(BEGIN_BYTES - 1, 2)
    assert repr(writer.ahead) == "<HashingAhead 1 blocks>"
    writer.write(BEGIN_BYTES + 1, MIB)
    assert len(writer.steps.pending) == 1
    assert writer.steps.run_until_idle() == 1
    hasher = writer.ahead.take(7)
    assert hasher is not None
    assert hasher.size == BEGIN_BYTES + MIB
    assert hasher.digest() == md5(DATA[: hasher.size])
    assert writer.ahead.take(7) is None
    assert repr(writer.ahead) == "<HashingAhead 0 blocks>"


def test_a_step_is_no_longer_than_others_may_wait(writer: Writer) -> None:
    writer.write(0, len(DATA))
    assert writer.steps.run_one()
    assert len(writer.steps.pending) == 1
    hasher = writer.ahead.take(7)
    assert hasher is not None
    assert hasher.size == STEP_BYTES
    assert writer.steps.run_until_idle() == 1  # which finds that the block was taken
    assert hasher.digest() == md5(DATA[:STEP_BYTES])


def test_the_order_of_neighbours_does_not_matter(writer: Writer) -> None:
    for number in (2, 1, 3, 0):
        writer.write(number * MIB, MIB)
    writer.steps.run_until_idle()
    hasher = writer.ahead.take(7)
    assert hasher is not None
    assert hasher.digest() == md5(DATA[: 4 * MIB])


@pytest.mark.parametrize("second", [(0, 10), (MIB, 1), (4 * MIB - 1, 5), (6 * MIB, 10), (5 * MIB, 1), (5 * MIB - 1, 2)])
def test_a_block_that_is_written_twice_is_given_up(writer: Writer, second: tuple[int, int]) -> None:
    writer.write(0, 4 * MIB)
    writer.write(5 * MIB, 2 * MIB)
    writer.steps.run_until_idle()
    writer.write(*second)
    writer.write(4 * MIB, MIB)
    writer.write(7 * MIB, 3 * MIB)
    writer.steps.run_until_idle()
    assert writer.ahead.take(7) is None


def test_a_block_that_is_written_anew_from_its_first_byte_on_is_hashed_anew(writer: Writer) -> None:
    writer.write(0, 4 * MIB)
    writer.steps.run_until_idle()
    again = DATA[::-1]
    writer.write(MIB, 10, again)
    writer.write(0, 3 * MIB, again)
    writer.steps.run_until_idle()
    hasher = writer.ahead.take(7)
    assert hasher is not None
    assert (hasher.size, hasher.digest()) == (3 * MIB, md5(again[: 3 * MIB]))


def test_a_block_that_was_forgotten_is_not_hashed(writer: Writer) -> None:
    writer.ahead.forget(7)
    writer.write(0, 3 * MIB)
    writer.ahead.forget(7)
    assert writer.steps.run_until_idle() == 1
    assert writer.ahead.take(7) is None


@pytest.mark.parametrize("what", ["gone", "short"])
def test_a_file_that_is_not_what_the_log_says_is_left_to_who_stores_it(writer: Writer, what: str) -> None:
    writer.ahead.written(7, 0, 3 * MIB)
    if what == "gone":
        writer.path.unlink()
    assert writer.steps.run_until_idle() == 1
    assert writer.ahead.take(7) is None


def test_so_many_blocks_and_parts_and_no_more(writer: Writer, monkeypatch: pytest.MonkeyPatch) -> None:
    writer.write(0, MIB)
    for block in range(MOST_BLOCKS + 10):  # dropped, or small and never stored as they are: nobody says so
        writer.ahead.written(1000 + block, 0, 10)
        if block == MOST_BLOCKS // 2:
            writer.write(MIB, 2 * MIB)
    assert repr(writer.ahead) == f"<HashingAhead {MOST_BLOCKS} blocks>"
    writer.steps.run_until_idle()
    hasher = writer.ahead.take(7)
    assert hasher is not None, "one that is written to stays"
    assert hasher.size == 3 * MIB
    monkeypatch.setattr(hashahead, "_MOST_PARTS", 3)
    for number in (9, 8, 7, 6, 0):
        writer.write(number * MIB, MIB)
    assert writer.ahead.take(7) is None


def test_nothing_is_handed_to_a_pool_that_was_closed(writer: Writer) -> None:
    writer.steps.close()
    writer.write(0, 3 * MIB)
    assert writer.ahead.take(7) is None


def test_with_a_thread(tmp_path: Path) -> None:
    pool = PutPool(1)
    writer = Writer(tmp_path)
    writer.ahead = HashingAhead(tmp_path, pool)
    for offset in range(0, len(DATA), MIB):
        writer.write(offset, MIB)
    hasher = writer.ahead.take(7)
    pool.finish()
    assert hasher is None or hasher.digest() == md5(DATA[: hasher.size])
