"""Answers that have to wait: parked, settled by somebody else, interrupted, or not wanted any more."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from arvfuse.drivers.kernel import connection, wire
from arvfuse.drivers.kernel.dispatch import Session
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import Op
from arvfuse.errors import NoSuchEntry, StoreUnavailable
from arvfuse.fresh.node import Attr, Entry, Listed
from tests.support.fakekernel import FakeKernel

ENTRY = Entry(Attr(7, False, 0o644, 5, 1, 1, 1.0), 1.0)


class Waiting:
    """Operations whose answers come later; what is undone is remembered."""

    uid = gid = 0
    read_only = False

    def __init__(self) -> None:
        self.pending: Future[Any] = Future()
        self.undone: list[Any] = []
        self.undo = self.undone.append
        self.told: list[Exception] = []
        self.before: Any = lambda: None

    def find(self, parent: int, name: bytes) -> None:
        """Nothing is found at once."""

    def lost(self, handle: int, failure: Exception) -> None:
        self.told.append(failure)

    def listed_entry(self, *_: Any) -> Any:
        raise StoreUnavailable("away")

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            self.before()
            return self.pending

        return call


@pytest.fixture
def waiting() -> Waiting:
    return Waiting()


@pytest.fixture(autouse=True)
def dying(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """The threads that are to end; that of every request here is 1."""
    threads = {1}
    monkeypatch.setattr(connection, "is_dying", threads.__contains__)
    return threads


@pytest.fixture
def kernel(waiting: Waiting) -> Iterator[FakeKernel]:
    made = FakeKernel(waiting, Wanted(writeback=True))
    yield made
    made.close()


def interrupt(kernel: FakeKernel, unique: int) -> None:
    kernel.send(Op.INTERRUPT, 0, wire.INTERRUPT_IN.pack(unique))


def test_it_is_answered_when_it_is_settled(kernel: FakeKernel, waiting: Waiting) -> None:
    unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    assert kernel.answers() == []
    assert kernel.session.parked == 1
    assert kernel.ask(Op.DESTROY).error == 0, "others are answered meanwhile"
    waiting.pending.set_result(ENTRY)
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error, len(answer.body)) == (unique, 0, wire.ENTRY_OUT.size)
    assert (kernel.session.parked, waiting.undone) == (0, [])
    assert isinstance(kernel.session, Session)


@pytest.mark.parametrize(
    ("failure", "code"),
    [(NoSuchEntry("x"), errno.ENOENT), (StoreUnavailable("x"), errno.EIO), (KeyError("a bug"), errno.EIO)],
)
def test_its_failure_is_its_answer(kernel: FakeKernel, waiting: Waiting, failure: Exception, code: int) -> None:
    unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    waiting.pending.set_exception(failure)
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error) == (unique, code)
    assert kernel.session.parked == 0


def test_what_is_settled_already_is_answered_at_once(kernel: FakeKernel, waiting: Waiting) -> None:
    waiting.pending.set_result(ENTRY)
    assert kernel.ask(Op.LOOKUP, 1, b"name\0").error == 0
    assert kernel.session.parked == 0


def test_an_interrupt_answers_what_is_parked(kernel: FakeKernel, waiting: Waiting) -> None:
    unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    interrupt(kernel, unique)
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error) == (unique, errno.EINTR)
    waiting.pending.set_result(ENTRY)
    assert kernel.answers() == []
    assert waiting.undone == [ENTRY]


def test_a_signal_that_is_handled_waits_for_the_answer(kernel: FakeKernel, waiting: Waiting, dying: set[int]) -> None:
    dying.clear()
    unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    interrupt(kernel, unique)
    kernel.session.fail_stalled(1000)
    assert kernel.answers() == []
    dying.add(1)
    kernel.session.fail_stalled(1000)
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error) == (unique, errno.EINTR)


def test_an_interrupt_may_be_read_before_its_request_is_parked(kernel: FakeKernel, waiting: Waiting) -> None:
    """Several threads read: the one with the interrupt may be faster."""
    next_unique = kernel.send(Op.DESTROY) + 2
    kernel.answers()
    done: list[int] = []

    def overtaken() -> None:
        if not done:
            done.append(1)
            message = wire.IN_HEADER.pack(48, Op.INTERRUPT, next_unique + 1, 0, 0, 0, 0, 0, 0)
            kernel.send_raw(message + wire.INTERRUPT_IN.pack(next_unique))

    # served in the middle of the other request, as another thread would
    waiting.before = overtaken
    place, kernel.reader = kernel.reader, type(kernel.reader)()
    try:
        unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    finally:
        kernel.reader = place
    assert unique == next_unique
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error) == (unique, errno.EINTR)
    waiting.pending.set_result(ENTRY)
    assert (kernel.answers(), waiting.undone) == ([], [ENTRY])


def test_an_interrupt_of_what_was_answered_is_nothing(kernel: FakeKernel, waiting: Waiting) -> None:
    unique = kernel.send(Op.LOOKUP, 1, b"name\0")
    waiting.pending.set_result(ENTRY)
    kernel.answers()
    for _ in range(200):
        interrupt(kernel, unique)
    assert kernel.answers() == []


def test_what_comes_after_the_end_is_undone(kernel: FakeKernel, waiting: Waiting) -> None:
    kernel.send(Op.LOOKUP, 1, b"name\0")
    kernel.session.close()
    kernel.session.close()
    waiting.pending.set_result(ENTRY)
    assert (kernel.session.parked, waiting.undone) == (0, [ENTRY])


def test_a_failure_after_the_end_is_nobodys(kernel: FakeKernel, waiting: Waiting) -> None:
    kernel.send(Op.LOOKUP, 1, b"name\0")
    kernel.session.close()
    waiting.pending.set_exception(StoreUnavailable("x"))
    assert waiting.undone == []


@pytest.mark.parametrize("op", [Op.READDIR, Op.READDIRPLUS])
def test_an_answer_that_cannot_be_made_is_refused(kernel: FakeKernel, waiting: Waiting, op: Op) -> None:
    """Nobody would wait for it in vain."""

    def names() -> Iterator[Listed]:
        yield Listed(b".", 1, True, 1)
        if op is Op.READDIR:
            raise StoreUnavailable("away")
        yield Listed(b"name", 7, False, 2)

    unique = kernel.send(op, 1, wire.READ_IN.pack(5, 0, 4096, 0, 0, 0, 0))
    waiting.pending.set_result(names())
    (answer,) = kernel.answers()
    assert (answer.unique, answer.error, kernel.session.parked) == (unique, errno.EIO, 0)


def test_a_writer_is_held_back_by_its_answer(kernel: FakeKernel, waiting: Waiting) -> None:
    unique = kernel.send(Op.WRITE, 7, wire.WRITE_IN.pack(5, 0, 3, wire.WRITE_CACHE, 0, 0, 0) + b"abc")
    assert kernel.answers() == []
    waiting.pending.set_result(3)
    (answer,) = kernel.answers()
    assert (answer.unique, wire.WRITE_OUT.unpack(answer.body)) == (unique, (3, 0))
    assert waiting.told == []


@pytest.mark.parametrize(
    ("op", "body"),
    [
        (Op.MKDIR, wire.MKDIR_IN.pack(0o755, 0) + b"d\0"),
        (Op.UNLINK, b"f\0"),
        (Op.RMDIR, b"f\0"),
        (Op.RENAME, wire.RENAME_IN.pack(1) + b"f\0g\0"),
        (Op.CREATE, wire.CREATE_IN.pack(os.O_RDWR, 0o644, 0, 0) + b"f\0"),
        (Op.OPENDIR, wire.OPEN_IN.pack(0, 0)),
        (Op.STATFS, b""),
        (Op.FSYNC, wire.FSYNC_IN.pack(1, 0, 0)),
        (Op.FSYNCDIR, wire.FSYNC_IN.pack(1, 0, 0)),
        (Op.SETATTR, bytes(wire.SETATTR_IN.size)),
    ],
)
def test_whatever_may_wait_can_be_interrupted(kernel: FakeKernel, waiting: Waiting, op: Op, body: bytes) -> None:
    unique = kernel.send(op, 1, body)
    assert kernel.session.parked == 1
    interrupt(kernel, unique)
    assert [(answer.unique, answer.error) for answer in kernel.answers()] == [(unique, errno.EINTR)]
    waiting.pending.set_exception(StoreUnavailable("x"))
    assert kernel.answers() == []
