"""The kernel's end of a connection, without a mount: a socket pair that keeps messages apart stands in for the device.

``ask`` sends a request, has the session serve it in the calling thread and returns what was answered.
"""

from __future__ import annotations

import itertools
import socket
from typing import Any, NamedTuple

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.dispatch import Session
from arvfuse.drivers.kernel.negotiation import Wanted
from arvfuse.drivers.kernel.wire import Init, Op

EVERYTHING = sum(Init)
"""All features that there are, as a kernel of today offers them."""
MOST_BYTES = 1 << 17


class Answer(NamedTuple):
    """A reply: *error* is an errno or 0."""

    unique: int
    error: int
    body: bytes


def request(opcode: int, unique: int, node: int, body: bytes, *, length: int | None = None) -> bytes:
    """A request as the kernel writes it. *length*: what it says of itself, if that is not true."""
    size = wire.IN_HEADER.size + len(body)
    return wire.IN_HEADER.pack(size if length is None else length, opcode, unique, node, 0, 0, 1, 0, 0) + body


def init_body(*, minor: int = wire.MINOR, flags: int = EVERYTHING, major: int = wire.MAJOR) -> bytes:
    """What follows the header of an INIT; with the second flags where the first say so."""
    body = wire.INIT_IN.pack(major, minor, 1 << 17, flags & 0xFFFFFFFF)
    return body + wire.INIT_IN_FLAGS2.pack(flags >> 32) if flags & Init.INIT_EXT else body


class Place:
    """A ``readers.Reader`` that never leads, so that a session answers one request and returns."""

    leads = False

    def __init__(self) -> None:
        self.buffer = bytearray(wire.BUFFER_BYTES)
        self.view = memoryview(self.buffer)
        self.served = 0
        self.busy = False
        self.handed_over = 0

    def hand_over(self) -> None:
        self.handed_over += 1


class FakeKernel:
    """Sends requests to a Session over *operations*. *offered*: the features at INIT, None to send no INIT."""

    def __init__(
        self,
        operations: Any,
        wanted: Wanted | None = None,
        *,
        offered: int | None = EVERYTHING,
        minor: int = wire.MINOR,
    ) -> None:
        self._ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        theirs.setblocking(False)
        self._ours.setblocking(False)
        self.ended: list[bool] = []
        self.session = Session(theirs.detach(), operations, wanted or Wanted(), on_end=lambda: self.ended.append(True))
        self.reader = Place()
        self._uniques = itertools.count(2, 2)
        if offered is not None:
            self.init = self.ask(Op.INIT, 0, init_body(minor=minor, flags=offered))

    def ask(self, opcode: int, node: int = wire.ROOT, body: bytes = b"") -> Answer:
        """The answer to a request, which has to come at once."""
        unique = self.send(opcode, node, body)
        (answer,) = self.answers()
        assert answer.unique == unique
        return answer

    def send(self, opcode: int, node: int = wire.ROOT, body: bytes = b"") -> int:
        """Have a request served; its number."""
        unique = next(self._uniques)
        self.send_raw(request(opcode, unique, node, body))
        return unique

    def send_raw(self, message: bytes) -> None:
        """Have whatever it is served."""
        self._ours.send(message)
        assert self.session.serve(self.reader, 1)
        assert not self.reader.busy

    def answers(self) -> list[Answer]:
        """What came since the last call."""
        found = []
        for message in self.raw():
            length, error, unique = wire.OUT_HEADER.unpack_from(message)
            assert length == len(message)
            assert error <= 0
            found.append(Answer(unique, -error, message[wire.OUT_HEADER.size :]))
        return found

    def raw(self) -> list[bytes]:
        """As answers(), byte for byte."""
        found = []
        while True:
            try:
                found.append(self._ours.recv(2 * MOST_BYTES))
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Harmless when repeated."""
        self.session.close()
        self._ours.close()
