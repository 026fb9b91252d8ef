"""The life of a mount as its supervisor sees it: one table, the only way to move. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from types import MappingProxyType
from typing import Final


class State(Enum):
    """Where a mount stands."""

    STARTING = "processes run, nothing is mounted"
    SERVING = "mounted; requests are answered"
    DETACHING = "the kernel was asked to unmount; it hands over its last pages"
    DRAINING = "not mounted any more; what is left is committed"
    RESCUING = "the engine died; the backend commits its log"
    OVER = "all processes ended, or are to be ended"


class Event(Enum):
    """What moves it."""

    MOUNTED = "the engine mounted"
    DETACH = "an unmount was asked for"
    BUSY = "the kernel refused: somebody uses the mount"
    UNMOUNTED = "the mount is gone"
    ENGINE_DIED = "the engine ended without saying that it would"
    ENDED = "the engine said what is left, or the backend did after a rescue"
    GIVE_UP = "a deadline, a second interrupt, or nobody left to work"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.STARTING, Event.MOUNTED): State.SERVING,
        (State.STARTING, Event.ENGINE_DIED): State.OVER,
        (State.STARTING, Event.GIVE_UP): State.OVER,
        (State.SERVING, Event.DETACH): State.DETACHING,
        (State.SERVING, Event.UNMOUNTED): State.DRAINING,
        (State.SERVING, Event.ENGINE_DIED): State.RESCUING,
        (State.SERVING, Event.GIVE_UP): State.OVER,
        (State.DETACHING, Event.BUSY): State.SERVING,
        (State.DETACHING, Event.UNMOUNTED): State.DRAINING,
        (State.DETACHING, Event.ENGINE_DIED): State.RESCUING,
        (State.DETACHING, Event.GIVE_UP): State.OVER,
        (State.DRAINING, Event.ENDED): State.OVER,
        (State.DRAINING, Event.ENGINE_DIED): State.RESCUING,
        (State.DRAINING, Event.GIVE_UP): State.OVER,
        (State.RESCUING, Event.ENDED): State.OVER,
        (State.RESCUING, Event.GIVE_UP): State.OVER,
    }
)


def advance(state: State, event: Event) -> State:
    """The state that *event* leads to; a pair that is not in the table is a bug and moves nothing."""
    try:
        return TRANSITIONS[state, event]
    except KeyError:
        raise AssertionError(f"a mount that is {state.name} cannot {event.name}") from None
