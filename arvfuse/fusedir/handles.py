"""Directory handles: what opendir(3) opened, listed as a snapshot, and the table of a mount's.

A snapshot is stable whatever happens to the directory: no name is hidden or repeated by a change (POSIX leaves open
whether a change shows). Reading again from the start takes a new one. Threading: the kernel reads one handle from one
thread at a time. Failure: an outage while a snapshot is taken is StoreUnavailable; the old one stays.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Final

from arvfuse.errors import StaleNode
from arvfuse.fresh.node import Listed
from arvfuse.fresh.pending import Pending, then
from arvfuse.fusedir.directory import Directory, VirtualDir
from arvfuse.fusedir.host import Names
from arvfuse.fusedir.listings import PLACES, READ_ALL, Listings, salt_of
from arvfuse.ports import Clock
from arvfuse.sdk.entries import Snapshot

_DOTS: Final = 2  # cookies of "." and ".." come first
_UNOPENED: Final = 64


class DirectoryHandle:
    """One opendir(3). *names* as listed when it was opened, or first read. *keeping*: what the kernel may do then."""

    __slots__ = ("_clock", "_listings", "_names", "_read", "_reading", "directory", "keeping", "no")

    def __init__(self, directory: Directory, no: int, names: Names, listings: Listings, clock: Clock) -> None:
        self.directory: Final = directory
        self.no: Final = no
        self._names = names
        self._listings: Final = listings
        self._clock: Final = clock
        version = _version(names)
        kept = listings.open(no, version, clock.monotonic()) if version else (READ_ALL, None)
        self.keeping: Final = kept[0]
        self._reading: Final = kept[1]
        # The kernel may have gone through what it keeps, and be at the start again, when it asks for the first time.
        self._read = self.keeping.fills
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
        if self._reading is not None:
            self._listings.release(self._reading)

    def _again(self, names: Names) -> Iterator[Listed]:
        self._names = names
        if self._reading is not None:
            self._listings.read_again(self._reading, _version(names))
        return self._from(0)

    def _from(self, cookie: int) -> Iterator[Listed]:
        names = self._names
        version = _version(names)
        salt = salt_of(version)
        begin = cookie % PLACES if version else cookie
        if begin < 1:
            yield Listed(b".", self.no, True, salt + 1)
        if begin < _DOTS:
            yield Listed(b"..", self.directory.above(), True, salt + _DOTS)
        last = begin
        for behind, name, number, is_dir in _walk(names, max(0, begin - _DOTS)):
            last = behind + _DOTS
            yield Listed(name, number, is_dir, salt + last)
        if last == begin >= _DOTS and self._reading is not None:  # the empty answer by which the kernel knows the end
            self._listings.told(self._reading, self._clock.monotonic())


class DirectoryHandles:
    """The handles of one mount, by numbers of *numbers*; and snapshots of directories that are read without one, as a
    kernel may that was told so, by node. Each use is one dictionary operation, which the interpreter makes atomic."""

    def __init__(self, numbers: Iterator[int], listings: Listings, clock: Clock) -> None:
        self._numbers: Final = numbers
        self._listings: Final = listings
        self._clock: Final = clock
        self._opened: Final[dict[int, DirectoryHandle]] = {}
        self._unopened: Final[OrderedDict[int, DirectoryHandle]] = OrderedDict()  # the latest

    def __len__(self) -> int:
        return len(self._opened)

    def __contains__(self, handle: object) -> bool:
        return handle in self._opened

    def all(self) -> list[DirectoryHandle]:
        """Those that were opened."""
        return list(self._opened.values())

    def open(self, directory: Directory, number: int) -> int | Pending[int]:
        """A handle with a snapshot of the names. *number*: by which the kernel knows the directory."""

        def keep(names: Names) -> int:
            handle = next(self._numbers)
            self._opened[handle] = DirectoryHandle(directory, number, names, self._listings, self._clock)
            return handle

        return then(directory.listing(), keep)

    def find(self, handle: int) -> DirectoryHandle:
        """StaleNode for a handle that is not open."""
        try:
            return self._opened[handle]
        except KeyError:
            raise StaleNode(f"handle {handle}") from None

    def unopened(self, directory: Directory, number: int) -> DirectoryHandle | Pending[DirectoryHandle]:
        """The snapshot by which a directory is read that was not opened."""
        known = self._unopened.get(number)
        if known is not None:
            return known

        def keep(names: Names) -> DirectoryHandle:
            if (first := self._unopened.get(number)) is not None:  # another thread's
                return first
            opened = self._unopened[number] = DirectoryHandle(directory, number, names, self._listings, self._clock)
            if len(self._unopened) > _UNOPENED:
                self._unopened.popitem(last=False)[1].release()
            return opened

        return then(directory.listing(), keep)

    def release(self, handle: int) -> None:
        """The last descriptor is gone. StaleNode."""
        opened = self._opened.pop(handle, None)
        if opened is None:
            raise StaleNode(f"handle {handle}")
        opened.release()


def _version(names: Names) -> int:
    """0: it is not known whether two listings are the same, or there are too many names."""
    return names.version if isinstance(names, Snapshot) and names.at_most < PLACES - _DOTS else 0


def _walk(names: Names, start: int) -> Iterator[tuple[int, bytes, int, bool]]:
    """(where to go on, name, number, is a directory)."""
    if isinstance(names, Snapshot):
        yield from names.walk(start)
        return
    for index in range(start, len(names)):
        yield index + 1, *names[index]
