"""Projects as directories: an entry for each subproject and each collection.

A listing is fetched when the directory is listed, and used until a change is told or the refresh time is over; until
then a name is asked for alone, so a path through a huge project costs one small request. Entries keep their numbers
for as long as the record lives, whatever it is called and whichever project it is in.

Changes are made in the catalog by the backend before the answer (a Pending, no lock held). Threading: any thread; the
tables are guarded by the directory's lock, dict work only. Failure: an outage is StoreUnavailable and changes nothing
here; a record that is gone is NoSuchEntry.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from arvfuse.errors import (
    DirectoryNotEmpty,
    EntryExists,
    NameTaken,
    NoSuchEntry,
    NoSuchRecord,
    NotADirectory,
    NotPermitted,
    NotSupported,
)
from arvfuse.fresh.node import Attr
from arvfuse.fresh.pending import Pending, rescue, then
from arvfuse.fresh.states import Event, Freshness, State
from arvfuse.fusedir.directory import VirtualDir, missing
from arvfuse.fusedir.host import Child, Host, Names, RecordInfo
from arvfuse.fusedir.names import may_differ, record_name, shown_name
from arvfuse.fusedir.trees import CollectionDir
from arvfuse.model.collections import Change
from arvfuse.model.escapes import show
from arvfuse.sdk.nodes import FileNode
from arvfuse.sync import Rank, RankedLock


class ProjectDir(VirtualDir):
    """One project at one place in the mount.

    Invariants: every value of _names is in _children; a listing is complete iff the state is FRESH.
    """

    __slots__ = ("_children", "_flight", "_fresh", "_lock", "_names", "info")

    def __init__(self, host: Host, no: int, parent: VirtualDir | None, info: RecordInfo) -> None:
        super().__init__(host, no, parent)
        self.info = info  # replaced as a whole
        self._lock: Final = RankedLock(Rank.INODES, no + 1)
        self._fresh: Final = Freshness()  # guarded by: _lock
        self._flight: Pending[Any] | None = None  # guarded by: _lock; the listing under way
        self._names: dict[bytes, ProjectDir | CollectionDir] = {}  # guarded by: _lock
        self._children: dict[str, ProjectDir | CollectionDir] = {}  # guarded by: _lock; by uuid

    def __repr__(self) -> str:
        return f"<ProjectDir {self.no} {self.info.uuid} {self._fresh.state.name} names={len(self._names)}>"

    # what the kernel asks

    def attr(self) -> Attr:
        keep_s = self.host.settings.refresh_s
        number = self.host.inodes.number(self)
        return self.host.directory_attr(number, writable=True, mtime_ns=self.info.modified_at_ns, keep_s=keep_s)

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        now = self.host.clock.monotonic()
        with self._lock:
            fresh = self._fresh.is_fresh(now, self.host.settings.refresh_s)
            child = self._names.get(name)
        if fresh:
            if child is None:
                raise missing(name)
            return child
        try:
            text = record_name(name)
        except (ValueError, OSError):  # a name that no record can have
            raise missing(name) from None
        answer = self.host.engine.link.request("find", owner=self.info.uuid, name=text)
        return then(answer, lambda found: self._found(name, found))

    def listing(self) -> Names | Pending[Names]:
        return then(self._refreshed(), lambda _: self._snapshot())

    def create(self, name: bytes, *, mode: int, exclusive: bool) -> FileNode:
        raise NotSupported(show(name), "a project holds collections; make a directory first")

    def unlink(self, name: bytes) -> None:
        raise NotSupported(show(name), "a project holds no files")

    def mkdir(self, name: bytes) -> Child | Pending[Child]:
        """A new collection record."""
        text = record_name(name)
        answer = self.host.engine.link.request("mkdir", owner=self.info.uuid, name=text)
        made = then(answer, lambda reply: self._made(name, reply))
        return rescue(made, NameTaken, lambda _: _raise(EntryExists(show(name))))

    def rmdir(self, name: bytes) -> Pending[None] | None:
        """Trash an empty collection."""
        return then(self.lookup(name), lambda child: self._remove(name, child))

    def rename(self, name: bytes, target: ProjectDir, new_name: bytes) -> Pending[None] | None:
        """Rename a collection, or give it to another project. EntryExists whatever stands at the new name."""
        text = record_name(new_name)
        return then(self.lookup(name), lambda child: self._rename(name, child, target, new_name, text))

    # what the catalog tells

    def changed(self, change: Change | None = None) -> None:
        """Something in or about this project changed elsewhere: ask again, and let the kernel ask again."""
        with self._lock:
            self._fresh.advance(Event.CHANGED)
            child = self._children.get(change.uuid) if change is not None else None
            stale = [name for name, known in self._names.items() if change is None or known is child]
            if child is not None and change is not None and change.event == "trash":
                self._drop_locked(child)
        number = self.host.inodes.number(self)
        for name in stale:
            self.host.notices.entry(number, name)
        self.host.notices.node(number, attributes_only=True)

    @property
    def freshness(self) -> State:
        return self._fresh.state

    def known_names(self) -> list[bytes]:
        """Names that the kernel may have been told of."""
        with self._lock:
            return list(self._names)

    def check_invariants(self) -> None:
        with self._lock:
            children = set(map(id, self._children.values()))
            assert all(id(child) in children for child in self._names.values())

    # listing

    def _refreshed(self) -> Pending[Any] | None:
        """The listing is fresh when this is settled; one request however many ask."""
        now = self.host.clock.monotonic()
        with self._lock:
            if self._fresh.is_fresh(now, self.host.settings.refresh_s):
                return None
            if self._flight is not None:
                return self._flight
            flight: Pending[Any] = Pending()
            self._flight = flight
            self._fresh.advance(Event.START)
        # The flight is settled below, never under the lock: continuations of other requests run in it.
        answer = self.host.engine.link.request("contents", owner=self.info.uuid)
        answer.add_done_callback(lambda source: self._landed(source, flight))
        return flight

    def _landed(self, source: Pending[dict[str, Any]], flight: Pending[Any]) -> None:
        failure = source.exception()
        if failure is None:
            try:
                self._load([RecordInfo.parse(entry) for entry in source.result()["entries"]])
            except (KeyError, TypeError, ValueError) as malformed:
                failure = malformed
        with self._lock:
            self._flight = None
            self._fresh.advance(Event.FAILED if failure else Event.LOADED, self.host.clock.monotonic())
        if failure is not None:
            flight.set_exception(failure)
        else:
            flight.set_result(None)

    def _load(self, records: Sequence[RecordInfo]) -> None:
        """Take a complete listing; of two records that show as one name the first wins."""
        fresh = {info.uuid: self._make(info) for info in records if info.uuid not in self._children}
        gone: list[bytes] = []
        with self._lock:
            names: dict[bytes, ProjectDir | CollectionDir] = {}
            children: dict[str, ProjectDir | CollectionDir] = {}
            for info in records:
                name = shown_name(info.name)
                if name is None or name in names:
                    continue
                child = self._children.get(info.uuid) or fresh[info.uuid]
                child.info = info
                names[name] = children[info.uuid] = child
            gone = [name for name, child in self._names.items() if names.get(name) is not child]
            self._names, self._children = names, children
        number = self.host.inodes.number(self)
        for name in gone:
            self.host.notices.entry(number, name)

    def _snapshot(self) -> Names:
        with self._lock:
            return sorted((name, child.no, True) for name, child in self._names.items())

    # one name

    def _found(self, name: bytes, reply: Mapping[str, Any]) -> Child | Pending[Child]:
        entry = reply.get("entry")
        if entry is None:
            if may_differ(name):
                # the record may be called otherwise ("a/b" shows as a_b): only the listing knows
                return then(self._refreshed(), lambda _: self._listed(name))
            with self._lock:
                self._names.pop(name, None)
            raise missing(name)
        return self._adopt(name, RecordInfo.parse(entry))

    def _listed(self, name: bytes) -> Child:
        with self._lock:
            child = self._names.get(name)
        if child is None:
            raise missing(name)
        return child

    def _made(self, name: bytes, reply: Mapping[str, Any]) -> Child:
        child = self._adopt(name, RecordInfo.parse(reply["entry"]))
        self._changed_here()
        return child

    def _remove(self, name: bytes, child: Child) -> Pending[None] | None:
        if isinstance(child, ProjectDir):
            raise NotPermitted(show(name), "projects are not removed by rmdir")
        if not isinstance(child, CollectionDir):
            raise NotADirectory(show(name))
        return then(child.listing(), lambda names: self._trash(name, child, names))

    def _trash(self, name: bytes, child: CollectionDir, names: Names) -> Pending[None] | None:
        if names:
            raise DirectoryNotEmpty(show(name))
        answer = self.host.engine.link.request("trash", uuid=child.identity)
        done = then(answer, lambda _: self._trashed(child))
        return rescue(done, NoSuchRecord, lambda _: _raise(missing(name)))

    def _trashed(self, child: CollectionDir) -> None:
        with self._lock:
            self._drop_locked(child)
        self._changed_here()
        for other in self.host.shown.at(child.identity):
            if isinstance(other, VirtualDir):
                other.trashed(child.identity)

    def _rename(
        self, name: bytes, child: Child, target: ProjectDir, new_name: bytes, text: str
    ) -> Pending[None] | None:
        if not isinstance(child, CollectionDir):
            raise NotPermitted(show(name), "only collections are moved between projects")
        if target is self and name == new_name:
            return None

        def go_on(taken: Child | None) -> Pending[None] | None:
            if taken is not None and taken is not child:
                raise EntryExists(show(new_name))
            answer = self.host.engine.link.request("rename", uuid=child.identity, owner=target.info.uuid, name=text)
            done = then(answer, lambda _: self._renamed(child, target, new_name))
            done = rescue(done, NameTaken, lambda _: _raise(EntryExists(show(new_name))))
            return rescue(done, NoSuchRecord, lambda _: _raise(missing(name)))

        try:
            taken: Child | Pending[Child] | None = target.lookup(new_name)
        except NoSuchEntry:
            taken = None
        return then(rescue(taken, NoSuchEntry, lambda _: None), go_on)

    def _renamed(self, child: CollectionDir, target: ProjectDir, new_name: bytes) -> None:
        with self._lock:
            self._drop_locked(child)
        child.parent = target
        with target._lock:
            target._children[child.identity] = child
            target._names[new_name] = child
        self._changed_here()
        if target is not self:
            target._changed_here()

    # tables

    def _adopt(self, name: bytes, info: RecordInfo) -> ProjectDir | CollectionDir:
        """The child for a record that stands under *name* now."""
        with self._lock:
            child = self._children.get(info.uuid)
        made = child if child is not None else self._make(info)
        with self._lock:
            child = self._children.setdefault(info.uuid, made)
            child.info = info
            for old in [known for known, other in self._names.items() if other is child and known != name]:
                del self._names[old]
            self._names[name] = child
        return child

    def _make(self, info: RecordInfo) -> ProjectDir | CollectionDir:
        return record_directory(self.host, self, info)

    def _drop_locked(self, child: ProjectDir | CollectionDir) -> None:
        for name in [known for known, other in self._names.items() if other is child]:
            del self._names[name]
        for uuid in [known for known, other in self._children.items() if other is child]:
            del self._children[uuid]

    def _changed_here(self) -> None:
        """We changed the project and our own table: a listing under way is out of date; so are other places."""
        with self._lock:
            self.info = self.info._replace(modified_at_ns=self.host.clock.time_ns())
            if self._fresh.refreshing:
                self._fresh.advance(Event.CHANGED)
        for other in self.host.shown.at(self.info.uuid):
            if other is not self and isinstance(other, ProjectDir):
                other.changed()


def record_directory(
    host: Host, parent: VirtualDir, info: RecordInfo, *, number: int = 0, identity: str = ""
) -> ProjectDir | CollectionDir:
    """A directory that shows the record below *parent*; *number* 0: a new one, *identity*: if not the uuid."""
    number = number or host.number()
    if not info.is_project:
        return CollectionDir(host, number, parent, identity=identity or info.uuid, info=info)
    made = ProjectDir(host, number, parent, info)
    host.shown.add(info.uuid, made)
    return made


def _raise(error: Exception) -> Any:
    raise error
