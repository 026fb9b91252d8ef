"""The threads that read: one leads, whoever is stuck leads no more, and all end together."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from arvfuse.drivers.kernel.latency import Latency, Mode
from arvfuse.drivers.kernel.readers import MAX_READERS, Reader, Readers, Session

PATIENCE_S = 30


class Scripted:
    """A session whose requests are words; each is done by an act of the test, in the thread that read it."""

    def __init__(self) -> None:
        self.ours, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.ours.setblocking(False)
        self.acts: dict[bytes, Callable[[Reader], None]] = {}
        self._done = threading.Condition()
        self.done: list[tuple[bytes, str]] = []
        self.ends = 0

    def fileno(self) -> int:
        return self.ours.fileno()

    def send(self, word: bytes) -> None:
        self._theirs.send(word)

    def wait_done(self, *words: bytes) -> None:
        with self._done:
            assert self._done.wait_for(lambda: set(words) <= {word for word, _ in self.done}, PATIENCE_S), self.done

    def thread_of(self, word: bytes) -> str:
        return dict(self.done)[word]

    def gone(self) -> None:
        """As when the mount is unmounted."""
        self._theirs.close()

    def serve(self, reader: Reader, limit: int) -> bool:
        for _ in range(limit):
            try:
                word = self.ours.recv(100)
            except BlockingIOError:
                return True
            if not word:
                return False
            reader.served += 1
            reader.busy = True
            self.acts.get(word, lambda _: None)(reader)
            reader.busy = False
            with self._done:
                self.done.append((word, threading.current_thread().name))
                self._done.notify_all()
            if not reader.leads:
                return True
        return True

    def ended(self) -> None:
        self.ends += 1

    def close(self) -> None:
        self.ours.close()
        self._theirs.close()


class Stuck:
    """An act that enters and does not return until it is let go. *hands_over*: says before that it may take long."""

    def __init__(self, *, hands_over: bool = False) -> None:
        self._hands_over = hands_over
        self.entered = threading.Semaphore(0)
        self._over = threading.Event()

    def __call__(self, reader: Reader) -> None:
        if self._hands_over:
            reader.hand_over()
            assert not reader.leads
        self.entered.release()
        assert self._over.wait(PATIENCE_S)

    def wait_entered(self) -> None:
        assert self.entered.acquire(timeout=PATIENCE_S)

    def let_go(self) -> None:
        self._over.set()


class Served:
    """Readers with one session or more, served by a thread of the test."""

    def __init__(self) -> None:
        self.readers = Readers(Latency(Mode.SLEEP))
        self.session = Scripted()
        self.sessions = [self.session]
        self.failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    def start(self, *, limit: int = MAX_READERS, stay: bool = False) -> None:
        if limit != MAX_READERS:
            self.readers = Readers(Latency(Mode.SLEEP), limit=limit)
        self.readers.add(self.session)
        self._thread = threading.Thread(target=self._serve, args=(stay,), name="first")
        self._thread.start()

    def another(self) -> Scripted:
        session = Scripted()
        self.sessions.append(session)
        self.readers.add(session)
        return session

    def _serve(self, stay: bool) -> None:
        try:
            self.readers.serve(stay=stay)
        except BaseException as failure:
            self.failure = failure

    def join(self) -> None:
        assert self._thread is not None
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()


@pytest.fixture
def served() -> Iterator[Served]:
    made = Served()
    before = threading.active_count()
    yield made
    made.readers.close()
    made.join()
    for session in made.sessions:
        session.close()
    assert threading.active_count() == before


def test_requests_are_answered_by_the_first_thread_one_after_the_other(served: Served) -> None:
    served.start()
    for number in range(200):
        served.session.send(b"%d" % number)
    served.session.wait_done(b"199")
    assert served.session.done == [(b"%d" % number, "first") for number in range(200)]
    served.readers.check_invariants()
    assert repr(served.readers) == "<Readers serving sessions=1 readers=1 busy=0>"
    session: Session = served.session
    served.session.gone()
    served.join()
    assert (served.session.ends, served.failure, session.fileno() >= 0) == (1, None, True)
    assert repr(served.readers).startswith("<Readers closing")


@pytest.mark.parametrize("hands_over", [True, False])
def test_others_go_on_while_a_request_is_stuck(served: Served, hands_over: bool) -> None:
    """Also where it did not say so before: whoever waits is seen to."""
    stuck = Stuck(hands_over=hands_over)
    served.session.acts[b"stuck"] = stuck
    served.start()
    served.session.send(b"stuck")
    stuck.wait_entered()
    for word in (b"one", b"two"):
        served.session.send(word)
    served.session.wait_done(b"one", b"two")
    assert served.session.thread_of(b"one") == served.session.thread_of(b"two") != "first"
    stuck.let_go()
    served.session.wait_done(b"stuck")
    assert served.session.thread_of(b"stuck") == "first"
    served.readers.check_invariants()


def test_a_session_goes_on_beside_one_that_is_stuck(served: Served) -> None:
    stuck = Stuck()
    served.session.acts[b"stuck"] = stuck
    served.start()
    other = served.another()
    served.session.send(b"stuck")
    stuck.wait_entered()
    other.send(b"one")
    other.wait_done(b"one")
    other.gone()
    for _ in range(3):
        third = served.another()
        third.send(b"one")
        third.wait_done(b"one")
    stuck.let_go()
    served.session.wait_done(b"stuck")


def test_threads_are_used_again(served: Served) -> None:
    served.start()
    for number in range(20):
        word = b"stuck %d" % number
        stuck = served.session.acts[word] = Stuck(hands_over=True)
        served.session.send(word)
        stuck.wait_entered()
        stuck.let_go()
        served.session.wait_done(word)
    assert len({thread for _, thread in served.session.done}) <= 3


def test_no_more_threads_than_the_limit(served: Served) -> None:
    stuck = [Stuck(), Stuck()]
    served.session.acts = {b"stuck 0": stuck[0], b"stuck 1": stuck[1]}
    served.start(limit=2)
    for number in range(2):
        served.session.send(b"stuck %d" % number)
        stuck[number].wait_entered()
    served.session.send(b"behind")
    assert "readers=2 busy=2" in repr(served.readers)
    stuck[0].let_go()  # either one that is free takes it up
    served.session.wait_done(b"behind")
    stuck[1].let_go()
    served.session.wait_done(b"stuck 1")


def test_close_waits_for_what_is_being_answered(served: Served) -> None:
    stuck = Stuck(hands_over=True)
    served.session.acts[b"stuck"] = stuck
    served.start()
    served.session.send(b"stuck")
    stuck.wait_entered()
    served.readers.close()
    assert served.alive
    stuck.let_go()
    served.join()
    assert served.session.thread_of(b"stuck") == "first"
    assert served.failure is None


def test_a_bug_in_a_session_is_raised_by_serve(served: Served) -> None:
    def fail(_: Reader) -> None:
        raise KeyError("a bug")

    stuck = Stuck(hands_over=True)
    served.session.acts = {b"fail": fail, b"stuck": stuck}
    served.start()
    served.session.send(b"stuck")
    stuck.wait_entered()
    served.session.send(b"fail")
    stuck.let_go()
    served.join()
    assert isinstance(served.failure, KeyError)


def test_it_stays_without_a_session_until_it_is_closed(served: Served) -> None:
    served.start(stay=True)
    served.session.gone()
    other = served.another()
    other.send(b"one")
    other.wait_done(b"one")
    other.gone()
    third = served.another()
    third.send(b"one")
    third.wait_done(b"one")
    assert (served.session.ends, other.ends, third.ends) == (1, 1, 0)
    served.readers.close()
    served.join()


def test_a_mount_has_ended_when_nobody_is_busy_with_it(served: Served) -> None:
    stuck = Stuck(hands_over=True)
    served.session.acts[b"stuck"] = stuck
    served.start(stay=True)
    served.session.send(b"stuck")
    stuck.wait_entered()
    served.session.gone()
    other = served.another()
    other.send(b"one")  # answered by a third thread, or before the second saw the end
    other.wait_done(b"one")
    assert served.session.ends == 0
    stuck.let_go()
    served.session.wait_done(b"stuck")
    ended: Any = threading.Event()
    other.acts[b"look"] = lambda _: ended.set() if served.session.ends else None
    while not ended.is_set():
        other.send(b"look")
        other.wait_done(b"look")
    assert served.session.ends == 1
