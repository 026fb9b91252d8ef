"""Answers of ``Operations`` as bytes of the protocol. Pure; an Encoder belongs to one mount and any thread.

Failure: none; what is handed in is ours.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Final

from arvfuse.drivers.kernel import wire
from arvfuse.fresh.node import PREFERRED_IO_BYTES, Attr, Entry, Listed, Space
from arvfuse.fusedir.listings import Keeping

_NS: Final = 1_000_000_000
_FILLS: Final = int(wire.Fopen.CACHE_DIR)
_HOLDS: Final = int(wire.Fopen.KEEP_CACHE)
_DIRECTORY: Final = stat.S_IFDIR
_FILE: Final = stat.S_IFREG


class Encoder:
    """Writes attributes with the owner that all nodes of a mount have."""

    def __init__(self, uid: int, gid: int) -> None:
        self._uid: Final = uid
        self._gid: Final = gid

    def attributes(self, attr: Attr) -> bytes:
        """An ATTR_OUT."""
        whole, part = _timeout(attr.timeout_s)
        return wire.ATTR_OUT.pack(whole, part, 0, *self._fields(attr))

    def entry(self, entry: Entry) -> bytes:
        """An ENTRY_OUT."""
        attr = entry.attr
        whole, part = _timeout(entry.timeout_s)
        attr_whole, attr_part = _timeout(attr.timeout_s)
        return wire.ENTRY_OUT.pack(attr.no, entry.generation, whole, attr_whole, part, attr_part, *self._fields(attr))

    def missing(self, keep_s: float) -> bytes:
        """An ENTRY_OUT that says that there is no such name, to be remembered for so long."""
        whole, part = _timeout(keep_s)
        return wire.ENTRY_HEAD.pack(0, 0, whole, 0, part, 0) + bytes(wire.ATTR.size)

    def names(self, listed: Iterator[Listed], size: int) -> bytes:
        """As many names as fit into *size* bytes."""
        out: list[bytes] = []
        for each in listed:
            record = wire.dirent(each.no, each.cookie, each.name, each.is_dir)
            size -= len(record)
            if size < 0:
                break
            out.append(record)
        return b"".join(out)

    def names_with_entries(
        self, listed: Iterator[Listed], size: int, entries_of: Callable[[list[Listed]], list[Entry | None]]
    ) -> bytes:
        """As names(), each with its attributes; *entries_of* is asked for what fits only, as that counts as known."""
        fitting: list[Listed] = []
        records: list[bytes] = []
        for each in listed:
            record = wire.dirent(each.no, each.cookie, each.name, each.is_dir)
            size -= len(record) + wire.ENTRY_OUT.size
            if size < 0:
                break
            fitting.append(each)
            records.append(record)
        out: list[bytes] = []
        for entry, record in zip(entries_of(fitting), records, strict=True):
            out.append(wire.EMPTY_ENTRY if entry is None else self.entry(entry))
            out.append(record)
        return b"".join(out)

    def _fields(self, attr: Attr) -> tuple[int, ...]:
        mtime, mtime_ns = divmod(attr.mtime_ns, _NS)
        atime, atime_ns = (mtime, mtime_ns) if attr.atime_ns == attr.mtime_ns else divmod(attr.atime_ns, _NS)
        mode = attr.mode | (_DIRECTORY if attr.is_dir else _FILE)
        return (
            attr.no, attr.size, attr.blocks, atime, mtime, mtime, atime_ns, mtime_ns, mtime_ns, mode, attr.links,
            self._uid, self._gid, 0, PREFERRED_IO_BYTES, 0,
        )  # fmt: skip


def nothing(_value: object) -> bytes:
    """Where it is enough that it was done."""
    return b""


def opened_directory(handle: int, keeping: Keeping) -> bytes:
    """An OPEN_OUT for a directory."""
    return wire.OPEN_OUT.pack(handle, (_FILLS if keeping.fills else 0) | (_HOLDS if keeping.holds else 0), 0)


def written(size: int) -> bytes:
    """A WRITE_OUT."""
    return wire.WRITE_OUT.pack(size, 0)


def space(found: Space) -> bytes:
    """A STATFS_OUT."""
    blocks, free = found.total_bytes // found.block_bytes, found.free_bytes // found.block_bytes
    return wire.STATFS_OUT.pack(blocks, free, free, 0, 0, found.block_bytes, found.name_max, found.block_bytes, 0)


@lru_cache(maxsize=64)  # a mount has a few
def _timeout(seconds: float) -> tuple[int, int]:
    """Whole seconds and the nanoseconds beside."""
    whole = int(seconds)
    return whole, int((seconds - whole) * _NS)
