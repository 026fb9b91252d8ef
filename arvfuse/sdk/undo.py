"""Taking back the changes of trees whose records could not be written: what a request was refused for is not there.

``UndoableTree`` notes for each primitive change how it is undone, under the number of its record; ``Undo`` keeps the
notes until the records are written. As nothing is taken behind a record that could not be written, undoing the notes
behind the last written one, newest first, leads exactly to what the log says.

Threading: notes are made under the lock of their tree; ``roll_back`` takes those locks, so its caller holds none of
them, nor a lock above ``FILE``.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Final, Protocol

from arvfuse.model.ranges import Ref
from arvfuse.sdk.nodes import DirNode, FileNode, Node
from arvfuse.sdk.tree import Tree
from arvfuse.sync import Rank, RankedLock

_LAST: Final = 1 << 62  # among the locks of that rank: whoever rolls back may hold that of a file


class _Flushed(Protocol):
    """What says up to which record all is written."""

    @property
    def flushed_seq(self) -> int: ...


_Note = tuple[int, int, Callable[[], None]]  # order among all, record, what undoes it; a plain tuple is made faster


class Notes:
    """Those of one tree, oldest first. Guarded by the lock of the tree."""

    __slots__ = ("lock", "no", "notes")

    def __init__(self, no: int, lock: RankedLock) -> None:
        self.no: Final = no
        self.lock: Final = lock
        self.notes: Final[deque[_Note]] = deque()


class Undo:
    """How the changes whose records are not written yet are undone, in their order.

    A note costs a few dict and deque operations: every change of a mount makes two or three."""

    def __init__(self, log: _Flushed) -> None:
        self._log: Final = log
        self._rolling: Final = RankedLock(Rank.FILE, _LAST)
        self._orders: Final = itertools.count()
        self._noted: Final[dict[int, Notes]] = {}  # trees with notes; each use is one dict operation

    def __len__(self) -> int:
        return sum(len(each.notes) for each in list(self._noted.values()))

    def note(self, seq: int, tree: Notes, act: Callable[[], None]) -> None:
        """*act* undoes a change that belongs to record *seq* of *tree*, whose lock is held."""
        flushed = self._log.flushed_seq
        notes = tree.notes
        while notes and notes[0][1] <= flushed:
            notes.popleft()
        if seq > flushed:
            if not notes:
                self._noted[tree.no] = tree
            notes.append((next(self._orders), seq, act))

    def roll_back(self) -> None:
        """Undo all that no written record has. When it returns that is done, whoever did it."""
        with self._rolling:
            while not self._try_roll_back():
                pass  # a move brought another tree in

    def _try_roll_back(self) -> bool:
        noted = dict(self._noted)
        with ExitStack() as locks:
            for no in sorted(noted):
                locks.enter_context(noted[no].lock)
            if self._noted.keys() - noted.keys():
                return False
            flushed = self._log.flushed_seq
            notes = [note for each in noted.values() for note in each.notes if note[1] > flushed]
            for no, each in noted.items():
                each.notes.clear()
                self._noted.pop(no, None)
            for _, _, act in sorted(notes, reverse=True):
                act()
        return True

    def forget(self, tree: Notes) -> None:
        """The tree is closed."""
        self._noted.pop(tree.no, None)


class UndoableTree(Tree):
    """A tree that notes how each of its primitive changes is undone."""

    def note_undo(self, act: Callable[[], None]) -> None:
        """*act* undoes a part of the newest change."""
        raise NotImplementedError

    def attach(self, parent: DirNode, name: bytes, node: Node, mtime_ns: int) -> None:
        """As Tree.attach."""
        before_ns = parent.mtime_ns
        super().attach(parent, name, node, mtime_ns)

        def undo() -> None:
            self.table(parent).remove(name)
            self.loaded -= 1
            node.parent = None
            parent.mtime_ns = before_ns

        self.note_undo(undo)

    def detach(self, parent: DirNode, name: bytes, mtime_ns: int) -> Node:
        """As Tree.detach."""
        before_ns = parent.mtime_ns
        node = super().detach(parent, name, mtime_ns)

        def undo() -> None:
            self.table(parent).add(name, node)
            self.loaded += 1
            node.parent, node.name = parent, name
            parent.mtime_ns = before_ns

        self.note_undo(undo)
        return node

    def move_entry(
        self, parent: DirNode, name: bytes, new_parent: DirNode, new_name: bytes, mtime_ns: int
    ) -> Node | None:
        """As Tree.move_entry."""
        moved = self.child(parent, name)
        source = moved.tree
        replaced = super().move_entry(parent, name, new_parent, new_name, mtime_ns)
        if moved.tree is not source:

            def undo() -> None:
                for each in moved.loaded() if isinstance(moved, DirNode) else (moved,):
                    each.tree = source

            self.note_undo(undo)
        return replaced

    def put_segment(self, file: FileNode, offset: int, length: int, ref: Ref, at: int, mtime_ns: int) -> None:
        """As Tree.put_segment."""
        self._note_content(file, offset, length)
        super().put_segment(file, offset, length, ref, at, mtime_ns)

    def cut(self, file: FileNode, size: int, mtime_ns: int) -> None:
        """As Tree.cut."""
        self._note_content(file, size, max(0, file.size - size))
        super().cut(file, size, mtime_ns)

    def set_segments(self, file: FileNode, parts: Iterable[tuple[int, Ref, int]], mtime_ns: int) -> None:
        """As Tree.set_segments."""
        self._note_content(file, 0, file.size)
        super().set_segments(file, parts, mtime_ns)

    def _note_content(self, file: FileNode, offset: int, length: int) -> None:
        """Note what [offset, offset+length) of the file is, which is about to be changed, and the file's size."""
        there, size, before_ns = file.segments.cover(offset, length), file.size, file.mtime_ns

        def undo() -> None:
            if size < file.size:
                file.segments.truncate(size)
            for start, part, ref, at in there:
                file.segments.replace(start, part, ref, at)
            self.changed(file, before_ns)

        self.note_undo(undo)
