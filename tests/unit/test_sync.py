"""Ranked locks, byte budgets, the spool account, workers."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arvfuse.clock import SystemClock
from arvfuse.sync import (
    GUARDS,
    ByteBudget,
    LockOrderError,
    Rank,
    RankedLock,
    SpoolAccount,
    Worker,
    check_lock_order,
    rank_table,
    wait_until,
)
from tests.support.clock import FakeClock

PATIENCE_S = 30


@pytest.fixture
def pool():
    with ThreadPoolExecutor(4) as threads:
        yield threads


class TestRankedLock:
    def test_rising_order_is_allowed_and_any_order_of_release(self):
        locks = [RankedLock(rank) for rank in Rank]
        for lock in locks:
            assert lock.acquire()
        for lock in (locks[2], locks[0], *locks[3:], locks[1]):
            lock.release()
        assert not any(lock.locked_by_me() for lock in locks)
        with locks[0], locks[3]:
            assert locks[3].locked_by_me()

    @pytest.mark.parametrize("taken", list(Rank))
    def test_a_lower_rank_is_refused(self, taken):
        with RankedLock(taken):
            for rank in Rank:
                lock = RankedLock(rank)
                if rank > taken:
                    with lock:
                        pass
                    continue
                with pytest.raises(LockOrderError):
                    lock.acquire()
                with pytest.raises(LockOrderError), lock:
                    pass
                assert not lock.locked_by_me()

    def test_keys_order_equal_ranks(self):
        first, second = RankedLock(Rank.COLLECTION, 1), RankedLock(Rank.COLLECTION, 2)
        with first, second:
            pass
        with second, pytest.raises(LockOrderError, match=r"<COLLECTION 1> wanted while holding .*<COLLECTION 2>"):
            first.acquire()

    def test_it_is_not_reentrant(self):
        lock = RankedLock(Rank.LOG)
        with lock, pytest.raises(LockOrderError):
            lock.acquire()
        assert lock.acquire(blocking=False)
        lock.release()

    def test_only_the_holder_gives_it_back(self, pool):
        lock = RankedLock(Rank.LEAF)
        with pytest.raises(LockOrderError, match="not held"):
            lock.release()
        with lock:
            with pytest.raises(LockOrderError, match="not held"):
                pool.submit(lock.release).result()
            assert pool.submit(lock.locked_by_me).result() is False
            assert pool.submit(lock.acquire, False).result() is False
            assert pool.submit(lock.acquire, True, 0.001).result() is False
        assert pool.submit(lock.acquire, False).result() is True  # pool threads are for this test alone

    def test_it_is_given_back_when_the_body_raises(self):
        lock, other = RankedLock(Rank.BLOCK), RankedLock(Rank.LEAF)
        with pytest.raises(KeyError), lock:
            raise KeyError
        assert not lock.locked_by_me()
        with lock:
            other.acquire()
        assert not lock.locked_by_me()
        assert other.locked_by_me()
        other.release()

    def test_it_excludes(self, pool):
        lock, total = RankedLock(Rank.LEAF), [0]

        def count() -> None:
            for _ in range(2000):
                with lock:
                    total[0] += 1

        for future in [pool.submit(count) for _ in range(4)]:
            future.result()
        assert total == [8000]

    def test_it_serves_a_condition(self, pool):
        lock = RankedLock(Rank.LEAF)
        condition, flag = threading.Condition(lock), []

        def wait() -> bool:
            with condition:
                return condition.wait_for(lambda: bool(flag), PATIENCE_S) and lock.locked_by_me()

        waiter = pool.submit(wait)
        with condition:
            flag.append(1)
            condition.notify_all()
        assert waiter.result()
        with pytest.raises(RuntimeError):
            condition.notify_all()

    def test_waiting_while_holding_another_lock_is_refused(self):
        condition = threading.Condition(RankedLock(Rank.LEAF))
        with RankedLock(Rank.COLLECTION), condition, pytest.raises(LockOrderError, match="waiting for another thread"):
            condition.wait(1)


def test_a_process_that_serves_does_without_the_check():
    check_lock_order(False)
    try:
        first, second = RankedLock(Rank.LOG), RankedLock(Rank.BLOCK)
    finally:
        check_lock_order(True)
    with first, second:  # the wrong way round
        assert first.locked()
    with RankedLock(Rank.LOG), pytest.raises(LockOrderError):
        RankedLock(Rank.BLOCK).acquire()


def test_the_documented_order_is_the_one_in_force():
    table = rank_table()
    assert table.count("\n") == len(Rank) + 2
    assert set(GUARDS) == set(Rank)
    assert table in (Path(__file__).parents[2] / "doc" / "locking.md").read_text()
    assert sorted(Rank, key=int) == list(Rank)


class TestWaitUntil:
    def test_the_deadline_is_of_the_clock(self, pool):
        clock, condition = FakeClock(), threading.Condition()

        def wait(deadline_s: float | None) -> bool:
            with condition:
                return wait_until(condition, lambda: False, deadline_s, clock)

        assert not wait(clock.monotonic())
        waiter = pool.submit(wait, clock.monotonic() + 5)
        clock.wait_for_sleepers()
        clock.advance(4.5)
        clock.wait_for_sleepers()
        assert not waiter.done()
        clock.advance(0.5)
        assert waiter.result(PATIENCE_S) is False

    def test_a_notified_predicate_ends_it(self, pool):
        for clock in (FakeClock(), SystemClock()):
            condition, flag = threading.Condition(), []

            def wait(deadline_s=None, clock=clock, condition=condition, flag=flag) -> bool:
                with condition:
                    return wait_until(condition, lambda: bool(flag), deadline_s, clock)

            waiters = [pool.submit(wait), pool.submit(wait, clock.monotonic() + PATIENCE_S)]
            with condition:
                flag.append(1)
                condition.notify_all()
            assert [w.result(PATIENCE_S) for w in waiters] == [True, True]

    def test_a_deadline_of_the_system_clock_passes(self):
        condition, clock = threading.Condition(), SystemClock()
        with condition:
            assert not wait_until(condition, lambda: False, clock.monotonic() + 0.001, clock)


class TestByteBudget:
    def test_what_fits_is_granted_at_once(self):
        budget = ByteBudget(100)
        assert budget.acquire(60)
        assert budget.acquire(40)
        assert (budget.used, budget.limit) == (100, 100)
        assert not budget.acquire(1, timeout_s=0)
        budget.release(1)
        assert budget.acquire(1, timeout_s=0)
        assert repr(budget) == "<ByteBudget 100 of 100 bytes, 0 waiting>"

    def test_more_than_the_limit_is_granted_when_alone(self):
        budget = ByteBudget(100)
        assert budget.acquire(500)
        assert not budget.acquire(1, timeout_s=0)
        budget.release(500)
        assert budget.acquire(1)
        assert not budget.acquire(500, timeout_s=0)

    def test_first_come_first_served(self, pool):
        clock = FakeClock()
        budget = ByteBudget(100, clock=clock)
        assert budget.acquire(100)
        order: list[int] = []

        def reserve(n: int) -> None:
            assert budget.acquire(n)
            order.append(n)
            budget.release(n)

        futures = []
        for number, n in enumerate((90, 20, 5)):
            futures.append(pool.submit(reserve, n))
            clock.wait_for_sleepers(number + 1)
        assert budget.waiting == 3
        budget.release(10)  # enough for the last one, which waits for its turn
        assert not budget.acquire(1, timeout_s=0)
        budget.release(90)
        for future in futures:
            future.result(PATIENCE_S)
        assert order[0] == 90
        assert (budget.used, budget.waiting) == (0, 0)

    def test_a_timeout_makes_way_for_the_next(self, pool):
        clock = FakeClock()
        budget = ByteBudget(100, clock=clock)
        assert budget.acquire(50)
        big = pool.submit(budget.acquire, 90, 5)
        clock.wait_for_sleepers(1)
        small = pool.submit(budget.acquire, 10)
        clock.wait_for_sleepers(2)
        clock.advance(5)
        assert big.result(PATIENCE_S) is False
        assert small.result(PATIENCE_S) is True

    def test_termination_ends_a_wait_and_refuses_the_next(self, pool):
        clock, over = FakeClock(), threading.Event()
        budget = ByteBudget(100, clock=clock)
        assert budget.acquire(100, terminated=over.is_set)
        waiter = pool.submit(budget.acquire, 1, None, over.is_set)
        clock.wait_for_sleepers()
        over.set()
        budget.wake()
        assert waiter.result(PATIENCE_S) is False
        budget.release(100)
        assert not budget.acquire(1, terminated=over.is_set)
        assert budget.used == 0

    def test_a_holder_of_a_lock_may_reserve_but_not_wait(self):
        budget = ByteBudget(100)
        with RankedLock(Rank.COLLECTION):
            assert budget.acquire(100)
            with pytest.raises(LockOrderError):
                budget.acquire(1)
        assert (budget.used, budget.waiting) == (100, 0)

    def test_too_much_given_back_is_a_bug(self):
        with pytest.raises(AssertionError):
            ByteBudget(1).release(1)


class TestSpoolAccount:
    def test_the_level_is_what_was_charged_and_not_credited(self):
        spool = SpoolAccount(100)
        spool.charge(150)
        assert (spool.level, spool.limit, spool.full) == (150, 100, True)
        spool.credit(50)
        assert (spool.level, spool.full, spool.progress) == (100, False, 1)
        assert spool.wait_for_room(0, FakeClock())
        assert repr(spool) == "<SpoolAccount 100 of 100 bytes, 0 waiting>"
        with pytest.raises(AssertionError):
            spool.credit(101)

    def test_a_slow_store_is_waited_for_and_a_stalled_one_is_not(self, pool):
        clock, spool = FakeClock(), SpoolAccount(100)
        spool.charge(130)
        slow = pool.submit(spool.wait_for_room, 10, clock)
        for _ in range(20):  # 180 s in all: each step comes within the bound
            clock.wait_for_sleepers()
            assert spool.waiting == 1
            clock.advance(9)
            (spool.credit if spool.level > 111 else lambda n: spool.progressed())(1)
        clock.wait_for_sleepers()
        assert not slow.done()
        spool.credit(11)
        assert slow.result(PATIENCE_S) is True
        spool.charge(50)
        stalled = pool.submit(spool.wait_for_room, 10, clock)
        clock.wait_for_sleepers()
        clock.advance(10)
        assert stalled.result(PATIENCE_S) is False
        assert spool.waiting == 0

    def test_close_lets_waiters_go(self, pool):
        clock, spool = FakeClock(), SpoolAccount(1)
        spool.charge(2)
        waiter = pool.submit(spool.wait_for_room, 10, clock)
        clock.wait_for_sleepers()
        spool.close()
        spool.close()
        assert waiter.result(PATIENCE_S) is False
        assert spool.wait_for_room(10, clock) is False
        spool.credit(2)
        assert spool.wait_for_room(10, clock) is True

    def test_a_reply_is_held_back_until_there_is_room(self):
        clock, spool = FakeClock(), SpoolAccount(100)
        assert spool.when_room(clock) is None
        spool.charge(130)
        held = [spool.when_room(clock) for _ in range(3)]
        assert spool.waiting == 3
        spool.credit(29)
        assert not any(each.done() for each in held)
        spool.credit(1)
        assert [each.result(0) for each in held] == [None] * 3
        assert (spool.waiting, spool.when_room(clock)) == (0, None)

    def test_a_reply_that_is_held_back_fails_when_nothing_moves(self):
        clock, spool = FakeClock(), SpoolAccount(100)
        spool.charge(130)
        early = spool.when_room(clock)
        clock.advance(6)
        late = spool.when_room(clock)

        def look() -> tuple[bool, bool]:
            spool.fail_stalled(10, clock, lambda: OSError("stalled"))
            return early.done(), late.done()

        clock.advance(3)
        assert look() == (False, False)
        spool.progressed()
        clock.advance(9)  # whoever saw progress starts anew
        assert look() == (False, False)
        clock.advance(10)
        assert look() == (True, True)
        for each in (early, late):
            with pytest.raises(OSError, match="stalled"):
                each.result(0)
        again = spool.when_room(clock)
        clock.advance(9)
        spool.fail_stalled(10, clock, lambda: OSError("stalled"))
        assert not again.done()
        spool.close()
        assert again.result(0) is None
        assert spool.when_room(clock) is None


class TestWorker:
    def test_it_runs_until_it_is_closed(self):
        over, ran = threading.Event(), threading.Event()
        seen: list[tuple[str, bool]] = []

        def body() -> None:
            seen.append((threading.current_thread().name, threading.current_thread().daemon))
            ran.set()
            assert over.wait(PATIENCE_S)

        worker = Worker("arvfuse-test", body, stop=over.set)
        assert repr(worker) == "<Worker arvfuse-test: new>"
        worker.start()
        assert ran.wait(PATIENCE_S)
        assert worker.alive
        assert worker.name == "arvfuse-test"
        assert repr(worker).endswith("alive>")
        worker.check()
        worker.close()
        worker.close()
        assert not worker.alive
        assert worker.failure is None
        assert seen == [("arvfuse-test", False)]
        assert repr(worker).endswith("ended>")

    def test_its_owner_gets_what_it_died_of(self):
        died = threading.Event()

        def body() -> None:
            try:
                raise OSError("disk on fire")
            finally:
                died.set()

        worker = Worker("arvfuse-test", body, stop=lambda: None)
        worker.start()
        assert died.wait(PATIENCE_S)
        with pytest.raises(OSError, match="disk on fire"):
            worker.close()
        assert repr(worker).endswith("failed>")
        for _ in range(2):
            with pytest.raises(OSError, match="disk on fire"):
                worker.check()
        worker.close()  # told already

    def test_one_that_was_never_started_can_be_closed(self):
        told: list[int] = []
        worker = Worker("arvfuse-test", lambda: None, stop=lambda: told.append(1))
        worker.close()
        assert told == [1]
        assert not worker.alive
