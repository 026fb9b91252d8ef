"""Commits that are asked for while another runs are one."""

from __future__ import annotations

import pytest

from arvfuse.errors import NotCommitted
from arvfuse.sdk.blocks import spool_path
from tests.support.housekeepers import House


@pytest.fixture
def house(tmp_path):
    made = House(tmp_path)
    yield made
    made.close()


def test_those_who_ask_while_a_commit_runs_share_the_next(house):
    trees = [house.new(name) for name in ("one", "two", "three", "four")]
    for tree in trees:
        house.write(tree)
    house.backend.hold = True
    asked = [house.keeper.commit([trees[0]])]
    assert house.step() == 1
    asked += [house.keeper.commit([tree]) for tree in (trees[1], trees[0], trees[2], trees[1])]
    asked.append(house.keeper.commit([trees[3]], keep_previous=True))
    house.backend.release()
    assert house.step() == 2
    house.backend.release()
    assert house.step() == 3
    house.backend.release()
    house.step()
    assert [sorted(commit["trees"]) for commit in house.backend.commits] == [
        [trees[0].no], [trees[1].no, trees[2].no], [trees[3].no]
    ]  # fmt: skip
    assert all(done.exception(0) is None for done in asked)
    assert not any(tree.dirty for tree in trees)
    assert asked[2].result(0) == [], "the commit before was after what was asked for"


def test_who_shares_a_commit_is_told_of_his_own_trees(tmp_path):
    house = House(tmp_path)
    sound, damaged = house.new("sound"), house.new("damaged")
    for tree in (sound, damaged):
        house.write(tree, content=bytes(3 << 20))
    block = next(iter(damaged.child(damaged.root, b"file").segments)).ref
    spool_path(tmp_path, block).unlink()
    asked = [house.keeper.commit([tree]) for tree in (sound, damaged, sound)]
    house.step()
    house.step()
    assert [done.exception(0) is None for done in asked] == [True, False, True]
    with pytest.raises(NotCommitted, match=damaged.uuid):
        asked[1].result(0)
    assert (sound.dirty, damaged.dirty) == (False, True)
    house.close()
