"""What kernel and driver agree on at INIT: a pure function of what the kernel offers and what a mount wants.

Each feature is used where the kernel offers it, never by its version; a mask takes features away, so that tests walk
the older paths on any kernel. Failure: NotSupported for a protocol that is too old to speak.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.wire import Init
from arvfuse.errors import NotSupported

ALWAYS: Final = (
    Init.ASYNC_READ
    | Init.ATOMIC_O_TRUNC  # one round trip for open(O_TRUNC)
    | Init.BIG_WRITES
    | Init.DO_READDIRPLUS
    | Init.READDIRPLUS_AUTO
    | Init.ASYNC_DIO
    | Init.PARALLEL_DIROPS
    | Init.MAX_PAGES
    | Init.CACHE_SYMLINKS
    | Init.EXPLICIT_INVAL_DATA  # content changes with the number or by a notice, never by a new mtime
    | Init.HANDLE_KILLPRIV_V2
    | Init.HAS_EXPIRE_ONLY
    | Init.DIRECT_IO_ALLOW_MMAP
)
"""Wanted by every mount. Locks are not in it: those of one mount are the kernel's own work, and there are no others."""

_FLAGS2_SHIFT: Final = 32
_FLAGS: Final = (1 << _FLAGS2_SHIFT) - 1


class Wanted(NamedTuple):
    """What a mount asks of the kernel.

    *writeback*: writes are kept in the page cache until close, fsync or memory pressure. *no_open*: files need no OPEN;
    *no_opendir*: directories neither, they never change. *mask*: features not to be used whatever is offered."""

    writeback: bool = False
    no_open: bool = False
    no_opendir: bool = False
    mask: int = 0


class Agreed(NamedTuple):
    """What both sides speak. Bytes."""

    minor: int
    flags: Init
    max_write: int
    max_readahead: int

    def has(self, feature: Init) -> bool:
        """True if the feature is in use."""
        return feature in self.flags

    @property
    def writeback(self) -> bool:
        return self.has(Init.WRITEBACK_CACHE)

    def names(self) -> list[str]:
        """The features in use, for people."""
        return sorted(str(flag.name).lower() for flag in Init if flag in self.flags)


def agree(body: bytes | memoryview, wanted: Wanted) -> tuple[Agreed | None, bytes]:
    """The answer to an INIT whose *body* this is. None for a kernel of a newer major: it asks again in ours.

    NotSupported, struct.error."""
    major, minor, readahead, offered = wire.INIT_IN.unpack_from(body)
    if major > wire.MAJOR:
        return None, _reply(wire.MINOR, 0, 0, wire.MAX_WRITE_BYTES)
    if major < wire.MAJOR or minor < wire.OLDEST_MINOR:
        raise NotSupported(
            f"FUSE protocol {major}.{minor}", f"{wire.MAJOR}.{wire.OLDEST_MINOR} (Linux 5.4) is the oldest spoken"
        )
    if offered & Init.INIT_EXT and len(body) >= wire.INIT_IN.size + wire.INIT_IN_FLAGS2.size:
        offered |= wire.INIT_IN_FLAGS2.unpack_from(body, wire.INIT_IN.size)[0] << _FLAGS2_SHIFT
    flags = ALWAYS
    if wanted.writeback:
        flags |= Init.WRITEBACK_CACHE
    if wanted.no_open:
        flags |= Init.NO_OPEN_SUPPORT
    if wanted.no_opendir:
        flags |= Init.NO_OPENDIR_SUPPORT
    flags &= Init(offered) & ~Init(wanted.mask)
    if flags >> _FLAGS2_SHIFT:
        flags |= Init.INIT_EXT
    agreed = Agreed(
        minor=min(minor, wire.MINOR),
        flags=flags,
        max_write=wire.MAX_WRITE_BYTES if Init.MAX_PAGES in flags else 32 * wire.PAGE_BYTES,
        max_readahead=max(readahead, wire.READ_AHEAD_BYTES),  # the kernel takes the lesser of this and its own
    )
    return agreed, _reply(agreed.minor, int(flags), agreed.max_readahead, agreed.max_write)


def _reply(minor: int, flags: int, readahead: int, max_write: int) -> bytes:
    pages = wire.MAX_PAGES if flags & Init.MAX_PAGES else 0
    return wire.INIT_OUT.pack(
        wire.MAJOR, minor, readahead, flags & _FLAGS, wire.MAX_BACKGROUND, wire.CONGESTION_THRESHOLD, max_write,
        1, pages, 0, flags >> _FLAGS2_SHIFT,
    )  # fmt: skip
