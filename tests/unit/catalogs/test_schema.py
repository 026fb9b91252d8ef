from __future__ import annotations

import sqlite3
import threading

import pytest

from arvfuse.catalogs import schema
from arvfuse.catalogs.schema import APPLICATION_ID, CHECKED_BYTES, MIGRATIONS, make_file, open_file, upgrade
from arvfuse.errors import Damaged, SchemaMismatch, StoreUnavailable


def second(db: sqlite3.Connection) -> None:
    db.execute("ALTER TABLE groups ADD COLUMN colour TEXT NOT NULL DEFAULT 'red'")


def failing(db: sqlite3.Connection) -> None:
    second(db)
    raise KeyError("in the middle")


@pytest.fixture
def path(tmp_path):
    made = tmp_path / "store" / "catalog.sqlite3"
    make_file(made, now_ns=7)
    return made


def ask(path, sql):
    db = sqlite3.connect(path)
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def test_a_new_file_is_complete_and_alone(path):
    assert [found.name for found in path.parent.iterdir()] == ["catalog.sqlite3"]
    assert ask(path, "PRAGMA application_id") == [(APPLICATION_ID,)]
    assert ask(path, "PRAGMA user_version") == [(len(MIGRATIONS),)]
    assert ask(path, "PRAGMA journal_mode") == [("wal",)]
    meta = dict(ask(path, "SELECT * FROM meta"))
    assert ask(path, "SELECT uuid, name, kind, modified_at_ns FROM groups") == [(meta["home"], "home", "user", 7)]


def test_making_it_again_changes_nothing(path):
    before = path.read_bytes()
    make_file(path, now_ns=8)
    assert path.read_bytes() == before


def test_of_many_who_make_it_at_once_all_get_the_same(tmp_path):
    path = tmp_path / "catalog.sqlite3"
    threads = [threading.Thread(target=make_file, args=(path,), kwargs={"now_ns": 1}, name="maker") for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found.name for found in tmp_path.iterdir()] == ["catalog.sqlite3"]
    assert len(ask(path, "SELECT * FROM groups")) == 1


def test_an_older_layout_is_upgraded_once(path):
    newer = (*MIGRATIONS, second)
    with pytest.raises(SchemaMismatch, match="layout 1 of an older arvfuse; open the store once read-write"):
        open_file(path, read_only=True, migrations=newer)
    open_file(path, read_only=False, migrations=newer).close()
    assert ask(path, "PRAGMA user_version") == [(2,)]
    assert ask(path, "SELECT colour FROM groups") == [("red",)]
    connections = open_file(path, read_only=True, migrations=newer)
    connections.close()
    connections = open_file(path, read_only=False, migrations=newer)
    upgrade(path, connections, newer)
    connections.close()
    assert ask(path, "PRAGMA user_version") == [(2,)]


def test_a_failed_upgrade_leaves_the_old_layout(path):
    with pytest.raises(KeyError):
        open_file(path, read_only=False, migrations=(*MIGRATIONS, failing))
    assert ask(path, "PRAGMA user_version") == [(1,)]
    open_file(path, read_only=False).close()


def test_a_newer_layout_is_refused(path):
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version=99")
    db.close()
    with pytest.raises(SchemaMismatch, match="layout 99 of a newer arvfuse, this one knows 1; update arvfuse"):
        open_file(path, read_only=True)


def test_a_database_of_somebody_else_is_refused(tmp_path):
    for name, sql in (("other", "CREATE TABLE t (n)"), ("empty", "SELECT 1")):
        db = sqlite3.connect(tmp_path / name)
        db.execute(sql)
        db.close()
        (tmp_path / name).touch()
        with pytest.raises(SchemaMismatch, match="is not a catalog"):
            open_file(tmp_path / name, read_only=False)


def damage(path, offset: int) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(b"\xff" * 2000)


@pytest.mark.parametrize("offset", [0, 200, 4096, 3 * 4096])
def test_damage_is_found_when_opening(path, offset):
    assert path.stat().st_size < CHECKED_BYTES
    damage(path, offset)
    with pytest.raises(Damaged) as caught:
        open_file(path, read_only=False)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_what_is_not_there_and_cannot_be_made(tmp_path):
    with pytest.raises(StoreUnavailable, match="no catalog there"):
        open_file(tmp_path / "catalog.sqlite3", read_only=True)
    (tmp_path / "file").touch()
    with pytest.raises(StoreUnavailable, match=r"cannot be made here|cannot be opened"):
        make_file(tmp_path / "file" / "catalog.sqlite3", now_ns=1)
    with pytest.raises(StoreUnavailable, match=r"cannot be made here|cannot be opened"):
        make_file(tmp_path / "file" / "below" / "catalog.sqlite3", now_ns=1)
    assert schema.APPLICATION_ID.to_bytes(4, "big") == b"arvf"
