"""The nodes of a tree: files as segments, directories as names. Plain data, guarded by the lock of their tree.

Names are bytes. A directory that nobody looked into has no entries yet, only where its text stands
(``source``); its entries have a node only for names that somebody asked for (``sdk.entries``). A file that nobody
changed has no segment map yet, only its ``spec``. A node has its number for life.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE, SegmentMap
from arvfuse.model.streams import FileSpec
from arvfuse.sdk.entries import Entries

if TYPE_CHECKING:
    from arvfuse.sdk.tree import Tree

Path = tuple[bytes, ...]

NODE_BYTES: Final = 450
"""Memory of one node with its name, as measured; a file whose segments were asked for has 330 more."""

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
        self.copied_seq = 0  # last record that gave it the segments of another file or tree
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

    @property
    def is_local(self) -> bool:
        """Whether bytes are in the log or in buffer blocks. Of a file that is not pristine."""
        for _, _, ref, _ in self.segments:  # noqa: SIM110 # a generator for each changed file takes longer
            if isinstance(ref, int) and ref != HOLE:
                return True
        return False

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
        self.entries: Entries | None = None if source is not None else Entries(self)
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

    def make(self, entries: Entries, name: bytes, at: int) -> FileNode | DirNode:
        """The node of what *entries*, which are ours, have at a position of their index."""
        number = entries.first + at if entries.first else 0
        node: FileNode | DirNode
        if entries.index.is_dir(at):
            assert self.source is not None
            manifest, path = self.source
            node = DirNode(number, self.tree, (manifest, (*path, name)), mtime_ns=entries.mtime_ns)
        else:
            node = FileNode(number, self.tree, entries.index.spec(at), mtime_ns=entries.mtime_ns)
        node.parent, node.name = self, name
        self.tree.loaded += 1
        return node

    def loaded(self) -> Iterator[FileNode | DirNode]:
        """This node and every node below it that is in memory."""
        stack: list[FileNode | DirNode] = [self]
        while stack:
            node = stack.pop()
            yield node
            if isinstance(node, DirNode) and node.entries is not None:
                stack.extend(node.entries.nodes.values())


Node = FileNode | DirNode
