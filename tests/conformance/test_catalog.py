"""What every catalog promises of records, names and the trash. A new adapter adds one opener to
``tests.support.catalogs.OPENERS`` and writes no other test."""

from __future__ import annotations

import pytest

from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.errors import (
    ArgumentError,
    CommitConflict,
    DirectoryNotEmpty,
    NameNotText,
    NameTaken,
    NoSuchRecord,
    NotPermitted,
)
from arvfuse.model.collections import EMPTY_PDH, PDH, Save, Version
from arvfuse.ports import Catalog
from tests.support.catalogs import names, save_of, text_of


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
