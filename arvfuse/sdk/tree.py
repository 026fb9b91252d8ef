"""One collection as a tree: the primitive changes that live trees and replicas share, and its manifest text.

No locks, no I/O, no log: the owner guards it. Everything here is the same whether a change comes from a caller or
from a record, which is why a tree and the replay of its records are equal.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from operator import attrgetter
from typing import Final

from arvfuse.errors import DirectoryNotEmpty, EntryExists, InvalidPath, IsADirectory, NoSuchEntry, NotADirectory
from arvfuse.model.dirindex import DirectoryIndex
from arvfuse.model.escapes import show
from arvfuse.model.locators import BLOCK_BYTES, zero_locator
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE, Ref, SegmentMap
from arvfuse.model.rendering import move_lines, render_line, render_placeholder
from arvfuse.sdk.entries import Entries, NeedsIndex
from arvfuse.sdk.nodes import NODE_BYTES, DirNode, FileNode, Node, Path

_Parts = list[tuple[int, Ref, int]]
PartsOf = Callable[[FileNode], _Parts]
_Clean = tuple[Manifest, Path]  # a directory without a node, and where its text is

_MAPPED_BYTES: Final = 1 << 18  # what the open file of a mapped index counts for: no more than some hundred stay
_name_of: Final = attrgetter("name")


class Tree:
    """The nodes below one root. *reserve* gives the first of so many numbers in a row, which are never given again;
    0 from a tree whose base text has no numbers.

    Invariants: entry.parent is the directory that holds it and entry.name its key; a directory with a changed line
    has below_changed set on itself and on all above it.
    """

    def __init__(self, manifest: Manifest | None, *, reserve: Callable[[int], int], mtime_ns: int = 0) -> None:
        self._take_numbers: Final = reserve
        self.loaded = 0  # nodes in memory, about: what a removed directory held is found out by ``sdk.trimming``
        self.root = DirNode(reserve(1), self, (manifest, ()) if manifest is not None else None, mtime_ns=mtime_ns)

    @property
    def no(self) -> int:
        return self.root.no

    def new_number(self) -> int:
        """A number for a new node."""
        return self._take_numbers(1)

    # names

    def table(self, parent: DirNode) -> Entries:
        """The names of a directory: the table itself, not a copy. NeedsIndex if it is to be fetched first."""
        if parent.entries is None:
            assert parent.source is not None
            manifest, path = parent.source
            if manifest.origin and manifest.is_big(path):
                raise NeedsIndex(parent)
            self.provide(parent, manifest.index(path))
        assert parent.entries is not None
        return parent.entries

    def provide(self, parent: DirNode, index: DirectoryIndex) -> None:
        """*index* is what the source of *parent*, which nobody looked into yet, says."""
        first = self._take_numbers(len(index)) if len(index) else 0
        parent.entries = Entries(parent, index, first=first, mtime_ns=parent.mtime_ns)
        self.loaded += index_weight(index)

    def is_empty(self, directory: DirNode) -> bool:
        """Whether it has no names; a big one needs no look."""
        source = directory.source
        if directory.entries is None and source is not None and source[0].is_big(source[1]):
            return False
        return not self.table(directory)

    def child(self, parent: DirNode, name: bytes) -> Node:
        found = self.table(parent).get(name)
        if found is None:
            raise NoSuchEntry(show(name))
        return found

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
        entries.add(name, node)
        self.loaded += 1
        node.parent, node.name = parent, name
        if isinstance(node, DirNode) and node.entries is not None:
            node.entries.moved()
        self._touched(parent, mtime_ns)

    def detach(self, parent: DirNode, name: bytes, mtime_ns: int) -> Node:
        """Take the entry out, with all below it."""
        node = self.child(parent, name)
        self.table(parent).remove(name)
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
            if not old.tree.is_empty(old):
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
        if file.version == 1 and file.parent is not None and file.parent.entries is not None:
            file.parent.entries.detach(file.name)
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

    # what is in memory

    def files(self) -> Iterator[FileNode]:
        """Every file that is in memory, in path order."""
        stack: list[DirNode] = [self.root]
        while stack:
            directory = stack.pop()
            nodes = directory.entries.nodes if directory.entries is not None else {}
            below: list[DirNode] = []
            for name in sorted(nodes):
                node = nodes[name]
                if isinstance(node, FileNode):
                    yield node
                else:
                    below.append(node)
            stack.extend(reversed(below))

    def changed_directories(self) -> Iterator[DirNode]:
        """Every directory whose own line changed, in path order."""
        stack = [self.root]
        while stack:
            directory = stack.pop()
            if not directory.below_changed:
                continue
            if directory.files_changed:
                yield directory
            nodes = directory.entries.nodes if directory.entries is not None else {}
            below = [node for node in nodes.values() if isinstance(node, DirNode)]
            stack.extend(sorted(below, key=_name_of, reverse=True))

    # text

    def render(self, parts_of: PartsOf = FileNode.parts) -> tuple[bytes, set[str]]:
        """The normalised manifest text, and the zero blocks that it names for holes.

        Directories that nobody changed are copied from the text they came from. Segments, as *parts_of* gives them,
        must be locators or holes."""
        zeros: set[str] = set()
        parts: list[bytes | memoryview] = []
        self._render(self.root, parts, zeros, parts_of)
        return b"".join(parts), zeros

    def _render(self, top: DirNode, parts: list[bytes | memoryview], zeros: set[str], parts_of: PartsOf) -> None:
        stack: list[tuple[DirNode | _Clean, Path]] = [(top, ())]
        while stack:
            directory, path = stack.pop()
            if isinstance(directory, DirNode):
                if directory.below_changed or directory.source is None:
                    stack.extend(self._render_changed(directory, path, parts, zeros, parts_of))
                    continue
                manifest, old = directory.source
            else:
                manifest, old = directory
            text = manifest.subtree(old)
            parts.append(text if old == path else move_lines(text, old, path))

    def _render_changed(
        self, directory: DirNode, path: Path, parts: list[bytes | memoryview], zeros: set[str], parts_of: PartsOf
    ) -> list[tuple[DirNode | _Clean, Path]]:
        """Add the directory's own line; the directories in it, the last one first."""
        entries = self.table(directory)
        index, source = entries.index, directory.source
        copied = not directory.files_changed and source is not None and source[1] == path
        files: list[tuple[bytes, _Parts]] = []
        below: list[tuple[DirNode | _Clean, Path]] = []
        for name, node, at in entries.walk():
            if isinstance(node, DirNode):
                below.append((node, (*path, name)))
            elif node is None and index.is_dir(at):
                assert source is not None
                below.append(((source[0], (*source[1], name)), (*path, name)))
            elif not copied:
                files.append((name, parts_of(node) if node is not None else index.spec(at).segments()))
        if copied:
            assert source is not None
            line = source[0].line(path)
            if line is not None:
                parts.append(line)
        else:
            parts.append(self._line(path, files, zeros, empty=not entries))
        below.reverse()
        return below

    def _line(self, path: Path, files: list[tuple[bytes, _Parts]], zeros: set[str], *, empty: bool) -> bytes:
        if not files:
            return render_placeholder(path) if empty and path else b""
        largest = max((length for _, each in files for length, ref, _ in each if ref == HOLE), default=0)
        zero = zero_locator(min(largest, BLOCK_BYTES)) if largest else ""
        if zero:
            zeros.add(zero)
        return render_line(path, files, zero)


def index_weight(index: DirectoryIndex) -> int:
    """What an index costs, in nodes. One in a file costs an open file, of which there are not many."""
    return 1 + (index.memory_bytes or _MAPPED_BYTES) // NODE_BYTES
