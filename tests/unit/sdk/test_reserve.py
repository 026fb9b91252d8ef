"""The room that is kept for the log."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import NoSpace
from arvfuse.sdk.reserve import STEP_BYTES, Reserve
from tests.support.smalldisk import files_end_at


def test_it_is_given_up_in_steps_and_filled_again(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", STEP_BYTES + 1000)
    reserve.fill()
    assert (reserve.in_use, (tmp_path / "reserve").stat().st_size) == (False, STEP_BYTES + 1000)
    assert reserve.give_up()
    assert (reserve.in_use, (tmp_path / "reserve").stat().st_size) == (True, 1000)
    assert reserve.give_up()
    assert (reserve.give_up(), (tmp_path / "reserve").exists(), reserve.in_use) == (False, False, True)
    reserve.fill()
    assert (reserve.in_use, (tmp_path / "reserve").stat().st_size) == (False, STEP_BYTES + 1000)
    assert repr(reserve) == f"<Reserve {STEP_BYTES + 1000} bytes>"


def test_what_is_left_stays_when_it_cannot_be_filled(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", STEP_BYTES + 1000)
    with files_end_at(1000), pytest.raises(NoSpace):
        reserve.fill()
    assert not (tmp_path / "reserve").exists()
    reserve.fill()
    reserve.give_up()
    with files_end_at(2000), pytest.raises(NoSpace):
        reserve.fill()
    assert (reserve.in_use, (tmp_path / "reserve").stat().st_size) == (True, 1000)


def test_no_reserve_has_nothing_to_give(tmp_path: Path) -> None:
    reserve = Reserve(tmp_path / "reserve", 0)
    reserve.fill()
    assert (reserve.give_up(), reserve.in_use, list(tmp_path.iterdir())) == (False, False, [])
