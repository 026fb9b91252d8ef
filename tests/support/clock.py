"""A clock that stands still until a test moves it, and then wakes whoever waited for that."""

from __future__ import annotations

import threading


class FakeClock:
    """A `ports.Clock` that tests own. Starts at 1,000 s monotonic and 2020-01-01 wall time; advance() moves both.

    ``FakeClock(auto=True)``: a sleep moves the time itself and returns at once, for tests of one thread. ``slept``
    lists every sleep that was asked for."""

    def __init__(self, *, auto: bool = False, wall_ns: int = 1_577_836_800 * 10**9) -> None:
        self._auto = auto
        self._changed = threading.Condition(threading.Lock())
        self._now = 1000.0  # guarded by: _changed
        self._wall_ns = wall_ns  # guarded by: _changed
        self._sleepers = 0  # guarded by: _changed
        self._waiting: list[threading.Condition] = []  # guarded by: _changed
        self.slept: list[float] = []

    def time_ns(self) -> int:
        with self._changed:
            return self._wall_ns

    def monotonic(self) -> float:
        with self._changed:
            return self._now

    def sleep(self, seconds: float) -> None:
        """Return once advance() has moved the time by *seconds* since now."""
        self.slept.append(seconds)
        if self._auto:
            self.advance(max(seconds, 0))
            return
        with self._changed:
            until = self._now + seconds
            self._sleepers += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._now >= until)
            self._sleepers -= 1
            self._changed.notify_all()

    def wait_on(self, condition: threading.Condition, deadline_s: float | None) -> None:
        """`arvfuse.clock.WaitsOnConditions`: wait until *condition* is notified or the time reaches *deadline_s*."""
        with self._changed:
            if deadline_s is not None and self._now >= deadline_s:
                return
            self._waiting.append(condition)
            self._changed.notify_all()
        try:
            condition.wait()
        finally:
            with self._changed:
                self._waiting.remove(condition)
                self._changed.notify_all()

    def advance(self, seconds: float) -> None:
        """Move the time; everyone who waited for it is awake (not necessarily done) when this returns."""
        assert seconds >= 0
        with self._changed:
            self._now += seconds
            self._wall_ns += round(seconds * 1e9)
            self._changed.notify_all()
            waiting = list(self._waiting)
        for condition in waiting:  # after the list was taken, as they hold their own locks when they enter it
            with condition:
                condition.notify_all()

    def set_wall(self, wall_ns: int) -> None:
        """Set the wall clock alone, also backwards, as an administrator does."""
        with self._changed:
            self._wall_ns = wall_ns

    @property
    def sleepers(self) -> int:
        """Threads in sleep() or wait_on() now."""
        with self._changed:
            return self._sleepers + len(self._waiting)

    def wait_for_sleepers(self, count: int = 1, patience_s: float = 30) -> None:
        """Return when *count* threads sleep or wait, so that a test knows that they got there."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._sleepers + len(self._waiting) >= count, patience_s), (
                f"{self._sleepers + len(self._waiting)} instead of {count} threads sleep"
            )
