"""Whole collections: loading, texts, hashes, saving, merging, attributes."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import (
    ArgumentError,
    BlockMissing,
    CommitConflict,
    InvalidManifest,
    NameTaken,
    NoSuchRecord,
    StoreUnavailable,
)
from arvfuse.sdk.collection import UNNAMED, Collection, CollectionReader
from arvfuse.sdk.host import Host
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import make_catalog, make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"
SIGNED = f"{A}+A715fd31f8111894f717eb1003c1b0216799dd9ec@54f5dd1a"
EMPTY = "d41d8cd98f00b204e9800998ecf8427e+0"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def catalog(clock: FakeClock) -> MemoryCatalog:
    return make_catalog(clock)


@pytest.fixture
def host(tmp_path: Path, catalog: MemoryCatalog, clock: FakeClock) -> Iterator[Host]:
    store = MemoryStore()
    store.put(b"0123456789")
    host = make_host(tmp_path, store, catalog, clock)
    yield host
    host.close()


def write(collection: Collection, path: str, text: str) -> None:
    with collection.open(path, "w") as handle:
        handle.write(text)


def saved(host: Host, name: str = "mine", text: str | None = None) -> Collection:
    collection = Collection(text, host=host)
    collection.save_new(name)
    return collection


def test_loading(host: Host) -> None:
    text = f". {SIGNED} 0:10:f\n"
    c = Collection(text, host=host)
    assert (c.manifest_locator(), c.committed(), c.manifest_text()) == (None, True, text)
    assert (c.api_response(), c.get_properties(), c.get_trash_at(), c.storage_classes_desired()) == (None, {}, None, [])
    record = saved(host, text=text)
    uuid, pdh = record.manifest_locator(), record.portable_data_hash()
    assert (uuid, pdh) == (record.api_response()["uuid"], "29524192c178c6de956c5376576d0057+45")
    by_uuid, by_pdh = Collection(uuid, host=host), Collection(pdh, host=host)
    assert (by_uuid.manifest_locator(), by_pdh.manifest_locator()) == (uuid, pdh)
    assert by_uuid.manifest_text() == by_pdh.manifest_text() == f". {A} 0:10:f\n"
    assert (by_uuid.portable_data_hash(), by_pdh.portable_data_hash()) == (pdh, pdh)
    assert repr(by_uuid) == f"<Collection {uuid} committed>"
    assert Collection(EMPTY, host=host).keys() == []


@pytest.mark.parametrize("what", ["hello", ". hello\n", "a\tb\n", "zzzzz-4zz18-012345678901", f". {A} 0:10:f\n\n"])
def test_what_is_no_collection(host: Host, what: str) -> None:
    with pytest.raises(ArgumentError):
        Collection(what, host=host)


def test_what_does_not_exist(host: Host) -> None:
    for what in ("zzzzz-4zz18-012345678901234", "0" * 32 + "+12"):
        with pytest.raises(NoSuchRecord):
            Collection(what, host=host)
    with pytest.raises(ArgumentError, match="catalog"):
        Collection("0" * 32 + "+12")
    for bad in ({"parent": 1}, {"storage_classes_desired": "default"}):
        with pytest.raises(ArgumentError):
            Collection(**bad)  # type: ignore[arg-type]
    with pytest.raises(ArgumentError):
        Collection(3)  # type: ignore[arg-type]


def test_an_empty_collection() -> None:
    with Collection() as c:
        assert (c.committed(), c.modified(), c.manifest_text(), len(c)) == (False, True, "", 0)
        assert c.portable_data_hash() == EMPTY
        c.mkdirs("d/e")
        assert c.manifest_text() == f"./d/e {EMPTY} 0:0:\\056\n"
        write(c, "d/none", "")
        assert c.manifest_text() == f"./d {EMPTY} 0:0:none\n./d/e {EMPTY} 0:0:\\056\n"
        with pytest.raises(AssertionError, match="uuid"):
            c.save()
        write(c, "data", "x")
        with pytest.raises(StoreUnavailable, match="no store"):
            c.manifest_text()
        assert c.open("data").read() == "x"
    c.close()


def test_without_a_store_names_can_be_changed() -> None:
    c = Collection(f". {SIGNED} 0:10:f\n")
    c.rename("f", "g")
    c.copy("g", "d/h")
    assert c.manifest_text(strip=True) == f". {A} 0:10:g\n./d {A} 0:10:h\n"
    with pytest.raises(StoreUnavailable):
        c.open("g").read()
    reader = c.clone(readonly=True)
    assert (type(reader), reader == c) == (CollectionReader, True)


def test_texts(host: Host) -> None:
    text = f". {SIGNED} 5:5:b 0:5:a\n"
    c = Collection(text, host=host)
    assert c.manifest_text() == text
    assert c.stripped_manifest() == c.manifest_text(strip=True) == f". {A} 5:5:b 0:5:a\n"
    assert c.manifest_text(normalize=True) == f". {SIGNED} 0:5:a 5:5:b\n"
    assert c.portable_manifest_text() == f". {A} 0:5:a 5:5:b\n"
    assert c.portable_manifest_text("./x") == f"./x {A} 0:5:a 5:5:b\n"
    assert not c.has_remote_blocks()
    c.mkdirs("new")
    assert c.manifest_text() == f". {SIGNED} 0:5:a 5:5:b\n./new {EMPTY} 0:0:\\056\n"


def test_texts_of_what_is_in_blocks_already(host: Host) -> None:
    c = Collection(f". {A} 0:10:f\n", host=host)
    write(c, "new", "foo")
    with c.open("f", "ab") as handle:
        handle.write(b"more")
    assert c.manifest_text(only_committed=True) == f". {A} 0:10:f 0:0:new\n"
    assert not [locator for locator in host.store.blocks() if locator != A]  # type: ignore[attr-defined]
    c.flush()
    assert c.manifest_text(only_committed=True) == c.manifest_text()
    assert c.modified()


def test_saving(host: Host, catalog: MemoryCatalog) -> None:
    c = Collection(host=host)
    text = c.save_new()
    assert (text, c.committed(), c.api_response()["name"]) == ("", True, UNNAMED)
    second = Collection(host=host)
    second.save_new()
    assert second.api_response()["name"].startswith(UNNAMED)
    write(c, "f", "foo")
    assert c.modified()
    assert c.save() == c.manifest_text() == ". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:f\n"
    uuid = c.manifest_locator()
    record = catalog.get(uuid)
    assert (record.version, record.pdh, c.api_response()["version"]) == (2, c.portable_data_hash(), 2)
    c.save()
    assert catalog.get(uuid).version == 2
    c.rename("f", "g")
    c.rename("g", "f")
    c.save()
    assert (catalog.get(uuid).version, c.committed()) == (2, True)


def test_saving_as_new(host: Host, catalog: MemoryCatalog) -> None:
    project = catalog.create_project(name="project")
    at = datetime(2030, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    c = Collection(f". {A} 0:10:f\n", host=host, replication_desired=3)
    c.save_new("n", owner_uuid=project.uuid, properties={"a": 1}, storage_classes=["fast"], trash_at=at)
    fresh = Collection(c.manifest_locator(), host=host)
    for each in (c, fresh):
        assert (each.get_properties(), each.get_trash_at(), each.storage_classes_desired()) == ({"a": 1}, at, ["fast"])
        assert (each.api_response()["owner_uuid"], each.api_response()["replication_desired"]) == (project.uuid, 3)
    with pytest.raises(NameTaken):
        Collection(host=host).save_new("n", owner_uuid=project.uuid)
    other = Collection(host=host)
    other.save_new("n", owner_uuid=project.uuid, ensure_unique_name=True)
    assert other.api_response()["name"] != "n"
    only_blocks = Collection(host=host)
    write(only_blocks, "f", "bar")
    assert only_blocks.save_new(create_collection_record=False) == only_blocks.manifest_text()
    assert (only_blocks.manifest_locator(), only_blocks.modified()) == (None, True)


def test_a_copy_of_a_record_is_another_record(host: Host, catalog: MemoryCatalog) -> None:
    c = saved(host)
    first = c.manifest_locator()
    write(c, "f", "foo")
    c.save_new("second")
    write(c, "g", "bar")
    c.save()
    assert (c.manifest_locator() != first, Collection(first, host=host).keys(), c.keys()) == (True, [], ["f", "g"])
    assert catalog.get(c.manifest_locator()).version == 2


def test_attributes(host: Host, catalog: MemoryCatalog) -> None:
    c = saved(host)
    c.save(properties={"b": [1]}, storage_classes=["slow"], trash_at=datetime(2031, 1, 1))
    assert (c.get_properties(), c.storage_classes_desired()) == ({"b": [1]}, ["slow"])
    assert c.get_trash_at() == datetime(2031, 1, 1, tzinfo=UTC)
    write(c, "f", "foo")
    c.save(properties={})
    record = catalog.get(c.manifest_locator())
    assert (record.properties, record.pdh) == ({}, c.portable_data_hash())
    for bad in ({"properties": 1}, {"storage_classes": "x"}, {"trash_at": "x"}):
        for call in (c.save, c.save_new):
            with pytest.raises(ArgumentError):
                call(**bad)


def test_what_only_a_lenient_reader_takes_is_not_saved(host: Host, catalog: MemoryCatalog) -> None:
    c = Collection(f"./.. {A} 0:10:f", host=host)
    assert c[".."]["f"].size() == 10
    with pytest.raises(InvalidManifest):
        c.save_new("bad")
    good = saved(host)
    good.mkdirs("..")
    with pytest.raises(InvalidManifest):
        good.save()
    assert catalog.get(good.manifest_locator()).version == 1


def test_a_save_merges(host: Host, catalog: MemoryCatalog, clock: FakeClock) -> None:
    one = saved(host)
    write(one, "both", "base")
    write(one, "theirs", "base")
    one.save()
    other = Collection(one.manifest_locator(), host=host)
    write(other, "theirs", "changed")
    write(other, "both", "other")
    other.save()
    clock.advance(5)
    write(one, "ours", "new")
    write(one, "both", "one")
    one.save()
    assert one.committed()
    for each in (one, Collection(one.manifest_locator(), host=host)):
        assert {name: each.open(name).read() for name in each if "conflict" not in name} == {
            "both": "one", "ours": "new", "theirs": "changed",
        }  # fmt: skip
        [aside] = [name for name in each if "conflict" in name]
        assert each.open(aside).read() == "other"
    assert one.portable_data_hash() == catalog.get(one.manifest_locator()).pdh
    version = catalog.get(one.manifest_locator()).version
    one.save()
    assert catalog.get(one.manifest_locator()).version == version


def test_a_save_that_must_not_merge(host: Host) -> None:
    one = saved(host)
    other = Collection(one.manifest_locator(), host=host)
    write(other, "a", "other")
    other.save()
    write(one, "b", "one")
    with pytest.raises(CommitConflict):
        one.save(merge=False)
    assert one.modified()
    one.save()
    assert one.keys() == ["a", "b"]


def test_preserving_the_version_before(host: Host, catalog: MemoryCatalog) -> None:
    c = saved(host)
    for number in range(3):
        write(c, "f", str(number))
        c.save(preserve_version=number == 2)
    assert 3 in [record.version for record in catalog.versions(c.manifest_locator())]


def test_a_record_that_is_gone(host: Host, catalog: MemoryCatalog) -> None:
    c = saved(host)
    write(c, "f", "foo")
    catalog.trash(c.manifest_locator())
    with pytest.raises(NoSuchRecord):
        c.save()
    c.save_new("again")
    assert Collection(c.manifest_locator(), host=host).open("f").read() == "foo"


def test_update(host: Host) -> None:
    one = saved(host)
    other = Collection(one.manifest_locator(), host=host)
    write(other, "a", "other")
    write(other, "shared", "other")
    other.save()
    one.update()
    assert (one.keys(), one.committed()) == (["a", "shared"], True)
    write(other, "a", "again")
    other.remove("shared")
    other.save()
    write(one, "mine", "one")
    one.update()
    assert (one.keys(), one.open("a").read(), one.modified()) == (["a", "mine"], "again", True)
    one.save()
    other.update()
    assert other == one
    with pytest.raises(ArgumentError):
        Collection(host=host).update()
    Collection(one.portable_data_hash(), host=host).update()


def test_update_from_a_collection(host: Host) -> None:
    base = f". {A} 0:10:f 0:5:g\n"
    mine = Collection(base, host=host)
    mine.update(Collection(f". {A} 0:9:f 0:5:g\n", host=host))
    assert mine["f"].size() == 9
    mine = Collection(base, host=host)
    mine.rename("g", "h")
    mine.update(Collection(f". {A} 0:9:f 0:5:g 0:1:new\n", host=host))
    assert {name: mine[name].size() for name in mine} == {"f": 9, "h": 5, "new": 1}


def test_clone(host: Host) -> None:
    c = saved(host)
    write(c, "f", "foo")
    twin = c.clone()
    assert (twin == c, twin.manifest_locator(), twin.modified()) == (True, None, True)
    write(twin, "f", "bar")
    assert c.open("f").read() == "foo"
    twin.save_new("twin")


def test_the_context_manager_saves(host: Host, catalog: MemoryCatalog) -> None:
    uuid = saved(host).manifest_locator()
    with Collection(uuid, host=host) as c:
        write(c, "f", "foo")
    assert catalog.get(uuid).version == 2
    failing = Collection(uuid, host=host)
    write(failing, "g", "foo")
    with pytest.raises(KeyError), failing:
        failing["missing"]
    assert catalog.get(uuid).version == 2
    with CollectionReader(uuid, host=host) as c:
        assert c.open("f").read() == "foo"


def test_on_its_own_with_threads(catalog: MemoryCatalog) -> None:
    store = MemoryStore()
    before = threading.active_count()
    with Collection(None, catalog, store, put_threads=1) as c:
        write(c, "f", "foo" * 1_000_000)
        c.save_new("own")
    assert threading.active_count() == before
    directory = c.host.directory
    assert directory.is_dir()
    assert Collection(c.manifest_locator(), catalog, store).open("f").read(6) == "foofoo"
    write(c, "f", "bar")
    c.save()
    c.close()
    assert not directory.exists()
    assert threading.active_count() == before


def test_a_forgotten_collection_leaves_nothing(host: Host) -> None:
    c = Collection()
    write(c, "f", "x" * 2_000_000)
    directory = c.host.directory
    assert list((directory / "spool").iterdir())
    del c
    gc.collect()
    assert not directory.exists()
    guest = Collection(host=host)
    write(guest, "f", "x" * 2_000_000)
    assert host.workspace.shared.blocks.all()
    del guest
    gc.collect()
    Collection(f". {A} 0:1:f\n", host=host).diff(Collection(host=host))
    saved(host, "other").open("f", "w").close()
    Collection(host=host).flush()
    host.commit([])
    assert (host.workspace.trees, host.workspace.shared.blocks.all()) == ([], [])


def test_a_million_files_are_not_read(host: Host) -> None:
    lines = [f"./d{number:03} {A}" + "".join(f" 0:1:f{k}" for k in range(1000)) for number in range(50)]
    c = Collection("\n".join([*lines, ""]), host=host)
    assert c["d007"]["f3"].size() == 1
    loaded = sum(1 for _ in c.node.loaded())
    assert loaded == 3
    with pytest.raises(BlockMissing):
        Collection(f". {'0' * 32}+5 0:5:f\n", host=host).open("f").read()
