"""Waiting until somebody writes."""

from __future__ import annotations

import threading

import pytest

from arvfuse.catalogs.watching import FileWatch, make_watch


@pytest.fixture
def watch(tmp_path):
    made = make_watch(tmp_path)
    assert isinstance(made, FileWatch)
    yield made
    made.close()
    made.close()


def test_writes_are_told_once_and_also_those_before_the_wait(watch, tmp_path):
    assert not watch.wait(0)
    (tmp_path / "file").write_bytes(b"1")
    assert watch.wait(0)
    assert not watch.wait(0)
    with open(tmp_path / "file", "ab") as file:
        file.write(b"2")
        file.flush()
        assert watch.wait(10)
    (tmp_path / "file").read_bytes()
    assert not watch.wait(0)


def test_a_wait_ends_when_it_is_woken_and_from_then_on_at_once(watch):
    waker = threading.Timer(0.01, watch.wake)
    waker.start()
    assert not watch.wait(60)
    assert not watch.wait(60)
    waker.join()


def test_where_there_is_nothing_to_watch_there_is_no_watch(tmp_path):
    assert make_watch(tmp_path / "nothing") is None
    with pytest.raises(OSError, match="No such file"):
        FileWatch(tmp_path / "nothing")
