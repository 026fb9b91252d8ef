"""What all directories of a mount share: its parts, its settings, and which numbers stand for which directory.

One collection is one tree per mount, however many paths lead to it (home/ and by_id/). Its files have one number
everywhere, so that the kernel has one page cache for each. A directory must have one number *per path*, because the
kernel gives a directory inode one name only and moves it about otherwise. So the first position at which a tree is
opened shows directories by their own numbers, any further position by an ``Alias`` with a number of its own.

Threading: any thread; the lock is held for dict work. Failure: none of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from arvfuse.fresh.node import DIRECTORY_BYTES, Attr, NumberAllocator, Space, VirtualNode
from arvfuse.fresh.pending import Pending, then
from arvfuse.fusedir.lingering import Lingering
from arvfuse.fusefile import live_tree
from arvfuse.inodes import ROOT, Inodes
from arvfuse.notify import Notifier
from arvfuse.ports import Clock
from arvfuse.sdk.entries import NeedsIndex, Snapshot
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sync import Rank, RankedLock

U = TypeVar("U")

_DIRECTORY_MODE: Final = 0o777
_FILE_MODE: Final = 0o777
_WRITE_BITS: Final = 0o222
_ALL_BITS: Final = 0o7777


class Link(Protocol):
    """Requests to the backend; failures are classes of ``arvfuse.errors``."""

    def request(self, op: str, **args: Any) -> Pending[dict[str, Any]]: ...


class NumberSource(Protocol):
    """The part of a workspace that directories need."""

    @property
    def numbers(self) -> NumberAllocator: ...


class Engine(Protocol):
    """What a mount's directories are composed with. Nothing here waits: what takes time is a Pending."""

    @property
    def link(self) -> Link: ...

    @property
    def workspace(self) -> NumberSource: ...

    def open_collection(self, identity: str) -> Pending[LiveTree]:
        """The live tree of a uuid or portable data hash: one per collection and mount. NoSuchRecord."""
        ...

    def read_directory(self, directory: DirNode) -> Pending[None]:
        """The names of a directory that is too big to be parsed here are there, for as long as they are used."""
        ...

    def commit(self, trees: Sequence[LiveTree]) -> Pending[Any]:
        """All that the trees hold now is stored and saved; the failure of one is the failure of the whole."""
        ...

    def forget(self, live: LiveTree) -> None:
        """The tree was closed: the next who asks gets another."""
        ...

    def statfs(self) -> Space | Pending[Space]: ...

    def room(self) -> Pending[None] | None:
        """None while a writer may go on; else what is settled when the store has caught up. StoreUnavailable."""
        ...


class Settings(NamedTuple):
    """Of one mount. Seconds."""

    read_only: bool = True
    refresh_s: float = 15.0  # how long the kernel keeps what the catalog tells
    keep_s: float = 60.0  # how long it keeps what only this mount changes: merges send notices


class Position(Protocol):
    """A place in the mount at which a tree's root is shown."""

    @property
    def no(self) -> int: ...

    def tree_closed(self, live: LiveTree) -> None:
        """*live* is not to be used any more."""
        ...


class Alias(VirtualNode):
    """A directory of a collection, seen at another path than its first."""

    __slots__ = ("node", "position")

    def __init__(self, no: int, position: Position, node: DirNode) -> None:
        super().__init__(no)
        self.position: Final = position
        self.node: Final = node


class Shown:
    """At which directories a record is shown, by uuid."""

    def __init__(self) -> None:
        self._lock: Final = RankedLock(Rank.LEAF)
        self._at: dict[str, list[VirtualNode]] = {}  # guarded by: _lock

    def add(self, uuid: str, directory: VirtualNode) -> None:
        with self._lock:
            self._at.setdefault(uuid, []).append(directory)

    def at(self, uuid: str) -> list[VirtualNode]:
        with self._lock:
            return list(self._at.get(uuid, ()))

    def remove(self, uuid: str) -> None:
        """The record is gone."""
        with self._lock:
            self._at.pop(uuid, None)


