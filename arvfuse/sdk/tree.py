"""One collection as a tree: the primitive changes that live trees and replicas share, and its manifest text.

No locks, no I/O, no log: the owner guards it. Everything here is the same whether a change comes from a caller or
from a record, which is why a tree and the replay of its records are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final

from arvfuse.errors import DirectoryNotEmpty, EntryExists, InvalidPath, IsADirectory, NoSuchEntry, NotADirectory
from arvfuse.model.escapes import show
from arvfuse.model.locators import BLOCK_BYTES, zero_locator
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE, Ref, SegmentMap
from arvfuse.model.rendering import move_lines, render_line, render_placeholder
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path

PartsOf = Callable[[FileNode], list[tuple[int, Ref, int]]]


class Tree:
    """The nodes below one root. *number* gives numbers to nodes that come from the base text.

    Invariants: entry.parent is the directory that holds it and entry.name its key; a directory with a changed line
    has below_changed set on itself and on all above it.
    """

    def __init__(self, manifest: Manifest | None, *, number: Callable[[], int], mtime_ns: int = 0) -> None:
        self._number: Final = number
        self.loaded = 0  # nodes in memory, about: what a removed directory held is found out by ``sdk.trimming``
        self.root = DirNode(number(), self, (manifest, ()) if manifest is not None else None, mtime_ns=mtime_ns)

    @property
    def no(self) -> int:
        return self.root.no

    def new_number(self) -> int:
        """A number for a new node."""
        return self._number()

    # names

    def table(self, parent: DirNode) -> dict[bytes, Node]:
        """The names of a directory: the table itself, not a copy."""
        if parent.entries is not None:
            return parent.entries
        entries = parent.load(self._number)
        self.loaded += len(entries)
        return entries

    def child(self, parent: DirNode, name: bytes) -> Node:
        try:
            return self.table(parent)[name]
        except KeyError:
            raise NoSuchEntry(show(name)) from None

    def find(self, path: Path) -> Node | None:
        """The node at *path*; None if a name is missing; NotADirectory if the path goes through a file."""
        node: Node = self.root
        for name in path:
            if not isinstance(node, DirNode):
                raise NotADirectory(show(node.name))
            found = self.table(node).get(name)
            if found is None:
                return None
            node = found
        return node

    def attach(self, parent: DirNode, name: bytes, node: Node, mtime_ns: int) -> None:
        """Put *node* under *name*; EntryExists if it is taken."""
        entries = self.table(parent)
        if name in entries:
            raise EntryExists(show(name))
        entries[name] = node
        self.loaded += 1
        node.parent, node.name = parent, name
        self._touched(parent, mtime_ns)

    def detach(self, parent: DirNode, name: bytes, mtime_ns: int) -> Node:
        """Take the entry out, with all below it."""
        node = self.child(parent, name)
        del self.table(parent)[name]
        self.loaded -= 1
        node.parent = None
        self._touched(parent, mtime_ns)
        return node

    def check_rename(self, node: Node, new_parent: DirNode, new_name: bytes, *, replace: bool) -> Node | None:
        """What *node* would replace at the new name. Raises as rename(2) does."""
        above: DirNode | None = new_parent
        while above is not None:
            if above is node:
                raise InvalidPath(show(new_name), "a directory cannot move into itself")
            above = above.parent
        old = new_parent.tree.table(new_parent).get(new_name)
        if old is None or old is node:
            return None
        if not replace:
            raise EntryExists(show(new_name))
        if isinstance(old, DirNode):
            if not isinstance(node, DirNode):
                raise IsADirectory(show(new_name))
            if self.table(old):
                raise DirectoryNotEmpty(show(new_name))
        elif isinstance(node, DirNode):
            raise NotADirectory(show(new_name))
        return old

    def move_entry(
        self, parent: DirNode, name: bytes, new_parent: DirNode, new_name: bytes, mtime_ns: int
    ) -> Node | None:
        """Move the entry, also from or to another tree; the node that stood at the new name, if any."""
        node = self.child(parent, name)
        target = new_parent.tree
        if target.table(new_parent).get(new_name) is node:
            return None
        replaced = None
        if new_name in target.table(new_parent):
            replaced = target.detach(new_parent, new_name, mtime_ns)
        self.detach(parent, name, mtime_ns)
        if node.tree is not target:
            if isinstance(node, DirNode):
                for below in node.loaded():
                    below.tree = target
            node.tree = target
        target.attach(new_parent, new_name, node, mtime_ns)
        return replaced

    # content

    def put_segment(self, file: FileNode, offset: int, length: int, ref: Ref, at: int, mtime_ns: int) -> None:
        """[offset, offset+length) of the file is now *ref*[at:]."""
        file.segments.replace(offset, length, ref, at)
        self.changed(file, mtime_ns)

    def cut(self, file: FileNode, size: int, mtime_ns: int) -> None:
        file.segments.truncate(size)
        self.changed(file, mtime_ns)

    def set_segments(self, file: FileNode, parts: Iterable[tuple[int, Ref, int]], mtime_ns: int) -> None:
        """Replace the whole content."""
        file.segments = SegmentMap(parts)
        self.changed(file, mtime_ns)

    def changed(self, file: FileNode, mtime_ns: int) -> None:
        """Note a change of the file's content."""
        file.mtime_ns = mtime_ns
        file.version += 1
        if file.parent is not None and not file.parent.files_changed:
            self._line_changed(file.parent)

    def _touched(self, directory: DirNode, mtime_ns: int) -> None:
        directory.mtime_ns = mtime_ns
        self._line_changed(directory)

    def _line_changed(self, directory: DirNode) -> None:
        directory.files_changed = True
        above: DirNode | None = directory
        while above is not None and not above.below_changed:
            above.below_changed = True
            above = above.parent

    # text

    def files(self) -> Iterator[FileNode]:
        """Every file that is in memory, in path order."""
        stack: list[DirNode] = [self.root]
        while stack:
            directory = stack.pop()
            if directory.entries is None:
                continue
            names = sorted(directory.entries)
            for name in names:
                node = directory.entries[name]
                if isinstance(node, FileNode):
                    yield node
            for name in reversed(names):
                node = directory.entries[name]
                if isinstance(node, DirNode):
                    stack.append(node)

    def changed_directories(self) -> Iterator[DirNode]:
        """Every directory whose own line changed, in path order."""
        stack = [self.root]
        while stack:
            directory = stack.pop()
            if not directory.below_changed:
                continue
            if directory.files_changed:
                yield directory
            for name in sorted(directory.entries or (), reverse=True):
                node = (directory.entries or {})[name]
                if isinstance(node, DirNode):
                    stack.append(node)

    def render(self, parts_of: PartsOf = FileNode.parts) -> tuple[bytes, set[str]]:
        """The normalised manifest text, and the zero blocks that it names for holes.

        Directories that nobody changed are copied from the text they came from. Segments, as *parts_of* gives them,
        must be locators or holes."""
        zeros: set[str] = set()
        parts: list[bytes | memoryview] = []
        self._render(self.root, parts, zeros, parts_of)
        return b"".join(parts), zeros

    def _render(self, top: DirNode, parts: list[bytes | memoryview], zeros: set[str], parts_of: PartsOf) -> None:
        stack: list[tuple[DirNode, Path]] = [(top, ())]
        while stack:
            directory, path = stack.pop()
            if not directory.below_changed and directory.source is not None:
                manifest, old = directory.source
                text = manifest.subtree(old)
                parts.append(text if old == path else move_lines(text, old, path))
                continue
            entries = self.table(directory)
            names = sorted(entries)
            parts.append(self._line(directory, path, names, entries, zeros, parts_of))
            for name in reversed(names):
                node = entries[name]
                if isinstance(node, DirNode):
                    stack.append((node, (*path, name)))

    def _line(
        self, directory: DirNode, path: Path, names: list[bytes], entries: dict[bytes, Node], zeros: set[str],
        parts_of: PartsOf,
    ) -> bytes:  # fmt: skip
        files = [(name, node) for name in names if isinstance(node := entries[name], FileNode)]
        if files and not directory.files_changed and directory.source is not None and directory.source[1] == path:
            line = directory.source[0].line(path)
            assert line is not None
            return bytes(line)
        parts = [(name, parts_of(node)) for name, node in files]
        largest = max((length for _, each in parts for length, ref, _ in each if ref == HOLE), default=0)
        if not files:
            return render_placeholder(path) if not entries and path else b""
        zero = zero_locator(min(largest, BLOCK_BYTES)) if largest else ""
        if zero:
            zeros.add(zero)
        return render_line(path, parts, zero)
