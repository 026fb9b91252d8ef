"""Try again what may pass: a wrapper with the port of the store it wraps.

Any thread may call; a thread that waits holds nothing. Only errors whose class says ``retryable`` are met with another
attempt, after a random share of an exponentially growing time (full jitter: a hundred clients that failed together do
not come back together). When the attempts are used up the last error is raised.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from arvfuse.errors import ArgumentError, ArvfuseError
from arvfuse.ports import BlockStore, Clock, ahead_bytes

T = TypeVar("T")


class Retrying:
    """At most *attempts* of each call. *uniform* gives a number in [0, 1), e.g. ``random.Random().random``.

    Before attempt n+1 it sleeps ``uniform() * min(cap_s, base_s * 2**(n-1))`` seconds."""

    def __init__(
        self,
        store: BlockStore,
        *,
        attempts: int,
        clock: Clock,
        uniform: Callable[[], float],
        base_s: float = 0.1,
        cap_s: float = 10.0,
    ) -> None:
        if attempts < 1:
            raise ArgumentError(f"{attempts} attempts: one is the least")
        self._store: Final = store
        self._attempts: Final = attempts
        self._clock: Final = clock
        self._uniform: Final = uniform
        self._base_s: Final = base_s
        self._cap_s: Final = cap_s

    def __repr__(self) -> str:
        return f"<Retrying {self._attempts}x {self._store!r}>"

    @property
    def ahead_bytes(self) -> int:
        """As the wrapped store."""
        return ahead_bytes(self._store)

    def put(self, data: bytes | memoryview) -> str:
        """As the wrapped store; storing a block twice is storing it once."""
        return self._try(lambda: self._store.put(data))

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """As the wrapped store."""
        return self._try(lambda: self._store.adopt(path, digest, size, checks))

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """As the wrapped store. A missing or damaged block is not asked for again."""
        return self._try(lambda: self._store.fetch_range(locator, start, length))

    def contains(self, locator: str) -> bool:
        """As the wrapped store."""
        return self._try(lambda: self._store.contains(locator))

    def barrier(self) -> None:
        """As the wrapped store, which has to owe what a failed barrier did not make safe."""
        self._try(self._store.barrier)

    def free_bytes(self) -> tuple[int, int]:
        """As the wrapped store."""
        return self._try(self._store.free_bytes)

    def close(self) -> None:
        """Close the wrapped store."""
        self._store.close()

    def _try(self, call: Callable[[], T]) -> T:
        span_s = self._base_s
        for _ in range(self._attempts - 1):
            try:
                return call()
            except ArvfuseError as exc:
                if not exc.retryable:
                    raise
            self._clock.sleep(self._uniform() * min(self._cap_s, span_s))
            span_s *= 2
        return call()
