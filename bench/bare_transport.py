"""The way between the kernel and the bare kernel loop: mount, wait for requests, send replies.

A handler gets the node number and the body of a request and gives its reply: bytes, a list of buffers (sent without
a join), an error as a positive number, 0 for an empty reply, or None where the protocol has no reply.

Threading: ``serve`` runs one reader in the calling thread and starts further ones when told to; with them handlers
must be safe to call from several threads. ``Latency`` may be told of a request by any of them. Failure: an OSError of
the device that the protocol does not know ends the reader with it; the end of the mount ends ``serve`` quietly.
"""

from __future__ import annotations

import ctypes
import errno
import os
import select
import stat
import struct
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

HEADER: Final = struct.Struct("<IIQQIIIHH")  # fuse_in_header
_ROUTE: Final = struct.Struct("<4xIQQ16x")  # the three fields of it that a handler needs
REPLY: Final = struct.Struct("<IiQ")  # fuse_out_header
MOST_BYTES: Final = 1 << 20
"""Bytes of one request: 256 pages, the most that the kernel takes without a sysctl."""
READ_AHEAD_BYTES: Final = 2 * MOST_BYTES
"""As the kernel driver: one request is answered while the next is on its way."""

LATENCIES: Final = ("auto", "poll", "sleep")
POLL_NS: Final = 100_000
QUIET_S: Final = 0.002
_LATENCY_DEVICE: Final = "/dev/cpu_dma_latency"
_AT_ONCE: Final = struct.pack("<i", 0)
_WHENEVER: Final = struct.pack("<i", 2_000_000_000)  # PM_QOS_CPU_LATENCY_DEFAULT_VALUE
_MS_NOSUID_NODEV: Final = 6

Buffer = bytes | bytearray | memoryview
Reply = Buffer | Sequence[Buffer] | int | None
Handler = Callable[[int, memoryview], Reply]


def mount(mountpoint: Path, *, name: str) -> int:
    """Mount a new session of /dev/fuse with mount(2) and give its descriptor; root's, or a user namespace's, right."""
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    words = f"fd={fd},rootmode={stat.S_IFDIR:o},user_id={os.getuid()},group_id={os.getgid()}"
    # Without default_permissions: with it, every create and unlink is followed by a GETATTR of the directory.
    options = f"{words},allow_other,max_read={MOST_BYTES}"
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(name.encode(), os.fsencode(mountpoint), b"fuse.bare", _MS_NOSUID_NODEV, options.encode())
    if done:
        code = ctypes.get_errno()
        os.close(fd)
        raise OSError(code, f"mount(2): {os.strerror(code)}", str(mountpoint))
    return fd


def read_ahead(mountpoint: Path, size: int) -> None:
    """Let the kernel read ahead so far; where that is forbidden it stays at its 128 KiB.

    Ask for it when the mount answers: stat(2) of the mountpoint is a request.
    """
    device = os.stat(mountpoint).st_dev
    knob = Path(f"/sys/class/bdi/{os.major(device)}:{os.minor(device)}/read_ahead_kb")
    try:
        knob.write_text(str(size >> 10))
    except OSError:
        return


class Latency:
    """Keeps CPUs awake while requests flow, and lets them sleep after QUIET_S without one.

    Needs write access to /dev/cpu_dma_latency; without it, ``permitted`` is false and nothing happens. Costs a
    thread that wakes every QUIET_S while held, and nothing when quiet.

    Invariants: the device says 0 exactly while ``held``.
    """

    def __init__(self) -> None:
        try:
            self._device = os.open(_LATENCY_DEVICE, os.O_WRONLY | os.O_CLOEXEC)
            os.write(self._device, _WHENEVER)  # opening asks for the least of all
            self.permitted = True
        except OSError:
            self._device = -1
            self.permitted = False
        self._changed: Final = threading.Condition()
        self.held = False  # guarded by: _changed; requests() looks at it without, which costs one late wake-up at most
        self._ended = False  # guarded by: _changed
        self._count = 0  # lost increments do not matter: that it moves is all that is asked
        self._thread: Final = threading.Thread(target=self._watch, name="latency")
        if self.permitted:
            self._thread.start()

    def request(self) -> None:
        """A request came."""
        self._count += 1
        if not self.held and self.permitted:
            with self._changed:
                if not self.held:
                    os.write(self._device, _AT_ONCE)
                    self.held = True
                    self._changed.notify()

    def close(self) -> None:
        """Let go and end."""
        with self._changed:
            self._ended = True
            self._changed.notify()
        if self.permitted:
            self._thread.join()
            os.close(self._device)
            self.permitted = False

    def _watch(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self.held or self._ended)
                if self._ended:
                    return
            seen = self._count
            time.sleep(QUIET_S)
            if self._count == seen:
                with self._changed:
                    os.write(self._device, _WHENEVER)
                    self.held = False


