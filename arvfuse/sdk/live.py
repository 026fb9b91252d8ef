"""A collection that can be changed: names, handles and commit points on top of content and log.

Every mutator changes the tree and queues the record under the tree's lock, then has the log written before it
returns (promise D1). Threading: any thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from arvfuse.errors import DirectoryNotEmpty, EntryExists, IsADirectory, LogFailed, NotADirectory
from arvfuse.model import records
from arvfuse.model.dirindex import DirectoryIndex
from arvfuse.model.escapes import show
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.blocks import BufferBlock
from arvfuse.sdk.content import ContentTree
from arvfuse.sdk.entries import ListedName, NeedsIndex, Snapshot
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path

EARLY_SEAL_BYTES: Final = 4 << 20  # a tail of this size is sealed when its last writer closes


class Renamed(NamedTuple):
    """What a rename moved, and what it replaced."""

    node: Node
    replaced: Node | None


class LiveTree(ContentTree):
    """What an engine and the library change."""

    # names

    def lookup(self, parent: DirNode, name: bytes) -> Node:
        """The node under *name*; NoSuchEntry."""
        with self.held(parent) as tree:
            return tree.child(parent, name)

    def peek(self, parent: DirNode, name: bytes) -> Node | None:
        """As lookup(), but None if there is nothing; *parent* itself if its names have to be fetched first."""
        with self.held(parent) as tree:
            entries = parent.entries
            if entries is None:
                try:
                    entries = tree.table(parent)
                except NeedsIndex:
                    return parent
            return entries.get(name)

    def peek_all(self, parent: DirNode, listed: Sequence[ListedName]) -> list[Node | None]:
        """The nodes under names that a listing gave, if their directory's names are there; see Entries.listed."""
        with self.held(parent):
            entries = parent.entries
            return [None] * len(listed) if entries is None else entries.listed(listed)

    def entries(self, parent: DirNode) -> list[tuple[bytes, Node]]:
        """A sorted snapshot of a directory. Makes all its nodes: to list big ones there is `names`."""
        with self.held(parent) as tree:
            return list(tree.table(parent).items())

    def names(self, parent: DirNode) -> Snapshot:
        """A snapshot of a directory's names, without a node for each."""
        with self.held(parent) as tree:
            return tree.table(parent).snapshot()

    def take_index(self, directory: DirNode, source: tuple[Manifest, Path], index: DirectoryIndex) -> None:
        """*index* is what *source* says: the names of *directory*, if it waits for them still."""
        with self.held(directory) as tree:
            if directory.entries is None and directory.source == source:
                tree.provide(directory, index)

    def read_directory(self, directory: DirNode) -> None:
        """Make the index of a big directory in this process, without holding anybody up but who wants the names."""
        source = directory.source
        if source is not None:
            self.take_index(directory, source, source[0].index(source[1]))

    def create(self, parent: DirNode, name: bytes, *, mode: int = -1, exclusive: bool = False) -> FileNode:
        """The file under *name*, made if it is missing. EntryExists (exclusive), IsADirectory, NoSpace."""
        self.shared.log.check_room()
        with self.held(parent) as tree:
            tree.check_attached(parent)
            old = tree.table(parent).get(name)
            if old is not None:
                if exclusive:
                    raise EntryExists(show(name))
                if isinstance(old, DirNode):
                    raise IsADirectory(show(name))
                return old
            tree.check_writable()
            now = tree.shared.clock.time_ns()
            file = FileNode(tree.shared.numbers.next(), tree, mtime_ns=now, mode=mode)
            tree.bind(parent)
            seq = tree.log(records.Create(file.no, parent.no, name, max(mode, 0)), now)
            file.stamp, file.changed_seq = tree.stamp, seq
            tree.attach(parent, name, file, now)
        tree.shared.flush(seq)
        return file

    def mkdir(self, parent: DirNode, name: bytes) -> DirNode:
        """A new directory; EntryExists, NoSpace."""
        self.shared.log.check_room()
        with self.held(parent) as tree:
            tree.check_attached(parent)
            if name in tree.table(parent):
                raise EntryExists(show(name))
            tree.check_writable()
            now = tree.shared.clock.time_ns()
            directory = DirNode(tree.shared.numbers.next(), tree, mtime_ns=now)
            tree.bind(parent)
            seq = tree.log(records.Mkdir(directory.no, parent.no, name), now)
            directory.stamp, directory.placed_seq = tree.stamp, seq
            tree.attach(parent, name, directory, now)
        tree.shared.flush(seq)
        return directory

    def unlink(self, parent: DirNode, name: bytes) -> FileNode:
        """Remove a file; its open handles go on (C3). IsADirectory."""
        with self.held(parent) as tree:
            node = tree.child(parent, name)
            if isinstance(node, DirNode):
                raise IsADirectory(show(name))
            seq, gone = tree._remove_locked(parent, name, node)
        tree.shared.flush(seq)
        tree._discard(gone)
        return node

    def rmdir(self, parent: DirNode, name: bytes) -> DirNode:
        """Remove an empty directory. NotADirectory, DirectoryNotEmpty."""
        with self.held(parent) as tree:
            node = tree.child(parent, name)
            if not isinstance(node, DirNode):
                raise NotADirectory(show(name))
            if not node.tree.is_empty(node):
                raise DirectoryNotEmpty(show(name))
            seq, gone = tree._remove_locked(parent, name, node)
        tree.shared.flush(seq)
        tree._discard(gone)
        return node

    def remove_tree(self, parent: DirNode, name: bytes) -> Node:
        """Remove an entry with all below it."""
        with self.held(parent) as tree:
            node = tree.child(parent, name)
            seq, gone = tree._remove_locked(parent, name, node)
        tree.shared.flush(seq)
        tree._discard(gone)
        return node

    def rename(
        self, parent: DirNode, name: bytes, new_parent: DirNode, new_name: bytes, *, replace: bool = True
    ) -> Renamed:
        """Move an entry, also to another tree of the workspace. What it replaces stays usable through open handles."""
        target = new_parent.tree
        assert isinstance(target, LiveTree)
        if target is self:
            return self._rename(parent, name, new_parent, new_name, replace=replace)
        self.close_gate()  # a write in flight ends in the tree in which it began
        try:
            with self.shared.sharing:
                return self._rename(parent, name, new_parent, new_name, replace=replace)
        finally:
            self.open_gate()

    def _rename(self, parent: DirNode, name: bytes, new_parent: DirNode, new_name: bytes, *, replace: bool) -> Renamed:
        target = new_parent.tree
        assert isinstance(target, LiveTree)
        gone: list[BufferBlock] = []
        with self.both_held(parent, new_parent):
            self.check_writable()
            target.check_writable()
            self.check_attached(parent)
            target.check_attached(new_parent)
            node = self.child(parent, name)
            replaced = self.check_rename(node, new_parent, new_name, replace=replace)
            if target.table(new_parent).get(new_name) is node:
                return Renamed(node, None)
            now = self.shared.clock.time_ns()
            self.bind(parent)
            target.bind(new_parent)
            keepsake = target._keepsake(replaced) if replaced is not None else None
            try:
                if replaced is not None:
                    gone = target._orphan_locked(replaced)
                if target is self:
                    seq = self.log(records.Rename(parent.no, name, new_parent.no, new_name), now)
                else:
                    body = records.Move(self.no, parent.no, name, node.no, new_parent.no, new_name)
                    seq = target.log(body, now, source=self)
            except LogFailed:
                if keepsake is not None:
                    keepsake()
                raise
            if keepsake is not None:
                target.note_undo(keepsake)
            if target is not self:
                self._changed_at(seq)
                self.shared.tie(self.no, target.no, seq)
                self._hand_over(node, target)
            self.move_entry(parent, name, new_parent, new_name, now)
            if isinstance(node, FileNode):  # a merge must not take it for what had the name before
                node.changed_seq = seq
            else:
                node.placed_seq = seq
            if replaced is not None:
                target._forget_locked(replaced)
            if target is not self:
                node.stamp = target.stamp  # the Move binds its number
        self.shared.flush(seq)
        self._discard(gone)
        return Renamed(node, replaced)

    # handles

    def opened(self, file: FileNode, *, write: bool) -> None:
        """A handle of the file was opened. NoSpace: not for writing while the disk is full."""
        if write:
            self.shared.log.check_room()
        with self.held(file):
            file.handles += 1
            file.writers += write

    def open_named(self, parent: DirNode, name: bytes) -> tuple[FileNode, bool] | None:
        """Find the file of a name, in one step with counting a handle of it; (file, False): not counted, all its bytes
        are stored and stay readable without. None: there is no file, or names to be fetched first."""
        with self.held(parent) as tree, suppress(NeedsIndex):
            file = tree.table(parent).get(name)
            if isinstance(file, FileNode):
                counted = bool(file.handles or file.buffers) or file.no in tree.unsettled
                file.handles += counted
                return file, counted
        return None

    def closed(self, file: FileNode, *, write: bool) -> None:
        """A handle was closed. Big tails start on their way; the content of an unlinked file goes with the last."""
        gone: list[BufferBlock] = []
        with self.held(file) as tree:
            file.handles -= 1
            file.writers -= write
            with suppress(LogFailed):  # nobody is left to whom it matters; what was written before is kept
                if not file.handles and file.parent is None:
                    gone = tree._orphan_locked(file)
                    if file.stamp >= 0 and tree.writable:
                        tree.log(records.Forget(file.no), orphan=True, counts=False)
                elif not file.writers:
                    for block in list(file.buffers.values()):
                        if block.size >= EARLY_SEAL_BYTES and not block.writers:
                            tree._seal_locked(block)
            seq = tree.shared.log.seq
        if gone:
            with suppress(LogFailed):  # then the file may have its name again: the bytes stay
                tree.shared.flush(seq)
                tree._discard(gone)

    def flush(self, file: FileNode, seen: int) -> int:
        """Raise a background failure that came after mark *seen*, else return the mark (promise D4).

        Keep ``file.error_mark`` as the next *seen* in either case."""
        with self.held(file):
            if file.error is not None and file.error_mark > seen:
                raise file.error
            return file.error_mark

    def fsync(self, file: FileNode | None) -> None:
        """Everything written so far survives a power cut (D2): spool data first, then the records that name them."""
        with self.lock:
            files = [file] if file is not None else list(self.unsettled.values())
            blocks: set[int] = set()
            for each in files:
                if not each.pristine:
                    blocks.update(s.ref for s in each.segments if isinstance(s.ref, int) and s.ref > 0)
        for number in sorted(blocks):
            self.shared.sync_block(number)
        if blocks:
            self.shared.sync_spool()
        self.shared.log.sync()

    # commit points

    def boundary_locked(self) -> int:
        """Seal every writable block and log the commit point; its number. Gate closed, lock held."""
        for file in list(self.unsettled.values()):
            for block in list(file.buffers.values()):
                self._seal_locked(block)
            file.inline_parts = 0
        seq = self.log(records.Boundary(), counts=False)
        self.boundary = seq
        self.stamp = self.shared.stamps.next()
        self.first_change = self.last_change = 0.0
        return seq

    def _remove_locked(self, parent: DirNode, name: bytes, node: Node) -> tuple[int, list[BufferBlock]]:
        self.check_writable()
        self.check_attached(parent)
        now = self.shared.clock.time_ns()
        self.bind(parent)
        keepsake = self._keepsake(node)
        try:
            gone = self._orphan_locked(node)
            seq = self.log(records.Remove(parent.no, name), now)
        except LogFailed:
            keepsake()
            raise
        self.note_undo(keepsake)
        self.detach(parent, name, now)
        self._forget_locked(node)
        return seq, gone

    def _keepsake(self, node: Node) -> Callable[[], None]:
        """What undoes _orphan_locked(*node*), which is about to be called."""
        files = [each for each in _with_all_below(node) if isinstance(each, FileNode)]
        before = [(each, each.parent, dict(each.buffers), each.no in self.unsettled) for each in files]

        def undo() -> None:
            for file, parent, buffers, unsettled in before:
                file.parent = parent
                file.buffers.update(buffers)
                if unsettled:
                    self.unsettled[file.no] = file

        return undo

    def _orphan_locked(self, node: Node) -> list[BufferBlock]:
        """A node is about to lose its name (or its last handle): open files get bound, others' blocks are let go."""
        gone: list[BufferBlock] = []
        for each in _with_all_below(node):
            if not isinstance(each, FileNode):
                continue
            if each.handles:
                self.bind(each)
            else:
                self.unsettled.pop(each.no, None)
                gone.extend(each.buffers.values())
                each.buffers.clear()
        for each in node.loaded() if isinstance(node, DirNode) else ():
            if isinstance(each, DirNode):
                each.stamp = -1
            elif each.handles:
                each.parent = None
        return gone

    def _forget_locked(self, node: Node) -> None:
        """Behind the record that took a node's name: what no handle holds ends with it, so nobody is to store it."""
        for each in _with_all_below(node):
            if isinstance(each, FileNode) and not each.handles and each.stamp >= 0:
                self.log(records.Forget(each.no), orphan=True, counts=False)

    def _hand_over(self, node: Node, target: LiveTree) -> None:
        """Files that move to another tree take their unsettled segments along; the Move unbinds every number below.

        It is the newest record. What they take along is as a copy there: needed until a commit covers it."""
        handed: list[tuple[FileNode, int]] = []
        for each in _with_all_below(node):
            each.stamp = -1
            if isinstance(each, FileNode) and self.unsettled.pop(each.no, None) is not None:
                target.unsettled[each.no] = each
                handed.append((each, each.copied_seq))
                each.copied_seq = self.changed_seq

        def undo() -> None:
            for file, copied_seq in handed:
                file.copied_seq = copied_seq
                del target.unsettled[file.no]
                self.unsettled[file.no] = file

        if handed:
            self.note_undo(undo)


def _with_all_below(node: Node) -> Iterable[Node]:
    """The node and every node below it that is in memory."""
    return node.loaded() if isinstance(node, DirNode) else (node,)
