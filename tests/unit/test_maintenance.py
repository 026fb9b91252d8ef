"""Repairs without a mount."""

from __future__ import annotations

import pytest

from arvfuse.backend.parts import open_parts
from arvfuse.clock import SystemClock
from arvfuse.errors import NoSuchEntry
from arvfuse.maintenance import recover
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
