from __future__ import annotations

import os
import sqlite3
import threading
from pathlib import Path

import pytest

from arvfuse.errors import SchemaMismatch
from arvfuse.stores.index import APPLICATION_ID, SCHEMA_VERSION, BlockIndex, IndexRow

A, B = "a" * 32, "b" * 32
ROW = IndexRow(size=100_000, checks=b"0123456701234567", verified_ns=5)


def test_rows_come_and_go(tmp_path: Path) -> None:
    index = BlockIndex(tmp_path / "i")
    assert index.get(A) is None
    index.put(A, ROW)
    assert index.get(A) == ROW
    assert index.get(B) is None
    newer = IndexRow(100_000, ROW.checks, 6)
    index.put(A, newer)
    assert index.get(A) == newer
    index.close()
    index.close()
    again = BlockIndex(tmp_path / "i")
    assert again.get(A) == newer
    again.forget(A)
    assert again.get(A) is None
    assert repr(again) == f"<BlockIndex {tmp_path / 'i'}>"
    again.close()
    assert again.get(A) is None


def test_a_row_without_a_check_for_each_piece_counts_as_none(tmp_path: Path) -> None:
    assert ROW.plausible
    assert not IndexRow(200_000, ROW.checks, 5).plausible
    index = BlockIndex(tmp_path / "i")
    index.put(A, IndexRow(200_000, ROW.checks, 5))
    assert index.get(A) is None
    index.close()


def test_two_indexes_on_one_file(tmp_path: Path) -> None:
    one, two = BlockIndex(tmp_path / "i"), BlockIndex(tmp_path / "i")
    one.put(A, ROW)
    assert two.get(A) == ROW
    two.put(B, ROW)
    assert one.get(B) == ROW
    one.close()
    two.close()


def test_many_threads(tmp_path: Path) -> None:
    index = BlockIndex(tmp_path / "i")
    seen: list[IndexRow | None] = []

    def work(number: int) -> None:
        digest = f"{number:032x}"
        index.put(digest, ROW)
        seen.append(index.get(digest))

    threads = [threading.Thread(target=work, args=(n,), name=f"w{n}") for n in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [ROW] * 16
    index.close()


@pytest.mark.parametrize("content", [b"not a database at all, but long enough to be looked at" * 100, b"x"])
def test_a_file_that_is_no_database_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "i").write_bytes(content)
    index = BlockIndex(tmp_path / "i")
    index.put(A, ROW)
    assert index.get(A) == ROW
    index.close()


def test_damage_under_an_open_index_is_replaced(tmp_path: Path) -> None:
    index = BlockIndex(tmp_path / "i")
    index.put(A, ROW)
    index.close()
    index = BlockIndex(tmp_path / "i")
    with (tmp_path / "i").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 12288)
    assert index.get(A) is None
    index.put(A, ROW)
    assert index.get(A) == ROW
    index.close()


def test_damage_between_two_runs_is_replaced(tmp_path: Path) -> None:
    index = BlockIndex(tmp_path / "i")
    index.put(A, ROW)
    index.close()
    with (tmp_path / "i").open("r+b") as file:
        file.write(b"\0" * 50)
    index = BlockIndex(tmp_path / "i")
    assert index.get(A) is None
    index.put(A, ROW)
    assert index.get(A) == ROW
    index.close()


def test_a_missing_index_is_made_again(tmp_path: Path) -> None:
    index = BlockIndex(tmp_path / "i")
    index.close()
    os.unlink(tmp_path / "i")
    index = BlockIndex(tmp_path / "i")
    index.put(A, ROW)
    assert index.get(A) == ROW
    index.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    BlockIndex(tmp_path / "i").close()
    with sqlite3.connect(tmp_path / "i") as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    connection.close()
    for writable in (True, False):
        with pytest.raises(SchemaMismatch, match="update"):
            BlockIndex(tmp_path / "i", writable=writable)


def test_a_database_of_somebody_else_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "i") as connection:
        connection.execute("CREATE TABLE precious (x)")
    connection.close()
    with pytest.raises(SchemaMismatch, match="not a block index"):
        BlockIndex(tmp_path / "i")


def test_read_only_writes_nothing(tmp_path: Path) -> None:
    missing = BlockIndex(tmp_path / "i", writable=False)
    missing.put(A, ROW)
    assert missing.get(A) is None
    missing.close()
    assert list(tmp_path.iterdir()) == []
    index = BlockIndex(tmp_path / "i")
    index.put(A, ROW)
    index.close()
    before = sorted(path.name for path in tmp_path.iterdir())
    reader = BlockIndex(tmp_path / "i", writable=False)
    assert reader.get(A) == ROW
    reader.put(B, ROW)
    reader.forget(A)
    assert reader.get(A) == ROW
    assert reader.get(B) is None
    assert "read-only" in repr(reader)
    reader.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_damaged_index_that_may_not_be_written_is_done_without(tmp_path: Path) -> None:
    (tmp_path / "i").write_bytes(b"rubbish" * 1000)
    index = BlockIndex(tmp_path / "i", writable=False)
    assert index.get(A) is None
    index.close()
    assert (tmp_path / "i").read_bytes() == b"rubbish" * 1000


def test_lazily_the_file_is_looked_at_when_it_is_needed(tmp_path: Path) -> None:
    path = tmp_path / "i"
    index = BlockIndex(path, lazily=True)
    assert not path.exists()
    assert index.get(A) is None
    index.put(A, ROW)
    assert BlockIndex(path).get(A) == ROW
    index.close()
    with sqlite3.connect(path) as strange:
        strange.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    later = BlockIndex(path, lazily=True)
    with pytest.raises(SchemaMismatch, match="update"):
        later.get(A)
    later.close()
