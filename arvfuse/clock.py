"""Time as a service: the system's clock, and what a waiter may ask of any clock.

`ports.Clock` is the contract that everybody is handed; it lies above this module, so `SystemClock` conforms to it by
shape. Threading: any thread may call anything. Failure: none.
"""

from __future__ import annotations

import threading
import time
from typing import Protocol, runtime_checkable


class SupportsMonotonic(Protocol):
    """The part of a clock that deadlines need."""

    def monotonic(self) -> float:
        """Seconds that never go back."""
        ...


@runtime_checkable
class WaitsOnConditions(Protocol):
    """Optional power of a clock: waiting on a condition in its own time. A fake clock has it, to wake waiters when a
    test moves the time."""

    def wait_on(self, condition: threading.Condition, deadline_s: float | None) -> None:
        """Wait, with *condition* held, until it is notified or monotonic() reaches *deadline_s*, or for less."""
        ...


class SystemClock:
    """The clock of this machine."""

    def time_ns(self) -> int:
        """Wall clock, nanoseconds since 1970 UTC."""
        return time.time_ns()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Block the calling thread for *seconds*; not at all if that is not positive."""
        if seconds > 0:
            time.sleep(seconds)
