"""The catalog of the embedded store: small rows in DIR/catalog.sqlite3, manifest texts as files beside it.

Any thread may call anything; any number of processes may use one store. Each change is one transaction, committed
with synchronous=FULL: when a call returns, it survives a power cut, and so does the text it names (stored before the
transaction). A call that raises changed no record. Records never name a text that is not there; a text that no record
names is left to a collector. No transaction is open between calls. See ``connections`` for how SQLite's failures
come out, and for forks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from arvfuse.catalogs import identity, rows, rules, schema
from arvfuse.catalogs.feed import PollingFeed, SqliteChanges
from arvfuse.catalogs.manifestfiles import ManifestFiles, pdh_of_stripped
from arvfuse.catalogs.watching import make_watch
from arvfuse.clock import SystemClock
from arvfuse.errors import DirectoryNotEmpty
from arvfuse.model.collections import (
    PDH,
    Applied,
    Change,
    CollectionRecord,
    MountId,
    ProjectRecord,
    Save,
    Version,
)
from arvfuse.model.normalizing import strip
from arvfuse.ports import ChangeFeed, Clock

FILE_NAME: Final = "catalog.sqlite3"
MANIFESTS_NAME: Final = "manifests"
KEPT_EVENTS: Final = 100_000


class SqliteCatalog:
    """The port ``Catalog`` over the store at *directory*.

    With *create* a store that is not there is made. With *read_only* nothing is written, whatever is asked: changes
    raise ReadOnly, and the directory may be one that cannot be written. *writer* marks our changes in the feed;
    *kept_events* is how many of them stay for feeds that lag."""

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        writer: str | None = None,
        create: bool = True,
        read_only: bool = False,
        kept_events: int = KEPT_EVENTS,
    ) -> None:
        self.writer: Final = writer or identity.new_writer()
        self._path: Final = directory / FILE_NAME
        self._clock: Final = clock
        self._read_only: Final = read_only
        self._kept_events: Final = kept_events
        self._manifests: Final = ManifestFiles(directory / MANIFESTS_NAME, read_only=read_only)
        if create and not read_only:
            schema.make_file(self._path, now_ns=clock.time_ns())
        self._connections: Final = schema.open_file(self._path, read_only=read_only)
        if not read_only:
            self._manifests.prepare(clock.time_ns())
        with self._connections.reading() as db:
            meta = dict(db.execute("SELECT key, value FROM meta").fetchall())
        self.cluster: Final[str] = meta["cluster"]
        self._home: Final[str] = meta["home"]

    def __repr__(self) -> str:
        return f"SqliteCatalog({str(self._path.parent)!r}, writer={self.writer!r}, read_only={self._read_only})"

    def home(self) -> ProjectRecord:
        """The user's own project; it was made with the store."""
        return self.get_project(self._home)

    def get(self, uuid: str, *, version: Version | None = None, include_trash: bool = False) -> CollectionRecord:
        """The current record, or its kept *version*. NoSuchRecord if there is none."""
        now_ns = self._clock.time_ns()
        with self._connections.snapshot() as db:
            record = rows.collection(db, uuid, now_ns, include_trash=include_trash)
            if version is None or version == record.version:
                return record
            kept = rows.collections_where(
                db, now_ns, "uuid = :uuid AND version = :version", "versions", uuid=uuid, version=version
            )
        if not kept:
            raise rules.not_kept(uuid, version)
        return kept[0]

    def get_project(self, uuid: str) -> ProjectRecord:
        with self._connections.reading() as db:
            return rows.project(db, uuid)

    def find_by_pdh(self, pdh: PDH) -> CollectionRecord | None:
        """Some untrashed collection with that content, else a kept version of one."""
        now_ns = self._clock.time_ns()
        with self._connections.snapshot() as db:
            found = rows.collections_where(db, now_ns, f"pdh = :pdh AND {rows.LIVE} LIMIT 1", pdh=pdh)
            found = found or rows.collections_where(
                db,
                now_ns,
                f"pdh = :pdh AND uuid IN (SELECT uuid FROM collections WHERE {rows.LIVE}) LIMIT 1",
                "versions",
                pdh=pdh,
            )
        return found[0] if found else None

    def find(self, owner: str, name: str) -> CollectionRecord | ProjectRecord | None:
        with self._connections.snapshot() as db:
            return rows.named(db, owner, name, self._clock.time_ns())

    def contents(self, owner: str) -> Sequence[CollectionRecord | ProjectRecord]:
        """Untrashed records below *owner*, projects first, each sorted by name. NoSuchRecord without that owner."""
        now_ns = self._clock.time_ns()
        with self._connections.snapshot() as db:
            rows.project(db, owner)
            projects = rows.projects_where(db, "owner = :owner ORDER BY name, uuid", owner=owner)
            collections = rows.collections_where(
                db, now_ns, f"owner = :owner AND {rows.LIVE} ORDER BY name, uuid", owner=owner
            )
        return [*projects, *collections]

    def collections(self, *, include_trash: bool = False) -> Sequence[CollectionRecord]:
        """All current records, by name."""
        with self._connections.reading() as db:
            condition = f"{'1' if include_trash else rows.LIVE} ORDER BY name, uuid"
            return rows.collections_where(db, self._clock.time_ns(), condition)

    def create(
        self,
        *,
        name: str,
        owner: str | None = None,
        manifest: bytes = b"",
        properties: Mapping[str, Any] | None = None,
        ensure_unique_name: bool = False,
        trash_at_ns: int | None = None,
        storage_classes: Sequence[str] | None = None,
        replication: int | None = None,
        applied: Applied | None = None,
    ) -> CollectionRecord:
        """A new collection. A taken name is NameTaken, or gets a suffix with *ensure_unique_name*."""
        now_ns = self._clock.time_ns()
        text = strip(manifest)
        record = CollectionRecord(
            uuid=identity.new_uuid(self.cluster, identity.COLLECTION),
            owner=owner or self._home,
            name=rules.check_name(name, may_be_empty=True),
            version=Version(1),
            pdh=pdh_of_stripped(text),
            properties=rules.checked_properties(properties),
            created_at_ns=now_ns,
            modified_at_ns=now_ns,
            trash_at_ns=rules.checked_trash_time(trash_at_ns),
            storage_classes=rules.checked_classes(storage_classes),
            replication=replication,
        )
        self._manifests.keep(record.pdh, text)
        with self._connections.writing() as db:
            rows.project(db, record.owner)
            if ensure_unique_name and rows.named(db, record.owner, name, now_ns) is not None:
                record = record._replace(name=rules.unique_name(name, record.uuid))
            rules.check_free(rows.named(db, record.owner, record.name, now_ns), record)
            rows.insert_collection(db, record)
            if applied is not None:
                rows.insert_applied(db, record.uuid, applied)
            rows.insert_event(db, self._change(record, "create"), now_ns, kept=self._kept_events)
        return rules.as_of(record, now_ns)

    def create_project(self, *, name: str, owner: str | None = None) -> ProjectRecord:
        """A new project; NameTaken if *owner* has a record of that name."""
        now_ns = self._clock.time_ns()
        record = ProjectRecord(
            uuid=identity.new_uuid(self.cluster, identity.GROUP),
            owner=owner or self._home,
            name=rules.check_name(name),
            modified_at_ns=now_ns,
        )
        with self._connections.writing() as db:
            rows.project(db, record.owner)
            rules.check_free(rows.named(db, record.owner, name, now_ns), record)
            rows.insert_project(db, record)
            rows.insert_event(db, self._change(record, "create"), now_ns, kept=self._kept_events)
        return record

    def save(self, save: Save) -> CollectionRecord:
        """See ``Catalog.save``. A save that changes nothing makes no version, but its *applied* is stored."""
        return self.save_many([save])[0]

    def save_many(self, saves: Sequence[Save]) -> Sequence[CollectionRecord]:
        """All of *saves* or, when one raises, none. ArgumentError for a text that is not of its PDH."""
        for save in saves:
            self._manifests.keep(save.pdh, save.manifest)
        records = []
        with self._connections.writing() as db:
            now_ns = self._clock.time_ns()  # after the wait for other writers
            for save in saves:
                old = rows.collection(db, save.uuid, now_ns)
                new = rules.saved_record(old, save, now_ns)
                if save.applied is not None:
                    rows.insert_applied(db, save.uuid, save.applied)
                if new is not None:
                    rows.replace_collection(db, old, new, asked=save.keep_previous)
                    rows.insert_event(db, self._change(new), now_ns, kept=self._kept_events)
                records.append(new or old)
        return records

    def update(
        self,
        uuid: str,
        *,
        expect: Version | None = None,
        name: str | None = None,
        owner: str | None = None,
        properties: Mapping[str, Any] | None = None,
        trash_at_ns: int | None = None,
        storage_classes: Sequence[str] | None = None,
    ) -> CollectionRecord:
        """Change what is not None of a collection's attributes. CommitConflict, NameTaken, NoSuchRecord."""
        if name is not None:
            rules.check_name(name, may_be_empty=True)
        with self._connections.writing() as db:
            now_ns = self._clock.time_ns()
            old = rows.collection(db, uuid, now_ns)
            rules.check_expected(old, expect)
            new = rules.next_record(
                old,
                now_ns,
                name=name,
                owner=owner,
                properties=properties,
                trash_at_ns=trash_at_ns,
                storage_classes=storage_classes,
            )
            if new is None:
                return old
            rows.project(db, new.owner)
            rules.check_free(rows.named(db, new.owner, new.name, now_ns), new)
            rows.replace_collection(db, old, new, asked=False)
            change = self._change(new, old_owner=old.owner)
            rows.insert_event(db, change, now_ns, kept=self._kept_events)
        return new

    def trash(self, uuid: str, *, expect: Version | None = None) -> None:
        """A collection, or a project without contents (DirectoryNotEmpty), goes; its name is free at once."""
        with self._connections.writing() as db:
            now_ns = self._clock.time_ns()
            if uuid.split("-")[1:2] == [identity.COLLECTION]:
                old = rows.collection(db, uuid, now_ns)
                rules.check_expected(old, expect)
                new = rules.next_record(old, now_ns, trash_at_ns=now_ns)
                assert new is not None
                rows.replace_collection(db, old, new, asked=False)
                change = self._change(new)
            else:
                project = rules.trashed_project(rows.project(db, uuid), expect, now_ns)
                if rows.projects_where(db, "owner = :owner LIMIT 1", owner=uuid) or rows.collections_where(
                    db, now_ns, f"owner = :owner AND {rows.LIVE} LIMIT 1", owner=uuid
                ):
                    raise DirectoryNotEmpty(project.name, rules.HAS_CONTENTS)
                db.execute(
                    "UPDATE groups SET trash_at_ns = ?, version = ?, modified_at_ns = ? WHERE uuid = ?",
                    (now_ns, project.version, now_ns, uuid),
                )
                change = self._change(project, "trash")
            rows.insert_event(db, change, now_ns, kept=self._kept_events)

    def versions(self, uuid: str) -> Sequence[CollectionRecord]:
        """All kept versions, newest first, the current one included; also of a record in the trash."""
        now_ns = self._clock.time_ns()
        with self._connections.snapshot() as db:
            current = rows.collection(db, uuid, now_ns, include_trash=True)
            kept = rows.collections_where(db, now_ns, "uuid = :uuid ORDER BY version DESC", "versions", uuid=uuid)
        return [current, *kept]

    def label_version(self, uuid: str, version: Version, label: str | None) -> None:
        """Give a kept version a name, so that it stays for good; None takes the name away. NoSuchRecord."""
        if label is not None:
            rules.check_name(label)
        with self._connections.writing() as db:
            changed = 0
            for table in ("collections", "versions"):
                statement = f"UPDATE {table} SET label = ? WHERE uuid = ? AND version = ?"
                changed += db.execute(statement, (label, uuid, version)).rowcount
            if not changed:
                raise rules.not_kept(uuid, version)

    def labels(self, uuid: str) -> Mapping[Version, str]:
        """The names that kept versions of *uuid* were given."""
        tables = "(SELECT uuid, version, label FROM versions UNION ALL SELECT uuid, version, label FROM collections)"
        with self._connections.reading() as db:
            found = db.execute(
                f"SELECT version, label FROM {tables} WHERE uuid = ? AND label IS NOT NULL ORDER BY version", (uuid,)
            ).fetchall()
        return {Version(version): label for version, label in found}

    def applied(self, mount: MountId) -> Mapping[str, Applied]:
        with self._connections.reading() as db:
            return rows.applied_of(db, mount)

    def forget_applied(self, mount: MountId) -> None:
        with self._connections.writing() as db:
            db.execute("DELETE FROM applied WHERE mount = ?", (mount,))

    def manifest(self, pdh: PDH) -> bytes:
        """The stripped text, checked. NoSuchRecord, Damaged."""
        return self._manifests.load(pdh)

    def manifest_path(self, pdh: PDH) -> Path | None:
        """The file below DIR/manifests with the text; of its content only the size is checked."""
        return self._manifests.peek(pdh)

    def keep_manifest(self, pdh: PDH, manifest: bytes) -> None:
        """Store a text. ArgumentError if *pdh* is not its hash."""
        self._manifests.keep(pdh, manifest)

    def feed(self) -> ChangeFeed:
        """Changes from now on. The caller closes it."""
        source = SqliteChanges(self._path, self._clock, read_only=self._read_only)
        watch = make_watch(self._path.parent) if isinstance(self._clock, SystemClock) else None
        return PollingFeed(source, self._clock, watch)

    def close(self) -> None:
        """Feeds are closed by those who made them. May be called again."""
        self._connections.close()

    def _change(
        self, record: CollectionRecord | ProjectRecord, event: str = "update", old_owner: str | None = None
    ) -> Change:
        return rules.change_of(record, self.writer, event, old_owner)
