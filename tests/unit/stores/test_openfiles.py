from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.stores.openfiles import OpenFile, OpenFiles


def opener(path: Path) -> int:
    path.touch()
    return os.open(path, os.O_RDONLY)


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def test_a_file_stays_open_for_the_next(tmp_path: Path) -> None:
    files = OpenFiles(2)
    first = files.acquire("a", lambda: opener(tmp_path / "a"))
    again = files.acquire("a", lambda: pytest.fail("opened twice"))
    assert isinstance(first, OpenFile)
    assert again is first
    assert first.users == 2
    files.release(first)
    files.release(again)
    assert is_open(first.fd)
    assert (len(files), repr(files)) == (1, "<OpenFiles 1 of 2>")
    files.close()
    assert not is_open(first.fd)


def test_the_oldest_is_closed_but_not_under_its_user(tmp_path: Path) -> None:
    files = OpenFiles(1)
    busy = files.acquire("a", lambda: opener(tmp_path / "a"))
    other = files.acquire("b", lambda: opener(tmp_path / "b"))
    assert busy.dropped
    assert is_open(busy.fd)
    files.release(busy)
    assert not is_open(busy.fd)
    files.drop("b")
    assert len(files) == 0
    assert is_open(other.fd)
    files.release(other)
    assert not is_open(other.fd)
    files.drop("b")
    files.close()


def test_close_leaves_nothing_open(tmp_path: Path) -> None:
    files = OpenFiles(4)
    busy = files.acquire("a", lambda: opener(tmp_path / "a"))
    files.close()
    files.close()
    assert is_open(busy.fd)
    files.release(busy)
    assert not is_open(busy.fd)
    late = files.acquire("b", lambda: opener(tmp_path / "b"))
    files.release(late)
    assert not is_open(late.fd)


def test_two_that_open_at_once_share_one(tmp_path: Path) -> None:
    files = OpenFiles(4)
    inner: list[OpenFile] = []

    def slow() -> int:
        inner.append(files.acquire("a", lambda: opener(tmp_path / "a")))
        return opener(tmp_path / "a")

    outer = files.acquire("a", slow)
    assert outer is inner[0]
    assert outer.users == 2
    files.release(outer)
    files.release(inner[0])
    files.close()
    assert not is_open(outer.fd)


def test_a_failing_open_leaves_nothing(tmp_path: Path) -> None:
    files = OpenFiles(4)
    with pytest.raises(FileNotFoundError):
        files.acquire("a", lambda: os.open(tmp_path / "missing", os.O_RDONLY))
    assert len(files) == 0
