"""Recovery: what a dead mount closed is committed, then nothing of it is left; what fails is named and kept."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.backend import mountdirs
from arvfuse.backend.recovery import Recovered, await_draining, recover_all, recover_log, recover_mount, summary
from arvfuse.model.collections import MountId
from arvfuse.sdk.log import log_path
from arvfuse.sdk.outcome import Outcome
from tests.support.opened import leave_changes, memory_parts

FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:file\n"


@pytest.fixture
def parts(tmp_path):
    return memory_parts(tmp_path)


def text(parts, uuid):
    return parts.catalog.manifest(parts.catalog.get(uuid).pdh)


def test_a_dead_mount_is_committed_and_removed(parts):
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    dead.unlock()
    assert recover_all(parts) == [Recovered(mount=dead.mount, committed=(record.uuid,))]
    assert text(parts, record.uuid) == FOO
    assert parts.catalog.applied(dead.mount) == {}
    assert list(mountdirs.mounts_of(parts.directory)) == []
    assert recover_all(parts) == []


def test_living_mounts_and_our_own_are_left_alone(parts):
    record = parts.catalog.create(name="one")
    alive = leave_changes(parts, record, b"file", b"foo")
    assert recover_all(parts) == []
    alive.unlock()
    assert recover_all(parts, but=alive.mount) == []
    assert text(parts, record.uuid) == b""


def test_a_recovery_that_died_before_the_directory_went_applies_nothing_twice(parts):
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    assert recover_log(parts, dead.path, dead.mount).committed == (record.uuid,)
    again = recover_log(parts, dead.path, dead.mount)
    assert again.left == ()
    assert parts.catalog.get(record.uuid).version == 2
    assert text(parts, record.uuid) == FOO


def test_a_record_that_is_gone_has_its_content_kept_aside(parts):
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    parts.catalog.trash(record.uuid)
    dead.unlock()
    (result,) = recover_all(parts)
    assert record.uuid in result.quarantined[0]
    (kept,) = parts.catalog.collections()
    assert parts.catalog.manifest(kept.pdh) == FOO


def test_a_damaged_log_is_named_and_kept_and_others_are_recovered(parts):
    broken = leave_changes(parts, parts.catalog.create(name="broken"), b"file", b"foo")
    path = log_path(broken.path, 1)
    path.write_bytes(b"no log of ours" + path.read_bytes())
    broken.unlock()
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    dead.unlock()
    results = {result.mount: result for result in recover_all(parts)}
    assert results[dead.mount].committed == (record.uuid,)
    assert results[broken.mount].left
    assert [path.name for path in mountdirs.mounts_of(parts.directory)] == [broken.mount]


def test_a_log_that_ended_three_recoveries_is_left_until_asked_again(parts):
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"file", b"foo")
    (dead.path / "recoveries").write_text("3")
    assert "--again" in recover_mount(parts, dead).left[0]
    dead.unlock()
    assert recover_all(parts, again=True) == [Recovered(mount=dead.mount, committed=(record.uuid,))]


def test_waiting_for_a_draining_mount_has_an_end(parts):
    alive = mountdirs.create(parts.directory)
    assert await_draining(parts, 5.0) == []
    (alive.path / mountdirs.DRAINING).touch()
    assert await_draining(parts, 5.0, but=alive.mount) == []
    assert await_draining(parts, 5.0) == [alive.mount]
    alive.unlock()
    assert await_draining(parts, 5.0) == []


def test_a_summary_tells_committed_from_left():
    outcomes = [
        Outcome(tree=1, seq=1, uuid="a"),
        Outcome(tree=2, seq=1, uuid="b", error="away"),
        Outcome(tree=3, seq=1, uuid="c", quarantined="kept as d"),
    ]
    assert summary(MountId("m"), outcomes) == Recovered(
        mount=MountId("m"), committed=("a",), quarantined=("kept as d",), left=("b: away",)
    )


@pytest.mark.parametrize("how", ["missing", "torn"])
def test_a_spool_file_that_a_power_cut_took_is_one_line_that_names_it(how: str, tmp_path: Path) -> None:
    parts = memory_parts(tmp_path)
    record = parts.catalog.create(name="one")
    dead = leave_changes(parts, record, b"big", bytes(3 << 20))
    (spooled,) = (dead.path / "spool").iterdir()
    if how == "missing":
        spooled.unlink()
    else:
        os.truncate(spooled, 1000)
    dead.unlock()
    (result,) = recover_all(parts)
    (line,) = result.left
    assert line.startswith(f"{record.uuid}: spool file {spooled}: ")
    assert "\n" not in line
    assert (result.committed, spooled.parent.is_dir()) == ((), True)
