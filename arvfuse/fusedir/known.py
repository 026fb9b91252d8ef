"""What the kernel knows of one mount: numbers to nodes, nodes to what it is told of them, and what it forgets.

Threading: any thread. Failure: StaleNode for a number that the kernel should not have (any more).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from arvfuse.errors import NotADirectory, StaleNode
from arvfuse.fresh.node import Attr, Entry, Listed
from arvfuse.fusedir.directory import Directory, VirtualDir
from arvfuse.fusedir.host import Alias, Host
from arvfuse.fusedir.roots import RootDir
from arvfuse.fusedir.trees import CollectionDir, TreeDir, tree_directory
from arvfuse.fusefile import GeneratedFile, live_tree
from arvfuse.inodes import Inodes
from arvfuse.model.escapes import show
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode


class Known:
    """The part of ``Operations`` that knows numbers. *root*: see there."""

    def __init__(self, host: Host, root: str | LiveTree | None) -> None:
        self.host: Final = host
        self.root: Final = self._make_root(root)
        host.inodes = Inodes(self.root)
        self._atimes: Final[dict[int, int]] = {}  # node -> access time set by utimensat(2), while the kernel knows it
        self._generations: Final[dict[int, int]] = {}  # node -> generation, where it is not 0; as long
        self._outdated: Final[set[int]] = set()  # nodes of which the kernel was not told the generation yet

    def forget(self, batch: Iterable[tuple[int, int]]) -> None:
        """The kernel dropped references: (number, count)."""
        for node in self.host.inodes.forget(batch):
            self._atimes.pop(node.no, None)
            self._generations.pop(node.no, None)
            self._outdated.discard(node.no)
            self.host.lingering.forgotten(node.no)
            if isinstance(node, Alias):
                self.host.evict(node)

    def knows(self, number: int) -> bool:
        """Whether the kernel holds the number of a node."""
        return self.host.inodes.knows(number)

    def _make_root(self, root: str | LiveTree | None) -> VirtualDir:
        if root is None:
            return RootDir(self.host, self.host.number())
        if isinstance(root, str):
            return CollectionDir(self.host, self.host.number(), None, identity=root)
        return CollectionDir(self.host, self.host.number(), None, identity=root.uuid or "", live=root)

    def _node(self, number: int) -> Any:
        return self.host.inodes.find(number)

    def _living(self, number: int) -> Any:
        node = self._node(number)
        nameless = isinstance(node, FileNode) and node.parent is None and not node.handles
        if nameless and number not in self.host.lingering:
            raise StaleNode(show(node.name))
        if self._outdated and number in self._outdated:
            raise StaleNode(show(node.name))
        return node

    def _directory(self, number: int) -> Directory:
        node = self._node(number)
        if isinstance(node, DirNode | Alias):
            return tree_directory(self.host, node)
        if isinstance(node, VirtualDir):
            return node
        raise NotADirectory()

    def _number(self, directory: Directory) -> int:
        return directory.no if isinstance(directory, TreeDir) else self.host.inodes.number(directory)  # type: ignore[arg-type] # a VirtualDir

    def _entry(self, directory: Directory, child: Any) -> Entry:
        # Remembered before the timeouts are taken: if notices get lost in between, the expiry finds the node.
        self.host.inodes.remember(child)
        keep_s = 0.0 if isinstance(child, GeneratedFile) else self.host.timeout(directory.entry_keep_s)
        return self._entry_of(self._attr(child), keep_s)

    def _entry_of(self, attr: Attr, keep_s: float) -> Entry:
        if not self._generations:
            return Entry(attr, keep_s)
        self._outdated.discard(attr.no)
        return Entry(attr, keep_s, self._generations.get(attr.no, 0))

    def _begin_anew(self, file: FileNode) -> None:
        """The kernel is to drop what it knows of *file*, which nobody has open, and to look its name up again. Who
        opens it before that is sent to look, too: what is opened by the old generation fails when the next is told."""
        self._generations[file.no] = self._generations.get(file.no, 0) + 1
        self._outdated.add(file.no)
        if file.parent is not None:
            self.host.name_changed(file.parent, file.name)

    def _entries_of_files(self, directory: Any, listed: list[Listed]) -> list[Entry | None]:
        """Entries of those names that are files of a tree's directory, whose names are there; None for others."""
        none: list[Entry | None] = [None] * len(listed)
        node = self._in_tree(directory)
        if not isinstance(node, DirNode):
            return none
        found = live_tree(node).peek_all(node, listed)
        files = [each for each in found if isinstance(each, FileNode)]
        if not files:
            return none
        self.host.inodes.remember_all(files)  # before the timeouts are taken, as in _entry()
        keep_s = self._file_keep_s(node, directory)
        attrs = iter(self.host.file_attrs(node, files))
        entries: list[Entry | None] = []
        for each in found:
            if not isinstance(each, FileNode):
                entries.append(None)
                continue
            attr = self._with_atime(next(attrs))
            if each.parent is None:  # it lost its name meanwhile
                self.host.not_told(each)
                entries.append(None)
                continue
            entries.append(self._entry_of(attr, keep_s))
        return entries

    def _attr(self, node: Any) -> Attr:
        if isinstance(node, FileNode):
            attr = self.host.file_attr(node)
        elif isinstance(node, DirNode | Alias):
            attr = tree_directory(self.host, node).attr()
        else:
            attr = node.attr()
        return self._with_atime(attr)

    def _with_atime(self, attr: Attr) -> Attr:
        if self._atimes and attr.no in self._atimes:
            return attr._replace(atime_ns=self._atimes[attr.no])
        return attr

    def _file_keep_s(self, node: DirNode, directory: Any) -> float:
        """How long the kernel may keep names of files in *node*, which it knows as *directory*."""
        first = node is directory or self.host.is_first(node, directory)
        return self.host.timeout(self.host.settings.keep_s if first else 0.0)

    @staticmethod
    def _in_tree(directory: Any) -> Any:
        """The tree's directory behind a collection's, if that is open; others as they are."""
        return directory.root_node() if isinstance(directory, CollectionDir) else directory
