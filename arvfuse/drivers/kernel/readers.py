"""The threads that read requests: one leads, the others wait for its place or are busy with a request that waits.

The leader reads and answers requests itself, one after the other, because a hand-over between threads costs more than
most requests. Before a request that may wait (for a disk) it hands the lead over (``hand_over``) and goes on as a
follower. A request that takes long without having said so loses the lead too: an heir looks at the leader every 10 ms
while requests come in. So a slow request delays others by 20 ms at most, and a mount costs nothing when it is idle.

Threading: serve() turns its caller into the first reader and returns when no session is left (or close() was called).
Two threads may read for a moment, which the kernel allows. Failure: what a session raises is a bug of ours: it ends
serve(), which raises it after all threads have ended.
"""

from __future__ import annotations

import os
import select
import threading
from typing import Final, Protocol

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.latency import Latency

MAX_READERS: Final = 64
_BATCH: Final = 64
"""Requests of one session in a row before others are looked at."""
_TICK_S: Final = 0.01
_QUIET_TICKS: Final = 50


class Session(Protocol):
    """One mount, as its readers see it."""

    def fileno(self) -> int:
        """The connection's descriptor, not blocking."""
        ...

    def serve(self, reader: Reader, limit: int) -> bool:
        """Answer requests until there is none, *limit* were answered, or *reader* does not lead any more.

        False: the mount is gone."""
        ...

    def ended(self) -> None:
        """The mount is gone, and no reader is busy with it any more."""
        ...


class Reader:
    """One thread's place. *buffer*: where it reads requests; *served*, *busy*: what the heir looks at."""

    __slots__ = ("_readers", "buffer", "busy", "served", "session", "turn", "view")

    def __init__(self, readers: Readers, turn: threading.Condition) -> None:
        self._readers: Final = readers
        self.buffer: Final = bytearray(wire.BUFFER_BYTES)
        self.view: Final = memoryview(self.buffer)
        self.turn: Final = turn
        self.session: Session | None = None
        self.served = 0
        self.busy = False

    @property
    def leads(self) -> bool:
        return self._readers.leader is self

    def hand_over(self) -> None:
        """What this reader does next may take long: another one leads."""
        self._readers.hand_over(self)


