"""The window: what is in flight, in which order results come, and how it ends."""

from __future__ import annotations

import doctest
import gc
import threading
import weakref
from concurrent.futures import CancelledError, Future
from pathlib import Path

import pytest

from arvfuse import parallel
from arvfuse.errors import ArgumentError
from arvfuse.parallel import (
    Builder,
    Executor,
    Terminated,
    argument_bytes,
    batch_iterator,
    parallel_iterator,
    run_in_parallel,
)

PATIENCE_S = 30
WORKERS = (0, 1, 2, 5)


class Gates:
    """Calls that end when they are let through; counts what is in flight (started and not handed out)."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open: set[int] = set()
        self.started: list[int] = []

    def call(self, number: int) -> int:
        with self._changed:
            self.started.append(number)
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: number in self._open, PATIENCE_S)
        return number

    def open(self, *numbers: int) -> None:
        with self._changed:
            self._open.update(numbers)
            self._changed.notify_all()

    def wait_started(self, count: int) -> list[int]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.started) >= count, PATIENCE_S)
            return sorted(self.started)


def mapping(fn, *sources, cost=0) -> Builder:
    def builder(executor: Executor):
        for source in sources:
            yield (executor.submit(fn, item, cost=cost) for item in source)

    return builder


def fail(number: int) -> int:
    if number < 0:
        raise KeyError(number)
    return number


@pytest.mark.parametrize("workers", WORKERS)
class TestWithAnyNumberOfWorkers:
    def test_results_come_in_order_across_sources(self, workers):
        results = parallel_iterator(mapping(str, range(50), [], range(50, 80)), max_workers=workers)
        assert list(results) == [str(k) for k in range(80)]

    def test_as_completed_loses_nothing(self, workers):
        results = parallel_iterator(mapping(str, range(50), range(50, 80)), max_workers=workers, ordered=False)
        assert sorted(results, key=int) == [str(k) for k in range(80)]

    def test_nothing_is_nothing(self, workers):
        assert list(parallel_iterator(mapping(str), max_workers=workers)) == []
        assert list(parallel_iterator(lambda executor: [], max_workers=workers)) == []

    def test_lists_of_futures_are_taken_too(self, workers):
        def builder(executor: Executor):
            return [[executor.submit(str, k) for k in range(20)], [executor.submit(str, 20, cost=5)]]

        for ordered in (True, False):
            results = list(parallel_iterator(builder, max_workers=workers, ordered=ordered, max_bytes=3))
            assert sorted(results, key=int) == [str(k) for k in range(21)]

    def test_keyword_arguments_reach_the_call(self, workers):
        results = parallel_iterator(lambda ex: [[ex.submit(int, "11", base=2, cost=1)]], max_workers=workers)
        assert list(results) == [3]

    def test_an_exception_comes_in_its_turn(self, workers):
        results = parallel_iterator(mapping(fail, (1, 2, -3, 4)), max_workers=workers)
        assert (next(results), next(results)) == (1, 2)
        with pytest.raises(KeyError):
            next(results)
        assert list(results) == []

    def test_an_exception_as_completed(self, workers):
        with pytest.raises(KeyError):
            list(parallel_iterator(mapping(fail, (1, 2, -3, 4)), max_workers=workers, ordered=False))

    def test_an_exception_of_the_source_comes_after_the_results_before_it(self, workers):
        def broken(executor: Executor):
            yield (executor.submit(str, k) for k in range(3))
            raise OSError("cannot list")

        results = parallel_iterator(broken, max_workers=workers)
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(OSError, match="cannot list"):
            next(results)

    def test_a_builder_that_fails(self, workers):
        def builder(executor: Executor):
            raise OSError("cannot begin")

        with pytest.raises(OSError, match="cannot begin"):
            next(parallel_iterator(builder, max_workers=workers))

    def test_nothing_begins_before_the_first_item_is_asked_for(self, workers):
        asked: list[int] = []
        results = parallel_iterator(lambda executor: asked.append(1) or [], max_workers=workers)
        assert asked == []
        assert list(results) == []
        assert asked == [1]

    def test_terminated_before_the_first_item(self, workers):
        over, asked = threading.Event(), []
        over.set()
        results = parallel_iterator(lambda executor: asked.append(1) or [], max_workers=workers, termination_event=over)
        with pytest.raises(Terminated):
            next(results)
        assert asked == []
        assert issubclass(Terminated, CancelledError)

    def test_terminated_before_a_submission(self, workers):
        over, submitted = threading.Event(), []

        def builder(executor: Executor):
            yield [executor.submit(str, 0)]
            over.set()
            submitted.append(1)
            yield [executor.submit(submitted.append, 2)]

        with pytest.raises(Terminated):
            list(parallel_iterator(builder, max_workers=workers, termination_event=over))
        assert submitted == [1]

    def test_terminated_before_a_result(self, workers):
        over = threading.Event()

        def work(number: int) -> int:
            if number == 2:
                over.set()
            return number

        given: list[int] = []
        results = parallel_iterator(mapping(work, range(9)), max_workers=workers, termination_event=over)
        with pytest.raises(Terminated):
            given.extend(results)
        assert given == list(range(len(given)))
        assert len(given) <= 2

    def test_terminated_between_results(self, workers):
        over = threading.Event()
        results = parallel_iterator(mapping(fail, range(9)), max_workers=workers, termination_event=over)
        assert next(results) == 0
        over.set()
        with pytest.raises(Terminated):
            next(results)

    def test_the_source_is_closed_when_the_iterator_is(self, workers):
        closed: list[str] = []

        def inner(executor: Executor):
            try:
                for k in range(100):
                    yield executor.submit(str, k)
            finally:
                closed.append("inner")

        def builder(executor: Executor):
            try:
                yield inner(executor)
            finally:
                closed.append("outer")

        results = parallel_iterator(builder, max_workers=workers)
        assert next(results) == "0"
        results.close()
        assert closed == ["inner", "outer"]

    def test_no_thread_outlives_it(self, workers):
        before = threading.active_count()
        results = parallel_iterator(mapping(str, range(50)), max_workers=workers)
        assert next(results) == "0"
        del results
        gc.collect()
        assert threading.active_count() == before
        assert len(list(parallel_iterator(mapping(str, range(50)), max_workers=workers))) == 50
        assert threading.active_count() == before

    def test_futures_of_others_may_be_in_the_chain(self, workers):
        ready: Future[str] = Future()
        ready.set_result("ready")

        def builder(executor: Executor):
            yield [executor.submit(str, 1), ready, executor.submit(str, 2)]

        assert list(parallel_iterator(builder, max_workers=workers)) == ["1", "ready", "2"]
        assert sorted(parallel_iterator(builder, max_workers=workers, ordered=False)) == ["1", "2", "ready"]

    def test_a_result_lives_as_long_as_its_consumer_wants(self, workers):
        class Big:
            pass

        def builder(executor: Executor):
            yield (executor.submit(Big) for _ in range(3))

        results = parallel_iterator(builder, max_workers=workers)
        first = weakref.ref(next(results))
        gc.collect()
        assert first() is None
        results.close()


class TestInline:
    @pytest.mark.parametrize("workers", [0, 1, None])
    def test_calls_run_in_the_consumers_thread_when_asked_for(self, workers):
        ran: list[int] = []

        def work(number: int) -> threading.Thread:
            ran.append(number)
            return threading.current_thread()

        results = parallel_iterator(mapping(work, range(5)), max_workers=workers)
        assert next(results) is threading.current_thread()
        assert ran == [0]
        assert next(results) is threading.current_thread()
        assert ran == [0, 1]
        results.close()
        assert ran == [0, 1]


class TestWindow:
    def test_submission_is_lazy_and_at_most_n_are_in_flight(self):
        gates, pulled = Gates(), []

        def source():
            for k in range(100):
                pulled.append(k)
                yield k

        results = parallel_iterator(mapping(gates.call, source()), max_workers=3)
        gates.open(0)
        assert next(results) == 0
        assert gates.wait_started(4) == [0, 1, 2, 3]
        assert pulled == [0, 1, 2, 3]
        gates.open(2, 3)  # done, but the one before is not: they are still in flight
        gates.open(1)
        assert next(results) == 1
        assert gates.wait_started(5) == [0, 1, 2, 3, 4]
        assert pulled == [0, 1, 2, 3, 4]
        gates.open(*range(100))
        assert list(results) == list(range(2, 100))

    def test_results_as_they_complete(self):
        gates = Gates()
        results = parallel_iterator(mapping(gates.call, range(5)), max_workers=3, ordered=False)
        gates.open(1)
        assert next(results) == 1
        gates.open(3)
        assert next(results) == 3
        gates.open(0)
        assert next(results) == 0
        gates.open(2, 4)
        assert sorted(results) == [2, 4]

    def test_at_most_m_bytes_are_in_flight(self):
        gates = Gates()
        results = parallel_iterator(mapping(gates.call, range(6), cost=40), max_workers=5, max_bytes=100)
        gates.open(0)
        assert next(results) == 0
        assert gates.wait_started(3) == [0, 1, 2]  # 3 waits for room, 4 was not even asked for
        gates.open(1)
        assert next(results) == 1
        assert gates.wait_started(4) == [0, 1, 2, 3]
        gates.open(*range(6))
        assert list(results) == [2, 3, 4, 5]

    @pytest.mark.parametrize("ordered", [True, False])
    def test_a_call_that_costs_more_than_all_is_in_flight_alone(self, ordered):
        active, lock, most = set(), threading.Lock(), []

        def work(number: int) -> int:
            with lock:
                active.add(number)
                most.append((number, len(active)))
            with lock:
                active.remove(number)
            return number

        def builder(executor: Executor):
            yield (executor.submit(work, k, cost=500 if k % 3 == 0 else 1) for k in range(30))

        results = parallel_iterator(builder, max_workers=4, max_bytes=100, ordered=ordered)
        assert sorted(results) == list(range(30))
        assert all(count == 1 for number, count in most if number % 3 == 0)

    def test_abandoned_it_cancels_what_is_queued(self):
        gates, futures = Gates(), []

        def builder(executor: Executor):
            futures.extend(executor.submit(gates.call, k) for k in range(10))
            yield futures

        results = parallel_iterator(builder, max_workers=2)
        gates.open(0)
        assert next(results) == 0
        assert gates.wait_started(3) == [0, 1, 2]
        gates.open(1, 2)
        results.close()
        assert [f.cancelled() for f in futures] == [False] * 3 + [True] * 7
        assert gates.wait_started(3) == [0, 1, 2]

    def test_a_failure_cancels_what_is_queued(self):
        started: list[int] = []

        def work(number: int) -> None:
            started.append(number)
            raise KeyError(number)

        with pytest.raises(KeyError):
            list(parallel_iterator(lambda ex: [[ex.submit(work, k) for k in range(100)]], max_workers=2))
        assert set(started) <= {0, 1}

    @pytest.mark.parametrize("ordered", [True, False])
    def test_futures_given_in_another_order_than_submitted_do_not_hang(self, ordered):
        def builder(executor: Executor):
            futures = [executor.submit(str, k, cost=60) for k in range(6)]
            yield reversed(futures)

        results = list(parallel_iterator(builder, max_workers=2, max_bytes=100, ordered=ordered))
        assert sorted(results) == ["0", "1", "2", "3", "4", "5"]

    def test_a_call_that_wants_to_exit_does_not_hang_its_consumer(self):
        def leave() -> None:
            raise SystemExit(3)

        with pytest.raises(SystemExit):
            list(parallel_iterator(lambda ex: [[ex.submit(leave)]], max_workers=2))

    def test_a_future_that_was_cancelled_by_its_builder(self):
        def builder(executor: Executor):
            futures = [executor.submit(str, k, cost=60) for k in range(4)]
            futures[3].cancel()
            yield futures

        results = parallel_iterator(builder, max_workers=2, max_bytes=60)
        assert [next(results) for _ in range(3)] == ["0", "1", "2"]
        with pytest.raises(CancelledError):
            next(results)

    def test_many_items_through_a_small_window(self):
        results = parallel_iterator(mapping(fail, range(3000), cost=1), max_workers=3, max_bytes=2)
        assert sum(results) == 3000 * 2999 // 2


@pytest.mark.parametrize(
    "refused",
    [
        lambda: parallel_iterator(mapping(str), max_workers=-1),
        lambda: parallel_iterator(mapping(str), max_bytes=0),
        lambda: batch_iterator([], max_items=0),
        lambda: batch_iterator([], max_bytes=0),
    ],
)
def test_limits_that_mean_nothing_are_refused_at_once(refused):
    with pytest.raises(ArgumentError):
        refused()


class TestBatches:
    def test_by_items(self):
        assert list(batch_iterator("abcde", max_items=2)) == [["a", "b"], ["c", "d"], ["e"]]
        assert list(batch_iterator("abcd", max_items=2)) == [["a", "b"], ["c", "d"]]
        assert list(batch_iterator([], max_items=2)) == []
        assert list(batch_iterator("ab")) == [["a", "b"]]

    def test_by_encoded_bytes(self):
        assert list(batch_iterator(["aa", "é", "b"], max_bytes=6)) == [["aa", "é"], ["b"]]
        assert list(batch_iterator(["a" * 50, "b", "c" * 50], max_bytes=6)) == [["a" * 50], ["b"], ["c" * 50]]
        assert list(batch_iterator([3, 3, 3, 3], max_bytes=6, max_items=9, size=int)) == [[3, 3], [3, 3]]

    def test_by_both(self):
        assert list(batch_iterator("aaabbbc", max_items=3, max_bytes=4)) == [[*"aa"], [*"ab"], [*"bb"], ["c"]]

    def test_a_batch_is_given_before_the_next_item_is_asked_for_when_it_is_full(self):
        items = iter("abc")
        batches = batch_iterator(items, max_items=2)
        assert next(batches) == ["a", "b"]
        assert next(items) == "c"

    def test_arguments_are_measured_as_the_kernel_does(self):
        assert argument_bytes("é") == 3
        assert argument_bytes(b"\xff") == 2
        assert argument_bytes(Path("a/b")) == 4
        assert argument_bytes("\udcff") == 2


class TestBeside:
    def test_both_run_at_once_and_both_answer(self):
        meeting = threading.Barrier(2, timeout=PATIENCE_S)

        def meet(name: str) -> tuple[str, threading.Thread]:
            meeting.wait()
            return name, threading.current_thread()

        (first, here), (second, there) = run_in_parallel(lambda: meet("f"), lambda: meet("g"))
        assert (first, second) == ("f", "g")
        assert here is threading.current_thread()
        assert there is not here
        assert not there.is_alive()

    def test_an_exception_of_either_is_raised_when_both_have_ended(self):
        ended = []
        with pytest.raises(KeyError):
            run_in_parallel(lambda: fail(-1), lambda: ended.append("g"))
        with pytest.raises(KeyError):
            run_in_parallel(lambda: ended.append("f"), lambda: fail(-1))
        assert ended == ["g", "f"]

    def test_if_both_fail_the_first_is_raised_and_tells_of_the_other(self):
        with pytest.raises(KeyError) as caught:
            run_in_parallel(lambda: fail(-1), lambda: 1 // 0)
        assert "ZeroDivisionError" in caught.value.__notes__[0]


def test_the_examples_in_the_docstrings_and_the_manual_are_true():
    assert doctest.testmod(parallel).failed == 0
    manual = Path(__file__).parents[2] / "doc" / "parallel.md"
    result = doctest.testfile(str(manual), module_relative=False)
    assert result.attempted > 5
    assert result.failed == 0
