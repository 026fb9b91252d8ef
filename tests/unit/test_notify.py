"""The invalidation queue: coalesces, never blocks a producer, one sender while there is something to send."""

from __future__ import annotations

import threading

import pytest

from arvfuse.notify import CAPACITY, Notifier
from tests.support.engines import RecordedKernel

PATIENCE_S = 10


class StuckKernel(RecordedKernel):
    """Takes one notice and keeps it until told."""

    def __init__(self) -> None:
        super().__init__()
        self.busy = threading.Event()
        self.let_go = threading.Event()
        self.threads: set[str] = set()

    def invalidate_entry(self, parent: int, name: bytes) -> None:
        self.threads.add(threading.current_thread().name)
        self.busy.set()
        assert self.let_go.wait(PATIENCE_S)
        super().invalidate_entry(parent, name)


def test_notices_are_sent_in_order_by_a_thread_that_then_ends() -> None:
    kernel = RecordedKernel()
    notices = Notifier(kernel, name="m1")
    for number in range(100):
        assert notices.entry(1, b"%d" % number)
    assert notices.node(5)
    assert notices.node(6, attributes_only=True)
    assert notices.wait_idle(PATIENCE_S)
    assert kernel.entries == [(1, b"%d" % number) for number in range(100)]
    assert kernel.inodes == [(5, False), (6, True)]
    assert repr(notices) == "<Notifier idle pending=0 sent=102 generation=0>"
    assert notices.close(PATIENCE_S)
    assert [thread.name for thread in threading.enumerate() if "notify" in thread.name] == []


def test_equal_notices_wait_once_and_one_thread_sends() -> None:
    kernel = StuckKernel()
    notices = Notifier(kernel, name="m2")
    notices.entry(1, b"first")
    assert kernel.busy.wait(PATIENCE_S)
    for _ in range(50):
        notices.entry(1, b"again")
        notices.node(9, attributes_only=True)
    notices.node(9)  # pages too: the stronger of the two is sent
    assert notices.pending == 2
    notices.check_invariants()
    kernel.let_go.set()
    assert notices.wait_idle(PATIENCE_S)
    assert kernel.entries == [(1, b"first"), (1, b"again")]
    assert kernel.inodes == [(9, False)]
    assert kernel.threads == {"arvfuse-notify-m2"}
    assert notices.close(PATIENCE_S)


def test_a_full_queue_loses_the_notice_and_says_so_until_it_is_settled() -> None:
    kernel = StuckKernel()
    notices = Notifier(kernel, capacity=3)
    assert CAPACITY == 65_536
    assert notices.capacity == 3
    notices.entry(1, b"sent")
    assert kernel.busy.wait(PATIENCE_S)
    assert [notices.entry(1, b"%d" % number) for number in range(4)] == [True, True, True, False]
    assert notices.entry(1, b"1"), "coalesced: needs no room"
    assert notices.room == 0
    assert notices.distrusted
    generation = notices.generation
    assert not notices.entry(1, b"more")
    notices.settle(generation)
    assert notices.distrusted, "one was lost after the walk began"
    notices.settle(notices.generation)
    assert not notices.distrusted
    kernel.let_go.set()
    assert notices.close(PATIENCE_S)


def test_close_ends_in_bounded_time_with_2000_notices_pending() -> None:
    kernel = StuckKernel()
    notices = Notifier(kernel)
    for number in range(2001):
        notices.entry(1, b"%d" % number)
    assert kernel.busy.wait(PATIENCE_S)
    assert not notices.close(0.01), "the kernel keeps one"
    assert notices.pending == 0
    assert not notices.entry(1, b"late")
    kernel.let_go.set()  # the connection ends: the notice returns
    assert notices.close(PATIENCE_S)
    assert len(kernel.entries) == 1
    assert notices.close(PATIENCE_S), "may be called again"


def test_a_notice_that_fails_does_not_end_the_others(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(RecordedKernel):
        def invalidate_entry(self, parent: int, name: bytes) -> None:
            if name == b"bad":
                raise RuntimeError("no")
            super().invalidate_entry(parent, name)

    kernel = Failing()
    notices = Notifier(kernel)
    notices.entry(1, b"bad")
    notices.entry(1, b"good")
    assert notices.wait_idle(PATIENCE_S)
    assert kernel.entries == [(1, b"good")]
    assert "failed" in caplog.text
    assert notices.close(PATIENCE_S)


def test_without_a_thread_the_notice_waits_for_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = RecordedKernel()
    notices = Notifier(kernel)

    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        assert notices.entry(1, b"a")
    assert notices.pending == 1
    notices.entry(1, b"b")
    assert notices.wait_idle(PATIENCE_S)
    assert kernel.entries == [(1, b"a"), (1, b"b")]
    assert notices.close(PATIENCE_S)
