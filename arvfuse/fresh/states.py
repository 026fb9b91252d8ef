"""Freshness of what a node shows of a record, as a table; nothing else moves it.

A change that is told while a refresh is under way may or may not be in the answer: the answer is used and the node
is stale again, so no change is lost. Threading: guarded by the lock of the node that owns it. Failure: an unlisted
pair is a bug of ours; it raises and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class State(Enum):
    STALE = "has to be asked for before it is shown"
    REFRESHING = "asked for, not yet answered"
    DOUBTED = "asked for, and changed since"
    FRESH = "may be shown"


class Event(Enum):
    START = "a refresh was asked for"
    LOADED = "the answer came"
    FAILED = "no answer came"
    CHANGED = "the record changed elsewhere, or by us while a refresh is under way"
    EXPIRED = "shown for longer than the refresh time"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.STALE, Event.START): State.REFRESHING,
        (State.STALE, Event.CHANGED): State.STALE,
        (State.REFRESHING, Event.LOADED): State.FRESH,
        (State.REFRESHING, Event.FAILED): State.STALE,
        (State.REFRESHING, Event.CHANGED): State.DOUBTED,
        (State.DOUBTED, Event.LOADED): State.STALE,
        (State.DOUBTED, Event.FAILED): State.STALE,
        (State.DOUBTED, Event.CHANGED): State.DOUBTED,
        (State.FRESH, Event.CHANGED): State.STALE,
        (State.FRESH, Event.EXPIRED): State.STALE,
    }
)


class InvalidTransition(AssertionError):
    """A pair that the table does not list."""


def advance(state: State, event: Event) -> State:
    """The state that *event* leads to."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(f"{event.name} in {state.name}") from None


class Freshness:
    """State of one node and when it was loaded (monotonic seconds).

    Invariants: loaded_at is set in FRESH.
    """

    __slots__ = ("loaded_at", "state")

    def __init__(self) -> None:
        self.state = State.STALE
        self.loaded_at = 0.0

    def __repr__(self) -> str:
        return f"<Freshness {self.state.name}>"

    @property
    def refreshing(self) -> bool:
        return self.state in (State.REFRESHING, State.DOUBTED)

    def advance(self, event: Event, now: float = 0.0) -> None:
        """The only way to another state; *now* counts for LOADED."""
        self.state = advance(self.state, event)
        if event is Event.LOADED:
            self.loaded_at = now

    def is_fresh(self, now: float, ttl_s: float) -> bool:
        """True if it may be shown at *now*; what was loaded *ttl_s* ago or longer expires here."""
        if self.state is State.FRESH and now - self.loaded_at >= ttl_s:
            self.advance(Event.EXPIRED)
        return self.state is State.FRESH
