"""What supervisor, engine and backend say to each other: JSON objects, one per message of a SOCK_SEQPACKET socketpair.

Owns the encoding of errors, records and changes, and ``Channel``, one end of such a pair. A message of up to 60 KiB
travels in the socket; a longer one in a file of the mount's ``messages/`` directory that the receiver unlinks.
Descriptors (a socket to a restarted backend) travel beside a message. Threading: any thread may send, a message is
atomic; one thread receives. A peer that is gone is a ``ConnectionError`` to a sender and ``None`` to the receiver.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from arvfuse import errors
from arvfuse.model.collections import PDH, Change, CollectionRecord, ProjectRecord, Version

Message = dict[str, Any]

# A unix socket takes a message up to its send buffer (208 KiB by default); the bound keeps several in flight.
MAX_MESSAGE_BYTES: Final = 60 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_MAX_DESCRIPTORS: Final = 4

_ERRORS: Final = {
    name: cls for name, cls in vars(errors).items() if isinstance(cls, type) and issubclass(cls, errors.ArvfuseError)
}
_Record = CollectionRecord | ProjectRecord


class Received(NamedTuple):
    """A message and the descriptors that came with it; the receiver owns them."""

    message: Message
    descriptors: tuple[int, ...]


def encode(message: Mapping[str, Any]) -> bytes:
    """The bytes of a message. Text that is not UTF-8 (surrogate escapes) survives."""
    return json.dumps(message, separators=(",", ":")).encode("ascii")


def decode(data: bytes) -> Message:
    """The message of *data*; ValueError if it is none."""
    value = json.loads(data)
    if not isinstance(value, dict):
        raise ValueError("a message is a JSON object")
    return value


def encode_error(error: BaseException) -> Message:
    """An error as a value. What is not one of ours arrives as a plain ArvfuseError that names its class."""
    if not isinstance(error, errors.ArvfuseError) or type(error).__name__ not in _ERRORS:
        return {"class": "ArvfuseError", "message": f"{type(error).__name__}: {error}"}
    encoded: Message = {"class": type(error).__name__, "message": str(error)}
    if isinstance(error, OSError):
        encoded["message"] = error.strerror or ""
        encoded["path"] = error.filename or ""
    return encoded


def decode_error(value: Mapping[str, Any]) -> errors.ArvfuseError:
    """The error of a value of encode_error(): the same class, the same text."""
    kind = _ERRORS.get(str(value.get("class")), errors.ArvfuseError)
    message = str(value.get("message", ""))
    if issubclass(kind, OSError):
        return kind(str(value.get("path", "")), message)
    return kind(message)


def encode_record(record: _Record) -> Message:
    """A record as a dict of its fields with ``"type"``: ``"collection"`` or ``"project"``."""
    encoded: Message = {"type": "collection" if isinstance(record, CollectionRecord) else "project"}
    for field, value in record._asdict().items():
        if isinstance(value, Mapping):
            value = dict(value)
        elif isinstance(value, tuple):
            value = list(value)
        encoded[field] = value
    return encoded


def decode_record(value: Mapping[str, Any]) -> _Record:
    """The record of a dict of encode_record(); keys that are no fields (``manifest``) are passed over."""
    if value["type"] == "project":
        return ProjectRecord(**{key: item for key, item in value.items() if key in ProjectRecord._fields})
    arguments = {key: item for key, item in value.items() if key in CollectionRecord._fields}
    arguments["storage_classes"] = tuple(arguments.get("storage_classes", ("default",)))
    return CollectionRecord(**arguments)


def encode_change(change: Change) -> Message:
    """A change of a feed as a dict of its fields."""
    return change._asdict()


def decode_change(value: Mapping[str, Any]) -> Change:
    """The change of a dict of encode_change(); other keys (``echo``) are passed over."""
    pdh = value.get("pdh")
    return Change(
        uuid=str(value["uuid"]),
        kind=str(value["kind"]),
        event=str(value["event"]),
        version=Version(int(value["version"])),
        pdh=PDH(str(pdh)) if pdh is not None else None,
        owner=str(value["owner"]),
        old_owner=str(value["old_owner"]),
        writer=str(value["writer"]),
    )


class Channel:
    """One end of a message socket.

    *directory* is where messages too long for the socket are put; both ends name the same one."""

    def __init__(self, end: socket.socket, directory: Path) -> None:
        self._socket: Final = end
        self._directory: Final = directory
        self._numbers: Final = itertools.count(1)

    @classmethod
    def pair(cls, directory: Path) -> tuple[Channel, Channel]:
        """Two connected ends, close-on-exec."""
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(one, directory), cls(other, directory)

    @classmethod
    def of_descriptor(cls, descriptor: int, directory: Path) -> Channel:
        """The end that a received descriptor is; the channel owns it from now on."""
        return cls(socket.socket(fileno=descriptor), directory)

    def send(self, message: Mapping[str, Any], *, descriptors: Sequence[int] = ()) -> None:
        """Send; waits while the socket is full. ConnectionError if the peer is gone."""
        self._send(self._framed(message), descriptors, 0)

    def try_send(self, message: Mapping[str, Any]) -> bool:
        """Send if that needs no waiting. ConnectionError if the peer is gone."""
        data = self._framed(message)
        try:
            self._send(data, (), socket.MSG_DONTWAIT)
        except BlockingIOError:
            self._withdraw(data)
            return False
        return True

    def receive(self) -> Received | None:
        """The next message, or None when the peer is gone. Waits. ValueError if it is no message of ours."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._socket, _RECEIVE_BYTES, _MAX_DESCRIPTORS)
        except ConnectionError:
            return None
        if not data:
            return None
        if flags & socket.MSG_TRUNC:
            raise ValueError("a message of more than 64 KiB")
        message = decode(data)
        if "in_file" in message:
            path = self._directory / str(message["in_file"])
            message = decode(path.read_bytes())
            path.unlink(missing_ok=True)
        return Received(message, tuple(descriptors))

    def fileno(self) -> int:
        """The descriptor, for poll()."""
        return self._socket.fileno()

    def shut(self) -> None:
        """End the conversation: a receive() that waits returns None, here and there."""
        with contextlib.suppress(OSError):  # it was over
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close this end; harmless when repeated."""
        self._socket.close()

    def _framed(self, message: Mapping[str, Any]) -> bytes:
        data = encode(message)
        if len(data) <= MAX_MESSAGE_BYTES:
            return data
        self._directory.mkdir(exist_ok=True)
        name = f"{os.getpid()}-{id(self):x}-{next(self._numbers)}"
        (self._directory / name).write_bytes(data)
        return encode({"in_file": name})

    def _send(self, data: bytes, descriptors: Sequence[int], flags: int) -> None:
        if descriptors:
            socket.send_fds(self._socket, [data], list(descriptors), flags)
        else:
            self._socket.send(data, flags)

    def _withdraw(self, data: bytes) -> None:
        message = decode(data)
        if "in_file" in message:
            (self._directory / str(message["in_file"])).unlink(missing_ok=True)
