"""The table of block states: what is listed moves, everything else raises."""

from __future__ import annotations

from itertools import product

import pytest

from arvfuse.model.blockstate import TRANSITIONS, Event, InvalidTransition, State, advance

UNLISTED = sorted(set(product(State, Event)) - set(TRANSITIONS), key=lambda pair: (pair[0].name, pair[1].name))


@pytest.mark.parametrize(("pair", "reached"), TRANSITIONS.items(), ids=str)
def test_a_listed_pair_moves(pair, reached):
    assert advance(*pair) is reached


def test_eighteen_pairs_are_unlisted():
    assert len(UNLISTED) == 18


@pytest.mark.parametrize(("state", "event"), UNLISTED, ids=str)
def test_an_unlisted_pair_raises(state, event):
    with pytest.raises(InvalidTransition) as caught:
        advance(state, event)
    assert (caught.value.state, caught.value.event) == (state, event)
    assert str(caught.value) == f"a block that is {state.name} cannot meet {event.name}"
    assert isinstance(caught.value, AssertionError)


def test_only_deleted_is_terminal():
    assert set(State) - {state for state, _ in TRANSITIONS} == {State.DELETED}


def test_every_state_is_reached_from_writable():
    reached = {State.WRITABLE}
    for _ in State:
        reached |= {target for (state, _), target in TRANSITIONS.items() if state in reached}
    assert reached == set(State)


def test_a_block_in_flight_cannot_be_discarded():
    assert (State.PENDING, Event.DISCARD) not in TRANSITIONS


def test_the_table_cannot_be_changed():
    with pytest.raises(TypeError):
        TRANSITIONS[State.DELETED, Event.RETRY] = State.PENDING
