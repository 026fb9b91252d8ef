"""A tree whose changes are records: its lock, its place in the log, the numbers bound since the last commit point.

Threading: any thread. The lock (rank COLLECTION) guards all nodes of the tree.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Generic, Self, TypeVar, cast

from arvfuse.errors import ReadOnly, StaleNode
from arvfuse.model import records
from arvfuse.model.collections import CollectionRecord
from arvfuse.model.escapes import show
from arvfuse.model.manifests import Manifest
from arvfuse.model.records import CODES, Body
from arvfuse.sdk.nodes import TRIMMED, DirNode, FileNode, Node
from arvfuse.sdk.shared import Shared
from arvfuse.sdk.undo import Notes, UndoableTree
from arvfuse.sync import Rank, RankedLock

T = TypeVar("T", bound="LoggedTree")


class LoggedTree(UndoableTree):
    """One collection of a workspace. ``no`` is the node number of its root.

    *asof*: last record that a commit covered; *boundary*: last commit point; *changed_seq*: last record that changed
    something. first_change/last_change: monotonic seconds, 0 when nothing waits for a commit.
    """

    def __init__(
        self, shared: Shared, manifest: Manifest | None, record: CollectionRecord | None, *, kind: str, writable: bool
    ) -> None:
        super().__init__(
            manifest, reserve=shared.numbers.take, mtime_ns=record.modified_at_ns if record else shared.clock.time_ns()
        )
        self.shared: Final = shared
        self.kind: Final = kind
        self.writable = writable
        self.record = record
        self.uuid: str | None = record.uuid if record else None
        self.lock: Final = RankedLock(Rank.COLLECTION, self.no)
        self.settled: Final = threading.Condition(self.lock)  # type: ignore[arg-type] # a lock in all that Condition uses
        self.notes: Final = Notes(self.no, self.lock)
        self.version = int(record.version) if record else 0  # guarded by: lock, as all below
        self.pdh = str(record.pdh) if record else ""
        self.stamp = shared.stamps.next()
        self.asof = shared.log.seq  # records before us are none of ours, even if an earlier tree had our record
        self.boundary = 0
        self.changed_seq = self.asof
        self.first_change = 0.0
        self.last_change = 0.0
        self.failed_seq = 0  # changes up to here had their failure reported
        self.unsettled: dict[int, FileNode] = {}  # files with segments in the log or in buffer blocks
        self.retired = False  # for good, by sdk.closing
        self._gate = 0  # commit points and moves that wait for the writes in flight
        self._in_flight = 0
        self._base_file = -1  # log file that holds our newest Base record
        self._base_pdh = self.pdh

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.no} {self.uuid} v{self.version} seq={self.changed_seq} asof={self.asof}>"

    @property
    def dirty(self) -> bool:
        """Changes that no commit covered yet."""
        return self.changed_seq > self.asof

    @property
    def is_gated(self) -> bool:
        """A commit point, a move or a write of a block is under way."""
        return bool(self._gate or self._in_flight)

    def log(
        self, body: Body, wall_ns: int = 0, *, orphan: bool = False, flags: int = 0, counts: bool = True,
        source: Self | None = None,
    ) -> int:  # fmt: skip
        """Queue a record, behind a Base record in the same log file. *source*: another tree that it names."""
        flags |= records.ORPHAN if orphan else 0
        seq, _ = self.place(CODES[type(body)], records.encode(body), flags=flags, wall_ns=wall_ns, source=source)
        if counts:
            self._changed_at(seq)
        return seq

    def place(
        self, code: int, body: bytes, data: bytes | memoryview = b"", *, flags: int = 0, wall_ns: int = 0,
        source: Self | None = None,
    ) -> tuple[int, int]:  # fmt: skip
        """Queue a record; (its number, the address of *data*). A Base of every tree that it concerns stands before it
        in the same log file, because the files before that go when they are covered."""
        while True:
            self._ensure_base()
            if source is not None:
                source._ensure_base()
                if source._base_file != self._base_file:
                    continue
            placed = self.shared.append_in(self._base_file, self.no, code, body, data, flags=flags, wall_ns=wall_ns)
            if placed is not None:
                return placed

    def _ensure_base(self) -> None:
        """Let the current log file say on what our records build."""
        if self._base_file == self.shared.log.file_number:
            return
        record = self.record
        body = records.Base(
            self.kind, self.uuid, self.version, self._base_pdh, self.asof,
            record.name if record else "", record.owner if record else None,
        )  # fmt: skip
        self._base_file = self.shared.append(self.no, CODES[records.Base], records.encode(body))

    def rebase(self, seq: int, pdh: str) -> None:
        """A commit covered everything up to *seq*: our tree there is manifest *pdh*."""
        self.asof = seq
        self._base_pdh = pdh
        self._base_file = -1

    def stand_on(self, seq: int, pdh: str) -> None:
        """Our newest record *seq* made us manifest *pdh*, which the catalog has: that needs no commit. What comes later
        builds on it, so numbers of nodes are bound afresh. Lock held; taken back if *seq* cannot be written."""
        before = self.asof, self._base_pdh, self.stamp

        def undo() -> None:
            self.asof, self._base_pdh, self.stamp = before
            self._base_file = -1

        self.rebase(seq, pdh)
        self.stamp = self.shared.stamps.next()
        self.first_change = self.last_change = 0.0
        self.note_undo(undo)

    def bind(self, node: Node) -> None:
        """Make sure that the log says which entry the node's number means, since the last commit point.

        StaleNode in a directory that was removed: the log has no name for it any more."""
        chain: list[Node] = []
        at: Node | None = node
        while at is not None and at.stamp != self.stamp:
            chain.append(at)
            at = at.parent
        if at is None and chain and isinstance(chain[-1], DirNode) and chain[-1] is not self.root:
            raise StaleNode(show(node.name))
        for each in reversed(chain):
            if each.parent is not None:
                self.log(records.Adopt(each.no, each.parent.no, each.name), counts=False)
            each.stamp = self.stamp

    def check_writable(self) -> None:
        if not self.writable:
            raise ReadOnly()

    def check_attached(self, directory: DirNode) -> None:
        """StaleNode for a directory that was removed, or stood in one that was."""
        at = directory
        while at.parent is not None:
            at = at.parent
        if at is not self.root:
            raise StaleNode(show(directory.name))

    def held(self, node: Node) -> Holding[Self]:
        """The lock of the tree that the node is in now (a rename may have moved it). StaleNode if it was forgotten."""
        return Holding(node)

    @contextmanager
    def both_held(self, one: DirNode, other: DirNode) -> Iterator[None]:
        """Both directories' trees, in rank order. StaleNode if one was forgotten.

        Directories of live trees change their tree only under its lock."""
        while True:
            trees: dict[int, Any] = {one.tree.no: one.tree, other.tree.no: other.tree}
            locks = [trees[no].lock for no in sorted(trees)]
            with locks[0], locks[-1] if len(locks) > 1 else _Nothing():
                for node in (one, other):
                    if node.stamp == TRIMMED:
                        raise StaleNode(show(node.name))
                if one.tree is self and one.tree.no in trees and other.tree.no in trees:
                    yield
                    return
            if one.tree is not self:
                raise StaleNode(show(one.name))

    def note_undo(self, act: Callable[[], None]) -> None:
        """As UndoableTree.note_undo: the newest change is that of the newest record. Its record is queued already."""
        self.shared.undo.note(self.changed_seq, self.notes, act)

    def _changed_at(self, seq: int) -> None:
        before = self.changed_seq, self.first_change, self.last_change
        self.changed_seq = seq

        def undo() -> None:
            self.changed_seq, self.first_change, self.last_change = before

        self.note_undo(undo)
        now = self.shared.clock.monotonic()
        self.last_change = now
        if not self.first_change:
            self.first_change = now
            self.shared.begun()


class Holding(Generic[T]):
    """``with`` the lock of a node's tree, which is given. A class because this is the path of every request."""

    __slots__ = ("_node", "_tree")

    def __init__(self, node: Node) -> None:
        self._node: Final = node

    def __enter__(self) -> T:
        node = self._node
        while True:
            tree = cast(T, node.tree)  # nodes of logged trees are in logged trees
            tree.lock.acquire()
            if node.tree is tree and node.stamp != TRIMMED:
                self._tree = tree
                return tree
            tree.lock.release()
            if node.stamp == TRIMMED:
                raise StaleNode(show(node.name))

    def __exit__(self, *_: object) -> None:
        self._tree.lock.release()


class _Nothing:
    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None: ...
