"""The whole life of a buffer block, as a table; nothing else assigns a state.

Threading: pure. Who moves a block holds its BLOCK lock. Failure: a pair that is not listed is a bug of ours
(`InvalidTransition`, an assertion) and moves nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class State(Enum):
    """Where the bytes of a block are."""

    WRITABLE = "accepts bytes"
    PENDING = "sealed; its bytes are queued or in flight"
    COMMITTED = "the store has it; its bytes may be released"
    ERROR = "the last attempt to store it failed; its bytes are kept"
    DELETED = "no file refers to it"


class Event(Enum):
    """What moves a block."""

    SEAL = "it is full, a commit wants it, or the spool is short of room"
    STORED = "the store returned its locator"
    FAILED = "the store gave up on it"
    RETRY = "a flush or commit asked again"
    DISCARD = "the last reference to it was dropped"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.WRITABLE, Event.SEAL): State.PENDING,
        (State.PENDING, Event.STORED): State.COMMITTED,
        (State.PENDING, Event.FAILED): State.ERROR,
        (State.ERROR, Event.RETRY): State.PENDING,
        (State.WRITABLE, Event.DISCARD): State.DELETED,
        (State.ERROR, Event.DISCARD): State.DELETED,
        (State.COMMITTED, Event.DISCARD): State.DELETED,
    }
)  # PENDING cannot be discarded: whoever stores a block never meets one that vanished under it


class InvalidTransition(AssertionError):
    """*event* means nothing to a block in *state*: a bug of ours, not a failure to be handled."""

    def __init__(self, state: State, event: Event) -> None:
        super().__init__(f"a block that is {state.name} cannot meet {event.name}")
        self.state: Final = state
        self.event: Final = event


def advance(state: State, event: Event) -> State:
    """The state that *event* leads to from *state*; `InvalidTransition` if it is not listed.

    >>> advance(State.WRITABLE, Event.SEAL)
    <State.PENDING: 'sealed; its bytes are queued or in flight'>
    """
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise InvalidTransition(state, event) from None