class Host:
    """Parts and settings of one mount's directories."""

    def __init__(self, engine: Engine, notices: Notifier, clock: Clock, settings: Settings) -> None:
        self.engine: Final = engine
        self.notices: Final = notices
        self.clock: Final = clock
        self.settings: Final = settings
        self.lingering: Final = Lingering()
        self.shown: Final = Shown()  # projects, and what by_id resolved
        self._inodes: Inodes | None = None  # set once, before the first request

        self._lock: Final = RankedLock(Rank.INODES, 1)
        self._positions: dict[int, list[Position]] = {}  # guarded by: _lock; tree -> where it is shown
        self._aliases: dict[tuple[int, int], Alias] = {}  # guarded by: _lock; (position, directory) -> alias
        self._faces: dict[int, list[Alias]] = {}  # guarded by: _lock; directory -> its aliases

    @property
    def inodes(self) -> Inodes:
        assert self._inodes is not None
        return self._inodes

    @inodes.setter
    def inodes(self, inodes: Inodes) -> None:
        self._inodes = inodes

    def tell_of(self, file: FileNode) -> bool:
        """The kernel is about to be told of *file* once more; False, and it is not, if that lost its name meanwhile."""
        self.inodes.remember(file)
        if file.parent is None:
            self.not_told(file)
            return False
        return True

    def not_told(self, file: FileNode) -> None:
        """The kernel was not told of a *file* that was remembered: it may have been the last to know it."""
        for node in self.inodes.forget(((file.no, 1),)):
            self.lingering.forgotten(node.no)

    def number(self) -> int:
        """A new node number; the kernel's root number stands for the root alone."""
        while (number := self.engine.workspace.numbers.next()) <= ROOT:
            pass
        return number

    def timeout(self, seconds: float) -> float:
        """How long the kernel may keep something: nothing while notices were lost."""
        return 0.0 if self.notices.distrusted else seconds

    def shown_at(self, live: LiveTree, position: Position) -> None:
        """*live* is shown at *position*; the first one uses the directories' own numbers."""
        with self._lock:
            positions = self._positions.setdefault(live.no, [])
            if position not in positions:
                positions.append(position)

    def tree_closed(self, live: LiveTree) -> None:
        """*live* was closed: where it was shown it is opened again when somebody asks."""
        self.engine.forget(live)
        with self._lock:
            positions = self._positions.pop(live.no, [])
        for position in positions:
            position.tree_closed(live)

    def is_first(self, node: DirNode, position: Position | None) -> bool:
        """True if *position* (None: yes) shows the tree of *node* by its own numbers."""
        if position is None:
            return True
        positions = self._positions.get(node.tree.no)  # one dict read, and the first of a list never changes
        return positions is None or positions[0] is position

    def face(self, node: DirNode, position: Position | None) -> DirNode | Alias:
        """What stands for directory *node* below *position* (None: the tree's first position)."""
        if position is None or self.is_first(node, position):
            return node
        with self._lock:
            known = self._aliases.get((position.no, node.no))
        if known is not None and known.node is node:  # else that of a node that was trimmed
            return known
        made = Alias(self.number(), position, node)
        with self._lock:
            alias = self._aliases.get((position.no, node.no))
            if alias is None or alias.node is not node:
                alias = self._aliases[position.no, node.no] = made
                self._faces.setdefault(node.no, []).append(made)
        return alias

    def numbers_of(self, node: DirNode) -> list[int]:
        """All numbers by which the kernel may know the directory."""
        with self._lock:
            if node is node.tree.root:
                nodes: list[Any] = list(self._positions.get(node.no, ()))
            else:
                nodes = [node, *self._faces.get(node.no, ())]
        return [self.inodes.number(known) for known in nodes]

    def evict(self, alias: Alias) -> None:
        """The kernel does not know the alias any more."""
        with self._lock:
            if self._aliases.get((alias.position.no, alias.node.no)) is alias:
                del self._aliases[alias.position.no, alias.node.no]
            faces = self._faces.get(alias.node.no, [])
            if alias in faces:
                faces.remove(alias)
            if not faces:
                self._faces.pop(alias.node.no, None)

    def name_changed(self, directory: DirNode, name: bytes, *, told: int = 0) -> None:
        """The entry is not what it was: the kernel forgets it under every number but *told*, which knows."""
        if told == directory.no and directory.no not in self._faces:
            return  # the usual case: one path leads here, and the request came by it
        for number in self.numbers_of(directory):
            if number != told and self.inodes.knows(number):
                self.notices.entry(number, name)
                self.notices.node(number)  # and the listing that it keeps

    def file_attr(self, node: FileNode) -> Attr:
        return _attr_of(node, self._file_bits(live_tree(node)), self.timeout(self.settings.keep_s))

    def file_attrs(self, directory: DirNode, files: Iterable[FileNode]) -> list[Attr]:
        """As file_attr() of each of *files*, which are in *directory*."""
        bits, keep_s = self._file_bits(live_tree(directory)), self.timeout(self.settings.keep_s)
        return [_attr_of(file, bits, keep_s) for file in files]

    def _file_bits(self, live: LiveTree) -> int:
        """Of the mode of its files, those that are shown."""
        return _ALL_BITS if self.may_write(live) else ~_WRITE_BITS

    def directory_attr(self, no: int, *, writable: bool, mtime_ns: int, keep_s: float, mode: int = -1) -> Attr:
        """*mode* -1: the usual one."""
        bits = mode if mode >= 0 else _DIRECTORY_MODE
        if not writable or self.settings.read_only:
            bits &= ~_WRITE_BITS
        return Attr(no, True, bits, DIRECTORY_BYTES, mtime_ns, mtime_ns, self.timeout(keep_s))

    def reading(self, use: Callable[[], U]) -> U | Pending[U]:
        """What *use* returns; a Pending where a directory's names have to be fetched before. *use* changes nothing
        before it has all names that it needs."""
        try:
            return use()
        except NeedsIndex as needed:
            return self.read_first(needed, lambda: self.reading(use))

    def read_first(self, needed: NeedsIndex, go_on: Callable[[], U | Pending[U]]) -> U | Pending[U]:
        """*go_on* when the names that were needed are there."""
        return then(self.engine.read_directory(needed.directory), lambda _: go_on())

    def may_write(self, live: LiveTree) -> bool:
        return live.writable and not self.settings.read_only


def _attr_of(file: FileNode, bits: int, keep_s: float) -> Attr:
    mode = file.mode if file.mode >= 0 else _FILE_MODE
    return Attr(file.no, False, mode & bits, file.size, file.mtime_ns, file.mtime_ns, keep_s)


class RecordInfo(NamedTuple):
    """What a directory shows of a record."""

    uuid: str
    is_project: bool
    name: str
    modified_at_ns: int

    @classmethod
    def parse(cls, entry: Mapping[str, Any]) -> RecordInfo:
        return cls(
            uuid=str(entry["uuid"]),
            is_project=entry["type"] == "project",
            name=str(entry["name"]),
            modified_at_ns=int(entry.get("modified_at_ns") or 0),
        )


Child = FileNode | DirNode | VirtualNode
Names = list[tuple[bytes, int, bool]] | Snapshot  # name, number, is a directory
