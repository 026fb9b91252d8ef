"""The fake clock itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support.clock import FakeClock


def test_time_stands_still_until_it_is_moved():
    clock = FakeClock()
    before = clock.monotonic(), clock.time_ns()
    assert (clock.monotonic(), clock.time_ns()) == before
    clock.advance(1.5)
    assert (clock.monotonic(), clock.time_ns()) == (before[0] + 1.5, before[1] + 1_500_000_000)
    clock.set_wall(5)
    assert (clock.monotonic(), clock.time_ns()) == (before[0] + 1.5, 5)


def test_a_sleeper_wakes_when_its_time_has_come():
    clock = FakeClock()
    with ThreadPoolExecutor(2) as pool:
        short, long = pool.submit(clock.sleep, 1), pool.submit(clock.sleep, 10)
        clock.wait_for_sleepers(2)
        clock.advance(5)
        short.result(30)
        assert not long.done()
        assert clock.sleepers == 1
        clock.advance(5)
        long.result(30)
    assert sorted(clock.slept) == [1, 10]


def test_an_automatic_clock_moves_itself():
    clock = FakeClock(auto=True)
    clock.sleep(3)
    assert clock.monotonic() == 1003


def test_waiters_on_a_condition_wake_at_their_deadline_and_when_notified():
    clock = FakeClock()
    condition = threading.Condition()

    def wait(deadline: float | None) -> float:
        with condition:
            clock.wait_on(condition, deadline)
        return clock.monotonic()

    assert wait(clock.monotonic()) == 1000
    with ThreadPoolExecutor(1) as pool:
        waiter = pool.submit(wait, 1001.0)
        clock.wait_for_sleepers()
        clock.advance(1)
        assert waiter.result(30) == 1001
        waiter = pool.submit(wait, None)
        clock.wait_for_sleepers()
        with condition:
            condition.notify_all()
        assert waiter.result(30) == 1001
    with pytest.raises(AssertionError, match="0 instead of 1"):
        clock.wait_for_sleepers(1, patience_s=0)
