"""Replies and parked requests, on a socket pair that stands for the device."""

from __future__ import annotations

import errno
import logging
import os
import socket
import struct
from concurrent.futures import Future

import pytest

from arvfuse.drivers.kernel import connection
from arvfuse.drivers.kernel.connection import Connection, Reply
from arvfuse.errors import NoSuchEntry, StoreUnavailable


class Kernel:
    """The other end: what it was told, as (request, errno, body)."""

    def __init__(self):
        self.socket, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.setblocking(False)
        self.undone = []
        self.connection = Connection(ours.detach(), self.undone.append)

    def heard(self):
        told = []
        while True:
            try:
                message = self.socket.recv(1 << 16)
            except BlockingIOError:
                return told
            length, code, unique = struct.unpack_from("=IiQ", message)
            assert length == len(message)
            told.append((unique, -code, message[16:]))

    def close(self):
        self.connection.close()
        self.connection.close()
        self.socket.close()


@pytest.fixture
def kernel():
    made = Kernel()
    yield made
    made.close()


def encode(value) -> Reply:
    return b"<" + value + b">"


def test_replies_say_yes_in_one_piece_or_in_several_and_no_with_an_errno(kernel):
    assert kernel.connection.reply(1, b"abc")
    assert kernel.connection.reply(2, (b"ab", memoryview(b"cd"), b""))
    assert kernel.connection.refuse(3, errno.EPERM)
    kernel.connection.fail(4, "lookup", NoSuchEntry("x"))
    assert kernel.heard() == [(1, 0, b"abc"), (2, 0, b"abcd"), (3, errno.EPERM, b""), (4, errno.ENOENT, b"")]


def test_a_parked_request_is_answered_by_who_settles_it(kernel):
    good, bad = Future(), Future()
    kernel.connection.park(1, good, encode, "lookup")
    kernel.connection.park(2, bad, encode, "lookup")
    assert (kernel.connection.parked, kernel.heard()) == (2, [])
    good.set_result(b"x")
    bad.set_exception(StoreUnavailable("away"))
    assert kernel.heard() == [(1, 0, b"<x>"), (2, errno.EIO, b"")]
    assert kernel.connection.parked == 0
    assert kernel.undone == []


@pytest.fixture
def dying(monkeypatch):
    """The threads that are to end."""
    threads = set()
    monkeypatch.setattr(connection, "is_dying", threads.__contains__)
    return threads


@pytest.mark.parametrize("order", ["interrupt park waits", "park interrupt waits", "park waits interrupt"])
def test_the_end_of_its_caller_answers_a_request_at_once_and_what_comes_later_is_undone(kernel, dying, order):
    waiting = Future()
    dying.add(77)
    for step in order.split():
        assert kernel.heard() == []
        if step == "park":
            kernel.connection.park(1, waiting, encode, "lookup")
        elif step == "waits":
            kernel.connection.waits(1, 77)
        else:
            kernel.connection.interrupt(1)
    assert kernel.heard() == [(1, errno.EINTR, b"")]
    waiting.set_result(b"x")
    assert (kernel.heard(), kernel.undone) == ([], [b"x"])


def test_a_signal_that_its_caller_handles_ends_no_request(kernel, dying):
    waiting, other = Future(), Future()
    kernel.connection.park(1, waiting, encode, "lookup")
    kernel.connection.park(2, other, encode, "lookup")
    for unique, caller in ((1, 77), (2, 78)):
        kernel.connection.waits(unique, caller)
        kernel.connection.interrupt(unique)
    kernel.connection.end_dying()
    assert kernel.heard() == []
    dying.add(78)
    kernel.connection.end_dying()
    assert kernel.heard() == [(2, errno.EINTR, b"")]
    waiting.set_result(b"x")
    assert kernel.heard() == [(1, 0, b"<x>")]
    kernel.connection.end_dying()
    kernel.connection.waits(1, 78)
    assert kernel.heard() == []


def test_bytes_that_were_accepted_stay_so_whatever_interrupts_the_wait(kernel):
    waiting = Future()
    kernel.connection.park(1, waiting, encode, "write", accepted=b"4096")
    kernel.connection.interrupt(1)
    assert kernel.heard() == [(1, 0, b"4096")]
    waiting.set_result(b"x")
    assert (kernel.heard(), kernel.undone) == ([], [])


def test_what_waits_too_long_fails_but_not_a_writer_who_waits_for_room(kernel, caplog):
    lookup, write = Future(), Future()
    kernel.connection.fail_stalled(0)
    kernel.connection.park(1, lookup, encode, "lookup")
    kernel.connection.park(2, write, encode, "write", accepted=b"1")
    kernel.connection.fail_stalled(1000)
    assert kernel.heard() == []
    with caplog.at_level(logging.WARNING):
        kernel.connection.fail_stalled(0)
    assert kernel.heard() == [(1, errno.EIO, b"")]
    assert "lookup: no answer within 0 s" in caplog.text
    lookup.set_result(b"x")
    assert kernel.undone == [b"x"]
    write.set_result(b"y")
    assert kernel.heard() == [(2, 0, b"<y>")]


def test_nothing_is_written_to_a_descriptor_that_was_closed(kernel):
    waiting, late = Future(), Future()
    kernel.connection.park(1, waiting, encode, "lookup")
    kernel.connection.close()
    kernel.connection.park(2, late, encode, "lookup")
    reused = os.open(os.devnull, os.O_RDONLY)  # may well get the number
    try:
        waiting.set_result(b"x")
        assert kernel.undone == [b"x"]
        assert repr(kernel.connection) == "<Connection closed parked=0>"
    finally:
        os.close(reused)


def test_a_reply_that_nobody_wants_is_no_failure_and_any_other_refusal_is_logged(kernel, caplog):
    kernel.socket.close()
    with caplog.at_level(logging.ERROR):
        assert not kernel.connection.reply(1, (b"x",))
        assert not kernel.connection.refuse(1, errno.EIO)
    assert "the kernel refused a reply" in caplog.text
