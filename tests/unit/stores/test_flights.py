from __future__ import annotations

import threading

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.stores.flights import Flights


def test_one_works_and_all_get_the_result() -> None:
    flights: Flights[str, int] = Flights()
    started, go = threading.Event(), threading.Event()
    worked: list[str] = []
    results: list[int] = []

    def work() -> int:
        worked.append(threading.current_thread().name)
        started.set()
        go.wait()
        return 7

    leader = threading.Thread(target=lambda: results.append(flights.run("k", work)), name="leader")
    leader.start()
    started.wait()
    assert repr(flights) == "<Flights 1 running>"
    followers = [threading.Thread(target=lambda: results.append(flights.run("k", work)), name="f") for _ in range(3)]
    for thread in followers:
        thread.start()
    assert flights.run("other", lambda: 8) == 8
    go.set()
    for thread in [leader, *followers]:
        thread.join()
    # A follower that came after the landing worked for itself; none worked beside the leader.
    assert results == [7] * 4
    assert worked[0] == "leader"
    assert repr(flights) == "<Flights 0 running>"


def test_a_failure_is_raised_and_not_remembered() -> None:
    flights: Flights[str, int] = Flights()

    def fail() -> int:
        raise StoreUnavailable("down")

    with pytest.raises(StoreUnavailable):
        flights.run("k", fail)
    assert flights.run("k", lambda: 1) == 1


def test_a_follower_gets_the_failure() -> None:
    flights: Flights[str, int] = Flights()
    seen: list[str] = []

    def lead() -> int:
        follower.start()
        # The follower finds the flight in the table whenever it comes: the leader does not land before.
        asked.wait()
        raise StoreUnavailable("down")

    asked = threading.Event()

    def follow() -> None:
        asked.set()
        try:
            flights.run("k", lambda: 1)
            seen.append("worked for itself")
        except StoreUnavailable:
            seen.append("failed too")

    follower = threading.Thread(target=follow, name="follower")
    with pytest.raises(StoreUnavailable):
        flights.run("k", lead)
    follower.join()
    assert seen in (["failed too"], ["worked for itself"])
