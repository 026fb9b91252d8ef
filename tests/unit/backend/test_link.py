"""The link: a caller never waits, and what has no answer goes to the next backend."""

from __future__ import annotations

import os
import socket

import pytest

from arvfuse.backend.link import BackendLink
from arvfuse.backend.messages import Channel, encode_error
from arvfuse.errors import NoSuchRecord, StoreUnavailable

PATIENCE_S = 20


@pytest.fixture
def joined(tmp_path):
    """A started link and the backend's end."""
    ours, theirs = Channel.pair(tmp_path)
    link = BackendLink(ours)
    link.start()
    yield link, theirs
    link.close()
    theirs.close()


def receive(channel):
    received = channel.receive()
    assert received is not None
    return received.message


def test_an_answer_completes_its_request(joined):
    link, backend = joined
    first, second = link.request("home"), link.request("contents", owner="o")
    asked = [receive(backend), receive(backend)]
    assert [message["op"] for message in asked] == ["home", "contents"]
    assert asked[1]["args"] == {"owner": "o"}
    backend.send({"id": asked[1]["id"], "result": {"entries": []}})
    backend.send({"id": asked[0]["id"], "result": {"uuid": "u"}})
    assert second.result(PATIENCE_S) == {"entries": []}
    assert first.result(PATIENCE_S) == {"uuid": "u"}


def test_an_error_arrives_as_its_class(joined):
    link, backend = joined
    future = link.request("record", uuid="u")
    backend.send({"id": receive(backend)["id"], "error": encode_error(NoSuchRecord("u"))})
    with pytest.raises(NoSuchRecord, match="u"):
        future.result(PATIENCE_S)


def test_only_the_newest_number_is_told(joined):
    link, backend = joined
    link.tell(5)
    link.tell(9)
    link.tell(7)
    told = receive(backend)["told"]
    if told == 5:
        told = receive(backend)["told"]
    assert told == 9
    future = link.request("home")
    assert receive(backend)["op"] == "home"
    assert not future.done()


def test_a_new_backend_is_asked_and_told_everything_again(joined, tmp_path):
    link, backend = joined
    link.tell(3)
    future = link.request("mkdir", owner="o", name="n")
    assert receive(backend) == {"told": 3}
    assert "again" not in receive(backend)
    backend.close()
    ours, theirs = Channel.pair(tmp_path)
    link.attach(ours)
    assert receive(theirs) == {"told": 3}
    message = receive(theirs)
    assert message["again"] is True
    theirs.send({"id": message["id"], "result": {}})
    assert future.result(PATIENCE_S) == {}
    theirs.close()


def test_requests_made_while_there_is_no_backend_wait_for_the_next(tmp_path):
    link = BackendLink()
    link.start()
    future = link.request("home")
    assert "unanswered=1" in repr(link)
    ours, theirs = Channel.pair(tmp_path)
    link.attach(ours)
    theirs.send({"id": receive(theirs)["id"], "result": {"uuid": "u"}})
    assert future.result(PATIENCE_S) == {"uuid": "u"}
    link.close()
    theirs.close()


def test_refused_requests_fail_until_a_backend_comes(joined, tmp_path):
    link, _ = joined
    waiting = link.request("home")
    link.refuse("the backend died five times")
    with pytest.raises(StoreUnavailable, match="five times"):
        waiting.result(PATIENCE_S)
    with pytest.raises(StoreUnavailable):
        link.request("home").result(PATIENCE_S)
    ours, theirs = Channel.pair(tmp_path)
    link.attach(ours)
    future = link.request("status")
    message = receive(theirs)
    assert message["op"] == "status"
    theirs.send({"id": message["id"], "result": {}})
    assert future.result(PATIENCE_S) == {}
    theirs.close()


def test_a_full_socket_delays_requests_and_loses_none(joined):
    link, backend = joined
    futures = [link.request("find", owner="o", name="x" * 30000) for _ in range(50)]
    for _ in futures:
        backend.send({"id": receive(backend)["id"], "result": {}})
    assert [future.result(PATIENCE_S) for future in futures] == [{}] * 50


def test_events_come_in_order_and_changes_are_joined(joined):
    link, backend = joined
    for event in (
        {"event": "stored", "block": 1},
        {"event": "changed", "changes": [1]},
        {"event": "changed", "changes": [2]},
        {"event": "failed", "tree": 1},
    ):
        backend.send(event)
    future = link.request("home")  # the answer comes after the events: all are there
    backend.send({"id": receive(backend)["id"], "result": {}})
    future.result(PATIENCE_S)
    assert link.next_event(PATIENCE_S) == {"event": "stored", "block": 1}
    assert link.next_event(PATIENCE_S) == {"event": "changed", "changes": [1, 2]}
    assert link.next_event(PATIENCE_S) == {"event": "failed", "tree": 1}
    assert link.next_event(0) is None
    link.wake_events()


def test_closing_fails_what_has_no_answer(tmp_path):
    ours, theirs = Channel.pair(tmp_path)
    link = BackendLink(ours)
    link.start()
    future = link.request("home")
    link.close()
    link.close()
    with pytest.raises(StoreUnavailable):
        future.result(PATIENCE_S)
    theirs.close()


def test_a_backend_that_speaks_nonsense_is_dropped(joined, tmp_path):
    link, backend = joined
    future = link.request("home")
    receive(backend)
    with socket.socket(fileno=os.dup(backend.fileno())) as raw:
        raw.send(b"not json")
    assert backend.receive() is None
    ours, theirs = Channel.pair(tmp_path)
    link.attach(ours)
    theirs.send({"id": receive(theirs)["id"], "result": {}})
    assert future.result(PATIENCE_S) == {}
    theirs.close()
