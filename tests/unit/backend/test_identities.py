"""What users call a collection."""

from __future__ import annotations

import pytest

from arvfuse.backend.identities import Resolved, resolve
from arvfuse.errors import ArgumentError, NoSuchRecord
from arvfuse.model.collections import Save
from arvfuse.model.normalizing import pdh
from tests.support.opened import memory_parts

FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n"


@pytest.fixture
def catalog(tmp_path):
    return memory_parts(tmp_path).catalog


def test_by_uuid_by_hash_and_by_name(catalog):
    record = catalog.create(name="one", manifest=FOO)
    assert resolve(catalog, record.uuid) == Resolved(record, record.pdh, "", True)
    assert resolve(catalog, f"{record.uuid}/a/b") == Resolved(record, record.pdh, "a/b", True)
    assert resolve(catalog, record.pdh).identity == record.pdh
    assert resolve(catalog, "home/one/foo") == Resolved(record, record.pdh, "foo", True)
    assert resolve(catalog, "one").identity == record.uuid


def test_below_projects(catalog):
    project = catalog.create_project(name="work")
    record = catalog.create(name="two", owner=project.uuid)
    assert resolve(catalog, "home/work/two/x") == Resolved(record, record.pdh, "x", True)
    with pytest.raises(NoSuchRecord, match="project"):
        resolve(catalog, "home/work")


def test_a_version_is_named_by_its_content(catalog):
    record = catalog.create(name="one")
    saved = catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=pdh(FOO), manifest=FOO, keep_previous=True))
    assert resolve(catalog, "one@1").identity == record.pdh
    assert resolve(catalog, "home/one@2").identity == saved.pdh
    catalog.create(name="odd@1")
    assert resolve(catalog, "odd@1").current
    with pytest.raises(NoSuchRecord):
        resolve(catalog, "two@1")


@pytest.mark.parametrize("text", ["nothing", "home/nothing", "home", "zzzzz-4zz18-000000000000000"])
def test_what_is_not_there(catalog, text):
    with pytest.raises(NoSuchRecord, match=text.replace("+", r"\+")):
        resolve(catalog, text)


def test_what_can_be_no_collection(catalog):
    with pytest.raises(ArgumentError):
        resolve(catalog, "/")
