"""The values of records: frozen, with the defaults that a fresh record has."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from arvfuse.model.collections import (
    EMPTY_PDH,
    Applied,
    Change,
    CollectionRecord,
    MountId,
    ProjectRecord,
    Save,
    Version,
)

COLLECTION = CollectionRecord(uuid="u", owner="o", name="n", version=Version(1), pdh=EMPTY_PDH)
PROJECT = ProjectRecord(uuid="p", owner="o", name="n")
APPLIED = Applied(mount=MountId("m"), seq=7, ours_pdh=EMPTY_PDH)
SAVE = Save(uuid="u", expect=Version(1), pdh=EMPTY_PDH, manifest=b"")
CHANGE = Change(
    uuid="u", kind="collection", event="update", version=Version(2), pdh=None, owner="o", old_owner="o", writer="w"
)


def test_the_empty_collection_has_the_hash_of_no_bytes() -> None:
    assert f"{hashlib.md5(b'').hexdigest()}+0" == EMPTY_PDH


def test_defaults_are_those_of_a_fresh_record() -> None:
    assert COLLECTION.properties == {}
    assert (COLLECTION.trash_at_ns, COLLECTION.is_trashed) == (None, False)
    assert (COLLECTION.storage_classes, COLLECTION.replication) == (("default",), None)
    assert (PROJECT.kind, PROJECT.version) == ("project", 1)
    assert (SAVE.applied, SAVE.properties, SAVE.keep_previous) == (None, None, False)


def test_records_share_no_properties_that_one_could_change() -> None:
    other = CollectionRecord(uuid="v", owner="o", name="n", version=Version(1), pdh=EMPTY_PDH)
    with pytest.raises(TypeError):
        other.properties["key"] = "value"  # type: ignore[index] # what is tested


@pytest.mark.parametrize("value", [COLLECTION, PROJECT, APPLIED, SAVE, CHANGE], ids=lambda v: type(v).__name__)
def test_values_are_frozen_and_compared_by_content(value: Any) -> None:
    with pytest.raises(AttributeError):
        setattr(value, value._fields[0], "x")
    assert value._replace() == value
    assert not hasattr(value, "__dict__")
