"""Which listings the kernel may keep: of every directory the one version that it was told in whole.

A kernel that was given CACHE_DIR with an opened directory keeps what it reads; with KEEP_CACHE too it goes on with what
it has, and asks for no name. It notices what is changed through it, but nothing else; so each opening compares.

What it keeps is of one version for certain if all handles that may fill it are. So a handle is told to keep nothing
while others of another version are open, as what these have read may still be on its way. A handle that was opened
before may begin anew with another version, which nobody can forbid: places in a listing differ (``salt_of``) from
version to version, and the kernel adds to what it keeps only what begins where that ends.

Threading: guarded by a lock of its own. Failure: none; what is not known is read again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

from arvfuse.sync import Rank, RankedLock

MOST_LISTINGS: Final = 65_536
"""Directories of which is remembered what the kernel has; of others it reads again."""


PLACES: Final = 1 << 24
"""So many names, and fewer, a listing may have that is kept."""
_SALTS: Final = 128  # 31 bits in all: programs of 32 bits refuse larger places


def salt_of(version: int) -> int:
    """What is added to each place in a listing of that version."""
    return version % _SALTS * PLACES


class Keeping(NamedTuple):
    """What the kernel is told of an opened directory. *fills*: what it reads may be kept; *holds*: what it has, too."""

    fills: bool
    holds: bool


READ_ALL: Final = Keeping(fills=False, holds=False)


class Reading:
    """A handle that may fill what the kernel keeps. *version*: of what it lists now; *mixed*: it began with another.
    guarded by: Listings._lock"""

    __slots__ = ("is_open", "mixed", "number", "version")

    def __init__(self, number: int, version: int) -> None:
        self.number: Final = number
        self.version = version
        self.mixed = False
        self.is_open = True


class Listings:
    """The listings of one mount, by the directories' numbers. *keep_s*: how long the attributes hold that the kernel
    was told with the names: a listing is read again after that, as this tells them all at once."""

    def __init__(self, keep_s: float) -> None:
        self._keep_s: Final = keep_s
        self._lock: Final = RankedLock(Rank.LEAF)
        self._open: Final[dict[int, Counter[int]]] = {}  # number -> versions that may be filled in; guarded by: _lock
        self._kept: Final[OrderedDict[int, tuple[int, float]]] = OrderedDict()  # version, when; guarded by: _lock

    def __repr__(self) -> str:
        with self._lock:
            return f"<Listings {len(self._kept)} kept, {len(self._open)} being read>"

    def open(self, number: int, version: int, now_s: float) -> tuple[Keeping, Reading | None]:
        """A handle was opened; what it is if it fills, to be released."""
        with self._lock:
            versions = self._open.setdefault(number, Counter())
            if versions and list(versions) != [version]:
                return READ_ALL, None
            versions[version] += 1
            kept = self._kept.get(number)
            holds = kept is not None and kept[0] == version and now_s < kept[1] + self._keep_s
            return Keeping(fills=True, holds=holds), Reading(number, version)

    def read_again(self, reading: Reading, version: int) -> None:
        """A handle that fills begins anew, perhaps with another version: it is no proof of anything any more."""
        with self._lock:
            if not reading.is_open or reading.version == version:
                return
            versions = self._open[reading.number]
            versions[version] += 1
            _take_out(versions, reading.version)
            reading.version, reading.mixed = version, True
            self._kept.pop(reading.number, None)

    def told(self, reading: Reading, now_s: float) -> None:
        """The kernel has read a handle to its end."""
        with self._lock:
            self._kept.pop(reading.number, None)
            if not reading.is_open or reading.mixed or list(self._open[reading.number]) != [reading.version]:
                return
            self._kept[reading.number] = reading.version, now_s
            if len(self._kept) > MOST_LISTINGS:
                self._kept.popitem(last=False)

    def release(self, reading: Reading) -> None:
        """The handle is gone. Harmless when repeated."""
        with self._lock:
            if not reading.is_open:
                return
            reading.is_open = False
            versions = self._open[reading.number]
            _take_out(versions, reading.version)
            if not versions:
                del self._open[reading.number]


def _take_out(versions: Counter[int], version: int) -> None:
    versions[version] -= 1
    if not versions[version]:
        del versions[version]