class Readers:
    """All readers of one engine.

    Invariants: one reader leads, or none once the end has begun; idle readers wait for their turn.
    """

    def __init__(self, latency: Latency, *, limit: int = MAX_READERS) -> None:
        self._latency: Final = latency
        self._limit: Final = limit
        self._epoll: Final = select.epoll()
        self._wake: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._epoll.register(self._wake, select.EPOLLIN)

        self._lock: Final = threading.Lock()  # a leaf
        self._dropped: Final = threading.Condition(self._lock)
        self._flowing: Final = threading.Condition(self._lock)
        self._sessions: dict[int, Session] = {}  # guarded by: _lock
        self._idle: list[Reader] = []  # guarded by: _lock
        self._all: list[Reader] = []  # guarded by: _lock
        self._threads: list[threading.Thread] = []  # guarded by: _lock
        self._dropping = 0  # sessions that end; guarded by: _lock, read without
        self._stays = False  # set by serve()
        self._closing = False  # guarded by: _lock; read without
        self._flow = False  # requests come in: the heir looks; guarded by: _lock, read without
        self._failure: BaseException | None = None  # guarded by: _lock
        self.leader: Reader | None = None  # guarded by: _lock; read without

    def __repr__(self) -> str:
        with self._lock:
            state = "closing" if self._closing else "serving" if self.leader else "new"
            busy = sum(reader.busy for reader in self._all)
            return f"<Readers {state} sessions={len(self._sessions)} readers={len(self._all)} busy={busy}>"

    def add(self, session: Session) -> None:
        """Serve *session* from now on."""
        with self._lock:
            self._sessions[session.fileno()] = session
        self._epoll.register(session.fileno(), select.EPOLLIN)

    def serve(self, *, stay: bool = False) -> None:
        """Read and answer until the last session has ended (*stay*: until close())."""
        self._stays = stay
        first = self._new_reader()
        heir = threading.Thread(target=self._run_heir, name="fuse-heir")
        heir.start()
        with self._lock:
            if not self._closing:
                self.leader = first
        try:
            self._run(first)
        finally:
            self.close()
            heir.join()
            while True:
                with self._lock:
                    threads, self._threads = self._threads, []
                if not threads:
                    break
                for thread in threads:
                    thread.join()
            self._latency.close()
            self._epoll.close()
            os.close(self._wake)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """Have serve() return when the requests that are being answered are. Harmless when repeated."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
            self.leader = None
            for reader in self._all:
                reader.turn.notify_all()
            self._flowing.notify_all()
            self._dropped.notify_all()
            os.eventfd_write(self._wake, 1)  # with the lock, as serve() closes it when it has passed here

    def hand_over(self, reader: Reader) -> None:
        """Let another reader lead, if there is or can be one."""
        with self._lock:
            if self.leader is not reader or self._closing:
                return
            heir = self._idle.pop() if self._idle else None
            if heir is not None:
                self.leader = heir
                heir.turn.notify()
                return
            if len(self._all) >= self._limit:
                return  # all others are busy: this request delays those behind it
        heir = self._new_reader()
        thread = threading.Thread(target=self._run, args=(heir,), name=f"fuse-reader-{len(self._all)}")
        with self._lock:
            if self._closing or self.leader is not reader:
                self._all.remove(heir)
                return
            self.leader = heir
            self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:  # no more threads: we go on as before
            with self._lock:
                self._threads.remove(thread)
                self._all.remove(heir)
                if self.leader is heir:
                    self.leader = reader

    def check_invariants(self) -> None:
        with self._lock:
            assert self.leader not in self._idle
            assert set(map(id, self._idle)) <= set(map(id, self._all))

    def _new_reader(self) -> Reader:
        reader = Reader(self, threading.Condition(self._lock))
        with self._lock:
            self._all.append(reader)
        return reader

    def _run(self, reader: Reader) -> None:
        try:
            while True:
                while self.leader is reader:
                    self._lead(reader)
                if not self._await_turn(reader):
                    return
        except BaseException as failure:  # top of a thread: serve() raises it
            with self._lock:
                self._failure = self._failure or failure
            self.close()

    def _await_turn(self, reader: Reader) -> bool:
        with self._lock:
            while self.leader is not reader and not self._closing:
                if reader not in self._idle:
                    self._idle.append(reader)
                reader.turn.wait()
            if reader in self._idle:
                self._idle.remove(reader)
            return not self._closing

    def _lead(self, reader: Reader) -> None:
        events = self._latency.wait(self._epoll)
        reader.served += 1  # before we look at _flow: the heir sets that and looks at us
        if not self._flow:
            with self._lock:
                self._flow = True
                self._flowing.notify_all()
        for descriptor, _ in events:
            if descriptor == self._wake:
                return
            session = self._sessions.get(descriptor)
            if session is None:
                continue
            reader.session = session
            try:
                # Looked up again, now that whoever drops it sees us: its descriptor may be another's by now.
                alive = self._sessions.get(descriptor) is not session or session.serve(reader, _BATCH)
            finally:
                reader.session = None
            if self._dropping:
                with self._lock:
                    self._dropped.notify_all()
            if not alive:
                reader.busy = True  # with waiting for others: the heir may lead meanwhile
                self._drop(descriptor, session)
                reader.busy = False
            if self.leader is not reader:
                return

    def _drop(self, descriptor: int, session: Session) -> None:
        with self._lock:
            if self._sessions.pop(descriptor, None) is None:
                return  # another reader was told too
            self._dropping += 1
        self._epoll.unregister(descriptor)
        with self._lock:
            self._dropped.wait_for(lambda: all(each.session is not session for each in self._all))
            self._dropping -= 1
            last = not self._sessions
        session.ended()
        if last and not self._stays:
            self.close()

    def _run_heir(self) -> None:
        """Look at the leader while requests come in; one that is stuck in a request leads no more."""
        quiet, seen_reader, seen = 0, None, -1
        while True:
            with self._lock:
                if not self._flow:
                    self._flowing.wait_for(lambda: self._flow or self._closing)
                else:
                    self._flowing.wait(_TICK_S)
                if self._closing:
                    return
                leader = self.leader
            if leader is None:
                continue
            served, busy = leader.served, leader.busy
            stands = leader is seen_reader and served == seen
            seen_reader, seen = leader, served
            if stands and busy:
                self.hand_over(leader)
            quiet = quiet + 1 if stands and not busy else 0
            if quiet > _QUIET_TICKS:
                quiet = 0
                with self._lock:
                    self._flow = False
                    if self.leader is not leader or leader.served != served:
                        self._flow = True  # it was woken meanwhile, and has seen that the heir looks