def notify(fd: int, kind: int, body: bytes) -> None:
    """Tell the kernel something; that it does not hold what it is to drop is no error."""
    try:
        os.write(fd, REPLY.pack(REPLY.size + len(body), kind, 0) + body)
    except OSError as problem:
        if problem.errno != errno.ENOENT:
            raise


def serve(fd: int, handlers: Mapping[int, Handler], *, latency: str, readers: int = 0) -> None:
    """Answer requests until the mount has gone. *readers*: 0 takes what fits *latency* on this machine."""
    keeper = Latency() if latency == "auto" else None
    if not readers:
        readers = 4 if keeper is not None and not keeper.permitted else 1
    poll = latency == "poll"
    os.set_blocking(fd, not poll)
    others = [
        threading.Thread(target=_read_loop, args=(fd, handlers, keeper, poll), name=f"reader-{number}")
        for number in range(1, readers)
    ]
    for thread in others:
        thread.start()
    try:
        _read_loop(fd, handlers, keeper, poll)
    finally:
        for thread in others:
            thread.join()
        if keeper is not None:
            keeper.close()


def _read_loop(fd: int, handlers: Mapping[int, Handler], keeper: Latency | None, poll: bool) -> None:
    buffer = bytearray(MOST_BYTES + 4096)
    view, into = memoryview(buffer), [buffer]
    read = _polled if poll else os.readv
    while True:
        try:
            length = read(fd, into)
        except OSError as problem:
            if problem.errno in (errno.ENOENT, errno.EINTR, errno.EAGAIN):  # ENOENT: interrupted before we had it
                continue
            if problem.errno == errno.ENODEV:
                return
            raise
        if keeper is not None:
            keeper.request()
        opcode, unique, node = _ROUTE.unpack_from(buffer)
        handler = handlers.get(opcode)
        try:
            reply = handler(node, view[HEADER.size : length]) if handler is not None else errno.ENOSYS
        except KeyError:  # a node that is not there any more
            reply = errno.ESTALE
        if reply is None:
            continue
        try:
            _send(fd, unique, reply)
        except OSError as problem:
            if problem.errno != errno.ENOENT:  # whoever asked has gone
                raise


def _polled(fd: int, into: list[bytearray]) -> int:
    """A read that keeps asking for POLL_NS before it sleeps."""
    until = time.perf_counter_ns() + POLL_NS
    while True:
        try:
            return os.readv(fd, into)
        except BlockingIOError:
            if time.perf_counter_ns() > until:
                waiting = select.poll()
                waiting.register(fd, select.POLLIN)
                waiting.poll()
                until = time.perf_counter_ns() + POLL_NS


def _send(fd: int, unique: int, reply: Buffer | Sequence[Buffer] | int) -> None:
    if isinstance(reply, bytes):
        os.write(fd, REPLY.pack(REPLY.size + len(reply), 0, unique) + reply)
    elif isinstance(reply, int):
        os.write(fd, REPLY.pack(REPLY.size, -reply, unique))
    else:
        parts = [reply] if isinstance(reply, (bytearray, memoryview)) else reply
        os.writev(fd, [REPLY.pack(REPLY.size + sum(map(len, parts)), 0, unique), *parts])
