"""The engine's end of the conversation with the backend.

``BackendLink`` owns the requests that have no answer yet, the latest sequence number told, and the events that came.
Threading: any thread may call; one thread (``backend-link``) does all sending and receiving, so that no caller ever
waits for the socket, and completes the futures - a callback of a future runs there and must be short. Failure: when
the backend dies nothing is lost; ``attach()`` hands in the socket of its successor, which is sent the number and every
unanswered request again (marked ``again``, so that a repeated mkdir is not a name that is taken).
"""

from __future__ import annotations

import os
import select
import threading
from collections import deque
from concurrent.futures import Future
from typing import Any, Final

from arvfuse.backend.messages import Channel, Message, decode_error
from arvfuse.errors import StoreUnavailable


class BackendLink:
    """Requests, told numbers and events between an engine and whichever backend serves it."""

    def __init__(self, channel: Channel | None = None) -> None:
        self._thread: Final = threading.Thread(target=self._run, name="backend-link")
        self._wake_fd: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._lock: Final = threading.Lock()  # a leaf: dict work only, nothing is called under it
        self._next: Channel | None = channel  # guarded by: _lock
        self._unanswered: dict[int, tuple[Message, Future[Message]]] = {}  # guarded by: _lock
        self._outbox: deque[int] = deque()  # guarded by: _lock
        self._number = 0  # guarded by: _lock
        self._told = 0  # guarded by: _lock
        self._refused: str | None = None  # guarded by: _lock
        self._closing = False  # guarded by: _lock
        self._events: Final[deque[Message]] = deque()  # guarded by: _event_came
        self._woken = False  # guarded by: _event_came
        self._event_came: Final = threading.Condition(threading.Lock())
        self._channel: Channel | None = None  # confined to backend-link, as is what it was told
        self._told_there = 0

    def __repr__(self) -> str:
        with self._lock:
            return f"BackendLink(unanswered={len(self._unanswered)}, told={self._told}, refused={self._refused!r})"

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Join the thread; what has no answer fails with StoreUnavailable. Harmless when repeated."""
        with self._lock:
            if self._closing:
                return
            self._closing = True
        self._wake()
        if self._thread.is_alive():
            self._thread.join()
        self.refuse("the mount has ended")
        with self._lock:
            left, self._next = self._next, None
        if left is not None:
            left.close()
        os.close(self._wake_fd)
        self.wake_events()

    def attach(self, channel: Channel) -> None:
        """A new backend listens on *channel*: it is told and asked everything that has no answer."""
        with self._lock:
            previous, self._next = self._next, channel
            self._refused = None
        if previous is not None:
            previous.close()
        self._wake()

    def refuse(self, why: str) -> None:
        """There will be no backend for some time: requests fail with StoreUnavailable until attach()."""
        with self._lock:
            self._refused = why
            failed = [future for _, future in self._unanswered.values()]
            self._unanswered.clear()
            self._outbox.clear()
        for future in failed:
            future.set_exception(StoreUnavailable(why))

    def request(self, op: str, **args: Any) -> Future[Message]:
        """Ask; the future has the answer or an error of arvfuse.errors. Never waits. A future cannot be cancelled."""
        future: Future[Message] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            refused = self._refused
            if refused is None:
                self._number += 1
                self._unanswered[self._number] = ({"id": self._number, "op": op, "args": args}, future)
                self._outbox.append(self._number)
        if refused is not None:
            future.set_exception(StoreUnavailable(refused))
        else:
            self._wake()
        return future

    def tell(self, seq: int) -> None:
        """The log is flushed up to *seq*. Only the newest number is sent; never waits."""
        with self._lock:
            if seq <= self._told:
                return
            self._told = seq
        self._wake()

    def next_event(self, timeout_s: float) -> Message | None:
        """The oldest event that came from the backend; None after *timeout_s* or a wake_events()."""
        with self._event_came:
            self._event_came.wait_for(lambda: self._events or self._woken, timeout_s)
            self._woken = False
            return self._events.popleft() if self._events else None

    def wake_events(self) -> None:
        """Make the thread that waits in next_event(), or the next that does, return."""
        with self._event_came:
            self._woken = True
            self._event_came.notify_all()

    def _wake(self) -> None:
        os.eventfd_write(self._wake_fd, 1)

    def _run(self) -> None:
        while self._take_over():
            poll = select.poll()
            poll.register(self._wake_fd, select.POLLIN)
            if self._channel is not None:
                poll.register(self._channel, select.POLLIN | (0 if self._send() else select.POLLOUT))
            for descriptor, event in poll.poll():
                if descriptor == self._wake_fd:
                    os.eventfd_read(self._wake_fd)
                elif event & ~select.POLLOUT:
                    self._receive()
        if self._channel is not None:
            self._channel.close()

    def _take_over(self) -> bool:
        """Move to the channel of a new backend; False when closing."""
        with self._lock:
            closing = self._closing
            fresh, self._next = self._next, None
            if fresh is not None:
                self._outbox = deque(sorted(self._unanswered))
        if fresh is not None:
            if self._channel is not None:
                self._channel.close()
            self._channel, self._told_there = fresh, 0
        return not closing

    def _send(self) -> bool:
        """Send what waits; False if the socket is full. A socket that is gone waits for attach()."""
        channel = self._channel
        assert channel is not None
        try:
            while True:
                with self._lock:
                    told = self._told
                    entry = self._unanswered.get(self._outbox[0]) if self._outbox else None
                    if self._outbox and entry is None:
                        self._outbox.popleft()
                        continue
                if told > self._told_there:
                    if not channel.try_send({"told": told}):
                        return False
                    self._told_there = told
                if entry is None:
                    return True
                message = entry[0]
                if not channel.try_send(message):
                    return False
                with self._lock:
                    message["again"] = True
                    if self._outbox and self._outbox[0] == message["id"]:
                        self._outbox.popleft()
        except ConnectionError:
            return True  # POLLHUP follows, _receive() sees the end

    def _receive(self) -> None:
        assert self._channel is not None
        try:
            received = self._channel.receive()
        except (ValueError, OSError):
            received = None  # not our language: this backend is as good as dead, its successor is asked again
        if received is None:
            self._channel.close()
            self._channel = None
            return
        message = received.message
        if "event" in message:
            self._keep_event(message)
            return
        with self._lock:
            _, future = self._unanswered.pop(message["id"], (None, None))
        if future is None:
            return  # refused meanwhile
        if "error" in message:
            future.set_exception(decode_error(message["error"]))
        else:
            future.set_result(message["result"])

    def _keep_event(self, message: Message) -> None:
        with self._event_came:
            last = self._events[-1] if self._events else None
            if last is not None and last["event"] == "changed" == message["event"]:
                last["changes"].extend(message["changes"])
            else:
                self._events.append(message)
            self._event_came.notify_all()
