"""The layout of catalog.sqlite3: how it is made, recognised, and brought up to date.

``application_id`` says that a file is ours, ``user_version`` which layout it has. MIGRATIONS[n] turns layout n into
n + 1; a new file runs all of them. An upgrade is one transaction: a failure leaves the old layout. A new file appears
under its name complete or not at all, whoever dies meanwhile and however many processes make it at once.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from arvfuse.catalogs import identity
from arvfuse.catalogs.connections import Connections, translated
from arvfuse.catalogs.manifestfiles import make_directory, sync_directory
from arvfuse.errors import Damaged, SchemaMismatch, StoreUnavailable

APPLICATION_ID: Final = 0x61727666  # "arvf"

# Checking a file reads all of it; beyond this size that is left to fsck.
CHECKED_BYTES: Final = 8 << 20

Migration = Callable[[sqlite3.Connection], None]

_RECORD_COLUMNS: Final = """
    uuid TEXT NOT NULL, owner TEXT NOT NULL, name TEXT NOT NULL, version INTEGER NOT NULL, pdh TEXT NOT NULL,
    properties TEXT NOT NULL, created_at_ns INTEGER NOT NULL, modified_at_ns INTEGER NOT NULL,
    trash_at_ns INTEGER, is_trashed INTEGER NOT NULL, storage_classes TEXT NOT NULL, replication INTEGER, label TEXT
"""


def _first_layout(db: sqlite3.Connection) -> None:
    for statement in (
        "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
        """CREATE TABLE groups (uuid TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, kind TEXT NOT NULL,
            version INTEGER NOT NULL, modified_at_ns INTEGER NOT NULL, trash_at_ns INTEGER) WITHOUT ROWID""",
        "CREATE INDEX groups_by_name ON groups (owner, name)",
        # Names cannot be unique in an index: a record leaves the name free when the time of its trashing comes.
        f"CREATE TABLE collections ({_RECORD_COLUMNS}, PRIMARY KEY (uuid))",
        "CREATE INDEX collections_by_name ON collections (owner, name)",
        "CREATE INDEX collections_by_pdh ON collections (pdh)",
        f"CREATE TABLE versions ({_RECORD_COLUMNS}, PRIMARY KEY (uuid, version))",
        "CREATE INDEX versions_by_pdh ON versions (pdh)",
        """CREATE TABLE applied (mount TEXT NOT NULL, uuid TEXT NOT NULL, seq INTEGER NOT NULL,
            ours_pdh TEXT NOT NULL, PRIMARY KEY (mount, uuid)) WITHOUT ROWID""",
        """CREATE TABLE events (id INTEGER PRIMARY KEY AUTOINCREMENT, uuid TEXT NOT NULL, kind TEXT NOT NULL,
            event TEXT NOT NULL, version INTEGER NOT NULL, pdh TEXT, owner TEXT NOT NULL, old_owner TEXT NOT NULL,
            writer TEXT NOT NULL, time_ns INTEGER NOT NULL)""",
    ):
        db.execute(statement)


MIGRATIONS: Final[Sequence[Migration]] = (_first_layout,)


def make_file(path: Path, *, now_ns: int, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Make the catalog at *path*, with a cluster id and the user's home; nothing happens if one is there."""
    if path.exists():
        return
    beside = path.with_name(f"{path.name}.{os.urandom(8).hex()}.new")
    try:
        make_directory(path.parent)
        _fill(beside, now_ns, migrations)
        with contextlib.suppress(FileExistsError):
            os.link(beside, path)
        sync_directory(path.parent)
    except OSError as exc:
        raise StoreUnavailable(
            f"{path.parent}: a store cannot be made here ({exc.strerror}); choose a directory that can be written"
        ) from exc
    except sqlite3.Error as exc:
        raise translated(path, exc) from exc
    finally:
        with contextlib.suppress(OSError):
            beside.unlink()


def open_file(path: Path, *, read_only: bool, migrations: Sequence[Migration] = MIGRATIONS) -> Connections:
    """Connections to the catalog at *path*, which has the newest layout then.

    SchemaMismatch if it is newer, not ours, or older and *read_only*; Damaged if SQLite finds it so."""
    try:
        size = path.stat().st_size
    except OSError as exc:
        raise StoreUnavailable(
            f"{path}: no catalog there ({exc.strerror}); check the directory of the store, or make one by a read-write "
            "mount"
        ) from exc
    connections = Connections(path, read_only=read_only)
    try:
        with connections.reading() as db:
            layout = _recognise(path, db, newest=len(migrations))
            if size <= CHECKED_BYTES:
                _check(path, db)
        if layout < len(migrations):
            if read_only:
                raise SchemaMismatch(
                    f"{path}: has layout {layout} of an older arvfuse; open the store once read-write to upgrade it"
                )
            upgrade(path, connections, migrations)
    except BaseException:
        connections.close()
        raise
    return connections


def upgrade(path: Path, connections: Connections, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Run the migrations that the file has not seen, in one transaction."""
    with connections.writing() as db:
        # Another process may have been faster.
        _migrate(db, _recognise(path, db, newest=len(migrations)), migrations)


def _fill(path: Path, now_ns: int, migrations: Sequence[Migration]) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute(f"PRAGMA application_id={APPLICATION_ID}")
        db.execute("BEGIN IMMEDIATE")
        _migrate(db, 0, migrations)
        cluster = identity.new_cluster()
        home = identity.new_uuid(cluster, identity.USER)
        db.executemany("INSERT INTO meta VALUES (?, ?)", [("cluster", cluster), ("home", home)])
        db.execute(
            "INSERT INTO groups VALUES (?, ?, 'home', 'user', 1, ?, NULL)",
            (home, identity.system_user(cluster), now_ns),
        )
        db.execute("COMMIT")
    finally:
        db.close()  # the last one: the WAL is written into the file and goes
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _migrate(db: sqlite3.Connection, layout: int, migrations: Sequence[Migration]) -> None:
    for migration in migrations[layout:]:
        migration(db)
    db.execute(f"PRAGMA user_version={len(migrations)}")


def _recognise(path: Path, db: sqlite3.Connection, *, newest: int) -> int:
    """The layout of the file."""
    layout: int = db.execute("PRAGMA user_version").fetchone()[0]
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise SchemaMismatch(
            f"{path}: is not a catalog of arvfuse; name another directory for the store or move that file away"
        )
    if layout > newest:
        raise SchemaMismatch(
            f"{path}: has layout {layout} of a newer arvfuse, this one knows {newest}; update arvfuse to use this store"
        )
    return layout


def _check(path: Path, db: sqlite3.Connection) -> None:
    finding = db.execute("PRAGMA quick_check(1)").fetchone()[0]
    if finding != "ok":
        raise Damaged(f"{path}: damaged ({' '.join(str(finding).split())}); restore it from a copy")
