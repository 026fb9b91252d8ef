"""Doing many things at once, a window of them at a time, without losing order, memory or exceptions.

`parallel_iterator` keeps up to N calls and M bytes in flight and hands their results out one by one; `batch_iterator`
cuts a stream into batches for command lines and query strings; `run_in_parallel` runs two calls beside each other.
``doc/parallel.md`` explains them with examples.

Threading: an iterator is used by one thread at a time and owns its worker threads, which have ended when it has ended,
failed, or been closed. Failure: exceptions of a call, of the source of calls, and of termination reach the consumer.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from arvfuse.errors import ArgumentError

T = TypeVar("T")
A = TypeVar("A")
B = TypeVar("B")


class Terminated(CancelledError):
    """The termination event was set; what was queued is cancelled. Asked for, so it is no failure of ours."""


class Executor(Protocol):
    """What a builder is handed."""

    def submit(self, fn: Callable[..., T], /, *args: Any, cost: int = 0, **kwargs: Any) -> Future[T]:
        """Have ``fn(*args, **kwargs)`` called when the window has room. *cost*: bytes that it and its result keep in
        memory; they are counted from its start until its result is handed to the consumer."""
        ...


Builder = Callable[[Executor], Iterable[Iterable[Future[T]]]]
"""Gives the sources, one after another, each an iterable of futures; it should submit as it is iterated."""


def parallel_iterator(
    builder: Builder[T],
    *,
    max_workers: int | None = os.cpu_count(),
    ordered: bool = True,
    max_bytes: int | None = None,
    termination_event: Event | None = None,
) -> Generator[T, None, None]:
    """Iterate over the results of the calls that *builder* submits, with a window of them in flight.

    *builder* is called with an `Executor` and gives an iterable of iterables of futures, which are chained: order is
    kept across them. They are iterated lazily, by the consuming thread, as the window has room: at most *max_workers*
    calls and *max_bytes* bytes (the sum of their *cost*) are started and not handed out yet; a call that alone costs
    more is started alone. The builder must not wait for its own futures. With 0 or 1 workers each call runs in the
    consuming thread, in submit(), when its result is asked for.

    *ordered*: results in the order of the futures, else as they complete. An exception of a call is raised in the turn
    of its result; one of the source after the results before it. Either ends the iteration. An iterator that is closed
    or dropped, and every one that fails, cancels what has not started and waits for what has.

    *termination_event* is looked at before the first item and before every submission and result: `Terminated`.

    >>> def squares(executor):
    ...     yield (executor.submit(pow, k, 2) for k in range(3))
    ...     yield (executor.submit(pow, k, 2) for k in (10, 20))
    >>> list(parallel_iterator(squares, max_workers=2))
    [0, 1, 4, 100, 400]
    """
    workers = 1 if max_workers is None else max_workers
    if workers < 0:
        raise ArgumentError(f"there cannot be {workers} workers")
    if max_bytes is not None and max_bytes <= 0:
        raise ArgumentError(f"nothing fits into {max_bytes} bytes")
    stop = _Stop(termination_event)
    if workers <= 1:
        return _run_inline(builder, stop)
    return _run_window(builder, workers, ordered, max_bytes, stop)


def batch_iterator(
    items: Iterable[T],
    *,
    max_items: int | None = None,
    max_bytes: int | None = None,
    size: Callable[[T], int] | None = None,
) -> Iterator[list[T]]:
    """Cut *items* into lists of at most *max_items* whose encoded sizes add up to at most *max_bytes*.

    *size* tells the encoded bytes of an item with what separates it from the next; by default those of a command line
    argument, `argument_bytes`. An item that alone is bigger is a batch of its own. No batch is empty; each is given as
    soon as it is known to be complete.

    >>> list(batch_iterator(["a", "bb", "ccc", "d"], max_bytes=6))
    [['a', 'bb'], ['ccc', 'd']]
    >>> list(batch_iterator(range(5), max_items=2))
    [[0, 1], [2, 3], [4]]
    """
    if max_items is not None and max_items <= 0:
        raise ArgumentError(f"no batch has {max_items} items")
    if max_bytes is not None and max_bytes <= 0:
        raise ArgumentError(f"no batch has {max_bytes} bytes")
    return _batches(items, max_items, max_bytes, size or argument_bytes)


def argument_bytes(argument: Any) -> int:
    """Bytes that a str, bytes or path takes on a command line, its terminating zero included.

    >>> argument_bytes("é"), argument_bytes(b"abc")
    (3, 4)
    """
    return len(os.fsencode(argument)) + 1


def run_in_parallel(f: Callable[[], A], g: Callable[[], B]) -> tuple[A, B]:
    """Call *f* in this thread and *g* in one of its own; both have ended when this returns or raises.

    If both raise, it is *f*'s exception, with a note that tells *g*'s.

    >>> run_in_parallel(lambda: 1, lambda: "two")
    (1, 'two')
    """
    with ThreadPoolExecutor(1, thread_name_prefix="arvfuse-beside") as pool:
        beside = pool.submit(g)
        try:
            first = f()
        except BaseException as exc:
            failure = beside.exception()
            if failure is not None:
                exc.add_note(f"beside it: {failure!r}")
            raise
        return first, beside.result()


class _Stop:
    """The termination event, if there is one."""

    def __init__(self, event: Event | None) -> None:
        self._event: Final = event

    def check(self) -> None:
        if self._event is not None and self._event.is_set():
            raise Terminated("terminated")


class _Inline:
    """Executor that calls at once, in the thread that submits."""

    def __init__(self, stop: _Stop) -> None:
        self._stop: Final = stop

    def submit(self, fn: Callable[..., T], /, *args: Any, cost: int = 0, **kwargs: Any) -> Future[T]:
        self._stop.check()
        future: Future[T] = Future()
        _Task(future, fn, args, kwargs, cost).run()
        return future


class _Task(NamedTuple):
    """A call whose result goes into *future*."""

    future: Future[Any]
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    cost: int

    def run(self) -> None:
        if self.future.set_running_or_notify_cancel():
            try:
                result = self.fn(*self.args, **self.kwargs)
            except BaseException as exc:  # the top of a thread; SystemExit too, or the consumer would wait for ever
                self.future.set_exception(exc)
            else:
                self.future.set_result(result)


class _Window:
    """Executor that starts calls in threads while the window has room, in the order of submission.

    Confined to the consuming thread: the source of the calls is iterated there too. Invariants: ``_costs`` are the
    calls that were started and not handed out, at most *max_items* of them and *max_bytes* in sum (or one alone)."""

    def __init__(self, pool: ThreadPoolExecutor, max_items: int, max_bytes: int | None, stop: _Stop) -> None:
        self._pool: Final = pool
        self._max_items: Final = max_items
        self._max_bytes: Final = max_bytes
        self._stop: Final = stop
        self._parked: dict[Future[Any], _Task] = {}  # submitted, not started; in order
        self._costs: dict[Future[Any], int] = {}
        self._bytes = 0

    def submit(self, fn: Callable[..., T], /, *args: Any, cost: int = 0, **kwargs: Any) -> Future[T]:
        self._stop.check()
        future: Future[T] = Future()
        self._parked[future] = _Task(future, fn, args, kwargs, cost)
        self._start_what_fits()
        return future

    def is_parked(self, future: Future[Any]) -> bool:
        return future in self._parked

    def force(self, future: Future[Any]) -> None:
        """Start a parked call out of turn: what holds the window is never going to be asked for before it."""
        self._start(self._parked[future])

    def handed_out(self, future: Future[Any]) -> None:
        """The consumer gets the result: its place is free."""
        self._bytes -= self._costs.pop(future, 0)  # futures of other executors may be in the chain
        self._start_what_fits()

    def cancel(self) -> None:
        """Nothing more is started."""
        for future in (*self._parked, *self._costs):
            future.cancel()
        self._parked.clear()

    def _start_what_fits(self) -> None:
        while self._parked:
            task = next(iter(self._parked.values()))
            if self._costs and not self._fits(task.cost):
                break
            self._start(task)

    def _fits(self, cost: int) -> bool:
        if len(self._costs) >= self._max_items:
            return False
        return self._max_bytes is None or self._bytes + cost <= self._max_bytes

    def _start(self, task: _Task) -> None:
        del self._parked[task.future]
        self._costs[task.future] = task.cost
        self._bytes += task.cost
        self._pool.submit(task.run)


def _run_window(
    builder: Builder[T], workers: int, ordered: bool, max_bytes: int | None, stop: _Stop
) -> Generator[T, None, None]:
    stop.check()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="arvfuse-parallel")
    window = _Window(pool, workers, max_bytes, stop)
    source = _chain(builder, window)
    waiting: dict[Future[T], None] = {}  # taken from the source and not handed out, in its order
    done: SimpleQueue[Future[T]] = SimpleQueue()  # as they complete; not used if ordered
    failure: Exception | None = None  # of the source: raised in its turn
    exhausted = False

    def fill() -> None:
        nonlocal exhausted, failure
        while not exhausted and len(waiting) < workers and not (waiting and window.is_parked(next(reversed(waiting)))):
            stop.check()
            try:
                future = next(source)
            except StopIteration:
                exhausted = True
            except Terminated:
                raise
            except Exception as exc:
                exhausted, failure = True, exc
            else:
                if future not in waiting and not ordered:
                    future.add_done_callback(done.put)
                waiting[future] = None

    try:
        fill()
        while waiting:
            stop.check()
            future = next(iter(waiting))
            if all(map(window.is_parked, (future,) if ordered else waiting)):
                window.force(future)
            if not ordered:
                future = done.get()
            result = [future.result()]
            stop.check()
            del waiting[future]
            window.handed_out(future)
            del future  # nor is the result kept here: the consumer alone decides how long it lives
            fill()  # before it is given away: the workers go on while the consumer is busy with it
            yield result.pop()
        if failure is not None:
            raise failure
    finally:
        window.cancel()
        pool.shutdown(wait=True)
        source.close()


def _run_inline(builder: Builder[T], stop: _Stop) -> Generator[T, None, None]:
    stop.check()
    source = _chain(builder, _Inline(stop))
    try:
        for future in source:
            result = [future.result()]
            del future
            stop.check()
            yield result.pop()
            stop.check()
    finally:
        source.close()


def _chain(builder: Builder[T], executor: Executor) -> Generator[Future[T], None, None]:
    """All futures of all sources; what the builder made is closed with it."""
    sources = builder(executor)
    try:
        for futures in sources:
            yield from futures
    finally:
        if isinstance(sources, Generator):
            sources.close()


def _batches(
    items: Iterable[T], max_items: int | None, max_bytes: int | None, size: Callable[[T], int]
) -> Iterator[list[T]]:
    batch: list[T] = []
    total = 0
    for item in items:
        if max_bytes is not None:
            extra = size(item)
            if batch and total + extra > max_bytes:
                yield batch
                batch, total = [], 0
            total += extra
        batch.append(item)
        if len(batch) == max_items:
            yield batch
            batch, total = [], 0
    if batch:
        yield batch
