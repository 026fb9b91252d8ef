"""What a node tells the kernel, as values, and the base of the nodes that no collection holds.

Nodes of collections are the SDK's; those here are projects, roots and generated files. Times are nanoseconds UTC,
timeouts seconds. Threading: values are immutable; use counts are guarded by the lock of the inode table.
"""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

_BLOCK_BYTES: Final = 512  # what st_blocks counts, whatever st_blksize says
PREFERRED_IO_BYTES: Final = 128 * 1024  # the largest request that llfuse's kernel interface makes
DIRECTORY_BYTES: Final = 4096  # what any directory says of its size


class Attr(NamedTuple):
    """stat(2) of a node. *mode*: permission bits; *timeout_s*: how long the kernel may keep all this."""

    no: int
    is_dir: bool
    mode: int
    size: int
    mtime_ns: int
    atime_ns: int
    timeout_s: float

    @property
    def links(self) -> int:
        """1 for files: there are no hard links. 2 for directories: subdirectories are not counted, which would mean
        reading a directory to answer for it; walkers go by the types in the listing, which is always right."""
        return 2 if self.is_dir else 1

    @property
    def blocks(self) -> int:
        """Units of 512 bytes."""
        return (self.size + _BLOCK_BYTES - 1) // _BLOCK_BYTES


class Entry(NamedTuple):
    """A name that exists: what it names, and how long the kernel may keep the name (seconds). *generation*: with
    another one than before the kernel takes nothing from what it knew under the same number."""

    attr: Attr
    timeout_s: float
    generation: int = 0


class Opened(NamedTuple):
    """An open file: *direct*: the kernel should not cache its pages (drivers that cannot say so rely on the number)."""

    handle: int
    direct: bool = False


class Created(NamedTuple):
    """A file made and opened in one step."""

    entry: Entry
    opened: Opened


class Listed(NamedTuple):
    """One name of a directory handle's snapshot; *cookie* is the offset of the next."""

    name: bytes
    no: int
    is_dir: bool
    cookie: int


class Space(NamedTuple):
    """statfs(2): bytes of the store, files unknown (0)."""

    total_bytes: int
    free_bytes: int
    block_bytes: int = PREFERRED_IO_BYTES
    name_max: int = 255


class NumberAllocator(Protocol):
    """Node numbers of one mount, never reused."""

    def next(self) -> int: ...


class VirtualNode:
    """A node that is not of a collection's tree. *uses* counts what needs it beside the kernel: open handles."""

    __slots__ = ("no", "uses")

    def __init__(self, no: int) -> None:
        self.no: Final = no
        self.uses = 0

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.no} uses={self.uses}>"

    def use(self) -> None:
        self.uses += 1

    def unuse(self) -> None:
        assert self.uses > 0, self
        self.uses -= 1
