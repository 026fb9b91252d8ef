"""The nodes of a tree: files as segments, directories as names. Plain data, guarded by the lock of their tree.

Names are bytes. A directory that nobody looked into has no entries yet, only where its text stands
(``source``); a file that nobody changed has no segment map yet, only its ``spec``. A node has its number for life.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import SegmentMap
from arvfuse.model.streams import FileSpec

if TYPE_CHECKING:
    from arvfuse.sdk.tree import Tree

Path = tuple[bytes, ...]

TRIMMED: Final = -2
"""The stamp of a node that was forgotten (``sdk.trimming``): its name leads to another node now."""


class FileNode:
    """A file. *parent* is None once it was unlinked or replaced (C3: its handles go on)."""

    __slots__ = (
        "_segments", "base_size", "buffers", "changed_seq", "copied_seq", "error", "error_mark", "handles",
        "inline_parts", "mode", "mtime_ns", "name", "no", "parent", "spec", "stamp", "tree", "version", "writers",
    )  # fmt: skip
    is_dir = False

    def __init__(self, no: int, tree: Tree, spec: FileSpec | None = None, *, mtime_ns: int = 0, mode: int = -1) -> None:
        self.no = no
        self.tree = tree
        self.parent: DirNode | None = None
        self.name = b""
        self.spec = spec
        self.base_size = spec.size if spec is not None else 0  # bytes at the last commit, as the replica sees it
        self._segments: SegmentMap | None = None
        self.mtime_ns = mtime_ns
        self.mode = mode  # permission bits set here, -1 if none were
        self.stamp = -1  # epoch of the tree in which the number was bound
        self.changed_seq = 0  # last record that changed the content or gave it its name; 0: as loaded
        self.copied_seq = 0  # last record that gave it the segments of another file
        self.version = 0  # counts changes of the segments, to see whether a plan still holds
        self.inline_parts = 0  # inline records since the last boundary
        self.handles = 0
        self.writers = 0
        self.buffers: dict[int, Any] = {}  # piece -> writable BufferBlock
        self.error: Exception | None = None  # last failure in the background, and when it came (D4)
        self.error_mark = 0

    def __repr__(self) -> str:
        return f"<FileNode {self.no} {self.name!r} size={self.size}>"

    @property
    def size(self) -> int:
        """Bytes."""
        if self._segments is not None:
            return self._segments.size
        return self.spec.size if self.spec is not None else 0

    @property
    def segments(self) -> SegmentMap:
        """The segments, made from the manifest's tokens at first use."""
        if self._segments is None:
            self._segments = SegmentMap(self.spec.segments() if self.spec is not None else ())
            self.spec = None
        return self._segments

    @segments.setter
    def segments(self, value: SegmentMap) -> None:
        self._segments = value
        self.spec = None

    @property
    def pristine(self) -> bool:
        """True while nobody has asked for the segment map."""
        return self._segments is None

    def parts(self) -> list[tuple[int, Any, int]]:
        """(length, ref, offset) of each segment, without making a map of a clean file."""
        if self._segments is None:
            return self.spec.segments() if self.spec is not None else []
        return [(s.length, s.ref, s.offset) for s in self._segments]


class DirNode:
    """A directory. *parent* is None for a root, and once it was removed."""

    __slots__ = (
        "below_changed", "entries", "files_changed", "handles", "mode", "mtime_ns", "name", "no", "parent",
        "placed_seq", "source", "stamp", "tree",
    )  # fmt: skip
    is_dir = True

    def __init__(
        self, no: int, tree: Tree, source: tuple[Manifest, Path] | None = None, *, mtime_ns: int = 0, mode: int = -1
    ) -> None:
        self.no = no
        self.tree = tree
        self.parent: DirNode | None = None
        self.name = b""
        self.source = source
        self.entries: dict[bytes, FileNode | DirNode] | None = None if source is not None else {}
        self.files_changed = source is None  # our own line of the manifest has to be rendered again
        self.below_changed = source is None  # ours, or one below
        self.mtime_ns = mtime_ns
        self.mode = mode
        self.stamp = -1
        self.placed_seq = 0  # last record that gave it its name; 0: as loaded
        self.handles = 0

    def __repr__(self) -> str:
        state = "unread" if self.entries is None else f"{len(self.entries)} entries"
        return f"<DirNode {self.no} {self.name!r} {state}>"

    @property
    def path(self) -> Path:
        """Names from the root of the tree."""
        names: list[bytes] = []
        node: DirNode | None = self
        while node is not None and node.parent is not None:
            names.append(node.name)
            node = node.parent
        return tuple(reversed(names))

    def load(self, number: Callable[[], int]) -> dict[bytes, FileNode | DirNode]:
        """The entries, read from the manifest at first use; new nodes get a *number*."""
        if self.entries is not None:
            return self.entries
        assert self.source is not None
        manifest, path = self.source
        listing = manifest.listing(path)
        entries: dict[bytes, FileNode | DirNode] = {}
        tree, mtime_ns = self.tree, self.mtime_ns
        node: FileNode | DirNode
        for name in listing.dirs:
            node = DirNode(number(), tree, (manifest, (*path, name)), mtime_ns=mtime_ns)
            node.parent, node.name = self, name
            entries[name] = node
        for name, spec in listing.files.items():
            node = FileNode(number(), tree, spec, mtime_ns=mtime_ns)
            node.parent, node.name = self, name
            entries[name] = node
        self.entries = entries
        return entries

    def loaded(self) -> Iterator[FileNode | DirNode]:
        """This node and every node below it that is in memory."""
        stack: list[FileNode | DirNode] = [self]
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, DirNode) and node.entries:
                stack.extend(node.entries.values())


Node = FileNode | DirNode
