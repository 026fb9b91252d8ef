"""Replies on the connection of one mount, and the requests whose answer has to wait.

A parked request is answered by whoever settles its Pending. If its caller is to end meanwhile (an INTERRUPT says that
there is a signal, ``callers`` which kind) it is answered with EINTR; whoever waits only for room (bytes that were
accepted stay accepted) is answered at any signal. What is settled when nobody wants it any more is undone.

Threading: any thread. The lock is a leaf, taken for parked requests only; it makes sure that no reply is written to a
descriptor that was closed, and perhaps given to somebody else, meanwhile. Who answers at once is a reader, and the
connection is closed when no reader is busy with it. Failure: a reply that the kernel does not want is no failure.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, NamedTuple, TypeAlias

from arvfuse.drivers.errnos import reply_for
from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.callers import is_dying
from arvfuse.errors import StoreUnavailable

log = logging.getLogger(__name__)

Reply: TypeAlias = bytes | tuple[bytes | memoryview, ...] | None
"""What follows the header of a reply; None: there is none, or it is written by somebody else."""

_INTERRUPTS: Final = 64
_MAX_PIECES: Final = 1000  # writev(2) takes 1,024
_EXPECTED: Final = frozenset({errno.ENOENT, errno.ENODEV, errno.EBADF})


class _Parked(NamedTuple):
    early: bytes  # the whole reply if it is interrupted
    what: str
    since: float
    accepted: bool
    caller: int = 0  # a thread; 0: not known yet, or for good
    interrupted: bool = False  # by a signal that its caller handles; the kernel will not tell of another


class Connection:
    """*device*: a descriptor of /dev/fuse, not blocking, which close() closes. *undo*: takes back an answer that nobody
    got."""

    def __init__(self, device: int, undo: Callable[[Any], None]) -> None:
        self.device: Final = device
        self._undo: Final = undo
        self._lock: Final = threading.Lock()
        self._parked: dict[int, _Parked] = {}  # by request; guarded by: _lock
        self._interrupted: deque[int] = deque(maxlen=_INTERRUPTS)  # before they were parked; guarded by: _lock
        self._closed = False  # guarded by: _lock

    def __repr__(self) -> str:
        return f"<Connection {'closed' if self._closed else 'open'} parked={len(self._parked)}>"

    @property
    def parked(self) -> int:
        """Requests that wait for the backend or for room."""
        return len(self._parked)

    def reply(self, unique: int, reply: bytes | tuple[bytes | memoryview, ...]) -> bool:
        """Say yes to request *unique*; False if the kernel does not want it any more."""
        try:
            if isinstance(reply, bytes):
                os.write(self.device, wire.message(unique, reply))
            else:
                size = wire.OUT_HEADER.size + sum(map(len, reply))
                if len(reply) > _MAX_PIECES:
                    reply = (b"".join(reply),)
                os.writev(self.device, (wire.OUT_HEADER.pack(size, 0, unique), *reply))
        except OSError as failure:
            return self._unwanted(failure)
        return True

    def refuse(self, unique: int, code: int) -> bool:
        """Say no, with errno *code*; as reply(). Nobody waits for an answer to request 0."""
        return not unique or self._send(wire.refusal(unique, code))

    def fail(self, unique: int, what: str, failure: BaseException) -> None:
        """Say no with what the table has for *failure*, and log it as loud as the table says."""
        code, level = reply_for(failure)
        if log.isEnabledFor(level):
            log.log(level, "%s: %s", what, failure, exc_info=failure if level >= logging.ERROR else None)
        self.refuse(unique, code)

    def park(
        self,
        unique: int,
        pending: Future[Any],
        encode: Callable[[Any], Reply],
        what: str,
        accepted: bytes | None = None,
    ) -> None:
        """Answer when *pending* is settled. *accepted*: what to say if the caller cannot wait; it is never undone.
        Without it that is EINTR."""
        early = wire.refusal(unique, errno.EINTR) if accepted is None else wire.message(unique, accepted)
        with self._lock:
            if self._closed:
                return
            interrupted = unique in self._interrupted
            at_once = interrupted and accepted is not None
            if not at_once:
                parked = _Parked(early, what, time.monotonic(), accepted is not None, interrupted=interrupted)
                self._parked[unique] = parked
        if at_once:
            self._send(early)
        undo = self._undo if accepted is None else _keep
        pending.add_done_callback(lambda done: self._settled(unique, done, encode, what, undo))

    def waits(self, unique: int, caller: int) -> None:
        """*caller* is the thread that waits for the answer to that request, if it is parked."""
        with self._lock:
            parked = self._parked.get(unique)
            if parked is not None:
                self._parked[unique] = parked = parked._replace(caller=caller)
                if parked.interrupted:
                    self._end_if_dying_locked(unique, parked)

    def interrupt(self, unique: int) -> None:
        """The caller of that request has a signal to handle, or to end by."""
        with self._lock:
            parked = self._parked.get(unique)
            if parked is None:
                self._interrupted.append(unique)  # it is being answered, or about to be parked
            elif parked.accepted:
                del self._parked[unique]
                self._send(parked.early)
            else:
                self._parked[unique] = parked._replace(interrupted=True)
                self._end_if_dying_locked(unique, parked)

    def end_dying(self) -> None:
        """Answer those whose caller is to end by another signal than the one that the kernel told of."""
        if self._parked:
            with self._lock:
                for unique, parked in list(self._parked.items()):
                    if parked.interrupted:
                        self._end_if_dying_locked(unique, parked)

    def _end_if_dying_locked(self, unique: int, parked: _Parked) -> None:
        if is_dying(parked.caller):
            del self._parked[unique]
            self._send(parked.early)

    def fail_stalled(self, bound_s: float) -> None:
        """Answer what has waited for *bound_s* seconds with an error: an outage is never a hang (C4).

        Not the writers who wait for room: how long they do is for the spool to say, which sees progress."""
        if not self._parked:
            return
        since = time.monotonic() - bound_s
        with self._lock:
            stalled = {u: each for u, each in self._parked.items() if each.since <= since and not each.accepted}
            for unique, parked in stalled.items():
                del self._parked[unique]
                self.fail(unique, parked.what, StoreUnavailable(f"no answer within {bound_s:g} s"))

    def close(self) -> None:
        """Close the descriptor; what is parked is answered by nobody. Harmless when repeated."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._parked.clear()
            os.close(self.device)

    def _settled(
        self, unique: int, done: Future[Any], encode: Callable[[Any], Reply], what: str, undo: Callable[[Any], None]
    ) -> None:
        """In the thread that brought the answer."""
        with self._lock:
            wanted = self._parked.pop(unique, None) is not None
        failure, reply = done.exception(), None
        if wanted:
            if failure is None:
                try:
                    reply = encode(done.result())
                except Exception as odd:  # as at the top of a request: nobody else would answer it
                    failure = odd
            with self._lock:  # the descriptor is ours for as long
                if self._closed:
                    wanted = False
                elif failure is not None:
                    self.fail(unique, what, failure)
                elif reply is not None:
                    wanted = self.reply(unique, reply)
        if not wanted and failure is None:
            undo(done.result())

    def _send(self, message: bytes) -> bool:
        try:
            os.write(self.device, message)
        except OSError as failure:
            return self._unwanted(failure)
        return True

    def _unwanted(self, failure: OSError) -> bool:
        if failure.errno not in _EXPECTED:
            log.error("the kernel refused a reply: %s", failure)
        return False


def _keep(_answer: object) -> None:
    """What is not undone."""
