"""``DIR/blocks/index.sqlite3``: what is known of each block beside its bytes. It can always be rebuilt.

Any thread of any process: connections are borrowed one per call, statements are transactions of their own, nothing is
held between calls. A fork must not happen while a connection exists. The index never fails a read or a put: what cannot
be had is None, what cannot be written is forgotten and hashed again later; a damaged file is replaced by an empty one.
Only a file that is not ours or of a newer version is refused, at opening, with SchemaMismatch.
"""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, TypeVar

from arvfuse.errors import SchemaMismatch
from arvfuse.model.checks import PIECE_BYTES
from arvfuse.sync import Rank, RankedLock

if TYPE_CHECKING:
    import sqlite3

T = TypeVar("T")
log = logging.getLogger(__name__)

SCHEMA_VERSION: Final = 1
APPLICATION_ID: Final = 0x41464249  # "AFBI"
_BUSY_TIMEOUT_S: Final = 10.0
_DAMAGED: Final = frozenset({1, 11, 26})  # SQLITE_ERROR, SQLITE_CORRUPT, SQLITE_NOTADB
_SCHEMA: Final = """
CREATE TABLE blocks (
    digest BLOB NOT NULL PRIMARY KEY,   -- 16 bytes
    size INTEGER NOT NULL,              -- bytes
    checks BLOB NOT NULL,               -- xxh3_64 of each 64 KiB, 8 bytes big-endian each
    verified_ns INTEGER NOT NULL        -- when the whole block last matched its name, nanoseconds since 1970 UTC
) STRICT
"""


