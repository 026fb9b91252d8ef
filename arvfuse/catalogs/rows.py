"""Records as rows of catalog.sqlite3, and the SQL that several operations share.

Functions on an open connection, called within the caller's statement or transaction; sqlite3 errors pass through.
``now_ns`` decides whether a record whose trash time is set is still there.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any, Final

from arvfuse.catalogs import rules
from arvfuse.errors import NoSuchRecord
from arvfuse.model.collections import PDH, Applied, Change, CollectionRecord, MountId, ProjectRecord, Version

COLUMNS: Final = (
    "uuid, owner, name, version, pdh, properties, created_at_ns, modified_at_ns, trash_at_ns, is_trashed, "
    "storage_classes, replication"
)
LIVE: Final = "is_trashed = 0 AND (trash_at_ns IS NULL OR trash_at_ns > :now)"

# One save looks at so many old versions at most; the rest has its turn at the next.
THINNED_AT_ONCE: Final = 512

_GROUP_COLUMNS: Final = "uuid, owner, name, kind, modified_at_ns, version"
_LIVE_GROUP: Final = "trash_at_ns IS NULL"
_VALUES: Final = (
    ":uuid, :owner, :name, :version, :pdh, :properties, :created_at_ns, :modified_at_ns, :trash_at_ns, :is_trashed, "
    ":storage_classes, :replication"
)


def collections_where(
    db: sqlite3.Connection, now_ns: int, condition: str, table: str = "collections", **values: Any
) -> list[CollectionRecord]:
    """Records of *table* for which the SQL *condition* holds (``:now`` is the time)."""
    rows = db.execute(f"SELECT {COLUMNS} FROM {table} WHERE {condition}", {"now": now_ns, **values})
    return [_collection(row, now_ns) for row in rows.fetchall()]


def collection(db: sqlite3.Connection, uuid: str, now_ns: int, *, include_trash: bool = False) -> CollectionRecord:
    """The current record; NoSuchRecord if there is none or it is in the trash."""
    found = collections_where(db, now_ns, "uuid = :uuid", uuid=uuid)
    if not found or (found[0].is_trashed and not include_trash):
        raise NoSuchRecord(f"{uuid}: no such collection{' (it is in the trash)' if found else ''}")
    return found[0]


def projects_where(db: sqlite3.Connection, condition: str, **values: Any) -> list[ProjectRecord]:
    """Untrashed projects and users for which the SQL *condition* (no OR in it) holds."""
    rows = db.execute(f"SELECT {_GROUP_COLUMNS} FROM groups WHERE {_LIVE_GROUP} AND {condition}", values)
    return [
        ProjectRecord(
            uuid=uuid, owner=owner, name=name, kind=kind, modified_at_ns=modified_at_ns, version=Version(version)
        )
        for uuid, owner, name, kind, modified_at_ns, version in rows.fetchall()
    ]


def project(db: sqlite3.Connection, uuid: str) -> ProjectRecord:
    """The project or user; NoSuchRecord if there is none or it is in the trash."""
    found = projects_where(db, "uuid = :uuid", uuid=uuid)
    if not found:
        raise NoSuchRecord(f"{uuid}: no such project")
    return found[0]


def named(db: sqlite3.Connection, owner: str, name: str, now_ns: int) -> CollectionRecord | ProjectRecord | None:
    """The live record of *owner* with that name; records without a name are found by nobody."""
    if not name:
        return None
    found: Sequence[CollectionRecord | ProjectRecord] = projects_where(
        db, "owner = :owner AND name = :name", owner=owner, name=name
    ) or collections_where(db, now_ns, f"owner = :owner AND name = :name AND {LIVE}", owner=owner, name=name)
    return found[0] if found else None


def insert_project(db: sqlite3.Connection, record: ProjectRecord) -> None:
    db.execute(
        "INSERT INTO groups VALUES (?, ?, ?, ?, ?, ?, NULL)",
        (record.uuid, record.owner, record.name, record.kind, record.version, record.modified_at_ns),
    )


def insert_collection(db: sqlite3.Connection, record: CollectionRecord) -> None:
    db.execute(f"INSERT INTO collections ({COLUMNS}) VALUES ({_VALUES})", _values(record))


def replace_collection(db: sqlite3.Connection, old: CollectionRecord, new: CollectionRecord, *, asked: bool) -> None:
    """*new* becomes current; *old* stays as a version where the rules (or the caller: *asked*) say so."""
    (label,) = db.execute("SELECT label FROM collections WHERE uuid = ?", (old.uuid,)).fetchone()
    if rules.keeps(old, new.modified_at_ns, asked=asked, label=label):
        db.execute(
            f"INSERT INTO versions ({COLUMNS}, label) SELECT {COLUMNS}, label FROM collections WHERE uuid = ?",
            (old.uuid,),
        )
        _thin(db, old.uuid, new.modified_at_ns)
    db.execute("DELETE FROM collections WHERE uuid = ?", (old.uuid,))
    insert_collection(db, new)


def insert_applied(db: sqlite3.Connection, uuid: str, applied: Applied) -> None:
    db.execute(
        "INSERT OR REPLACE INTO applied (mount, uuid, seq, ours_pdh) VALUES (?, ?, ?, ?)",
        (applied.mount, uuid, applied.seq, applied.ours_pdh),
    )


def applied_of(db: sqlite3.Connection, mount: MountId) -> dict[str, Applied]:
    rows = db.execute("SELECT uuid, seq, ours_pdh FROM applied WHERE mount = ?", (mount,))
    return {uuid: Applied(mount=mount, seq=seq, ours_pdh=PDH(ours)) for uuid, seq, ours in rows.fetchall()}


def insert_event(db: sqlite3.Connection, change: Change, now_ns: int, *, kept: int) -> None:
    """Append to the feed, and drop what is older than the last *kept* now and then."""
    cursor = db.execute(
        "INSERT INTO events (uuid, kind, event, version, pdh, owner, old_owner, writer, time_ns) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            change.uuid,
            change.kind,
            change.event,
            change.version,
            change.pdh,
            change.owner,
            change.old_owner,
            change.writer,
            now_ns,
        ),
    )
    number = cursor.lastrowid
    assert number is not None
    if number % max(1, kept // 64) == 0:
        db.execute("DELETE FROM events WHERE id <= ?", (number - kept,))


def events_after(db: sqlite3.Connection, after: int, limit: int) -> list[tuple[int, Change]]:
    """(number, change) of the events behind number *after*, oldest first."""
    rows: Iterable[tuple[Any, ...]] = db.execute(
        "SELECT id, uuid, kind, event, version, pdh, owner, old_owner, writer FROM events WHERE id > ? "
        "ORDER BY id LIMIT ?",
        (after, limit),
    ).fetchall()
    return [
        (
            number,
            Change(
                uuid=uuid,
                kind=kind,
                event=event,
                version=Version(version),
                pdh=None if pdh is None else PDH(pdh),
                owner=owner,
                old_owner=old_owner,
                writer=writer,
            ),
        )
        for number, uuid, kind, event, version, pdh, owner, old_owner, writer in rows
    ]


def newest_event(db: sqlite3.Connection) -> int:
    """Number of the newest event, 0 before the first."""
    number: int = db.execute("SELECT coalesce(max(id), 0) FROM events").fetchone()[0]
    return number


def _thin(db: sqlite3.Connection, uuid: str, now_ns: int) -> None:
    rows = db.execute(
        "SELECT version, modified_at_ns FROM versions WHERE uuid = ? AND label IS NULL AND modified_at_ns <= ? "
        "ORDER BY version DESC LIMIT ?",
        (uuid, now_ns - rules.HOUR_NS, THINNED_AT_ONCE),
    ).fetchall()
    dropped = rules.thinned((rules.Kept(Version(version), made_at_ns) for version, made_at_ns in rows), now_ns)
    db.executemany("DELETE FROM versions WHERE uuid = ? AND version = ?", [(uuid, version) for version in dropped])


def _collection(row: Sequence[Any], now_ns: int) -> CollectionRecord:
    (uuid, owner, name, version, pdh, properties, created, modified, trash_at, is_trashed, classes, replication) = row
    record = CollectionRecord(
        uuid=uuid,
        owner=owner,
        name=name,
        version=Version(version),
        pdh=PDH(pdh),
        properties=json.loads(properties),
        created_at_ns=created,
        modified_at_ns=modified,
        trash_at_ns=trash_at,
        is_trashed=bool(is_trashed),
        storage_classes=tuple(json.loads(classes)),
        replication=replication,
    )
    return rules.as_of(record, now_ns)


def _values(record: CollectionRecord) -> dict[str, Any]:
    return {
        "uuid": record.uuid,
        "owner": record.owner,
        "name": record.name,
        "version": record.version,
        "pdh": record.pdh,
        "properties": json.dumps(dict(record.properties)),
        "created_at_ns": record.created_at_ns,
        "modified_at_ns": record.modified_at_ns,
        "trash_at_ns": record.trash_at_ns,
        "is_trashed": int(record.is_trashed),
        "storage_classes": json.dumps(list(record.storage_classes)),
        "replication": record.replication,
    }
