"""Do a piece of work once for all who ask for it at the same time.

Any thread may call. The first caller of a key works, in its own thread and without a lock; the others wait for its
result. A failure is everybody's; nothing is remembered after the flight, so the next caller tries again.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from arvfuse.sync import Rank, RankedLock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Flights(Generic[K, V]):
    """Running work by key."""

    def __init__(self) -> None:
        self._lock: Final = RankedLock(Rank.LEAF)
        self._running: dict[K, Future[V]] = {}  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<Flights {len(self._running)} running>"

    def run(self, key: K, work: Callable[[], V]) -> V:
        """The result of *work*, or of the same *key*'s work that is running already; raises what it raised."""
        with self._lock:
            flight = self._running.get(key)
            leads = flight is None
            if flight is None:
                flight = self._running[key] = Future()
        if not leads:
            return flight.result()
        try:
            value = work()
        except BaseException as exc:
            self._land(key)
            flight.set_exception(exc)
            raise
        self._land(key)
        flight.set_result(value)
        return value

    def _land(self, key: K) -> None:
        with self._lock:
            del self._running[key]
