"""Locks that are taken in one order only, budgets of bytes, and threads that have an owner.

Threading: everything here may be used by any thread. Locks are for the inside of one object at a time; nobody waits
for another thread while holding one. Failure: a broken rule is a bug of ours, `LockOrderError`, raised in the thread
that breaks it and before anything is taken; what a background thread died of is raised to its owner.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from enum import IntEnum
from functools import partial
from types import MappingProxyType, TracebackType
from typing import Final

from arvfuse.clock import SupportsMonotonic, SystemClock, WaitsOnConditions


class Rank(IntEnum):
    """The order in which locks are taken: rising, never back. ``doc/locking.md`` holds the table of `rank_table`."""

    FILE = 5
    COLLECTION = 10
    BLOCKS = 20
    BLOCK = 30
    INODES = 40
    LOG = 50
    LEAF = 60


GUARDS: Final[Mapping[Rank, str]] = MappingProxyType(
    {
        Rank.FILE: "the order of writes and truncations of one file; held across page-cache I/O as the kernel's own",
        Rank.COLLECTION: "the tree of one collection and the segments of every file in it",
        Rank.BLOCKS: "which buffer blocks exist",
        Rank.BLOCK: "state and reserved ranges of one buffer block",
        Rank.INODES: "number and handle tables, directory listings: dictionary work only",
        Rank.LOG: "the files of the log: whoever holds it writes all queued records",
        Rank.LEAF: "budgets, queues, counters: a few instructions that call nothing",
    }
)


def rank_table() -> str:
    """The table of ranks as Markdown."""
    lines = ["| order | rank | guards |", "|---|---|---|"]
    lines += [f"| {rank.value} | `{rank.name}` | {GUARDS[rank]} |" for rank in Rank]
    return "\n".join(lines) + "\n"


class LockOrderError(AssertionError):
    """A lock was taken or given back against the rules: a bug of ours that would be a deadlock one day."""


class _Held(threading.local):
    """The locks of the current thread, in the order in which they were taken, which is a rising one."""

    def __init__(self) -> None:
        self.stack: list[RankedLock] = []


_held: Final = _Held()
_checks = True


def check_lock_order(on: bool) -> None:
    """Whether locks that are made from now on look at their order. They do in tests, in libraries and with --debug; a
    process that answers a kernel says no before it makes any: a fifth of its time would go there."""
    global _checks
    _checks = on


class RankedLock:
    """A mutex that is not reentrant and refuses a dangerous order at once, in the first test that has it.

    Locks are taken in rising order of (rank, key); *key* orders equals, as two collections in one rename. Use it as a
    context manager, or give it to `threading.Condition`; waiting on that is refused while another lock is held. After
    ``check_lock_order(False)`` it is a plain lock.
    """

    __slots__ = ("_lock", "_unlock", "order")

    def __new__(cls, rank: Rank, key: int = 0) -> RankedLock:
        if _checks:
            return super().__new__(cls)
        return threading.Lock()  # type: ignore[return-value] # a lock by shape; who asks for more does so in tests

    def __init__(self, rank: Rank, key: int = 0) -> None:
        mutex = threading.Lock()
        self.order: Final = (int(rank), key)
        self._lock: Final = mutex.acquire
        self._unlock: Final = mutex.release

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock; LockOrderError if this thread holds one that is not below it (itself, for example).

        *timeout* is in seconds of the system. Returns whether it was taken."""
        stack = _held.stack
        if stack and stack[-1].order >= self.order:
            raise LockOrderError(f"{self!r} wanted while holding {stack}")
        taken = self._lock(blocking, timeout)
        if taken:
            stack.append(self)
        return taken

    def release(self) -> None:
        """Give the lock back, in any order; LockOrderError if this thread does not hold it."""
        stack = _held.stack
        if stack and stack[-1] is self:
            stack.pop()
        elif self in stack:
            stack.remove(self)
        else:
            raise LockOrderError(f"{self!r} is not held by this thread")
        self._unlock()

    def __enter__(self) -> None:  # acquire() again, inlined: this is the path of every request
        stack = _held.stack
        if stack and stack[-1].order >= self.order:
            raise LockOrderError(f"{self!r} wanted while holding {stack}")
        self._lock()
        stack.append(self)

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        stack = _held.stack
        if stack and stack[-1] is self:
            stack.pop()
            self._unlock()
        else:
            self.release()

    def locked_by_me(self) -> bool:
        """Whether the calling thread holds it: for assertions in ``_locked`` methods."""
        return self in _held.stack

    def __repr__(self) -> str:
        rank, key = self.order
        return f"<{Rank(rank).name} {key}>"

    # The three methods that threading.Condition asks of a lock which knows its owner.
    def _is_owned(self) -> bool:
        return self in _held.stack

    def _release_save(self) -> None:
        stack = _held.stack
        if stack != [self]:
            raise LockOrderError(f"waiting for another thread with {self!r} while holding {stack}")
        self.release()

    def _acquire_restore(self, state: None) -> None:
        self.acquire()


