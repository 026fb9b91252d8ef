"""Directory handles: what opendir(3) opened, listed as a snapshot.

A snapshot is stable whatever happens to the directory: no name is hidden or repeated by a change (POSIX leaves open
whether a change shows). Reading again from the start takes a new one. Threading: the kernel reads one handle from one
thread at a time. Failure: an outage while a snapshot is taken is StoreUnavailable; the old one stays.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from arvfuse.fresh.node import Listed
from arvfuse.fresh.pending import Pending, then
from arvfuse.fusedir.directory import Directory, VirtualDir
from arvfuse.fusedir.host import Names
from arvfuse.sdk.entries import Snapshot

_DOTS: Final = 2  # cookies of "." and ".." come first


class DirectoryHandle:
    """One opendir(3). *names* as listed when it was opened."""

    __slots__ = ("_names", "_read", "directory", "no")

    def __init__(self, directory: Directory, no: int, names: Names) -> None:
        self.directory: Final = directory
        self.no: Final = no
        self._names = names
        self._read = False
        if isinstance(directory, VirtualDir):
            directory.use()

    def __repr__(self) -> str:
        return f"<DirectoryHandle of node {self.no} names={len(self._names)}>"

    def read(self, cookie: int) -> Iterator[Listed] | Pending[Iterator[Listed]]:
        """Entries from *cookie* on, ``.`` and ``..`` first; 0 is the start."""
        if cookie == 0 and self._read:
            return then(self.directory.listing(), self._again)
        self._read = True
        return self._from(cookie)

    def release(self) -> None:
        if isinstance(self.directory, VirtualDir):
            self.directory.unuse()

    def _again(self, names: Names) -> Iterator[Listed]:
        self._names = names
        return self._from(0)

    def _from(self, cookie: int) -> Iterator[Listed]:
        if cookie < 1:
            yield Listed(b".", self.no, True, 1)
        if cookie < _DOTS:
            yield Listed(b"..", self.directory.above(), True, _DOTS)
        for behind, name, number, is_dir in _walk(self._names, max(0, cookie - _DOTS)):
            yield Listed(name, number, is_dir, behind + _DOTS)


def _walk(names: Names, start: int) -> Iterator[tuple[int, bytes, int, bool]]:
    """(where to go on, name, number, is a directory)."""
    if isinstance(names, Snapshot):
        yield from names.walk(start)
        return
    for index in range(start, len(names)):
        yield index + 1, *names[index]
