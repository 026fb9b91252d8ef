"""Files as the kernel has them open: handles of collection files and of generated ones.

A handle is bound to its file node, not to a name or a collection: unlinking, replacing or moving the file (or a
directory above it) changes nothing for it (C3). The tree that a node is in now is asked for at each use, because a
move to another collection changes it.

Threading: a handle may be used by several threads at once (the kernel does); the tree locks what has to be. Failure:
a background failure is delivered once to each handle that was open when it happened, by flush or fsync (D4).
"""

from __future__ import annotations

import mmap
from typing import Final

from arvfuse.errors import NoSuchOffset, NotPermitted, ReadOnly
from arvfuse.fresh.node import Attr, VirtualNode
from arvfuse.model.escapes import show
from arvfuse.sdk.copying import copy_range
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode

_GENERATED_MODE: Final = 0o444


def live_tree(node: FileNode | DirNode) -> LiveTree:
    """The tree that *node* is in now, or was in when it lost its name."""
    tree = node.tree
    assert isinstance(tree, LiveTree), tree
    return tree


class GeneratedFile(VirtualNode):
    """A file that a directory makes up. Its content never changes: new content is a new node."""

    __slots__ = ("__weakref__", "content", "digest", "mtime_ns")

    def __init__(self, no: int, content: bytes | mmap.mmap, mtime_ns: int, digest: str = "") -> None:
        super().__init__(no)
        self.content: Final = content
        self.digest: Final = digest  # equal digests, equal content
        self.mtime_ns: Final = mtime_ns

    def attr(self) -> Attr:
        """Timeout 0: the kernel asks again, and is given a new number if the content is another by then."""
        return Attr(self.no, False, _GENERATED_MODE, len(self.content), self.mtime_ns, self.mtime_ns, 0.0)


class FileHandle:
    """One open(2) of a collection file."""

    __slots__ = ("_mark", "node", "readable", "writable")

    def __init__(self, node: FileNode, *, readable: bool, writable: bool) -> None:
        self.node: Final = node
        self.readable: Final = readable
        self.writable: Final = writable
        self._mark = node.error_mark  # older failures were before our time
        live_tree(node).opened(node, write=writable)

    def __repr__(self) -> str:
        return f"<FileHandle of {self.node!r}{' writable' if self.writable else ''}>"

    def read(self, offset: int, size: int) -> list[bytes | memoryview]:
        """In the pieces in which the bytes were found."""
        return live_tree(self.node).read_parts(self.node, offset, size)

    def write(self, offset: int, data: bytes | memoryview, *, taken: bool = False) -> int:
        """Whether there is room in the spool is the caller's to ask. *taken*: see ContentTree.accept."""
        if not self.writable:
            raise ReadOnly(show(self.node.name), "not open for writing")
        return live_tree(self.node).accept(self.node, offset, data, taken=taken)

    def failed(self, failure: Exception) -> None:
        """Bytes that were taken from a writer are lost: every handle of the file is told (D4)."""
        live_tree(self.node).failed(self.node, failure)

    def seek(self, offset: int, *, data: bool) -> int:
        """The next offset with data, or the next in a hole (the end is one). NoSuchOffset behind the last."""
        return live_tree(self.node).seek(self.node, offset, data=data)

    def copy_range(self, start: int, target: FileHandle, at: int, length: int) -> int:
        """Share bytes with *target* from *at* on; how many. ReadOnly."""
        if not target.writable:
            raise ReadOnly(show(target.node.name), "not open for writing")
        return copy_range(self.node, start, target.node, at, length)

    def allocate(self, offset: int, length: int, *, keep_size: bool) -> None:
        """Room for the range: it is there when it is written; the size grows unless *keep_size*."""
        if not self.writable:
            raise ReadOnly(show(self.node.name), "not open for writing")
        if not keep_size:
            live_tree(self.node).extend(self.node, offset + length)

    def flush(self) -> None:
        """A close(2) of one descriptor: content is safe from the death of our processes; raises what went wrong."""
        mark = self.node.error_mark  # before the call: what comes during it is for the next one
        try:
            self._mark = live_tree(self.node).flush(self.node, self._mark)
        except BaseException:
            self._mark = max(self._mark, mark)
            raise

    def fsync(self) -> None:
        """Content is safe from a power cut of this machine (D2)."""
        self.flush()
        live_tree(self.node).fsync(self.node)

    def release(self) -> None:
        """The last descriptor is gone."""
        live_tree(self.node).closed(self.node, write=self.writable)


class GeneratedHandle:
    """One open(2) of a generated file."""

    __slots__ = ("node",)
    writable: Final = False

    def __init__(self, node: GeneratedFile) -> None:
        self.node: Final = node
        node.use()

    def read(self, offset: int, size: int) -> list[bytes | memoryview]:
        return [self.node.content[offset : offset + size]]

    def seek(self, offset: int, *, data: bool) -> int:
        """All is data; behind it is a hole."""
        if offset >= len(self.node.content):
            raise NoSuchOffset()
        return offset if data else len(self.node.content)

    def allocate(self, offset: int, length: int, *, keep_size: bool) -> None:
        raise NotPermitted("", "a generated file cannot be written")

    def failed(self, failure: Exception) -> None:
        """Never: nothing is written."""

    def write(self, offset: int, data: bytes | memoryview, *, taken: bool = False) -> int:
        raise NotPermitted("", "a generated file cannot be written")

    def flush(self) -> None:
        """Nothing to do."""

    def fsync(self) -> None:
        """Nothing to do."""

    def release(self) -> None:
        self.node.unuse()