def wait_until(
    condition: threading.Condition,
    predicate: Callable[[], bool],
    deadline_s: float | None,
    clock: SupportsMonotonic,
) -> bool:
    """Wait with *condition* held until *predicate*, at most until ``clock.monotonic()`` reaches *deadline_s*.

    Returns what *predicate* says last. *clock* may be a fake one: its waiters wake when a test moves it."""
    while not predicate():
        if deadline_s is not None:
            remaining = deadline_s - clock.monotonic()
            if remaining <= 0:
                return False
        if isinstance(clock, WaitsOnConditions):
            clock.wait_on(condition, deadline_s)
        else:
            condition.wait(remaining if deadline_s is not None else None)
    return True


class ByteBudget:
    """At most *limit* bytes are in use at a time; who asks for more waits, first come first served.

    A request that is bigger than the limit is granted when it is alone. Reserve before locking anything: the wait
    is for other threads, so it is refused (LockOrderError) to a thread that holds a lock."""

    def __init__(self, limit: int, *, clock: SupportsMonotonic | None = None) -> None:
        assert limit > 0
        self.limit: Final = limit
        self._clock: Final = clock or SystemClock()
        self._lock: Final = RankedLock(Rank.LEAF)
        self._changed: Final = threading.Condition(self._lock)  # type: ignore[arg-type]  # is a lock by shape
        self._used = 0  # guarded by: _lock
        self._waiting: deque[object] = deque()  # tickets, oldest first; guarded by: _lock

    @property
    def used(self) -> int:
        """Bytes granted and not given back."""
        return self._used

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return len(self._waiting)

    def acquire(self, n: int, timeout_s: float | None = None, terminated: Callable[[], bool] | None = None) -> bool:
        """Reserve *n* bytes. False after *timeout_s* seconds of the clock, or when *terminated()* turns true (which is
        asked whenever something changes and at `wake`). A *timeout_s* of 0 never waits."""
        with self._lock:
            if terminated is not None and terminated():
                return False
            if not self._waiting and self._fits_locked(n):
                self._used += n
                return True
            if timeout_s is not None and timeout_s <= 0:
                return False
            deadline_s = None if timeout_s is None else self._clock.monotonic() + timeout_s
            ticket = object()
            self._waiting.append(ticket)

            def settled() -> bool:
                mine = self._waiting[0] is ticket and self._fits_locked(n)
                return mine or (terminated is not None and terminated())

            try:
                if not wait_until(self._changed, settled, deadline_s, self._clock):
                    return False
                if terminated is not None and terminated():
                    return False
                self._used += n
                return True
            finally:
                self._waiting.remove(ticket)
                self._changed.notify_all()

    def release(self, n: int) -> None:
        """Give *n* bytes back."""
        with self._lock:
            assert 0 <= n <= self._used, f"{n} bytes given back of {self._used}"
            self._used -= n
            if self._waiting:
                self._changed.notify_all()

    def wake(self) -> None:
        """Make waiting requests ask *terminated* again."""
        with self._lock:
            self._changed.notify_all()

    def _fits_locked(self, n: int) -> bool:
        return self._used + n <= self.limit or self._used == 0

    def __repr__(self) -> str:
        return f"<ByteBudget {self._used} of {self.limit} bytes, {len(self._waiting)} waiting>"


