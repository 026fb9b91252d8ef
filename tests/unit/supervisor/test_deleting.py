"""Deleting what was dropped: all of it, by one thread at a time, which ends."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from arvfuse.supervisor.deleting import Deleting

PATIENCE_S = 20


def test_what_comes_while_the_thread_is_at_work_is_deleted_too() -> None:
    left, gone = ["one"], list[str]()
    begun, goes_on = threading.Semaphore(0), threading.Semaphore(0)

    def delete() -> None:
        taken, left[:] = left.copy(), []
        begun.release()
        assert goes_on.acquire(timeout=PATIENCE_S)
        gone.extend(taken)

    deleting = Deleting(delete)
    deleting.begin()
    assert begun.acquire(timeout=PATIENCE_S)
    assert "at work" in repr(deleting)
    left.append("two")
    deleting.begin()
    deleting.begin()
    goes_on.release(2)
    deleting.close()
    assert (gone, left, begun.acquire(timeout=0)) == (["one", "two"], [], True)
    deleting.close()
    assert "idle" in repr(deleting)
    left.append("three")
    goes_on.release()
    deleting.begin()
    deleting.close()
    assert gone == ["one", "two", "three"]


def test_where_no_thread_can_be_started_it_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[threading.Thread] = []

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    deleting = Deleting(lambda: done.append(threading.current_thread()))
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        deleting.begin()
    assert done == [threading.current_thread()]
    deleting.begin()
    deleting.close()
    assert len(done) == 2


def test_what_it_died_of_is_told_by_close() -> None:
    deleting = Deleting(lambda: actions[0]())

    def fail() -> None:
        deleting.begin()  # and something comes meanwhile
        raise ValueError("a bug")

    actions: list[Callable[[], None]] = [fail]
    deleting.begin()
    with pytest.raises(ValueError, match="a bug"):
        deleting.close()
    done: list[bool] = []
    actions[0] = lambda: done.append(True)
    deleting.begin()
    deleting.close()
    assert done == [True]
