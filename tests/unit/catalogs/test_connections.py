from __future__ import annotations

import sqlite3
import threading

import pytest

from arvfuse.catalogs.connections import BUSY_S, Connections, translated
from arvfuse.errors import Damaged, ReadOnly, StoreUnavailable


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "db"
    db = sqlite3.connect(made)
    db.execute("PRAGMA journal_mode=WAL")
    db.execute("CREATE TABLE t (n INTEGER PRIMARY KEY)")
    db.commit()
    db.close()
    return made


@pytest.fixture
def connections(path):
    made = Connections(path)
    yield made
    made.close()


def numbers(connections):
    with connections.reading() as db:
        return [n for (n,) in db.execute("SELECT n FROM t ORDER BY n").fetchall()]


def error_with(kind, message, code):
    error = kind(message)
    error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("kind", "message", "code", "ours"),
    [
        (sqlite3.OperationalError, "database is locked", sqlite3.SQLITE_BUSY_SNAPSHOT, StoreUnavailable),
        (sqlite3.OperationalError, "database or disk is full", sqlite3.SQLITE_FULL, StoreUnavailable),
        (sqlite3.OperationalError, "disk I/O error", sqlite3.SQLITE_IOERR_FSYNC, StoreUnavailable),
        (sqlite3.OperationalError, "readonly", sqlite3.SQLITE_READONLY_DBMOVED, StoreUnavailable),
        (sqlite3.DatabaseError, "malformed", sqlite3.SQLITE_CORRUPT_INDEX, Damaged),
        (sqlite3.DatabaseError, "file is not a database", sqlite3.SQLITE_NOTADB, Damaged),
        (sqlite3.OperationalError, "no such table: x", sqlite3.SQLITE_ERROR, Damaged),
    ],
)
def test_failures_of_sqlite_are_ours(path, kind, message, code, ours):
    error = translated(path, error_with(kind, message, code))
    assert type(error) is ours
    assert str(path) in str(error)
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.ProgrammingError("misuse"),
        sqlite3.IntegrityError("twice"),
        error_with(sqlite3.OperationalError, 'near "X": syntax error', sqlite3.SQLITE_ERROR),
    ],
)
def test_mistakes_of_ours_stay_what_they_are(path, error):
    assert translated(path, error) is error


def test_a_mistake_comes_out_of_a_block(connections):
    with pytest.raises(sqlite3.OperationalError), connections.reading() as db:
        db.execute("SELEKT")
    with pytest.raises(Damaged), connections.reading() as db:
        db.execute("SELECT * FROM gone")
    assert "idle=0" in repr(connections)


def test_writing_commits_or_rolls_back(connections):
    with connections.writing() as db:
        db.execute("INSERT INTO t VALUES (1)")
    with pytest.raises(sqlite3.IntegrityError), connections.writing() as db:
        db.executemany("INSERT INTO t VALUES (?)", [(2,), (1,)])
    assert numbers(connections) == [1]


def test_commits_are_flushed(connections):
    with connections.reading() as db:
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)
        assert db.execute("PRAGMA busy_timeout").fetchone() == (BUSY_S * 1000,)
        assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_a_connection_waits_for_the_next_who_needs_one(connections):
    with connections.reading() as first, connections.reading() as second:
        assert first is not second
    assert "idle=2" in repr(connections)
    with connections.reading() as again:
        assert again in (first, second)
    assert "idle=2" in repr(connections)


def test_threads_that_ended_leave_no_connection(connections):
    for _ in range(20):
        thread = threading.Thread(target=numbers, args=(connections,), name="reader")
        thread.start()
        thread.join()
    assert "idle=1" in repr(connections)


def test_a_snapshot_does_not_move_and_holds_nobody_up(connections):
    with connections.snapshot() as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
        with connections.writing() as other:
            other.execute("INSERT INTO t VALUES (1)")
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert numbers(connections) == [1]


def test_close_closes_what_comes_back_too(connections):
    with connections.reading() as db:
        connections.close()
    with pytest.raises(sqlite3.ProgrammingError):
        db.execute("SELECT 1")
    with pytest.raises(StoreUnavailable, match="closed"):
        numbers(connections)
    connections.close()
    assert "closed=True" in repr(connections)


def test_read_only_never_writes(path):
    connections = Connections(path, read_only=True)
    assert connections.read_only
    assert numbers(connections) == []
    with pytest.raises(ReadOnly), connections.writing():
        pass
    with pytest.raises(StoreUnavailable), connections.reading() as db:
        db.execute("INSERT INTO t VALUES (1)")
    connections.close()


def test_a_file_that_went_is_an_outage(tmp_path):
    with pytest.raises(StoreUnavailable, match="cannot be opened"):
        numbers(Connections(tmp_path / "gone"))


@pytest.mark.parametrize("read_only", [False, True])
def test_a_file_that_is_no_database_is_damaged(tmp_path, read_only):
    (tmp_path / "db").write_bytes(b"not a database at all, not at all" * 100)
    with pytest.raises(Damaged):
        numbers(Connections(tmp_path / "db", read_only=read_only))
