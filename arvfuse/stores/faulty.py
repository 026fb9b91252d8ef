"""Failures on demand: a wrapper that fails as a script says, for tests of everything above a store.

Any thread may call; calls of one verb take their words of the script in the order in which they come. Deterministic:
what happens depends on the script and the order of calls alone.

A script is ``verb: word word ...; verb: ...``, e.g. ``"put: ok ok FAIL; fetch_range: ok FAIL"``. One word is for one
call, ``word*3`` for three, ``word*`` for all that follow; after the last word everything is ok. Words:

- ``ok``        the call goes through
- ``FAIL``      StoreUnavailable before any effect
- ``PARTIAL``   StoreUnavailable in the middle: half of a put or adopted block has come to the store as a block of its
                own, half of a range was fetched; of other verbs nothing was done
- ``AFTER``     the effect happened, then StoreUnavailable (an answer that was lost)
- ``NOSPACE`` ``MISSING`` ``DAMAGED`` ``COLLISION``   that error, before any effect
- ``FLIP``      a lying store: fetch_range gives the range with its first bit turned; other verbs go through
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Final, TypeVar

from arvfuse.errors import (
    ArgumentError,
    ArvfuseError,
    BlockMissing,
    Damaged,
    DigestCollision,
    NoSpace,
    StoreUnavailable,
)
from arvfuse.ports import BlockStore, ahead_bytes
from arvfuse.sync import Rank, RankedLock

T = TypeVar("T")


class Fault(Enum):
    """What may happen to one call."""

    OK = "ok"
    FAIL = "FAIL"
    PARTIAL = "PARTIAL"
    AFTER = "AFTER"
    NOSPACE = "NOSPACE"
    MISSING = "MISSING"
    DAMAGED = "DAMAGED"
    COLLISION = "COLLISION"
    FLIP = "FLIP"


VERBS: Final = ("put", "adopt", "fetch_range", "contains", "barrier", "free_bytes")
_FOREVER: Final = -1


def parse_script(script: str) -> dict[str, list[tuple[Fault, int]]]:
    """verb -> [(fault, how many calls; -1: all that follow)]. ArgumentError for anything that is not a script."""
    plan: dict[str, list[tuple[Fault, int]]] = {}
    for clause in filter(None, (part.strip() for part in script.split(";"))):
        verb, colon, words = clause.partition(":")
        verb = verb.strip()
        if not colon or verb not in VERBS:
            raise ArgumentError(f"{clause!r}: a clause is 'verb: words', a verb one of {', '.join(VERBS)}")
        for word in words.split():
            name, star, count = word.partition("*")
            try:
                times = int(count) if count else _FOREVER if star else 1
                plan.setdefault(verb, []).append((Fault(name), times))
            except ValueError as exc:
                raise ArgumentError(f"{word!r} is no word of a script") from exc
    return plan


class Faulty:
    """*store* with the failures of *script*. close() always goes through."""

    def __init__(self, store: BlockStore, script: str = "") -> None:
        self._store: Final = store
        self._lock: Final = RankedLock(Rank.LEAF)
        self._plan: dict[str, list[tuple[Fault, int]]] = parse_script(script)  # guarded by: _lock
        self._calls: dict[str, int] = dict.fromkeys(VERBS, 0)  # guarded by: _lock

    def __repr__(self) -> str:
        left = "; ".join(
            f"{verb}: " + " ".join(f"{fault.value}*{'' if times < 0 else times}" for fault, times in words)
            for verb, words in self._plan.items()
            if words
        )
        return f"<Faulty {left or 'ok'} {self._store!r}>"

    def calls(self, verb: str) -> int:
        """How often *verb* was called, failures included."""
        with self._lock:
            return self._calls[verb]

    def rescript(self, script: str) -> None:
        """Go on with *script* instead of what is left of the old one."""
        plan = parse_script(script)
        with self._lock:
            self._plan = plan

    @property
    def ahead_bytes(self) -> int:
        """As the wrapped store."""
        return ahead_bytes(self._store)

    def put(self, data: bytes | memoryview) -> str:
        """As the wrapped store, or as scripted."""

        def partial() -> None:
            if len(data) > 1:
                self._store.put(bytes(data)[: len(data) // 2])

        return self._call("put", lambda: self._store.put(data), partial)

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """As the wrapped store, or as scripted."""

        def partial() -> None:
            if size > 1:
                self._store.put(path.read_bytes()[: size // 2])

        return self._call("adopt", lambda: self._store.adopt(path, digest, size, checks), partial)

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """As the wrapped store, or as scripted."""

        def flipped(data: bytes | memoryview) -> bytes:
            return bytes([data[0] ^ 0x80]) + bytes(data[1:]) if data else b""

        return self._call(
            "fetch_range",
            lambda: self._store.fetch_range(locator, start, length),
            lambda: self._store.fetch_range(locator, start, length // 2),
            flipped,
        )

    def contains(self, locator: str) -> bool:
        """As the wrapped store, or as scripted."""
        return self._call("contains", lambda: self._store.contains(locator))

    def barrier(self) -> None:
        """As the wrapped store, or as scripted."""
        self._call("barrier", self._store.barrier)

    def free_bytes(self) -> tuple[int, int]:
        """As the wrapped store, or as scripted."""
        return self._call("free_bytes", self._store.free_bytes)

    def close(self) -> None:
        """Close the wrapped store."""
        self._store.close()

    def _call(
        self,
        verb: str,
        effect: Callable[[], T],
        partial: Callable[[], object] = lambda: None,
        flip: Callable[[T], T] = lambda value: value,
    ) -> T:
        with self._lock:
            fault = self._next_locked(verb)
        if fault is Fault.OK:
            return effect()
        if fault is Fault.FLIP:
            return flip(effect())
        if fault is Fault.PARTIAL:
            partial()
        elif fault is Fault.AFTER:
            effect()
        raise _error(fault, verb)

    def _next_locked(self, verb: str) -> Fault:
        self._calls[verb] += 1
        words = self._plan.get(verb)
        if not words:
            return Fault.OK
        fault, times = words.pop(0)
        if times != _FOREVER:
            times -= 1
        if times:
            words.insert(0, (fault, times))
        return fault


def _error(fault: Fault, verb: str) -> ArvfuseError:
    why = f"scripted fault {fault.value} of {verb}"
    if fault is Fault.NOSPACE:
        return NoSpace("", why)
    if fault is Fault.MISSING:
        return BlockMissing(why)
    if fault is Fault.DAMAGED:
        return Damaged(why)
    if fault is Fault.COLLISION:
        return DigestCollision(why)
    return StoreUnavailable(why)
