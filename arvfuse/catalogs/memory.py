"""A catalog that is gone with its process: for tests and for sessions that keep nothing.

The same promises as the SQLite catalog but durability. Several catalogs can share one content (``of=``), as several
openings of one store do. One lock guards the content; nothing slow happens under it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from arvfuse.catalogs import identity, rules
from arvfuse.catalogs.feed import PollingFeed
from arvfuse.catalogs.manifestfiles import pdh_of_stripped, stripped_for
from arvfuse.errors import DirectoryNotEmpty, NoSuchRecord
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
from arvfuse.sync import Rank, RankedLock

AnyRecord = CollectionRecord | ProjectRecord


@dataclass(slots=True)
class _Content:
    """What a store would hold. All but ``lock`` is guarded by it."""

    cluster: str
    home: str
    lock: RankedLock = field(default_factory=lambda: RankedLock(Rank.LEAF))
    projects: dict[str, ProjectRecord] = field(default_factory=dict)
    records: dict[str, CollectionRecord] = field(default_factory=dict)
    kept: dict[str, dict[Version, CollectionRecord]] = field(default_factory=dict)
    labels: dict[tuple[str, Version], str] = field(default_factory=dict)
    applied: dict[MountId, dict[str, Applied]] = field(default_factory=dict)
    texts: dict[PDH, bytes] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def record_locked(self, uuid: str, now_ns: int, *, include_trash: bool = False) -> CollectionRecord:
        record = self.records.get(uuid)
        if record is not None:
            record = rules.as_of(record, now_ns)
        if record is None or (record.is_trashed and not include_trash):
            raise NoSuchRecord(f"{uuid}: no such collection{' (it is in the trash)' if record else ''}")
        return record

    def project_locked(self, uuid: str) -> ProjectRecord:
        try:
            return self.projects[uuid]
        except KeyError as exc:
            raise NoSuchRecord(f"{uuid}: no such project") from exc

    def below_locked(self, owner: str, now_ns: int) -> list[AnyRecord]:
        """Live records of *owner*, projects first, each by name."""
        projects = [record for record in self.projects.values() if record.owner == owner]
        records = [record for record in self.live_locked(now_ns) if record.owner == owner]
        return [*sorted(projects, key=_by_name), *sorted(records, key=_by_name)]

    def live_locked(self, now_ns: int) -> list[CollectionRecord]:
        records = [rules.as_of(record, now_ns) for record in self.records.values()]
        return [record for record in records if not record.is_trashed]

    def named_locked(self, owner: str, name: str, now_ns: int) -> AnyRecord | None:
        found = (record for record in self.below_locked(owner, now_ns) if name and record.name == name)
        return next(found, None)

    def replace_locked(self, old: CollectionRecord, new: CollectionRecord, *, asked: bool) -> None:
        self.records[new.uuid] = new
        now_ns = new.modified_at_ns
        label = self.labels.get((old.uuid, old.version))
        if not rules.keeps(old, now_ns, asked=asked, label=label):
            return
        kept = self.kept[old.uuid]
        kept[old.version] = old
        candidates = [version for version in sorted(kept, reverse=True) if (old.uuid, version) not in self.labels]
        for version in rules.thinned((rules.Kept(v, kept[v].modified_at_ns) for v in candidates), now_ns):
            del kept[version]


class MemoryCatalog:
    """The port ``Catalog``. With *of*, another opening of the content of that one."""

    def __init__(self, *, clock: Clock, writer: str | None = None, of: MemoryCatalog | None = None) -> None:
        self.writer: Final = writer or identity.new_writer()
        self._clock: Final = clock
        self._content: Final[_Content] = _new_content(clock) if of is None else of._content

    def __repr__(self) -> str:
        return f"MemoryCatalog(writer={self.writer!r}, records={len(self._content.records)})"

    def home(self) -> ProjectRecord:
        return self.get_project(self._content.home)

    def get(self, uuid: str, *, version: Version | None = None, include_trash: bool = False) -> CollectionRecord:
        now_ns = self._clock.time_ns()
        with self._content.lock:
            record = self._content.record_locked(uuid, now_ns, include_trash=include_trash)
            if version is None or version == record.version:
                return record
            kept = self._content.kept[uuid].get(version)
        if kept is None:
            raise rules.not_kept(uuid, version)
        return rules.as_of(kept, now_ns)

    def get_project(self, uuid: str) -> ProjectRecord:
        with self._content.lock:
            return self._content.project_locked(uuid)

    def find_by_pdh(self, pdh: PDH) -> CollectionRecord | None:
        with self._content.lock:
            live = self._content.live_locked(self._clock.time_ns())
            kept = [version for record in live for version in self._content.kept[record.uuid].values()]
        return next((record for record in (*live, *kept) if record.pdh == pdh), None)

    def find(self, owner: str, name: str) -> AnyRecord | None:
        with self._content.lock:
            return self._content.named_locked(owner, name, self._clock.time_ns())

    def contents(self, owner: str) -> Sequence[AnyRecord]:
        with self._content.lock:
            self._content.project_locked(owner)
            return self._content.below_locked(owner, self._clock.time_ns())

    def collections(self, *, include_trash: bool = False) -> Sequence[CollectionRecord]:
        now_ns = self._clock.time_ns()
        with self._content.lock:
            records = [rules.as_of(record, now_ns) for record in self._content.records.values()]
        return sorted((record for record in records if include_trash or not record.is_trashed), key=_by_name)

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
        now_ns = self._clock.time_ns()
        text = strip(manifest)
        record = CollectionRecord(
            uuid=identity.new_uuid(self._content.cluster, identity.COLLECTION),
            owner=owner or self._content.home,
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
        with self._content.lock:
            self._content.project_locked(record.owner)
            holder = self._content.named_locked(record.owner, name, now_ns)
            if ensure_unique_name and holder is not None:
                record = record._replace(name=rules.unique_name(name, record.uuid))
            rules.check_free(self._content.named_locked(record.owner, record.name, now_ns), record)
            self._content.texts[record.pdh] = text
            self._content.records[record.uuid] = record
            self._content.kept[record.uuid] = {}
            self._applied_locked(record.uuid, applied)
            self._changed_locked(record, "create")
        return rules.as_of(record, now_ns)

    def create_project(self, *, name: str, owner: str | None = None) -> ProjectRecord:
        now_ns = self._clock.time_ns()
        record = ProjectRecord(
            uuid=identity.new_uuid(self._content.cluster, identity.GROUP),
            owner=owner or self._content.home,
            name=rules.check_name(name),
            modified_at_ns=now_ns,
        )
        with self._content.lock:
            self._content.project_locked(record.owner)
            rules.check_free(self._content.named_locked(record.owner, name, now_ns), record)
            self._content.projects[record.uuid] = record
            self._changed_locked(record, "create")
        return record

    def save(self, save: Save) -> CollectionRecord:
        return self.save_many([save])[0]

    def save_many(self, saves: Sequence[Save]) -> Sequence[CollectionRecord]:
        texts = {save.pdh: bytes(stripped_for(save.pdh, save.manifest)) for save in saves}
        with self._content.lock:
            now_ns = self._clock.time_ns()
            # First everything that can fail, on values of our own; a second save of one record sees the first.
            latest: dict[str, CollectionRecord] = {}
            steps = []
            for save in saves:
                old = latest.get(save.uuid) or self._content.record_locked(save.uuid, now_ns)
                new = rules.saved_record(old, save, now_ns)
                latest[save.uuid] = new or old
                steps.append((save, old, new))
            self._content.texts.update(texts)
            for save, old, new in steps:
                self._applied_locked(save.uuid, save.applied)
                if new is not None:
                    self._content.replace_locked(old, new, asked=save.keep_previous)
                    self._changed_locked(new)
        return [new or old for _, old, new in steps]

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
        if name is not None:
            rules.check_name(name, may_be_empty=True)
        with self._content.lock:
            now_ns = self._clock.time_ns()
            old = self._content.record_locked(uuid, now_ns)
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
            self._content.project_locked(new.owner)
            rules.check_free(self._content.named_locked(new.owner, new.name, now_ns), new)
            self._content.replace_locked(old, new, asked=False)
            self._changed_locked(new, old_owner=old.owner)
        return new

    def trash(self, uuid: str, *, expect: Version | None = None) -> None:
        with self._content.lock:
            now_ns = self._clock.time_ns()
            if uuid in self._content.projects:
                project = rules.trashed_project(self._content.projects[uuid], expect, now_ns)
                if self._content.below_locked(uuid, now_ns):
                    raise DirectoryNotEmpty(project.name, rules.HAS_CONTENTS)
                del self._content.projects[uuid]
                self._changed_locked(project, "trash")
                return
            old = self._content.record_locked(uuid, now_ns)
            rules.check_expected(old, expect)
            new = rules.next_record(old, now_ns, trash_at_ns=now_ns)
            assert new is not None
            self._content.replace_locked(old, new, asked=False)
            self._changed_locked(new)

    def versions(self, uuid: str) -> Sequence[CollectionRecord]:
        now_ns = self._clock.time_ns()
        with self._content.lock:
            current = self._content.record_locked(uuid, now_ns, include_trash=True)
            kept = self._content.kept[uuid]
            return [current, *(rules.as_of(kept[version], now_ns) for version in sorted(kept, reverse=True))]

    def label_version(self, uuid: str, version: Version, label: str | None) -> None:
        """See ``SqliteCatalog.label_version``."""
        if label is not None:
            rules.check_name(label)
        with self._content.lock:
            record = self._content.records.get(uuid)
            if record is None or (version != record.version and version not in self._content.kept[uuid]):
                raise rules.not_kept(uuid, version)
            self._content.labels.pop((uuid, version), None)
            if label is not None:
                self._content.labels[uuid, version] = label

    def labels(self, uuid: str) -> Mapping[Version, str]:
        """The names that kept versions of *uuid* were given."""
        with self._content.lock:
            return {version: label for (of, version), label in sorted(self._content.labels.items()) if of == uuid}

    def applied(self, mount: MountId) -> Mapping[str, Applied]:
        with self._content.lock:
            return dict(self._content.applied.get(mount, {}))

    def forget_applied(self, mount: MountId) -> None:
        with self._content.lock:
            self._content.applied.pop(mount, None)

    def manifest(self, pdh: PDH) -> bytes:
        with self._content.lock:
            text = self._content.texts.get(pdh)
        if text is None:
            raise NoSuchRecord(f"{pdh}: no manifest of that hash in this store")
        return text

    def manifest_path(self, pdh: PDH) -> Path | None:
        """None: there are no files."""
        return None

    def keep_manifest(self, pdh: PDH, manifest: bytes) -> None:
        text = bytes(stripped_for(pdh, manifest))
        with self._content.lock:
            self._content.texts[pdh] = text

    def feed(self) -> ChangeFeed:
        return PollingFeed(_MemoryChanges(self._content), self._clock)

    def close(self) -> None:
        """Nothing to give back; the content lives as long as somebody holds a catalog of it."""

    def _applied_locked(self, uuid: str, applied: Applied | None) -> None:
        if applied is not None:
            self._content.applied.setdefault(applied.mount, {})[uuid] = applied

    def _changed_locked(self, record: AnyRecord, event: str = "update", old_owner: str | None = None) -> None:
        self._content.changes.append(rules.change_of(record, self.writer, event, old_owner))


def _new_content(clock: Clock) -> _Content:
    cluster = identity.new_cluster()
    home = ProjectRecord(
        uuid=identity.new_uuid(cluster, identity.USER),
        owner=identity.system_user(cluster),
        name="home",
        kind="user",
        modified_at_ns=clock.time_ns(),
    )
    return _Content(cluster, home.uuid, projects={home.uuid: home})


class _MemoryChanges:
    """A ChangeSource over the list of changes."""

    def __init__(self, content: _Content) -> None:
        self._content: Final = content
        with content.lock:
            self._after = len(content.changes)

    def poll(self) -> Sequence[Change]:
        with self._content.lock:
            found = self._content.changes[self._after :]
        self._after += len(found)
        return found

    def close(self) -> None:
        pass


def _by_name(record: AnyRecord) -> tuple[str, str]:
    return record.name, record.uuid
