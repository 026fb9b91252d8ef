"""The pump: changes become events, our own are marked, an outage ends nothing."""

from __future__ import annotations

import threading

import pytest

from arvfuse.backend.feedpump import FeedPump
from arvfuse.backend.messages import Channel, decode_change
from arvfuse.errors import StoreUnavailable
from arvfuse.model.collections import Change, Version


def change(writer):
    return Change(
        uuid="u",
        kind="collection",
        event="update",
        version=Version(1),
        pdh=None,
        owner="o",
        old_owner="o",
        writer=writer,
    )


class Feed:
    """Hands out what it was given, then waits until it is closed."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.closed = threading.Event()

    def wait(self, timeout_s):
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        self.closed.wait(timeout_s)
        return ()

    def close(self):
        self.closed.set()


@pytest.fixture
def pair(tmp_path):
    one, other = Channel.pair(tmp_path)
    yield one, other
    one.close()
    other.close()


def test_changes_become_events_and_our_own_are_echoes(pair):
    ours, engine = pair
    pump = FeedPump(Feed([change("me"), change("other")]), ours, writer="me")
    assert pump.pump(0) == 2
    event = engine.receive().message
    assert event["event"] == "changed"
    assert [each["echo"] for each in event["changes"]] == [True, False]
    assert decode_change(event["changes"][1]) == change("other")


def test_many_changes_go_in_batches(pair):
    ours, engine = pair
    pump = FeedPump(Feed([change("other")] * 1200), ours, writer="me")
    assert pump.pump(0) == 1200
    assert [len(engine.receive().message["changes"]) for _ in range(3)] == [500, 500, 200]


def test_an_outage_is_waited_out_and_closing_ends_the_wait(pair):
    ours, engine = pair
    pump = FeedPump(Feed([change("other")], StoreUnavailable("away")), ours, writer="me")
    pump.start()
    assert engine.receive().message["event"] == "changed"
    pump.close()
    pump.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "feed-pump"]
