"""A mapping that forgets what was used longest ago, bounded by a weight the caller states (bytes, entries).

Any thread may call; the lock is held for dict work only. Evicted values are returned to the caller, who disposes of
them outside the lock (closing, unlinking).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

from arvfuse.sync import Rank, RankedLock

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Lru(Generic[K, V]):
    """At most *limit* of weight in all; one entry heavier than that is not kept."""

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._lock: Final = RankedLock(Rank.LEAF)
        self._entries: OrderedDict[K, tuple[V, int]] = OrderedDict()  # guarded by: _lock
        self._weight = 0  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<Lru {len(self._entries)} entries, {self._weight} of {self._limit}>"

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def weight(self) -> int:
        """Weight of what is kept."""
        return self._weight

    def get(self, key: K) -> V | None:
        """The value, now the most recently used, or None."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is None:
                return None
            self._entries.move_to_end(key)
            return entry[0]

    def put(self, key: K, value: V, weight: int) -> list[tuple[K, V]]:
        """Keep *value* and return what had to go for it (an older value of *key* is replaced, not returned)."""
        gone: list[tuple[K, V]] = []
        with self._lock:
            old = self._entries.pop(key, None)
            if old is not None:
                self._weight -= old[1]
            self._entries[key] = (value, weight)
            self._weight += weight
            while self._weight > self._limit:
                oldest, (dropped, freed) = self._entries.popitem(last=False)
                self._weight -= freed
                gone.append((oldest, dropped))
        return gone

    def pop(self, key: K) -> V | None:
        """Forget *key* and return its value, or None."""
        with self._lock:
            entry = self._entries.pop(key, None)
            if entry is None:
                return None
            self._weight -= entry[1]
            return entry[0]

    def clear(self) -> list[V]:
        """Forget everything and return it."""
        with self._lock:
            values = [value for value, _ in self._entries.values()]
            self._entries.clear()
            self._weight = 0
        return values
