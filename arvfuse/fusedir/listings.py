"""Which listings the kernel may keep: of every directory the one version that it was told in whole.

A kernel that was given CACHE_DIR with an opened directory keeps what it reads; with KEEP_CACHE too it goes on with what
it has, and asks for no name. It notices what is changed through it, but nothing else; so each opening compares.

What it keeps is of one version for certain if all handles that may fill it are. So a handle is told to keep nothing
while others of another version are open, as what these have read may still be on its way.

Threading: guarded by a lock of its own. Failure: none; what is not known is read again.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from typing import Final, NamedTuple

from arvfuse.sync import Rank, RankedLock

MOST_LISTINGS: Final = 65_536
"""Directories of which is remembered what the kernel has; of others it reads again."""


class Keeping(NamedTuple):
    """What the kernel is told of an opened directory. *fills*: what it reads may be kept; *holds*: what it has, too."""

    fills: bool
    holds: bool


READ_ALL: Final = Keeping(fills=False, holds=False)


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

    def open(self, number: int, version: int, now_s: float) -> Keeping:
        """A handle was opened; release() it if it *fills*."""
        with self._lock:
            versions = self._open.setdefault(number, Counter())
            if versions and list(versions) != [version]:
                return READ_ALL
            versions[version] += 1
            kept = self._kept.get(number)
            return Keeping(fills=True, holds=kept is not None and kept[0] == version and now_s < kept[1] + self._keep_s)

    def read_again(self, number: int, old: int, new: int) -> None:
        """A handle that fills begins anew, with another version."""
        with self._lock:
            versions = self._open[number]
            versions[new] += 1
            _take_out(versions, old)
            self._kept.pop(number, None)

    def told(self, number: int, version: int, now_s: float) -> None:
        """The kernel has read a handle that fills to its end."""
        with self._lock:
            self._kept.pop(number, None)
            if list(self._open.get(number, ())) != [version]:
                return
            self._kept[number] = version, now_s
            if len(self._kept) > MOST_LISTINGS:
                self._kept.popitem(last=False)

    def release(self, number: int, version: int) -> None:
        """A handle that fills is gone."""
        with self._lock:
            versions = self._open[number]
            _take_out(versions, version)
            if not versions:
                del self._open[number]


def _take_out(versions: Counter[int], version: int) -> None:
    versions[version] -= 1
    if not versions[version]:
        del versions[version]
