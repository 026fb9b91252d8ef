"""The desk: who waits for what gets that answer, once."""

from __future__ import annotations

import json
import select
import socket

import pytest

from arvfuse.supervisor.desk import Desk, For


class Visitor:
    """A client, and the turns of the loop that serve it."""

    def __init__(self, desk, directory):
        self.desk = desk
        self.end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.end.settimeout(20)
        self.end.connect(str(directory / "control"))

    def says(self, line):
        self.end.sendall(line)

    def hears(self):
        return json.loads(self.end.recv(1000))


@pytest.fixture
def desk(tmp_path):
    desk = Desk(tmp_path)
    yield desk
    desk.close()


def turn(desk, obey=lambda client, request: None):
    handlers = desk.handlers(obey)
    for descriptor in select.select(list(handlers), [], [], 0)[0]:
        handlers[descriptor]()


def test_requests_are_obeyed_and_answered_for_their_reason(desk, tmp_path):
    visitor, other = Visitor(desk, tmp_path), Visitor(desk, tmp_path)
    turn(desk)
    turn(desk)
    seen = []
    visitor.says(b'{"op": "drain"}\n')
    other.says(b'{"op": "status"}\n')

    def obey(client, request):
        seen.append(request["op"])
        desk.wait(client, For.END if request["op"] == "drain" else For.STATUS)

    turn(desk, obey)
    assert sorted(seen) == ["drain", "status"]
    assert desk.has(For.END)
    assert not desk.has(For.COMMIT)
    desk.answer(For.STATUS, {"state": "serving"})
    assert other.hears() == {"schema": 1, "state": "serving"}
    assert not desk.has(For.STATUS)
    desk.answer(For.END, {"code": 0})
    assert visitor.hears()["code"] == 0
    visitor.end.close()
    other.end.close()


def test_one_client_is_answered_before_the_others(desk, tmp_path):
    visitor = Visitor(desk, tmp_path)
    clients = []
    turn(desk)
    visitor.says(b'{"op": "drain"}\n')
    turn(desk, lambda client, request: clients.append(client))
    desk.wait(clients[0], For.END)
    assert desk.waits(clients[0], For.END)
    desk.answer_one(clients[0], {"code": 7})
    assert visitor.hears()["code"] == 7
    assert not desk.has(For.END)
    visitor.end.close()


def test_who_goes_away_waits_for_nothing(desk, tmp_path):
    visitor = Visitor(desk, tmp_path)
    turn(desk)
    visitor.says(b'{"op": "drain"}\n')
    turn(desk, lambda client, request: desk.wait(client, For.END))
    assert "END=1" in repr(desk)
    visitor.end.close()
    turn(desk)
    assert not desk.has(For.END)
