from __future__ import annotations

import threading
from pathlib import Path

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.stores.syncing import Unsynced


def test_a_barrier_flushes_what_was_noted_once() -> None:
    owed = Unsynced()
    calls: list[tuple[set[str], set[Path]]] = []
    owed.barrier(lambda blocks, places: calls.append((blocks, places)))
    owed.note_block("a")
    owed.note_block("a")
    owed.note_directory(Path("/d"))
    assert repr(owed) == "<Unsynced 1 blocks, 1 directories>"
    owed.barrier(lambda blocks, places: calls.append((blocks, places)))
    owed.barrier(lambda blocks, places: calls.append((blocks, places)))
    assert calls == [({"a"}, {Path("/d")})]


def test_what_could_not_be_flushed_is_owed_again() -> None:
    owed = Unsynced()
    owed.note_block("a")

    def fail(blocks: set[str], places: set[Path]) -> None:
        owed.note_block("b")
        raise StoreUnavailable("disk")

    with pytest.raises(StoreUnavailable):
        owed.barrier(fail)
    calls: list[set[str]] = []
    owed.barrier(lambda blocks, _: calls.append(blocks))
    assert calls == [{"a", "b"}]


def test_a_second_barrier_waits_for_the_first() -> None:
    owed = Unsynced()
    owed.note_block("a")
    inside, go = threading.Event(), threading.Event()
    order: list[str] = []

    def slow(blocks: set[str], places: set[Path]) -> None:
        inside.set()
        go.wait()
        order.append("flushed")

    def second() -> None:
        owed.barrier(lambda *_: order.append("nothing was left for this"))
        order.append("second returned")

    first = threading.Thread(target=lambda: owed.barrier(slow), name="first")
    first.start()
    inside.wait()
    other = threading.Thread(target=second, name="second")
    other.start()
    go.set()
    first.join()
    other.join()
    assert order == ["flushed", "second returned"]