class IndexRow(NamedTuple):
    """One block: its bytes, the checks of its pieces, when it last matched its name."""

    size: int
    checks: bytes
    verified_ns: int

    @property
    def plausible(self) -> bool:
        """Whether there is one check for each piece."""
        return len(self.checks) == 8 * -(-self.size // PIECE_BYTES)


class BlockIndex:
    """Rows by digest (32 hex digits). With *writable* False nothing is written, not even by SQLite. *lazily*: the file
    is looked at, and SQLite loaded, when it is needed; for a process beside one that looked at once."""

    def __init__(self, path: Path, *, writable: bool = True, lazily: bool = False) -> None:
        self._path: Final = path
        self._writable: Final = writable
        self._lock: Final = RankedLock(Rank.LEAF)
        self._idle: list[_Connection] = []  # guarded by: _lock
        self._closed = False  # guarded by: _lock
        if not lazily:
            self._run(lambda _: None)  # refuses a strange file now, and not in the middle of the work

    def __repr__(self) -> str:
        return f"<BlockIndex {self._path}{'' if self._writable else ' read-only'}>"

    def get(self, digest: str) -> IndexRow | None:
        """What is known of the block, or None."""

        def work(connection: sqlite3.Connection) -> IndexRow | None:
            found = connection.execute(
                "SELECT size, checks, verified_ns FROM blocks WHERE digest = ?", (bytes.fromhex(digest),)
            ).fetchone()
            return None if found is None else IndexRow(*found)

        row = self._run(work)
        return row if row is not None and row.plausible else None

    def put(self, digest: str, row: IndexRow) -> None:
        """Keep *row*, in place of an older one."""
        if self._writable:
            self._run(
                lambda connection: connection.execute(
                    "INSERT INTO blocks VALUES (?, ?, ?, ?) ON CONFLICT (digest) DO UPDATE SET "
                    "size = excluded.size, checks = excluded.checks, verified_ns = excluded.verified_ns",
                    (bytes.fromhex(digest), row.size, row.checks, row.verified_ns),
                )
            )

    def forget(self, digest: str) -> None:
        """Drop the row: the next reader hashes the block."""
        if self._writable:
            self._run(
                lambda connection: connection.execute("DELETE FROM blocks WHERE digest = ?", (bytes.fromhex(digest),))
            )

    def close(self) -> None:
        """Close all connections. Idempotent; no call may be running."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
        for one in idle:
            one.connection.close()

    def _run(self, work: Callable[[sqlite3.Connection], T]) -> T | None:
        import sqlite3  # 5 ms, which a mount that becomes ready does without

        for _ in range(2):
            one: _Connection | None = None
            try:
                one = self._borrow()
                if one is None:
                    return None
                result = work(one.connection)
            except sqlite3.Error as exc:
                if one is not None:
                    one.connection.close()
                if not _is_damage(exc):
                    log.warning("%s: block index not usable now: %s", self._path, exc)
                    return None
                self._replace_damaged(one)
            else:
                self._give_back(one)
                return result
        return None

    def _borrow(self) -> _Connection | None:
        with self._lock:
            if self._closed:
                return None
            if self._idle:
                return self._idle.pop()
        try:
            return self._connect() if self._writable else self._connect_immutable()
        except OSError as exc:
            log.warning("%s: block index not usable now: %s", self._path, exc)
            return None

    def _give_back(self, one: _Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.append(one)
                return
        one.connection.close()

    def _connect(self) -> _Connection:
        import sqlite3

        # Exclusive: two processes that make the schema or switch to WAL at once get "locked" in spite of the timeout.
        with self._file_lock():
            connection = sqlite3.connect(
                self._path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
            )
            try:
                _check_schema(connection, self._path, create=True)
                connection.execute("PRAGMA journal_mode = WAL")
                # Rows lost in a power cut are hashed again, so nothing waits for the disk here.
                connection.execute("PRAGMA synchronous = NORMAL")
                return _Connection(connection, os.stat(self._path).st_ino)
            except sqlite3.Error as exc:
                connection.close()
                if _is_damage(exc):
                    self._unlink()
                raise
            except BaseException:
                connection.close()
                raise

    def _connect_immutable(self) -> _Connection | None:
        import sqlite3

        if not self._path.exists():
            return None
        # On a read-only directory SQLite cannot make the shared memory that WAL wants. A row that another process
        # changes under us is noticed as any wrong row is: the block is hashed whole.
        uri = f"{self._path.absolute().as_uri()}?mode=ro&immutable=1"
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
        try:
            _check_schema(connection, self._path, create=False)
        except BaseException:
            connection.close()
            raise
        return _Connection(connection, 0)

    def _replace_damaged(self, one: _Connection | None) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for other in idle:
            other.connection.close()
        if one is None or not self._writable:
            return  # _connect() has done it, or it must not be done
        with suppress(OSError), self._file_lock():
            if os.stat(self._path).st_ino == one.inode:  # else another process was first
                self._unlink()

    def _unlink(self) -> None:
        # A process that still has the old file open may remove the new file's WAL when it closes. What is lost by
        # that are rows, or the index once more; blocks are checked against their names before a row is believed.
        log.warning("%s: block index damaged; it is rebuilt as blocks are read", self._path)
        for suffix in ("-wal", "-shm", ""):
            Path(f"{self._path}{suffix}").unlink(missing_ok=True)

    @contextmanager
    def _file_lock(self) -> Iterator[None]:
        descriptor = os.open(f"{self._path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


class _Connection(NamedTuple):
    connection: sqlite3.Connection
    inode: int


def _check_schema(connection: sqlite3.Connection, path: Path, *, create: bool) -> None:
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    if application == APPLICATION_ID and version == SCHEMA_VERSION:
        return
    if application == APPLICATION_ID and version > SCHEMA_VERSION:
        raise SchemaMismatch(
            f"{path}: version {version} of the block index; this program knows {SCHEMA_VERSION}: update"
        )
    with closing(connection.execute("SELECT count(*) FROM sqlite_master")) as tables:
        (count,) = tables.fetchone()
    if count or application not in (0, APPLICATION_ID):
        raise SchemaMismatch(f"{path}: an SQLite file, but not a block index; move it away")
    if create:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(_SCHEMA)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        connection.execute("COMMIT")


def _is_damage(exc: sqlite3.Error) -> bool:
    code = getattr(exc, "sqlite_errorcode", None)
    return code is not None and (code & 0xFF) in _DAMAGED
