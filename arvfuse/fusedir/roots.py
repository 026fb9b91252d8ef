"""The root of a store's mount, with ``home/`` and ``by_id/``.

``by_id`` shows what was asked for: a name that is exactly a uuid or a portable data hash is resolved when it is looked
up, and listed from then on. Any other name does not exist, and costs no request. Threading: any thread; tables are
guarded by the directory's lock, dict work only. Failure: an outage is StoreUnavailable, never NoSuchEntry (C4).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from arvfuse.errors import NoSuchRecord
from arvfuse.fresh.node import Attr
from arvfuse.fresh.pending import Pending, rescue, then
from arvfuse.fusedir.directory import VirtualDir, missing
from arvfuse.fusedir.host import Child, Host, Names, RecordInfo
from arvfuse.fusedir.names import identity
from arvfuse.fusedir.projects import ProjectDir, record_directory
from arvfuse.fusedir.trees import CollectionDir
from arvfuse.model.collections import Change
from arvfuse.model.escapes import show
from arvfuse.sync import Rank, RankedLock

HOME: Final = b"home"
BY_ID: Final = b"by_id"


class RootDir(VirtualDir):
    """``home`` and ``by_id``."""

    __slots__ = ("_home", "_home_no", "_lock", "_made_ns", "by_id")

    def __init__(self, host: Host, no: int) -> None:
        super().__init__(host, no, None)
        self.by_id: Final = ByIdDir(host, host.number(), self)
        self._home_no: Final = host.number()
        self._made_ns: Final = host.clock.time_ns()
        self._lock: Final = RankedLock(Rank.INODES, no + 1)
        self._home: ProjectDir | None = None  # guarded by: _lock

    @property
    def entry_keep_s(self) -> float:
        return self.host.settings.keep_s

    def attr(self) -> Attr:
        number = self.host.inodes.number(self)
        return self.host.directory_attr(
            number, writable=False, mtime_ns=self._made_ns, keep_s=self.host.settings.keep_s
        )

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        if name == BY_ID:
            return self.by_id
        if name == HOME:
            return self.home()
        raise missing(name)

    def listing(self) -> Names:
        return [(BY_ID, self.by_id.no, True), (HOME, self._home_no, True)]

    def home(self) -> Child | Pending[Child]:
        """The user's own project."""
        if self._home is not None:
            return self._home
        return then(self.host.engine.link.request("home"), self._came_home)

    def _came_home(self, reply: Mapping[str, Any]) -> Child:
        made = record_directory(self.host, self, RecordInfo.parse(reply["entry"]), number=self._home_no)
        assert isinstance(made, ProjectDir)
        with self._lock:
            if self._home is None:
                self._home = made
            return self._home


class ByIdDir(VirtualDir):
    """Collections and projects by uuid, collections by portable data hash."""

    __slots__ = ("_children", "_lock", "_made_ns")

    def __init__(self, host: Host, no: int, parent: VirtualDir | None) -> None:
        super().__init__(host, no, parent)
        self._made_ns: Final = host.clock.time_ns()
        self._lock: Final = RankedLock(Rank.INODES, no + 1)
        # name -> directory, and when it was last known to exist (monotonic seconds)
        self._children: dict[bytes, tuple[ProjectDir | CollectionDir, float]] = {}  # guarded by: _lock

    def attr(self) -> Attr:
        number = self.host.inodes.number(self)
        return self.host.directory_attr(
            number, writable=False, mtime_ns=self._made_ns, keep_s=self.host.settings.keep_s
        )

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        wanted = identity(name)
        if wanted is None:
            raise missing(name)
        now = self.host.clock.monotonic()
        with self._lock:
            known = self._children.get(name)
        # content never changes under its hash, and a record does not vanish unnoticed within the refresh time
        if known is not None and ("+" in wanted or now - known[1] < self.host.settings.refresh_s):
            return known[0]
        answer = self.host.engine.link.request("by_id", id=wanted)
        return rescue(
            then(answer, lambda reply: self._resolved(name, wanted, reply)), NoSuchRecord, lambda _: self._unknown(name)
        )

    def listing(self) -> Names:
        with self._lock:
            return sorted((name, child.no, True) for name, (child, _) in self._children.items())

    def changed(self, change: Change) -> None:
        """A record changed elsewhere; a trashed one is shown no more."""
        if change.event == "trash":
            self.trashed(change.uuid)

    def trashed(self, uuid: str) -> None:
        name = uuid.encode()
        self.host.shown.remove(uuid)
        with self._lock:
            known = self._children.pop(name, None)
        if known is not None:
            self.host.notices.entry(self.host.inodes.number(self), name)

    def known_names(self) -> list[bytes]:
        """Names that the kernel may have been told of."""
        with self._lock:
            return list(self._children)

    def _resolved(self, name: bytes, wanted: str, reply: Mapping[str, Any]) -> Child:
        info = RecordInfo.parse(reply["entry"])
        now = self.host.clock.monotonic()
        with self._lock:
            known = self._children.get(name)
        made = known[0] if known is not None else record_directory(self.host, self, info, identity=wanted)
        with self._lock:
            child, _ = self._children.get(name, (made, now))
            child.info = info
            self._children[name] = (child, now)
        if known is None and wanted == info.uuid and not info.is_project:
            self.host.shown.add(info.uuid, self)
        return child

    def _unknown(self, name: bytes) -> Child:
        self.host.shown.remove(show(name))
        with self._lock:
            self._children.pop(name, None)
        raise missing(name)
