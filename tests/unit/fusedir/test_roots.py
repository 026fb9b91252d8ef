"""The root, and by_id: exact names only, an outage is no missing name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import NoSuchEntry, NotPermitted, StoreUnavailable
from arvfuse.fusedir.projects import ProjectDir
from arvfuse.fusedir.roots import BY_ID, HOME, ByIdDir, RootDir
from arvfuse.model.collections import Change, Version
from tests.support.engines import Mounted, now

MISSING = b"zzzzz-4zz18-000000000000000"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    yield made
    made.close()


def test_the_root_shows_home_and_by_id(mounted: Mounted) -> None:
    assert isinstance(mounted.ops.root, RootDir)
    assert mounted.names(1) == sorted([BY_ID, HOME])
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.lookup(1, b"shared"))
    assert isinstance(mounted.ops.host.inodes.find(mounted.walk(HOME)), ProjectDir)
    assert mounted.walk(HOME) == mounted.walk(HOME)
    assert mounted.ops.getattr(1).mode == 0o555
    assert mounted.ops.lookup(1, b"..").attr.no == 1  # type: ignore[union-attr]
    listed = {entry.name: entry.no for entry in now(mounted.ops.readdir(now(mounted.ops.opendir(1)), 0))}
    assert listed[HOME] == mounted.walk(HOME)
    mounted.ops.releasedir(2)


def test_home_is_asked_for_when_it_is_needed(mounted: Mounted) -> None:
    mounted.engine.link.down = True
    with pytest.raises(StoreUnavailable):
        now(mounted.ops.lookup(1, HOME))
    mounted.engine.link.down = False
    assert now(mounted.ops.lookup(1, HOME)).attr.is_dir


def test_names_that_are_no_identity_cost_no_request(mounted: Mounted) -> None:
    by_id = mounted.walk(BY_ID)
    for name in (b"README", MISSING + b".txt", b"d41d8cd98f00b204e9800998ecf8427e", b"\xff"):
        with pytest.raises(NoSuchEntry):
            now(mounted.ops.lookup(by_id, name))
    assert mounted.engine.link.ops() == []


def test_what_was_resolved_is_listed(mounted: Mounted) -> None:
    by_id = mounted.walk(BY_ID)
    record = mounted.engine.new_collection("c", b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:f\n")
    project = mounted.engine.catalog.create_project(name="p")
    assert mounted.names(by_id) == []
    names = [record.uuid.encode(), record.pdh.encode(), project.uuid.encode()]
    numbers = [mounted.walk(BY_ID, name) for name in names]
    assert len(set(numbers)) == 3
    assert mounted.names(by_id) == sorted(names)
    assert mounted.names(numbers[0]) == mounted.names(numbers[1]) == [b"f"]
    assert isinstance(mounted.ops.host.inodes.find(numbers[2]), ProjectDir)


def test_an_outage_is_no_missing_name(mounted: Mounted) -> None:
    by_id = mounted.walk(BY_ID)
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.lookup(by_id, MISSING))
    mounted.engine.link.down = True
    with pytest.raises(StoreUnavailable):
        now(mounted.ops.lookup(by_id, MISSING))


def test_a_known_record_is_asked_for_again_after_the_refresh_time(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c")
    name = record.uuid.encode()
    number = mounted.walk(BY_ID, name)
    mounted.engine.link.ops()
    assert mounted.walk(BY_ID, name) == number
    assert mounted.engine.link.ops() == []
    mounted.engine.clock.advance(15)
    assert mounted.walk(BY_ID, name) == number
    assert mounted.engine.link.ops() == ["by_id"]
    mounted.engine.catalog.trash(record.uuid)
    mounted.engine.clock.advance(15)
    with pytest.raises(NoSuchEntry):
        mounted.walk(BY_ID, name)
    assert mounted.names(mounted.walk(BY_ID)) == []


def test_a_trashed_record_is_shown_no_more_when_that_is_told(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c")
    name = record.uuid.encode()
    by_id = mounted.walk(BY_ID)
    mounted.walk(BY_ID, name)
    directory = mounted.ops.host.inodes.find(by_id)
    assert isinstance(directory, ByIdDir)
    change = Change(
        uuid=record.uuid, kind="collection", event="update", version=Version(2), pdh=None, owner="o", old_owner="o",
        writer="w",
    )  # fmt: skip
    mounted.ops.record_changed(change)
    assert directory.known_names() == [name]
    mounted.ops.record_changed(change._replace(event="trash"))
    assert directory.known_names() == []
    assert mounted.told() == [(by_id, name)]


def test_a_collection_that_is_removed_at_home_is_gone_by_its_uuid(mounted: Mounted) -> None:
    record = mounted.engine.new_collection("c")
    name = record.uuid.encode()
    by_id = mounted.walk(BY_ID)
    mounted.walk(BY_ID, name)
    now(mounted.ops.rmdir(mounted.walk(HOME), b"c"))
    assert mounted.names(by_id) == []
    assert (by_id, name) in mounted.told()
    with pytest.raises(NoSuchEntry):
        mounted.walk(BY_ID, name)
    assert mounted.ops.host.shown.at(record.uuid) == []


def test_roots_are_not_changed_by_hand(mounted: Mounted) -> None:
    by_id, home = mounted.walk(BY_ID), mounted.walk(HOME)
    for directory in (1, by_id):
        for change in (
            lambda number: mounted.ops.mkdir(number, b"x", 0),
            lambda number: mounted.ops.create(number, b"x", 0, 2),
            lambda number: mounted.ops.unlink(number, b"x"),
            lambda number: mounted.ops.rmdir(number, b"x"),
            lambda number: mounted.ops.rename(number, b"x", home, b"x"),
        ):
            with pytest.raises(NotPermitted):
                now(change(directory))
