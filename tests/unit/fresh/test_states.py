"""Freshness: the table, and that nothing else moves a node."""

from __future__ import annotations

import itertools

import pytest

from arvfuse.fresh.states import TRANSITIONS, Event, Freshness, InvalidTransition, State, advance

UNLISTED = sorted(set(itertools.product(State, Event)) - set(TRANSITIONS), key=str)


@pytest.mark.parametrize(("state", "event"), UNLISTED)
def test_an_unlisted_pair_raises_and_moves_nothing(state: State, event: Event) -> None:
    fresh = Freshness()
    fresh.state = state
    with pytest.raises(InvalidTransition):
        advance(state, event)
    with pytest.raises(InvalidTransition):
        fresh.advance(event)
    assert fresh.state is state


def test_a_refresh_makes_fresh_for_the_time_given() -> None:
    fresh = Freshness()
    fresh.advance(Event.START)
    assert fresh.refreshing
    fresh.advance(Event.LOADED, 100.0)
    assert repr(fresh) == "<Freshness FRESH>"
    assert fresh.is_fresh(114.9, 15)
    assert not fresh.is_fresh(115.0, 15)
    assert fresh.state is State.STALE


def test_a_change_during_a_refresh_is_not_lost() -> None:
    fresh = Freshness()
    for event in (Event.START, Event.CHANGED, Event.CHANGED, Event.LOADED):
        fresh.advance(event)
    assert fresh.state is State.STALE


def test_a_failed_refresh_leaves_stale() -> None:
    assert advance(State.REFRESHING, Event.FAILED) is State.STALE
    assert advance(State.DOUBTED, Event.FAILED) is State.STALE
