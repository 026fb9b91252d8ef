"""Connections to one SQLite file: opened when needed, lent to one thread at a time, errors translated.

A thread has a connection of its own for as long as one operation takes; idle ones wait for the next operation of any
thread. So threads that end leave nothing behind, and nobody holds a read transaction between operations. Nothing here
waits but SQLite itself (busy timeout).

Failures: StoreUnavailable (locked for BUSY_S, disk full, I/O error, no permission), Damaged (SQLite says that the
file is), ReadOnly (a change through a read-only opening). A failed transaction is rolled back; the connection on
which SQLite failed is not used again. Not to be carried through a fork.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from arvfuse.errors import ArvfuseError, Damaged, ReadOnly, StoreUnavailable

BUSY_S: Final = 30.0

_IDLE_CONNECTIONS: Final = 8
_DAMAGED: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_REASONS: Final = {
    sqlite3.SQLITE_BUSY: f"locked by another process for {BUSY_S:.0f} s; end it or try again",
    sqlite3.SQLITE_LOCKED: "locked by another connection; try again",
    sqlite3.SQLITE_FULL: "the disk is full; make room",
    sqlite3.SQLITE_READONLY: "cannot be written; check its permissions or open the store read-only",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened; check that it exists and its permissions",
}


def translated(path: Path, error: sqlite3.Error) -> ArvfuseError | sqlite3.Error:
    """Our error for one of SQLite about the file at *path*; a misuse of SQLite stays what it is."""
    if isinstance(error, sqlite3.ProgrammingError | sqlite3.InterfaceError | sqlite3.IntegrityError):
        return error
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_ERROR and not str(error).startswith("no such "):
        return error  # SQL of ours is wrong
    if code in _DAMAGED or code == sqlite3.SQLITE_ERROR:  # a table is not there
        return Damaged(f"{path}: damaged ({error}); restore it from a copy")
    return StoreUnavailable(f"{path}: {_REASONS.get(code, f'failed ({error}); check the disk')}")


class Connections:
    """Openings of the file at *path*, which exists. With *read_only* nothing is ever written to it."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self._path: Final = path
        self._read_only: Final = read_only
        # The pop and append of a deque are atomic, so there is no lock.
        self._idle: Final[deque[sqlite3.Connection]] = deque()
        self._closed = False  # goes to True once

    def __repr__(self) -> str:
        return f"Connections({str(self._path)!r}, idle={len(self._idle)}, closed={self._closed})"

    @property
    def read_only(self) -> bool:
        return self._read_only

    @contextlib.contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection on which each statement sees the newest state."""
        with self._borrowed() as db:
            yield db

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """A connection on which all statements see the state of one moment; keep it short."""
        with self._borrowed() as db, _transaction(db, "BEGIN"):
            yield db

    @contextlib.contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """The only writer of the file until the end of the block, which commits; an exception rolls back."""
        if self._read_only:
            raise ReadOnly(str(self._path), "the store was opened read-only")
        with self._borrowed() as db, _transaction(db, "BEGIN IMMEDIATE"):
            yield db

    def close(self) -> None:
        """Close what is idle; what is lent is closed when it comes back. May be called again."""
        self._closed = True
        self._drain()

    @contextlib.contextmanager
    def _borrowed(self) -> Iterator[sqlite3.Connection]:
        if self._closed:
            raise StoreUnavailable(f"{self._path}: closed; open the store again")
        db: sqlite3.Connection | None = None
        try:
            try:
                db = self._idle.pop()
            except IndexError:
                db = self._open()
            yield db
        except sqlite3.Error as exc:
            if db is not None:
                db.close()
            error = translated(self._path, exc)
            if error is exc:
                raise
            raise error from exc
        except BaseException:
            if db is not None:
                self._give_back(db)
            raise
        else:
            self._give_back(db)

    def _give_back(self, db: sqlite3.Connection) -> None:
        if db.in_transaction or len(self._idle) >= _IDLE_CONNECTIONS or _is_immutable(db):
            db.close()
            return
        self._idle.append(db)
        if self._closed:
            self._drain()

    def _drain(self) -> None:
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()

    def _open(self) -> sqlite3.Connection:
        db = _connect(self._path, "mode=ro" if self._read_only else "mode=rw")
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
        except sqlite3.Error as exc:
            db.close()
            # A WAL file is read with an index beside it, which cannot be made in a read-only directory.
            if self._read_only and exc.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY):
                return self._open_immutable()
            raise
        return db

    def _open_immutable(self) -> sqlite3.Connection:
        """The file alone, taken as unchanging: right as long as nobody has a WAL beside it. Used for one operation,
        so that a writer elsewhere (the directory is read-only for *us*) is seen by the next."""
        with contextlib.suppress(FileNotFoundError):
            if os.stat(f"{self._path}-wal").st_size:
                raise StoreUnavailable(
                    f"{self._path}: its newest changes are in a WAL file that cannot be read from a read-only "
                    "directory; open the store once where it can be written"
                )
        return _connect(self._path, "mode=ro&immutable=1", factory=_Immutable)


class _Immutable(sqlite3.Connection):
    """Marks a connection that takes the file as unchanging."""


def _is_immutable(db: sqlite3.Connection) -> bool:
    return isinstance(db, _Immutable)


def _connect(path: Path, options: str, factory: type[sqlite3.Connection] = sqlite3.Connection) -> sqlite3.Connection:
    return sqlite3.connect(
        f"{path.absolute().as_uri()}?{options}",
        uri=True,
        timeout=BUSY_S,
        isolation_level=None,
        check_same_thread=False,
        factory=factory,
    )


@contextlib.contextmanager
def _transaction(db: sqlite3.Connection, begin: str) -> Iterator[None]:
    db.execute(begin)
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            with contextlib.suppress(sqlite3.Error):
                db.execute("ROLLBACK")
        raise
