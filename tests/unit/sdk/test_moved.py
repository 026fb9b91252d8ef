"""The table from log and block ranges to locators."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import Damaged
from arvfuse.model.ranges import HOLE, LOG, Part, Segment
from arvfuse.sdk.moved import Entry, Moved, write_moved

A = "a" * 32 + "+100"
B = "b" * 32 + "+100+Ahint"


def table(path: Path, entries: list[Entry]) -> Moved:
    write_moved(path / "moved" / "9-1", entries)
    assert [file.name for file in (path / "moved").iterdir()] == ["9-1"]
    return Moved.read(path / "moved" / "9-1")


def parts(moved: Moved, ref: int, offset: int, length: int) -> list[Part] | None:
    return moved.resolve(Segment(0, length, ref, offset))


def test_ranges_are_found_again(tmp_path: Path) -> None:
    address = (3 << 32) + 500
    moved = table(tmp_path, [(7, 0, 50, B, 20), (LOG, address, 10, A, 90), (7, 100, 5, A, 0)])
    assert len(moved) == 3
    assert parts(moved, LOG, address, 10) == [(10, A, 90)]
    assert parts(moved, LOG, address + 2, 3) == [(3, A, 92)]
    assert parts(moved, 7, 49, 1) == [(1, B, 69)]
    assert parts(moved, 7, 100, 5) == [(5, A, 0)]


@pytest.mark.parametrize(
    ("ref", "offset", "length"),
    [(LOG, 0, 1), (LOG, 99, 1), (7, 99, 3), (7, 104, 2), (7, 110, 1), (6, 100, 1), (8, 100, 1)],
)
def test_what_did_not_move_wholly_stays(tmp_path: Path, ref: int, offset: int, length: int) -> None:
    moved = table(tmp_path, [(LOG, 100, 5, A, 0), (7, 100, 5, A, 5), (7, 107, 3, A, 10)])
    assert parts(moved, ref, offset, length) is None


def test_locators_and_holes_never_move(tmp_path: Path) -> None:
    moved = table(tmp_path, [(LOG, 0, 5, A, 0)])
    assert parts(moved, HOLE, 0, 5) is None
    assert moved.resolve(Segment(0, 5, A, 0)) is None


def test_a_segment_goes_across_neighbours(tmp_path: Path) -> None:
    moved = table(tmp_path, [(7, 20, 10, B, 0), (7, 0, 10, A, 40), (7, 10, 10, A, 0), (8, 30, 10, A, 50)])
    assert parts(moved, 7, 5, 20) == [(5, A, 45), (10, A, 0), (5, B, 0)]
    assert parts(moved, 7, 25, 10) is None  # block 8 follows in the table, not in the block


def test_bytes_that_were_packed_twice_stand_in_it_once(tmp_path: Path) -> None:
    moved = table(tmp_path, [(LOG, 0, 10, A, 0), (LOG, 0, 10, B, 30), (LOG, 5, 10, B, 50), (LOG, 2, 3, B, 70)])
    assert parts(moved, LOG, 0, 15) == [(10, A, 0), (5, B, 55)]
    assert len(moved) == 2


def test_an_empty_table_moves_nothing(tmp_path: Path) -> None:
    moved = table(tmp_path, [])
    assert (len(moved), parts(moved, LOG, 0, 1)) == (0, None)


def test_an_old_table_of_that_name_is_replaced(tmp_path: Path) -> None:
    table(tmp_path, [(LOG, 0, 10, A, 0)])
    assert parts(table(tmp_path, [(LOG, 0, 10, B, 0)]), LOG, 0, 1) == [(1, B, 0)]


def test_a_damaged_table_is_said_to_be_one(tmp_path: Path) -> None:
    table(tmp_path, [(LOG, 0, 10, A, 0)])
    data = (tmp_path / "moved" / "9-1").read_bytes()
    for bad in (b"", data[:10], b"x" + data[1:], data[:30], data[:-40], data[:-1]):
        with pytest.raises(Damaged):
            Moved(bad)


def test_what_it_says_can_be_said_again_by_another(tmp_path: Path) -> None:
    moved = table(tmp_path, [(7, 0, 50, B, 20), (LOG, 5, 10, A, 90)])
    assert list(moved.entries()) == [(LOG, 5, 10, A, 90), (7, 0, 50, B, 20)]
