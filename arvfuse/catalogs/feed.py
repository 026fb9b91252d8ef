"""Change feeds that look: four times a second, at something cheap, or when the system tells of a write (``watching``).

The feed of the SQLite catalog looks whether its files changed, then reads ``data_version``, which moves when any other
connection of any process commits, and only then the events. A feed that was left behind by the pruning of events hands
out every record once instead: nothing that moved is missed. One thread waits; any thread may close, which ends the wait
at once.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from arvfuse.catalogs import rows, rules
from arvfuse.catalogs.connections import Connections
from arvfuse.catalogs.watching import FileWatch
from arvfuse.errors import StoreUnavailable
from arvfuse.model.collections import Change, CollectionRecord, ProjectRecord
from arvfuse.ports import Clock
from arvfuse.sync import Rank, RankedLock, wait_until

LOOK_EVERY_S: Final = 0.25
BATCH: Final = 10_000
_ACTIVE_S: Final = 5.0
"""For so long after a write it is looked at: a commit is written first, then flushed, and shows after that."""
_ASK_ANYWAY_S: Final = 15.0


_SETTLED_NS: Final = int(_ACTIVE_S * 1e9)

_Files = tuple[tuple[int, int, int], ...]  # inode, modification time and size of the database and its log


class ChangeSource(Protocol):
    """Something to look at. poll() raises StoreUnavailable when it cannot; the next one goes on from there."""

    def poll(self) -> Sequence[Change]:
        """What came since the last poll, oldest first."""
        ...

    def close(self) -> None: ...


class PollingFeed:
    """The port ``ChangeFeed`` over a ChangeSource, which it owns. *watch*, its own too, tells when looking pays."""

    def __init__(self, source: ChangeSource, clock: Clock, watch: FileWatch | None = None) -> None:
        self._source: Final = source
        self._clock: Final = clock
        self._watch: Final = watch
        self._active_until = 0.0  # confined to the thread that waits
        self._wake: Final = threading.Condition(RankedLock(Rank.LEAF))  # type: ignore[arg-type]  # is a lock by shape
        self._closed = False  # guarded by: _wake; goes to True once

    def wait(self, timeout_s: float) -> Sequence[Change]:
        """Changes since the last call; empty at the timeout and, at once, when closed."""
        deadline = self._clock.monotonic() + timeout_s
        while not self._closed:
            try:
                changes = self._source.poll()
            except StoreUnavailable:
                if self._closed:
                    break
                raise
            now = self._clock.monotonic()
            if changes or now >= deadline:
                return changes
            if self._watch is None or now < self._active_until:
                self._pause(min(now + LOOK_EVERY_S, deadline))
            elif self._watch.wait(min(deadline - now, _ASK_ANYWAY_S)):
                self._active_until = self._clock.monotonic() + _ACTIVE_S
        return []

    def close(self) -> None:
        """End the wait that is going on, and every later one. May be called again."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._watch is not None:
            self._watch.wake()  # it stays open: who waits on it may be about to look at it
        self._source.close()

    def _pause(self, until: float) -> None:
        with self._wake:
            wait_until(self._wake, lambda: self._closed, until, self._clock)


class SqliteChanges:
    """Events of the catalog at *path* that come after this was made. Confined to the thread that polls."""

    def __init__(self, path: Path, clock: Clock, *, read_only: bool, batch: int = BATCH) -> None:
        # Connections of its own: data_version tells of the commits of all *other* connections.
        self._connections: Final = Connections(path, read_only=read_only)
        self._clock: Final = clock
        self._batch: Final = batch
        self._path: Final = path
        self._looked: tuple[sqlite3.Connection, int] | None = None
        self._files: _Files | None = None  # as they were before the last poll, if all was told then
        self._asked_at = 0.0
        with self._connections.reading() as db:
            self._after = rows.newest_event(db)

    def poll(self) -> Sequence[Change]:
        """See ``ChangeSource``; at most *batch* events."""
        files, now = _files(self._path), time.monotonic()
        if files is not None and files == self._files and now - self._asked_at < _ASK_ANYWAY_S:
            return []
        self._files, self._asked_at = None, now
        told = self._poll()
        if not told and files is not None and time.time_ns() - max(mtime_ns for _, mtime_ns, _ in files) > _SETTLED_NS:
            self._files = files
        return told

    def _poll(self) -> Sequence[Change]:
        looked, self._looked = self._looked, None
        with self._connections.reading() as db:
            # Read before the events: a commit in between is told again, never missed.
            state = (db, db.execute("PRAGMA data_version").fetchone()[0])
            if looked == state and not self._connections.read_only:
                self._looked = state
                return []
            found = rows.events_after(db, self._after, self._batch)
        if found and found[0][0] > self._after + 1:
            return self._everything()
        if found:
            self._after = found[-1][0]
        if len(found) < self._batch:
            self._looked = state
        return [change for _, change in found]

    def close(self) -> None:
        self._connections.close()

    def _everything(self) -> Sequence[Change]:
        with self._connections.snapshot() as db:
            newest = rows.newest_event(db)
            records: list[CollectionRecord | ProjectRecord] = [
                *rows.projects_where(db, "1"),
                *rows.collections_where(db, self._clock.time_ns(), "1"),
            ]
        self._after = newest
        return [rules.change_of(record, writer="") for record in records]


def _files(path: Path) -> _Files | None:
    """What tells that somebody wrote; None if that cannot be seen. 10 us, where asking the database takes 500."""
    found = []
    for each in (path, f"{path}-wal"):
        try:
            stat = os.stat(each)
        except FileNotFoundError:
            found.append((0, 0, 0))
            continue
        except OSError:
            return None
        found.append((stat.st_ino, stat.st_mtime_ns, stat.st_size))
    return tuple(found) if found[0][0] else None
