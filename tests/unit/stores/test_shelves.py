from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.stores.shelves import DirectoryShelf, Line, MemoryShelf, Shelf
from tests.support.stores import flip, md5, noise, spooled

DATA = noise(200_000)
LINE = Line(md5(DATA), 200_000, 0, 1 << 26)


def other(number: int) -> Line:
    return Line(f"{number:032x}", 200_000, 0, 1 << 26)


def data_files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*+*") if ".sums" not in path.name]


def test_a_line_knows_its_place() -> None:
    lines = [Line("d", 200_000, number, 1 << 16) for number in range(5)]
    assert [line.start for line in lines] == [0, 65536, 131072, 196608, 262144]
    assert [line.length for line in lines] == [65536, 65536, 65536, 3392, 0]
    assert LINE.length == 200_000


@pytest.mark.parametrize("kind", ["memory", "directory"])
def test_a_shelf_is_bounded_and_drops_the_oldest(tmp_path: Path, kind: str) -> None:
    shelf: Shelf = MemoryShelf(500_000) if kind == "memory" else DirectoryShelf(tmp_path, 500_000)
    assert shelf.read(LINE, 0, 1) is None
    shelf.keep(LINE, DATA)
    shelf.keep(other(1), DATA)
    got = shelf.read(LINE, 65_000, 140_000)
    assert got is not None
    assert bytes(got) == DATA[65_000:140_000]
    shelf.keep(other(2), memoryview(DATA))
    assert shelf.read(other(1), 0, 1) is None
    assert shelf.read(LINE, 0, 1) is not None
    assert shelf.read(other(2), 0, 1) is not None
    assert "2 entries" in repr(shelf)
    shelf.close()
    if kind == "directory":
        assert len(data_files(tmp_path)) == 2


def test_a_directory_is_found_again(tmp_path: Path) -> None:
    shelf = DirectoryShelf(tmp_path, 500_000)
    for number in range(2):
        shelf.keep(other(number), DATA)
    shelf.close()
    os.utime(next(iter(tmp_path.rglob(f"{0:032x}+200000.0x*"))), ns=(2, 2))
    os.utime(next(iter(tmp_path.rglob(f"{1:032x}+200000.0x*"))), ns=(1, 1))
    again = DirectoryShelf(tmp_path, 500_000)
    again.keep(LINE, DATA)
    assert again.read(other(1), 0, 1) is None
    got = again.read(other(0), 199_999, 200_000)
    assert got is not None
    assert bytes(got) == DATA[-1:]
    again.close()


def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    one, two = DirectoryShelf(tmp_path, 500_000), DirectoryShelf(tmp_path, 500_000)
    one.keep(LINE, DATA)
    assert two.read(LINE, 0, 1) is not None
    for path in data_files(tmp_path):
        path.unlink()
    three = DirectoryShelf(tmp_path, 500_000)
    assert three.read(LINE, 0, 1) is None
    for shelf in (one, two, three):
        shelf.close()


@pytest.mark.parametrize("victim", ["data", "sums", "short", "gone"])
def test_what_is_damaged_is_a_miss_and_removed(tmp_path: Path, victim: str) -> None:
    first = DirectoryShelf(tmp_path, 500_000)
    first.keep(LINE, DATA)
    first.close()
    (path,) = data_files(tmp_path)
    (sums,) = tmp_path.rglob("*.sums*")
    shelf = DirectoryShelf(tmp_path, 500_000)
    if victim == "data":
        flip(path, 100_000)
    elif victim == "short":
        path.chmod(0o600)
        os.truncate(path, 70_000)
    elif victim == "gone":
        path.unlink()
    else:
        shelf.close()
        flip(sums, 8)
        shelf = DirectoryShelf(tmp_path, 500_000)
    assert shelf.read(LINE, 100_000, 100_001) is None
    assert not path.exists()
    shelf.keep(LINE, DATA)
    got = shelf.read(LINE, 0, 200_000)
    assert got is not None
    assert bytes(got) == DATA
    shelf.close()


def test_a_file_is_adopted_by_link(tmp_path: Path) -> None:
    path, _, _, checks = spooled(tmp_path / "spool", DATA)
    shelf = DirectoryShelf(tmp_path / "cache", 500_000)
    shelf.adopt(LINE, path, checks)
    shelf.adopt(LINE, path, checks)
    (kept,) = data_files(tmp_path / "cache")
    assert os.path.samefile(kept, path)
    path.unlink()
    got = shelf.read(LINE, 10, 20)
    assert got is not None
    assert bytes(got) == DATA[10:20]
    shelf.close()


def test_a_memory_shelf_adopts_nothing(tmp_path: Path) -> None:
    path, _, _, checks = spooled(tmp_path / "spool", DATA)
    shelf = MemoryShelf(500_000)
    shelf.adopt(LINE, path, checks)
    assert shelf.read(LINE, 0, 1) is None
    shelf.close()


def test_a_directory_that_went_away_is_a_miss(tmp_path: Path) -> None:
    shelf = DirectoryShelf(tmp_path / "cache", 500_000)
    (tmp_path / "cache").rmdir()
    shelf.keep(LINE, DATA)
    shelf.adopt(LINE, tmp_path / "none", b"")
    assert shelf.read(LINE, 0, 1) is None
    shelf.close()
