"""What every catalog promises. A new adapter adds one opener to OPENERS and writes no other test."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.errors import (
    ArgumentError,
    CommitConflict,
    DirectoryNotEmpty,
    NameNotText,
    NameTaken,
    NoSuchRecord,
    NotPermitted,
)
from arvfuse.model.collections import EMPTY_PDH, PDH, Applied, CollectionRecord, MountId, Save, Version
from arvfuse.ports import Catalog
from tests.support.clock import FakeClock

Opener = Callable[[Path, FakeClock], Callable[[], Any]]


def sqlite_opener(path: Path, clock: FakeClock) -> Callable[[], SqliteCatalog]:
    return lambda: SqliteCatalog(path / "store", clock=clock)


def memory_opener(path: Path, clock: FakeClock) -> Callable[[], MemoryCatalog]:
    first = MemoryCatalog(clock=clock)
    return lambda: MemoryCatalog(clock=clock, of=first)


OPENERS = {"sqlite": sqlite_opener, "memory": memory_opener}


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture(params=OPENERS.values(), ids=list(OPENERS))
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: FakeClock) -> Iterator[Callable[[], Any]]:
    """Opens the same store once more."""
    opened = []
    opener = request.param(tmp_path, clock)

    def once_more() -> Catalog:
        opened.append(opener())
        return opened[-1]

    yield once_more
    for catalog in opened:
        catalog.close()


@pytest.fixture
def catalog(reopen: Callable[[], Any]) -> Any:
    return reopen()


def text_of(number: int) -> bytes:
    return f". d41d8cd98f00b204e9800998ecf8427e+0 0:0:file{number}\n".encode()


def save_of(record: CollectionRecord, number: int, **more: Any) -> Save:
    text = text_of(number)
    return Save(uuid=record.uuid, expect=record.version, pdh=pdh_of_stripped(text), manifest=text, **more)


def applied_of(seq: int, mount: str = "m1") -> Applied:
    return Applied(mount=MountId(mount), seq=seq, ours_pdh=EMPTY_PDH)


def names(records: Any) -> list[str]:
    return [record.name for record in records]


def test_an_adapter_has_the_port(catalog):
    assert isinstance(catalog, Catalog)


def test_home_is_the_same_for_everybody(catalog, reopen):
    home = catalog.home()
    assert (home.kind, home.uuid[5:12]) == ("user", "-tpzed-")
    assert reopen().home() == home
    assert catalog.get_project(home.uuid) == home


def test_create_gives_what_get_gives(catalog, reopen, clock):
    record = catalog.create(
        name="köln", manifest=text_of(1), properties={"a": [1, None]}, storage_classes=["hot"], replication=3
    )
    assert record.uuid[5:12] == "-4zz18-"
    assert record.owner == catalog.home().uuid
    assert (record.version, record.pdh, record.name) == (1, pdh_of_stripped(text_of(1)), "köln")
    assert record.properties == {"a": [1, None]}
    assert (record.storage_classes, record.replication) == (("hot",), 3)
    assert record.created_at_ns == record.modified_at_ns == clock.time_ns()
    assert not record.is_trashed
    assert catalog.get(record.uuid) == reopen().get(record.uuid) == record
    assert catalog.manifest(record.pdh) == text_of(1)


def test_a_new_collection_is_empty(catalog):
    record = catalog.create(name="")
    assert record.pdh == EMPTY_PDH
    assert record.storage_classes == ("default",)
    assert catalog.manifest(EMPTY_PDH) == b""


def test_hints_are_not_kept(catalog):
    hinted = b". d41d8cd98f00b204e9800998ecf8427e+0+Kzzzzz 0:0:file1\n"
    record = catalog.create(name="a", manifest=hinted)
    assert record.pdh == pdh_of_stripped(text_of(1))
    assert catalog.manifest(record.pdh) == text_of(1)
    catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=record.pdh, manifest=hinted))
    catalog.keep_manifest(record.pdh, hinted)
    assert catalog.manifest(record.pdh) == text_of(1)


@pytest.mark.parametrize("name", [".", "..", "a/b", "a\0b", "ä" * 256])
def test_names_that_no_record_may_have(catalog, name):
    record = catalog.create(name="ok")
    for attempt in (
        lambda: catalog.create(name=name),
        lambda: catalog.create_project(name=name),
        lambda: catalog.update(record.uuid, name=name),
    ):
        with pytest.raises(ArgumentError) as caught:
            attempt()
        assert "\n" not in str(caught.value)
    assert names(catalog.contents(catalog.home().uuid)) == ["ok"]


def test_names_are_text(catalog):
    with pytest.raises(NameNotText):
        catalog.create(name=b"\xff".decode("utf-8", "surrogateescape"))
    assert catalog.create(name="ä" * 255).name == "ä" * 255


def test_only_collections_may_be_without_a_name(catalog):
    home = catalog.home().uuid
    assert catalog.create(name="").uuid != catalog.create(name="").uuid
    assert catalog.find(home, "") is None
    with pytest.raises(ArgumentError):
        catalog.create_project(name="")


def test_a_name_is_unique_in_its_project(catalog):
    project = catalog.create_project(name="p")
    record = catalog.create(name="a")
    catalog.create(name="a", owner=project.uuid)
    for attempt in (
        lambda: catalog.create(name="a"),
        lambda: catalog.create(name="p"),
        lambda: catalog.create_project(name="a"),
        lambda: catalog.create_project(name="p"),
        lambda: catalog.update(record.uuid, name="p"),
        lambda: catalog.update(record.uuid, owner=project.uuid),
    ):
        with pytest.raises(NameTaken):
            attempt()
    assert catalog.get(record.uuid) == record


def test_ensure_unique_name_appends_the_end_of_the_uuid(catalog):
    assert catalog.create(name="a", ensure_unique_name=True).name == "a"
    record = catalog.create(name="a", ensure_unique_name=True)
    assert record.name == f"a ({record.uuid[-15:]})"
    catalog.create(name="x" * 255)
    long = catalog.create(name="x" * 255, ensure_unique_name=True)
    assert long.name == f"{'x' * 237} ({long.uuid[-15:]})"


def test_contents_are_projects_first_by_name(catalog):
    for name in ("b", "a", "é", "Z"):
        catalog.create(name=name)
    project = catalog.create_project(name="p")
    catalog.create_project(name="c")
    inner = catalog.create(name="inner", owner=project.uuid)
    assert names(catalog.contents(catalog.home().uuid)) == ["c", "p", "Z", "a", "b", "é"]
    assert catalog.contents(project.uuid) == [inner]
    assert names(catalog.collections()) == ["Z", "a", "b", "inner", "é"]


def test_find_and_get_project(catalog):
    home = catalog.home().uuid
    project = catalog.create_project(name="p")
    record = catalog.create(name="a")
    assert project.uuid[5:12] == "-j7d0g-"
    assert catalog.find(home, "p") == project == catalog.get_project(project.uuid)
    assert catalog.find(home, "a") == record
    assert catalog.find(home, "b") is None


def test_what_is_not_there(catalog):
    unknown = "zzzzz-4zz18-000000000000000"
    group = "zzzzz-j7d0g-000000000000000"
    for attempt in (
        lambda: catalog.get(unknown),
        lambda: catalog.get_project(group),
        lambda: catalog.contents(group),
        lambda: catalog.create(name="a", owner=group),
        lambda: catalog.create_project(name="a", owner=group),
        lambda: catalog.update(unknown, name="b"),
        lambda: catalog.update(catalog.create(name="").uuid, owner=group),
        lambda: catalog.trash(unknown),
        lambda: catalog.trash(group),
        lambda: catalog.versions(unknown),
        lambda: catalog.label_version(unknown, Version(1), "x"),
        lambda: catalog.manifest(PDH("0" * 32 + "+1")),
        lambda: catalog.save(Save(uuid=unknown, expect=Version(1), pdh=EMPTY_PDH, manifest=b"")),
    ):
        with pytest.raises(NoSuchRecord):
            attempt()


def test_save_is_a_compare_and_swap(catalog, reopen, clock):
    first = catalog.create(name="a")
    clock.advance(1)
    second = catalog.save(save_of(first, 2))
    assert (second.version, second.pdh) == (2, pdh_of_stripped(text_of(2)))
    assert second.modified_at_ns == clock.time_ns()
    assert second.created_at_ns == first.created_at_ns
    with pytest.raises(CommitConflict):
        reopen().save(save_of(first, 3))
    assert catalog.get(first.uuid) == second
    assert catalog.manifest(second.pdh) == text_of(2)


def test_a_save_that_changes_nothing_makes_no_version_but_is_applied(catalog):
    record = catalog.create(name="a", manifest=text_of(1), applied=applied_of(3))
    assert catalog.applied(MountId("m1")) == {record.uuid: applied_of(3)}
    with catalog_feed(catalog) as feed:
        assert catalog.save(save_of(record, 1, applied=applied_of(7))) == record
        assert feed.wait(0) == []
    assert catalog.applied(MountId("m1")) == {record.uuid: applied_of(7)}


def test_a_save_changes_attributes_too(catalog):
    record = catalog.create(name="a", manifest=text_of(1))
    saved = catalog.save(save_of(record, 1, properties={"k": "v"}, storage_classes=("cold",), trash_at_ns=2**62))
    assert (saved.version, saved.properties, saved.storage_classes) == (2, {"k": "v"}, ("cold",))
    assert saved.trash_at_ns == 2**62
    assert catalog.get(record.uuid) == saved
    for time_ns in (-1, 2**63):
        with pytest.raises(ArgumentError):
            catalog.update(record.uuid, trash_at_ns=time_ns)
        with pytest.raises(ArgumentError):
            catalog.create(name="b", trash_at_ns=time_ns)


def test_a_text_that_is_not_of_its_hash_is_refused(catalog):
    record = catalog.create(name="a")
    with pytest.raises(ArgumentError):
        catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=EMPTY_PDH, manifest=text_of(1)))
    with pytest.raises(ArgumentError):
        catalog.keep_manifest(EMPTY_PDH, text_of(1))
    assert catalog.get(record.uuid) == record


def test_save_many_is_all_or_none(catalog):
    one, two = catalog.create(name="1"), catalog.create(name="2")
    moved = catalog.save(save_of(two, 1))
    with pytest.raises(CommitConflict):
        catalog.save_many([save_of(one, 2, applied=applied_of(1)), save_of(two, 2)])
    assert catalog.get(one.uuid) == one
    assert catalog.applied(MountId("m1")) == {}
    saved = catalog.save_many([save_of(one, 2, applied=applied_of(1)), save_of(moved, 2, applied=applied_of(1))])
    assert [record.version for record in saved] == [2, 3]
    assert catalog.applied(MountId("m1")).keys() == {one.uuid, two.uuid}
    assert catalog.save_many([]) == []


def test_applied_is_per_mount_and_outlives_the_trash(catalog, reopen):
    record = catalog.create(name="a")
    catalog.save(save_of(record, 1, applied=applied_of(5)))
    catalog.create(name="b", applied=applied_of(6, "m2"))
    catalog.trash(record.uuid)
    assert reopen().applied(MountId("m1")) == {record.uuid: applied_of(5)}
    catalog.forget_applied(MountId("m1"))
    assert catalog.applied(MountId("m1")) == {}
    assert len(catalog.applied(MountId("m2"))) == 1


def test_update_changes_attributes_only(catalog):
    project = catalog.create_project(name="p")
    record = catalog.create(name="a", manifest=text_of(1))
    moved = catalog.update(record.uuid, expect=record.version, name="b", owner=project.uuid, properties={"x": 1})
    assert (moved.name, moved.owner, moved.properties) == ("b", project.uuid, {"x": 1})
    assert (moved.version, moved.pdh) == (2, record.pdh)
    assert catalog.find(project.uuid, "b") == moved
    assert catalog.find(record.owner, "a") is None
    assert catalog.update(record.uuid, name="b") == moved
    assert catalog.update(record.uuid, storage_classes=["cold"]).storage_classes == ("cold",)
    with pytest.raises(CommitConflict):
        catalog.update(record.uuid, expect=Version(1), name="c")


def test_properties_are_json(catalog):
    record = catalog.create(name="a")
    for bad in ({"x": {1}}, {"x": float("nan")}):
        with pytest.raises(ArgumentError):
            catalog.update(record.uuid, properties=bad)
    given = {"list": [1]}
    record = catalog.update(record.uuid, properties=given)
    given["list"].append(2)
    assert catalog.get(record.uuid).properties == {"list": [1]}


def test_trash_hides_a_record_and_frees_its_name(catalog):
    record = catalog.create(name="a", manifest=text_of(1))
    with pytest.raises(CommitConflict):
        catalog.trash(record.uuid, expect=Version(9))
    catalog.trash(record.uuid, expect=record.version)
    for attempt in (
        lambda: catalog.get(record.uuid),
        lambda: catalog.trash(record.uuid),
        lambda: catalog.update(record.uuid, name="b"),
        lambda: catalog.save(save_of(record, 2)),
    ):
        with pytest.raises(NoSuchRecord):
            attempt()
    trashed = catalog.get(record.uuid, include_trash=True)
    assert trashed.is_trashed
    assert (trashed.version, trashed.pdh) == (2, record.pdh)
    assert catalog.collections() == []
    assert catalog.collections(include_trash=True) == [trashed]
    assert catalog.find_by_pdh(record.pdh) is None
    assert catalog.contents(record.owner) == []
    assert catalog.create(name="a").name == "a"


def test_a_trash_time_hides_the_record_when_it_comes(catalog, clock):
    record = catalog.create(name="a", trash_at_ns=clock.time_ns() + 5 * 10**9)
    later = catalog.create(name="b")
    catalog.update(later.uuid, trash_at_ns=clock.time_ns() + 6 * 10**9)
    clock.advance(4)
    assert not catalog.get(record.uuid).is_trashed
    with pytest.raises(NameTaken):
        catalog.create(name="a")
    clock.advance(1)
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid)
    assert catalog.get(record.uuid, include_trash=True).is_trashed
    assert names(catalog.collections()) == names(catalog.contents(record.owner)) == ["b"]
    assert catalog.create(name="a").uuid != record.uuid
    past = catalog.update(later.uuid, trash_at_ns=1)
    assert (past.is_trashed, past.trash_at_ns) == (True, clock.time_ns())


def test_a_project_is_trashed_only_when_empty(catalog):
    project = catalog.create_project(name="p")
    record = catalog.create(name="a", owner=project.uuid)
    with pytest.raises(DirectoryNotEmpty):
        catalog.trash(project.uuid)
    catalog.trash(record.uuid)
    inner = catalog.create_project(name="q", owner=project.uuid)
    with pytest.raises(DirectoryNotEmpty):
        catalog.trash(project.uuid)
    catalog.trash(inner.uuid)
    with pytest.raises(CommitConflict):
        catalog.trash(project.uuid, expect=Version(2))
    catalog.trash(project.uuid, expect=Version(1))
    with pytest.raises(NoSuchRecord):
        catalog.get_project(project.uuid)
    assert catalog.create_project(name="p").uuid != project.uuid
    with pytest.raises(NotPermitted):
        catalog.trash(catalog.home().uuid)


def test_autosaves_replace_and_idle_ones_are_kept(catalog, clock):
    record = catalog.create(name="a")
    for number in range(1, 4):
        clock.advance(1)
        record = catalog.save(save_of(record, number))
    assert [kept.version for kept in catalog.versions(record.uuid)] == [4]
    clock.advance(10)
    newest = catalog.save(save_of(record, 4))
    assert catalog.versions(record.uuid) == [newest, record]
    asked = catalog.save(save_of(newest, 5, keep_previous=True))
    assert catalog.versions(record.uuid) == [asked, newest, record]
    assert catalog.get(record.uuid, version=record.version) == record
    assert catalog.get(record.uuid, version=asked.version) == asked
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid, version=Version(2))
    catalog.trash(record.uuid)
    assert len(catalog.versions(record.uuid)) == 3
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid, version=record.version)


def test_find_by_pdh_knows_kept_versions(catalog, clock):
    record = catalog.create(name="a", manifest=text_of(1))
    catalog.save(save_of(record, 2, keep_previous=True))
    assert catalog.find_by_pdh(record.pdh) == record
    assert catalog.find_by_pdh(pdh_of_stripped(text_of(2))).version == 2
    assert catalog.find_by_pdh(pdh_of_stripped(text_of(3))) is None
    catalog.trash(record.uuid)
    assert catalog.find_by_pdh(record.pdh) is None


def test_kept_versions_are_thinned_but_labelled_ones_stay(catalog, clock):
    record = catalog.create(name="a")
    for number in range(12):  # one per ten minutes: versions 1..12 are kept
        clock.advance(600)
        record = catalog.save(save_of(record, number))
        if record.version == 3:
            catalog.label_version(record.uuid, Version(2), "first light")
    clock.advance(3600)
    record = catalog.save(save_of(record, 100))
    kept = [version.version for version in catalog.versions(record.uuid)]
    # 2020-01-01 00:00 and ten minutes each: 7..12 are of 01:00, 1..6 of 00:00, 13 was made at 02:00.
    assert kept == [14, 13, 12, 6, 2]
    clock.advance(2 * 24 * 3600)
    record = catalog.save(save_of(record, 101))
    assert [version.version for version in catalog.versions(record.uuid)] == [15, 14, 2]
    assert catalog.labels(record.uuid) == {2: "first light"}
    assert record.version == 15


def test_a_labelled_version_is_kept_when_it_is_replaced(catalog):
    record = catalog.create(name="a")
    catalog.label_version(record.uuid, record.version, "zero")
    saved = catalog.save(save_of(record, 1))
    saved = catalog.save(save_of(saved, 2))
    assert catalog.versions(record.uuid) == [saved, record]
    catalog.label_version(record.uuid, record.version, None)
    assert catalog.labels(record.uuid) == {}


def test_keep_manifest_needs_no_record(catalog):
    pdh = pdh_of_stripped(text_of(9))
    catalog.keep_manifest(pdh, text_of(9))
    assert catalog.manifest(pdh) == text_of(9)
    path = catalog.manifest_path(pdh)
    assert path is None or path.read_bytes() == text_of(9)
    assert catalog.manifest_path(pdh_of_stripped(text_of(10))) is None


class catalog_feed:
    def __init__(self, catalog: Any) -> None:
        self.feed = catalog.feed()

    def __enter__(self) -> Any:
        return self.feed

    def __exit__(self, *exc: object) -> None:
        self.feed.close()


def test_a_feed_tells_every_change_and_who_made_it(catalog, reopen):
    other = reopen()
    catalog.create(name="before")
    with catalog_feed(catalog) as feed:
        assert feed.wait(0) == []
        project = other.create_project(name="p")
        record = catalog.create(name="a")
        saved = other.save(save_of(record, 1))
        moved = other.update(record.uuid, owner=project.uuid)
        other.trash(record.uuid)
        other.trash(project.uuid)
        changes = feed.wait(0)
        assert feed.wait(0) == []
    assert [(change.kind, change.event, change.version) for change in changes] == [
        ("project", "create", 1),
        ("collection", "create", 1),
        ("collection", "update", 2),
        ("collection", "update", 3),
        ("collection", "trash", 4),
        ("project", "trash", 2),
    ]
    assert [change.writer for change in changes] == [other.writer, catalog.writer, *[other.writer] * 4]
    assert [change.uuid for change in changes] == [project.uuid, *[record.uuid] * 4, project.uuid]
    assert changes[2].pdh == saved.pdh
    assert changes[0].pdh is None
    assert (changes[3].owner, changes[3].old_owner) == (moved.owner, record.owner)
    assert changes[4].old_owner == changes[4].owner == project.uuid


def test_two_feeds_are_independent(catalog):
    with catalog_feed(catalog) as one:
        catalog.create(name="a")
        with catalog_feed(catalog) as two:
            catalog.create(name="b")
            assert len(one.wait(0)) == 2
            assert len(two.wait(0)) == 1


class waiting:
    """A thread in feed.wait(60); its result is in ``got`` after the block."""

    def __init__(self, feed: Any, clock: FakeClock) -> None:
        self.got: list[Any] = []
        self.clock = clock
        self.thread = threading.Thread(target=lambda: self.got.append(feed.wait(60)), name="feed-waiter")

    def __enter__(self) -> waiting:
        self.thread.start()
        self.clock.wait_for_sleepers()
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.join()


def test_a_waiter_hears_within_a_quarter_of_a_second(catalog, reopen, clock):
    other = reopen()
    with catalog_feed(catalog) as feed, waiting(feed, clock) as waiter:
        other.create(name="a")
        clock.advance(0.25)
    assert [change.event for change in waiter.got[0]] == ["create"]


def test_a_wait_ends_at_its_timeout(catalog, clock):
    with catalog_feed(catalog) as feed, waiting(feed, clock) as waiter:
        clock.advance(60)
    assert waiter.got == [[]]


def test_close_wakes_the_waiter_without_time_passing(catalog, clock):
    feed = catalog.feed()
    with waiting(feed, clock) as waiter:
        feed.close()
    assert waiter.got == [[]]
    assert feed.wait(60) == []
    feed.close()


def test_of_many_threads_exactly_one_wins_each_version(catalog, reopen):
    record = catalog.create(name="a")
    won: list[int] = []

    def contender(me: Any, number: int) -> None:
        for _ in range(5):
            while True:
                current = me.get(record.uuid)
                try:
                    won.append(me.save(save_of(current, number * 1000 + current.version)).version)
                    break
                except CommitConflict:
                    continue

    threads = [
        threading.Thread(
            target=contender, args=(reopen() if number % 2 else catalog, number), name=f"contender{number}"
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(2, 22))
    assert catalog.get(record.uuid).version == 21
