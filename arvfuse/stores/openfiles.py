"""File descriptors of blocks, kept open for the next read.

Any thread may call. Opening and closing happen outside the lock; a descriptor in use is closed only by its last user,
so a read never meets a number that was given to another file.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from arvfuse.sync import Rank, RankedLock


class OpenFile:
    """One open descriptor and how many are using it. Handed out by OpenFiles only."""

    __slots__ = ("dropped", "fd", "users")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.users = 1
        self.dropped = False


class OpenFiles:
    """At most *limit* idle descriptors by key; the one used longest ago is closed first."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._lock: Final = RankedLock(Rank.LEAF)
        self._files: OrderedDict[str, OpenFile] = OrderedDict()  # guarded by: _lock
        self._closed = False  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<OpenFiles {len(self._files)} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._files)

    def acquire(self, key: str, opener: Callable[[], int]) -> OpenFile:
        """The open file of *key*, from *opener* if there is none; give it back with release(). Raises its OSError."""
        with self._lock:
            file = self._files.get(key)
            if file is not None:
                file.users += 1
                self._files.move_to_end(key)
                return file
        mine = OpenFile(opener())
        with self._lock:
            other = self._files.get(key)
            if other is not None:
                other.users += 1
                useless = [mine.fd]
            elif self._closed:
                mine.dropped = True
                useless = []
            else:
                self._files[key] = mine
                useless = self._shrink_locked()
        _close_all(useless)
        return other or mine

    def release(self, file: OpenFile) -> None:
        """Give back what acquire() returned, once."""
        with self._lock:
            file.users -= 1
            idle = file.dropped and not file.users
        if idle:
            os.close(file.fd)

    def drop(self, key: str) -> None:
        """Forget *key*: the next acquire() opens it anew."""
        with self._lock:
            file = self._files.pop(key, None)
            useless = [] if file is None else self._drop_locked(file)
        _close_all(useless)

    def close(self) -> None:
        """Close all that is idle now and the rest when it is released. Idempotent."""
        with self._lock:
            self._closed = True
            useless = [fd for file in self._files.values() for fd in self._drop_locked(file)]
            self._files.clear()
        _close_all(useless)

    def _shrink_locked(self) -> list[int]:
        useless: list[int] = []
        while len(self._files) > self._limit:
            _, oldest = self._files.popitem(last=False)
            useless += self._drop_locked(oldest)
        return useless

    def _drop_locked(self, file: OpenFile) -> list[int]:
        file.dropped = True
        return [] if file.users else [file.fd]


def _close_all(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
