"""The life of a mount: the table is whole, and nothing else is possible."""

from __future__ import annotations

import itertools

import pytest

from arvfuse.supervisor.states import TRANSITIONS, Event, State, advance


def test_every_state_can_be_reached_and_only_over_is_final():
    reached = {State.STARTING}
    for _ in State:
        reached |= {target for (source, _), target in TRANSITIONS.items() if source in reached}
    assert reached == set(State)
    assert set(State) - {source for source, _ in TRANSITIONS} == {State.OVER}


def test_whoever_gives_up_ends_it_from_anywhere():
    assert all(advance(state, Event.GIVE_UP) is State.OVER for state in State if state is not State.OVER)


@pytest.mark.parametrize(("state", "event"), sorted(set(itertools.product(State, Event)) - TRANSITIONS.keys(), key=str))
def test_what_is_not_in_the_table_is_a_bug(state, event):
    with pytest.raises(AssertionError, match=state.name):
        advance(state, event)
