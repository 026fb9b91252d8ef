"""A file of a collection as the library's users hold it: ``collection["name"]``.

A thin view of a node: everything goes to the live tree, which has the locks. Threading: any thread. It stays usable
when its name goes: the content lives as long as somebody holds it open.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, NamedTuple

from arvfuse.model.locators import strip_token
from arvfuse.model.ranges import HOLE, Ref, Segment
from arvfuse.model.streams import coalesced
from arvfuse.ports import ahead_bytes
from arvfuse.sdk import events
from arvfuse.sdk.ahead import ReadAhead
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.paths import decode, from_stream

if TYPE_CHECKING:
    from arvfuse.sdk.collection import Collection
    from arvfuse.sdk.directory import CollectionBase

COMPARE_BYTES: Final = 64 << 20  # files up to here with different blocks are compared byte by byte
_STEP_BYTES: Final = 4 << 20


class Range(NamedTuple):
    """A part of a file: *locator* is None for zeros that are stored nowhere and for bytes that no block has yet."""

    locator: str | None
    range_start: int
    range_size: int
    segment_offset: int


class ArvadosFile:
    """One file. Equal files have equal content, however it is cut into blocks."""

    __hash__ = None  # type: ignore[assignment] # equality is by content, which changes
    __slots__ = ("__weakref__", "_root", "node")

    def __init__(self, root: Collection, node: FileNode) -> None:
        self._root: Final = root
        self.node: Final = node

    def __repr__(self) -> str:
        return f"<ArvadosFile {self.name!r} size={self.size()}>"

    @property
    def name(self) -> str:
        """The name in its directory."""
        return decode(self.node.name)

    @property
    def parent(self) -> CollectionBase | None:
        """The directory it is in; None once it was removed."""
        parent = self.node.parent
        return self._root.directory_of(parent) if parent is not None else None

    def root_collection(self) -> Collection:
        return self._root

    def stream_name(self) -> str:
        """The stream name of its directory joined with its own name, as in ``./dir/file``."""
        return f"{self.parent_stream_name()}/{self.name}"

    def parent_stream_name(self) -> str:
        """The stream name of its directory."""
        parent = self.node.parent
        return from_stream(parent.path if parent is not None else ())

    def writable(self) -> bool:
        return self._root.writable()

    def modified(self) -> bool:
        return self._root.modified()

    def committed(self) -> bool:
        return self._root.committed()

    def size(self) -> int:
        """Bytes."""
        return self.node.size

    def segments(self) -> list[Range]:
        """What the file consists of, in order."""
        with self._tree.held(self.node):
            parts = self.node.parts()
        found, start = [], 0
        for length, ref, offset in parts:
            found.append(Range(ref if isinstance(ref, str) else None, start, length, offset))
            start += length
        return found

    def readfrom(self, offset: int, size: int, num_retries: int | None = None, exact: bool = False) -> bytes:
        """*size* bytes from *offset*; fewer at the end of the file."""
        return bytes(self.fetch(offset, size))

    def writeto(self, offset: int, data: bytes | bytearray | memoryview, num_retries: int | None = None) -> None:
        """Write all of *data* at *offset*; a gap before it becomes zeros."""
        self.store(offset, memoryview(data).cast("B"))

    def truncate(self, size: int) -> None:
        """Set the size; growth is zeros."""
        self._tree.truncate(self.node, size)

    def flush(self, sync: bool = True, num_retries: int | None = None) -> None:
        """Store what was written to the collection so far, without saving a record."""
        self._root.flush()
        self._root.emit(events.MOD, self.node, (self, self))

    def fsync(self) -> None:
        """What was written survives a power cut (D2); unsaved, a recovery keeps it as a collection of its own."""
        host = self._root.host
        host.keep(self._tree)
        self._tree.fsync(self.node)

    def replace_contents(self, other: ArvadosFile) -> None:
        """Take the content of *other*."""
        if other is not self:
            self._root.copy_content(other, self.node)
            self._root.emit(events.MOD, self.node, (self, self))

    def has_remote_blocks(self) -> bool:
        """Whether a locator carries the signature of another cluster."""
        return any(part.locator is not None and "+R" in part.locator for part in self.segments())

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        return isinstance(other, ArvadosFile) and same_content(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    # for handles

    def open_handle(self, *, write: bool) -> int:
        """Count a handle in; the mark of failures that are not its business."""
        self._tree.opened(self.node, write=write)
        return self.node.error_mark

    def close_handle(self, *, write: bool) -> None:
        self._tree.closed(self.node, write=write)
        if write:
            self._root.host.stream()

    def error_mark(self) -> int:
        return self.node.error_mark

    def flush_errors(self, seen: int) -> None:
        """Raise a background failure that is newer than *seen*."""
        self._tree.flush(self.node, seen)

    def read_ahead(self) -> ReadAhead | None:
        """What fetches ahead for a handle; None where there is nothing to gain."""
        host = self._root.host
        unit_bytes = ahead_bytes(host.store)
        if not unit_bytes or not host.num_prefetch_threads:
            return None
        return ReadAhead(self, pieces=host.num_prefetch_threads + 1, unit_bytes=unit_bytes)

    def fetch(self, offset: int, size: int, ahead: ReadAhead | None = None) -> bytes | memoryview:
        """Bytes as the tree gives them."""
        return self._tree.read(self.node, offset, size, ahead.fetch if ahead is not None else None)

    def cover(self, offset: int, size: int, limit: int) -> list[Segment]:
        """The first *limit* segments of a range."""
        return self._tree.cover(self.node, offset, size, limit)

    def fetch_part(self, ref: Ref, offset: int, length: int) -> bytes | memoryview:
        """The bytes of a segment."""
        return self._tree.shared.fetch(ref, offset, length)

    def store(self, offset: int, data: memoryview) -> None:
        host = self._root.host
        host.stream()
        self._tree.write(self.node, offset, data)
        host.stream()
        self._root.emit(events.WRITE, self.node, (self, self))

    def append(self, data: memoryview) -> int:
        """Write *data* behind the end; where it ends."""
        host = self._root.host
        host.stream()
        end = self._tree.append(self.node, data)
        host.stream()
        self._root.emit(events.WRITE, self.node, (self, self))
        return end

    @property
    def _tree(self) -> LiveTree:
        tree = self.node.tree
        assert isinstance(tree, LiveTree)
        return tree

    def content(self) -> list[tuple[int, Ref, int]]:
        """(length, ref, offset) in canonical form: locators without hints, neighbours joined."""
        with self._tree.held(self.node):
            parts = self.node.parts()
        return coalesced((length, strip_token(ref) if isinstance(ref, str) else ref, at) for length, ref, at in parts)

    def shares_log_with(self, other: ArvadosFile) -> bool:
        """Whether references into log and spool mean the same in both."""
        return self._root.host is other._root.host


def same_content(one: ArvadosFile, other: ArvadosFile) -> bool:
    """Whether two files have the same bytes. Reads them only if they are small enough and made of different blocks."""
    if one.size() != other.size():
        return False
    mine, theirs = one.content(), other.content()
    settled = all(isinstance(ref, str) or ref == HOLE for _, ref, _ in (*mine, *theirs))
    if mine == theirs and (settled or one.shares_log_with(other)):
        return True
    return one.size() <= COMPARE_BYTES and all(a == b for a, b in _paired(one, other))


def _paired(one: ArvadosFile, other: ArvadosFile) -> Iterator[tuple[bytes | memoryview, bytes | memoryview]]:
    for offset in range(0, one.size(), _STEP_BYTES):
        yield one.fetch(offset, _STEP_BYTES), other.fetch(offset, _STEP_BYTES)