class SpoolAccount:
    """How many bytes wait on disk to be stored. They are accepted first, the *reply* to their writer is held back.

    charge() and credit() never wait. A writer that is ahead of the store is slowed while the store makes progress
    (a credit, or `progressed` for part of one), and failed when there is none for the bound it gives."""

    def __init__(self, limit: int) -> None:
        assert limit > 0
        self.limit: Final = limit
        self._lock: Final = RankedLock(Rank.LEAF)
        self._changed: Final = threading.Condition(self._lock)  # type: ignore[arg-type]  # is a lock by shape
        self._level = 0  # guarded by: _lock
        self._progress = 0  # guarded by: _lock
        self._waiting = 0  # guarded by: _lock
        # When each reply that is held back was last seen to get nearer, and at which progress. guarded by: _lock
        self._held: dict[Future[None], tuple[float, int]] = {}
        self._closed = False  # guarded by: _lock

    @property
    def level(self) -> int:
        """Bytes that wait now; may be above the limit."""
        return self._level

    @property
    def progress(self) -> int:
        """A number that grows whenever the store got something done."""
        return self._progress

    @property
    def waiting(self) -> int:
        """Threads in wait_for_room(), and replies that when_room() holds back."""
        return self._waiting + len(self._held)

    @property
    def full(self) -> bool:
        """Whether wait_for_room() would wait."""
        return self._level > self.limit

    def charge(self, n: int) -> None:
        """*n* more bytes wait."""
        with self._lock:
            self._level += n

    def credit(self, n: int) -> None:
        """*n* bytes are stored, or gone; counts as progress."""
        with self._lock:
            assert n <= self._level, f"{n} bytes credited of {self._level}"
            self._level -= n
            self._progress += 1
            if self._waiting:
                self._changed.notify_all()
            released = self._take_held_locked() if self._held and self._level <= self.limit else ()
        for each in released:
            each.set_result(None)

    def when_room(self, clock: SupportsMonotonic) -> Future[None] | None:
        """What is settled when the level is within the limit again; None if it is. See fail_stalled()."""
        with self._lock:
            if self._level <= self.limit or self._closed:
                return None
            held: Future[None] = Future()
            self._held[held] = (clock.monotonic(), self._progress)
            return held

    def fail_stalled(self, deadline_s: float, clock: SupportsMonotonic, failure: Callable[[], Exception]) -> None:
        """Give *failure* to everybody of when_room() for whom nothing moved for *deadline_s*. The owner calls it."""
        if not self._held:
            return
        now = clock.monotonic()
        stalled = []
        with self._lock:
            for held, (since, seen) in list(self._held.items()):
                if seen != self._progress:
                    self._held[held] = (now, self._progress)
                elif now - since >= deadline_s:
                    stalled.append(held)
                    del self._held[held]
        for each in stalled:
            each.set_exception(failure())

    def progressed(self) -> None:
        """Something was stored that is credited later (a part of a block, a retry that got through)."""
        with self._lock:
            self._progress += 1
            if self._waiting:
                self._changed.notify_all()

    def wait_for_room(self, deadline_s: float, clock: SupportsMonotonic) -> bool:
        """Wait until the level is within the limit; True then. False when there was no progress for *deadline_s*
        seconds of *clock* (each progress starts them anew), or after close()."""
        with self._lock:
            if self._level <= self.limit:
                return True
            self._waiting += 1
            try:
                while self._level > self.limit and not self._closed:
                    seen = self._progress
                    deadline = clock.monotonic() + deadline_s
                    if not wait_until(self._changed, partial(self._moved_locked, seen), deadline, clock):
                        return False
                return self._level <= self.limit
            finally:
                self._waiting -= 1

    def close(self) -> None:
        """Nobody waits any more. Idempotent."""
        with self._lock:
            self._closed = True
            self._changed.notify_all()
            released = self._take_held_locked()
        for each in released:
            each.set_result(None)

    def _take_held_locked(self) -> list[Future[None]]:
        held, self._held = list(self._held), {}
        return held

    def _moved_locked(self, seen: int) -> bool:
        return self._progress != seen or self._closed

    def __repr__(self) -> str:
        return f"<SpoolAccount {self._level} of {self.limit} bytes, {self._waiting} waiting>"


class Worker:
    """A thread with a name and one owner, who gets what it died of.

    *body* runs once and returns when *stop* was called (which only tells it: sets a flag, notifies a condition; it
    may be called more than once). An exception in *body* is kept and raised by the owner's next check() or close()."""

    def __init__(self, name: str, body: Callable[[], None], *, stop: Callable[[], None]) -> None:
        self.name: Final = name
        self._body: Final = body
        self._stop: Final = stop
        self._thread: Final = threading.Thread(target=self._run, name=name, daemon=False)
        self._failure: BaseException | None = None  # written once, by the thread
        self._told = False  # confined to the owner
        self._started = False  # confined to the owner

    def start(self) -> None:
        """Start the thread, once."""
        self._started = True
        self._thread.start()

    @property
    def alive(self) -> bool:
        """Whether the thread runs."""
        return self._thread.is_alive()

    @property
    def failure(self) -> BaseException | None:
        """What the thread died of."""
        return self._failure

    def check(self) -> None:
        """Raise what the thread died of, if it did; every time, as its owner cannot go on without it."""
        if self._failure is not None:
            self._told = True
            raise self._failure

    def close(self) -> None:
        """Tell the thread to end, wait until it has, and raise what it died of unless check() did. Idempotent."""
        self._stop()
        if self._started:
            assert threading.current_thread() is not self._thread, f"{self.name} cannot join itself"
            self._thread.join()
        if not self._told:
            self.check()

    def _run(self) -> None:
        try:
            self._body()
        except Exception as exc:
            self._failure = exc

    def __repr__(self) -> str:
        state = "alive" if self.alive else "failed" if self._failure else "ended" if self._started else "new"
        return f"<Worker {self.name}: {state}>"
