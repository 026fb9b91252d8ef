"""Repairs without a mount."""

from __future__ import annotations

import pytest

from arvfuse.backend.parts import open_parts
from arvfuse.clock import SystemClock
from arvfuse.errors import BlockMissing, Damaged, NoSuchEntry
from arvfuse.maintenance import Verified, recover, verify
from arvfuse.settings import Settings
from tests.support.opened import leave_changes


def test_dead_mounts_of_a_store_are_recovered(tmp_path):
    parts = open_parts(tmp_path, clock=SystemClock(), create=True)
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    dead.unlock()
    parts.close()
    (result,) = recover(Settings(store=tmp_path), SystemClock())
    assert result.committed == (record.uuid,)
    assert recover(Settings(store=tmp_path), SystemClock(), again=True) == []


def test_no_store_no_recovery(tmp_path):
    with pytest.raises(NoSuchEntry):
        recover(Settings(store=tmp_path / "none"), SystemClock())


def test_all_blocks_are_read_again_and_the_rotten_ones_named(tmp_path):
    parts = open_parts(tmp_path, clock=SystemClock(), create=True)
    locators = sorted(parts.store.put(b"block %d" % number) for number in range(20))
    rotten = parts.store.path(locators[7])
    parts.close()
    settings = Settings(store=tmp_path)
    assert list(verify(settings, SystemClock())) == [Verified(locator, None) for locator in locators]
    rotten.chmod(0o644)
    rotten.write_bytes(b"B" + rotten.read_bytes()[1:])
    found = list(verify(settings, SystemClock()))
    assert [each.locator for each in found] == locators
    assert [each.locator for each in found if each.error is not None] == [locators[7]]
    assert isinstance(found[7].error, Damaged)


def test_those_that_were_asked_for_are_read_and_missing_ones_named(tmp_path):
    parts = open_parts(tmp_path, clock=SystemClock(), create=True)
    there = parts.store.put(b"there")
    parts.close()
    missing = "0123456789abcdef0123456789abcdef+5"
    first, second = verify(Settings(store=tmp_path), SystemClock(), [missing, there])
    assert isinstance(first.error, BlockMissing)
    assert second == Verified(there, None)
    with pytest.raises(NoSuchEntry):
        list(verify(Settings(store=tmp_path / "none"), SystemClock()))
