"""The values of records: frozen, with the defaults that a fresh record has."""

from __future__ import annotations

import dataclasses
import hashlib

import pytest

from arvfuse.model.collections import (
    EMPTY_PDH,
    PDH,
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


def test_records_do_not_share_their_properties() -> None:
    other = CollectionRecord(uuid="v", owner="o", name="n", version=Version(1), pdh=EMPTY_PDH)
    assert COLLECTION.properties is not other.properties


@pytest.mark.parametrize("value", [COLLECTION, PROJECT, APPLIED, SAVE, CHANGE], ids=lambda v: type(v).__name__)
def test_values_are_frozen_and_compared_by_content(value: object) -> None:
    assert dataclasses.is_dataclass(value)
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, "x")
    assert dataclasses.replace(value) == value  # type: ignore[type-var] # an instance, as asserted
    assert not hasattr(value, "__dict__")


def test_positional_arguments_are_refused_so_that_neighbours_are_not_mixed_up() -> None:
    with pytest.raises(TypeError):
        Applied(MountId("m"), 7, PDH(""))  # type: ignore[misc] # what is tested
