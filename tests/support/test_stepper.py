"""The stepped pool itself: nothing runs untold, results and exceptions go where a pool puts them."""

from __future__ import annotations

from concurrent.futures import CancelledError

import pytest

from tests.support.stepper import Stepper, WorkPool


def test_nothing_runs_until_told_and_then_in_order():
    steps = Stepper()
    ran: list[int] = []
    futures = [steps.submit(ran.append, k) for k in range(3)]
    assert (ran, len(steps.pending)) == ([], 3)
    assert steps.run_one()
    assert ran == [0]
    assert [f.done() for f in futures] == [True, False, False]
    assert steps.run_one(1)
    assert ran == [0, 2]
    assert steps.run_until_idle() == 1
    assert not steps.run_one()
    assert steps.started == 3


def test_work_that_submits_work_is_run_too():
    steps = Stepper()
    inner = steps.submit(lambda: steps.submit(lambda: "inner"))
    assert steps.run_until_idle() == 2
    assert inner.result().result() == "inner"


def test_an_exception_goes_into_the_future():
    steps = Stepper()
    future = steps.submit(divmod, 1, 0)
    assert steps.run_until_idle() == 1
    with pytest.raises(ZeroDivisionError):
        future.result()


def test_close_cancels_and_cancelled_work_is_skipped():
    steps: WorkPool = Stepper()
    first, second, third = (steps.submit(int, k) for k in "123")
    first.cancel()
    assert steps.run_one()
    assert second.result() == 2
    steps.close()
    steps.close()
    with pytest.raises(CancelledError):
        third.result()
    with pytest.raises(RuntimeError):
        steps.submit(int)


def test_a_livelock_is_told():
    steps = Stepper()

    def again():
        steps.submit(again)

    again()
    with pytest.raises(AssertionError, match="still busy after 10 steps"):
        steps.run_until_idle(limit=10)
    assert "again" in repr(steps)
