from __future__ import annotations

import sqlite3

import pytest

from arvfuse.catalogs import rows
from arvfuse.catalogs.rows import COLUMNS, LIVE, THINNED_AT_ONCE
from arvfuse.catalogs.rules import HOUR_NS
from arvfuse.catalogs.schema import MIGRATIONS
from arvfuse.errors import NoSuchRecord
from arvfuse.model.collections import (
    EMPTY_PDH,
    Applied,
    Change,
    CollectionRecord,
    MountId,
    ProjectRecord,
    Version,
)


@pytest.fixture
def db():
    made = sqlite3.connect(":memory:", isolation_level=None)
    for migration in MIGRATIONS:
        migration(made)
    yield made
    made.close()


def record(**more) -> CollectionRecord:
    return CollectionRecord(**{"uuid": "u", "owner": "o", "name": "n", "version": Version(1), "pdh": EMPTY_PDH, **more})


def change(number: int) -> Change:
    return Change(
        uuid="u",
        kind="collection",
        event="update",
        version=Version(number),
        pdh=None if number % 2 else EMPTY_PDH,
        owner="o",
        old_owner="before",
        writer="w",
    )


def test_a_collection_comes_back_as_it_was(db):
    full = record(
        name="ä\n'\"",
        properties={"a": [1, {"ä": None}]},
        created_at_ns=1,
        modified_at_ns=2**62,
        trash_at_ns=9,
        storage_classes=("a", "b"),
        replication=2,
    )
    rows.insert_collection(db, full)
    assert rows.collection(db, "u", 8) == full
    assert rows.collections_where(db, 8, f"owner = :owner AND {LIVE}", owner="o") == [full]
    assert rows.collections_where(db, 9, LIVE) == []
    with pytest.raises(NoSuchRecord, match="in the trash"):
        rows.collection(db, "u", 9)
    assert rows.collection(db, "u", 9, include_trash=True).is_trashed
    with pytest.raises(NoSuchRecord):
        rows.collection(db, "v", 8)
    assert len(COLUMNS.split(",")) == 12


def test_projects_come_back_until_they_are_trashed(db):
    project = ProjectRecord(uuid="g", owner="o", name="p", kind="project", modified_at_ns=3)
    rows.insert_project(db, project)
    assert rows.project(db, "g") == project
    assert rows.projects_where(db, "owner = :owner", owner="o") == [project]
    db.execute("UPDATE groups SET trash_at_ns = 1")
    assert rows.projects_where(db, "owner = :owner", owner="o") == []
    with pytest.raises(NoSuchRecord):
        rows.project(db, "g")


def test_named_sees_both_kinds(db):
    rows.insert_project(db, ProjectRecord(uuid="g", owner="o", name="p"))
    rows.insert_collection(db, record(trash_at_ns=9))
    rows.insert_collection(db, record(uuid="v", name=""))
    assert rows.named(db, "o", "p", 0) == ProjectRecord(uuid="g", owner="o", name="p")
    assert rows.named(db, "o", "n", 0) == record(trash_at_ns=9)
    assert rows.named(db, "o", "n", 9) is None
    assert rows.named(db, "o", "", 0) is None
    assert rows.named(db, "x", "n", 0) is None


def test_replacing_keeps_and_thins(db):
    old = record()
    rows.insert_collection(db, old)
    count = THINNED_AT_ONCE + 20
    for number in range(2, count + 2):
        new = record(version=Version(number), modified_at_ns=number)
        rows.replace_collection(db, old, new, asked=True)
        old = new
    last = record(version=Version(count + 2), modified_at_ns=2 * HOUR_NS)
    kept = "SELECT count(*) FROM versions"
    assert db.execute(kept).fetchone() == (count,)
    rows.replace_collection(db, old, last, asked=False)
    # One look is bounded; the rest goes at the next.
    assert db.execute(kept).fetchone() == (1 + count + 1 - THINNED_AT_ONCE,)
    rows.replace_collection(db, last, record(version=Version(count + 3), modified_at_ns=4 * HOUR_NS), asked=False)
    assert [version for (version,) in db.execute("SELECT version FROM versions ORDER BY version")] == [
        count + 1,
        count + 2,
    ]
    assert rows.collection(db, "u", 0).version == count + 3


def test_applied_rows_are_replaced(db):
    mount = MountId("m")
    for seq in (1, 5):
        rows.insert_applied(db, "u", Applied(mount=mount, seq=seq, ours_pdh=EMPTY_PDH))
    assert rows.applied_of(db, mount) == {"u": Applied(mount=mount, seq=5, ours_pdh=EMPTY_PDH)}
    assert rows.applied_of(db, MountId("other")) == {}


def test_events_are_numbered_and_pruned(db):
    assert rows.newest_event(db) == 0
    for number in range(1, 201):
        rows.insert_event(db, change(number), 0, kept=100)
    assert rows.newest_event(db) == 200
    assert rows.events_after(db, 198, 10) == [(199, change(199)), (200, change(200))]
    assert [number for number, _ in rows.events_after(db, 0, 2)] == [101, 102]
