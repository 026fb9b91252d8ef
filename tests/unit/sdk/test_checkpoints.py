"""Texts of trees without a record, beside the log."""

from __future__ import annotations

from pathlib import Path

from arvfuse.model.normalizing import pdh
from arvfuse.sdk.checkpoints import Checkpoints, Covered, ask, is_asked, is_kept, note_kept, take_back

ONE = b". 781e5e245d69b566979b86e28d23f2c7+10 0:10:one\n"
TWO = b". 781e5e245d69b566979b86e28d23f2c7+10 0:10:two\n"


def test_the_newest_is_found_again_and_alone(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    assert kept.covered(3) is None
    kept.keep(3, 0, pdh(ONE), ONE)
    kept.keep(3, 17, pdh(TWO), TWO)
    kept.keep(4, 5, pdh(ONE), ONE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["checkpoint-3-17", "checkpoint-4-5"]
    again = Checkpoints(tmp_path)
    assert (again.covered(3), again.covered(4)) == (Covered(17, pdh(TWO)), Covered(5, pdh(ONE)))
    assert (again.text(pdh(TWO)), again.text(pdh(ONE)), again.text("0" * 32 + "+1")) == (TWO, ONE, None)


def test_of_two_after_a_death_the_newer_counts(tmp_path: Path) -> None:
    (tmp_path / "checkpoint-3-2").write_bytes(ONE)
    (tmp_path / "checkpoint-3-10").write_bytes(TWO)
    (tmp_path / ".checkpoint-3-11.new").write_bytes(b"half")
    assert Checkpoints(tmp_path).covered(3) == Covered(10, pdh(TWO))


def test_without_durability_nothing_is_written(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path, durable=False)
    kept.keep(1, 2, pdh(ONE), ONE)
    assert (kept.text(pdh(ONE)), list(tmp_path.iterdir())) == (ONE, [])


def test_what_is_to_be_kept_is_marked(tmp_path: Path) -> None:
    ask(tmp_path, 7)
    ask(tmp_path, 7)
    assert (is_asked(tmp_path, 7), is_asked(tmp_path, 8)) == (True, False)
    take_back(tmp_path, 7)
    take_back(tmp_path, 7)
    assert not is_asked(tmp_path, 7)


def test_what_a_recovery_kept_is_noted(tmp_path: Path) -> None:
    assert not is_kept(tmp_path, 7)
    note_kept(tmp_path, 7)
    assert (is_kept(tmp_path, 7), is_kept(tmp_path, 8)) == (True, False)


def test_a_save_that_was_noted_counts_like_a_checkpoint(tmp_path: Path) -> None:
    kept = Checkpoints(tmp_path)
    kept.keep(3, 5, pdh(ONE), ONE)
    kept.note_saved(3, 9, pdh(TWO))
    kept.note_saved(4, 2, pdh(TWO))
    for each in (kept, Checkpoints(tmp_path)):
        assert (each.covered(3), each.covered(4)) == (Covered(9, pdh(TWO)), Covered(2, pdh(TWO)))
        assert each.text(pdh(TWO)) is None  # the catalog has it
    kept.keep(3, 12, pdh(ONE), ONE)
    assert Checkpoints(tmp_path).covered(3) == Covered(12, pdh(ONE))
