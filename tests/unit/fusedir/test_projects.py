"""Projects: listings, single names, and changes of records."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import (
    ArvfuseError,
    DirectoryNotEmpty,
    EntryExists,
    NameNotText,
    NoSuchEntry,
    NotPermitted,
    NotSupported,
    StoreUnavailable,
)
from arvfuse.fresh.states import State
from arvfuse.fusedir.host import RecordInfo
from arvfuse.fusedir.projects import ProjectDir, record_directory
from arvfuse.fusedir.trees import CollectionDir
from arvfuse.model.collections import Change, Version
from tests.support.engines import Mounted, now


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    for name in ("one", "two"):
        made.engine.new_collection(name)
    made.engine.catalog.create_project(name="sub")
    yield made
    made.close()


def home_of(mounted: Mounted) -> ProjectDir:
    directory = mounted.ops.host.inodes.find(mounted.walk(b"home"))
    assert isinstance(directory, ProjectDir)
    return directory


def changed(mounted: Mounted, uuid: str, event: str = "update", **other: str) -> None:
    owner = mounted.engine.catalog.home().uuid
    owners = {"owner": owner, "old_owner": owner, **other}
    change = Change(uuid=uuid, kind="collection", event=event, version=Version(2), pdh=None, writer="w", **owners)
    mounted.ops.record_changed(change)


def test_names_are_asked_for_alone_until_the_project_is_listed(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    mounted.engine.link.ops()
    number = mounted.walk(b"home", b"one")
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.lookup(home, b"three"))
    assert mounted.engine.link.ops() == ["find", "find"]
    assert mounted.names(home) == [b"one", b"sub", b"two"]
    assert mounted.engine.link.ops() == ["contents"]
    assert mounted.walk(b"home", b"one") == number
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.lookup(home, b"three"))
    assert mounted.names(home) == [b"one", b"sub", b"two"]
    assert mounted.engine.link.ops() == [], "fresh"


def test_a_listing_is_used_for_the_refresh_time(mounted: Mounted) -> None:
    directory = home_of(mounted)
    mounted.names(directory.no)
    assert directory.freshness is State.FRESH
    assert repr(directory).endswith("FRESH names=3>")
    mounted.engine.new_collection("three")
    mounted.engine.clock.advance(14.9)
    assert len(mounted.names(directory.no)) == 3
    mounted.engine.clock.advance(0.1)
    assert len(mounted.names(directory.no)) == 4


def test_one_request_however_many_list(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    mounted.engine.link.ops()
    mounted.engine.link.hold = True
    first, second = mounted.ops.opendir(home), mounted.ops.opendir(home)
    assert not first.done()  # type: ignore[union-attr]
    assert mounted.engine.link.ops() == ["contents"]
    mounted.engine.link.answer_next()
    for handle in (now(first), now(second)):
        mounted.ops.releasedir(handle)


def test_an_outage_is_no_missing_name_and_loses_nothing(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    number = mounted.walk(b"home", b"one")
    mounted.engine.link.down = True
    for ask in (lambda: mounted.ops.lookup(home, b"one"), lambda: mounted.ops.opendir(home)):
        with pytest.raises(StoreUnavailable):
            now(ask())
    assert home_of(mounted).freshness is State.STALE
    mounted.engine.link.down = False
    assert mounted.walk(b"home", b"one") == number
    assert len(mounted.names(home)) == 3


def test_a_told_change_makes_stale_and_expires_that_name_only(mounted: Mounted) -> None:
    directory = home_of(mounted)
    home = directory.no
    mounted.names(home)
    one = mounted.engine.catalog.find(directory.info.uuid, "one")
    assert one is not None
    mounted.engine.catalog.trash(one.uuid)
    changed(mounted, one.uuid, "trash")
    assert mounted.told() == [(home, b"one")]
    assert directory.freshness is State.STALE
    assert directory.known_names() == [b"sub", b"two"]
    with pytest.raises(NoSuchEntry):
        now(mounted.ops.lookup(home, b"one"))
    assert mounted.names(home) == [b"sub", b"two"]
    directory.check_invariants()


def test_a_change_during_a_listing_is_not_lost(mounted: Mounted) -> None:
    directory = home_of(mounted)
    mounted.engine.link.hold = True
    listing = mounted.ops.opendir(directory.no)
    changed(mounted, "zzzzz-4zz18-000000000000000")
    mounted.engine.link.answer_next()
    mounted.ops.releasedir(now(listing))
    assert directory.freshness is State.STALE


def test_names_are_sanitised_and_the_first_of_equals_is_shown(mounted: Mounted) -> None:
    """A catalog of our own refuses such names; those of a cluster may have them."""
    home = mounted.walk(b"home")
    mounted.engine.link.hold = True
    looked: Any = mounted.ops.lookup(home, b"a_b")
    mounted.engine.link.answer_next()
    assert mounted.engine.link.ops()[-2:] == ["find", "contents"], "only a listing finds it"
    names = ["a/b", "a_b", ".", "..", "", "x"]
    entries = [{"uuid": f"u{index}", "type": "collection", "name": name} for index, name in enumerate(names)]
    mounted.engine.link.waiting.pop()[2].set_result({"entries": entries})
    assert looked.result().attr.is_dir
    assert mounted.names(home) == [b"_", b"__", b"a_b", b"x"]
    shown = mounted.ops.host.inodes.find(looked.result().attr.no)
    assert isinstance(shown, CollectionDir)
    assert shown.identity == "u0"


def test_mkdir_makes_a_record_at_once(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    mounted.names(home)
    before = mounted.ops.getattr(home).mtime_ns
    mounted.engine.clock.advance(1)
    entry = now(mounted.ops.mkdir(home, b"new", 0o755))
    assert isinstance(mounted.ops.host.inodes.find(entry.attr.no), CollectionDir)
    assert mounted.engine.catalog.find(home_of(mounted).info.uuid, "new") is not None
    assert mounted.names(home) == [b"new", b"one", b"sub", b"two"]
    assert mounted.ops.getattr(home).mtime_ns > before
    with pytest.raises(EntryExists):
        now(mounted.ops.mkdir(home, b"new", 0o755))
    with pytest.raises(NameNotText):
        now(mounted.ops.mkdir(home, b"\xff", 0o755))


def test_an_own_change_during_a_listing_makes_that_stale(mounted: Mounted) -> None:
    directory = home_of(mounted)
    mounted.engine.link.hold = True
    listing = mounted.ops.opendir(directory.no)
    mounted.engine.link.hold = False
    now(mounted.ops.mkdir(directory.no, b"new", 0o755))
    mounted.engine.link.answer_next()
    mounted.ops.releasedir(now(listing))
    assert directory.freshness is State.STALE


def test_rmdir_trashes_an_empty_collection_only(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    mounted.write_file(mounted.walk(b"home", b"one"), b"f", b"x")
    for name, kind in ((b"one", DirectoryNotEmpty), (b"sub", NotPermitted), (b"none", NoSuchEntry)):
        with pytest.raises(kind):
            now(mounted.ops.rmdir(home, name))
    now(mounted.ops.rmdir(home, b"two"))
    assert mounted.names(home) == [b"one", b"sub"]
    home_of(mounted).check_invariants()


def test_no_plain_files_in_a_project(mounted: Mounted) -> None:
    home = mounted.walk(b"home")
    for change in (
        lambda: mounted.ops.create(home, b"f", 0o644, 2),
        lambda: mounted.ops.mknod(home, b"f", 0o644),
        lambda: mounted.ops.unlink(home, b"one"),
    ):
        with pytest.raises(NotSupported):
            now(change())


def test_rename_keeps_the_number_and_what_is_below(mounted: Mounted) -> None:
    home, sub = mounted.walk(b"home"), mounted.walk(b"home", b"sub")
    one = mounted.walk(b"home", b"one")
    file = mounted.write_file(one, b"f", b"x")
    now(mounted.ops.rename(home, b"one", home, b"uno"))
    assert mounted.walk(b"home", b"uno") == one
    now(mounted.ops.rename(home, b"uno", sub, b"eins"))
    assert mounted.walk(b"home", b"sub", b"eins", b"f") == file
    assert mounted.names(home) == [b"sub", b"two"]
    assert mounted.ops.lookup(one, b"..").attr.no == sub  # type: ignore[union-attr]
    now(mounted.ops.rename(sub, b"eins", sub, b"eins"))
    assert mounted.names(sub) == [b"eins"]


@pytest.mark.parametrize(
    ("name", "new_name", "kind"),
    [
        (b"one", b"two", EntryExists), (b"one", b"sub", EntryExists), (b"sub", b"x", NotPermitted),
        (b"none", b"x", NoSuchEntry), (b"one", b"\xff", NameNotText),
    ],
)  # fmt: skip
def test_renames_that_are_refused(mounted: Mounted, name: bytes, new_name: bytes, kind: type[ArvfuseError]) -> None:
    home = mounted.walk(b"home")
    with pytest.raises(kind):
        now(mounted.ops.rename(home, name, home, new_name))
    assert mounted.names(home) == [b"one", b"sub", b"two"]


def test_nothing_moves_between_projects_and_collections(mounted: Mounted) -> None:
    home, one = mounted.walk(b"home"), mounted.walk(b"home", b"one")
    now(mounted.ops.mkdir(one, b"d", 0o755))
    for arguments in ((one, b"d", home, b"d"), (home, b"two", one, b"two")):
        with pytest.raises(NotPermitted):
            now(mounted.ops.rename(*arguments))


def test_another_place_of_the_project_hears_of_our_changes(mounted: Mounted) -> None:
    home = home_of(mounted)
    other = mounted.walk(b"by_id", home.info.uuid.encode())
    assert other != home.no
    mounted.names(other)
    now(mounted.ops.mkdir(home.no, b"new", 0o755))
    assert b"new" in mounted.names(other)


def test_a_record_is_shown_by_a_directory_of_its_kind(mounted: Mounted) -> None:
    host, home = mounted.ops.host, home_of(mounted)
    entry: dict[str, Any] = {"uuid": "u", "type": "collection", "name": "n", "modified_at_ns": 5}
    shown = record_directory(host, home, RecordInfo.parse(entry), number=99, identity="pdh+1")
    assert isinstance(shown, CollectionDir)
    assert (shown.no, shown.identity) == (99, "pdh+1")
    project = record_directory(host, home, RecordInfo.parse({**entry, "type": "project"}))
    assert isinstance(project, ProjectDir)
    assert host.shown.at("u") == [project]


def test_a_malformed_listing_is_a_failure_of_the_request(mounted: Mounted) -> None:
    directory = home_of(mounted)
    mounted.engine.link.hold = True
    listing: Any = mounted.ops.opendir(directory.no)
    mounted.engine.link.waiting.pop()[2].set_result({"entries": [{}]})
    assert isinstance(listing.exception(), KeyError)
    assert directory.freshness is State.STALE
