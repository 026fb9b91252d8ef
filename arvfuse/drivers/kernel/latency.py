"""How a reader waits for the next request: the sleep of a virtual CPU costs more than most requests do.

Measured with a bare loop, creates per second: a sleeping reader 6,000-8,000, one that polls for 100 us
11,000-14,000, a sleeping one while /dev/cpu_dma_latency is held at 0 23,000-27,000. So ``auto`` holds that where it may
(root), and lets go after 2 ms without a request; elsewhere it polls for a short time, but not while others want the CPU
that it would burn. ``poll`` always polls first, ``sleep`` does neither. Idle, nothing is held and nothing polls.

Threading: wait() by whoever reads now; several may for a moment. Failure: a device that cannot be opened is not used.
"""

from __future__ import annotations

import os
import resource
import select
import struct
import threading
import time
from enum import Enum
from pathlib import Path
from typing import Final, TypeAlias

DEVICE: Final = Path("/dev/cpu_dma_latency")
QUIET_S: Final = 0.002
POLL_S: Final = 0.0001
_PAUSE_S: Final = 0.01
_FOR_EVER: Final = -1
_NO_LATENCY: Final = struct.pack("=i", 0)

Events: TypeAlias = list[tuple[int, int]]


class Mode(Enum):
    """``--latency``."""

    AUTO = "auto"
    POLL = "poll"
    SLEEP = "sleep"


class Latency:
    """The waiting of one engine's readers. *device*: where CPUs are told not to sleep deeply."""

    def __init__(self, mode: Mode, *, device: Path = DEVICE) -> None:
        self.mode: Final = mode
        self._device: Final = device
        self._holds: Final = mode is Mode.AUTO and os.access(device, os.W_OK)
        self._lock: Final = threading.Lock()  # a leaf: descriptor work only
        self._held = -1  # guarded by: _lock; read without
        self._switches = 0  # confined to whoever reads, as the next
        self._no_polling_until = 0.0

    def __repr__(self) -> str:
        return f"<Latency {self.mode.value} {'held' if self._held >= 0 else 'not held'}>"

    @property
    def held(self) -> bool:
        """True while CPUs are kept from sleeping deeply."""
        return self._held >= 0

    def wait(self, epoll: select.epoll) -> Events:
        """Events of *epoll*, at least one."""
        if self._holds:
            return self._wait_holding(epoll)
        if self._may_poll():
            end = time.monotonic() + POLL_S
            while True:
                events = epoll.poll(0)
                if events:
                    return events
                if time.monotonic() >= end:
                    break
        return epoll.poll(_FOR_EVER)

    def close(self) -> None:
        """Let go. Harmless when repeated."""
        self._let_go()

    def _wait_holding(self, epoll: select.epoll) -> Events:
        if self._held >= 0:
            events = epoll.poll(QUIET_S)
            if events:
                return events
            self._let_go()
        events = epoll.poll(_FOR_EVER)
        self._hold()
        return events

    def _may_poll(self) -> bool:
        """Not where we were made to give up a CPU since the last time: somebody else has use for it."""
        if self.mode is not Mode.AUTO:
            return self.mode is Mode.POLL
        now = time.monotonic()
        if now < self._no_polling_until:
            return False
        switches = resource.getrusage(resource.RUSAGE_THREAD).ru_nivcsw
        before, self._switches = self._switches, switches
        if switches > before:
            self._no_polling_until = now + _PAUSE_S
            return False
        return True

    def _hold(self) -> None:
        with self._lock:
            if self._held < 0:
                try:
                    self._held = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
                    os.write(self._held, _NO_LATENCY)
                except OSError:
                    return  # it was allowed when we began: without it we are slower

    def _let_go(self) -> None:
        with self._lock:
            held, self._held = self._held, -1
        if held >= 0:
            os.close(held)
