"""Workers that run only when a test says so, in the place of a thread pool."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class WorkPool(Protocol):
    """What code that hands work over needs of a pool; executors of threads and `Stepper` both are one."""

    def submit(self, fn: Callable[..., T], /, *args: Any) -> Future[T]: ...

    def close(self) -> None: ...


class Stepper:
    """Runs what is submitted when told, in the thread that tells: a test chooses every interleaving.

    >>> steps = Stepper()
    >>> answer = steps.submit(lambda: 42)
    >>> answer.done(), steps.run_until_idle(), answer.result()
    (False, 1, 42)
    """

    def __init__(self) -> None:
        self._queue: list[tuple[Future[Any], Callable[[], Any], str]] = []
        self._closed = False
        self.started = 0
        """How many were run, ever."""

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Queue ``fn(*args, **kwargs)``; nothing runs now."""
        if self._closed:
            raise RuntimeError("submitted to a closed Stepper")
        future: Future[T] = Future()
        self._queue.append((future, lambda: fn(*args, **kwargs), getattr(fn, "__qualname__", repr(fn))))
        return future

    def run_one(self, position: int = 0) -> bool:
        """Run the queued call at *position* (0 is the oldest); False if there is none. Its exception goes into its
        future, as in a pool."""
        while len(self._queue) > position:
            future, call, _ = self._queue.pop(position)
            if not future.set_running_or_notify_cancel():
                continue
            self.started += 1
            try:
                future.set_result(call())
            except Exception as exc:
                future.set_exception(exc)
            return True
        return False

    def run_until_idle(self, limit: int = 100_000) -> int:
        """Run all that is queued and what that queues; returns how many ran. More than *limit* is a livelock."""
        count = 0
        while self.run_one():
            count += 1
            assert count <= limit, f"still busy after {limit} steps: {self!r}"
        return count

    @property
    def pending(self) -> list[str]:
        """Names of the queued calls, oldest first."""
        return [name for _, _, name in self._queue]

    def close(self) -> None:
        """Cancel what was not run; nothing can be submitted any more. Idempotent."""
        self._closed = True
        for future, _, _ in self._queue:
            future.cancel()
        self._queue.clear()

    def __repr__(self) -> str:
        return (
            f"<Stepper {'closed' if self._closed else 'open'}, {self.started} run, pending: {', '.join(self.pending)}>"
        )
