"""Signals of a supervisor as bytes on a descriptor, so that its poll() loop sees them. One thread; no failure."""

from __future__ import annotations

import signal
import socket
from typing import Final

SIGNALS: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD, signal.SIGUSR2)


class SignalPipe:
    """``fileno()`` is readable when a signal came; ``take()`` says which, in order."""

    def __init__(self) -> None:
        self._receiver, self._sender = socket.socketpair()
        self._receiver.setblocking(False)
        self._sender.setblocking(False)

    def start(self) -> None:
        """Let signals come here from now on."""
        for number in SIGNALS:
            signal.signal(number, _do_nothing)
        signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)

    def fileno(self) -> int:
        """The descriptor, for poll()."""
        return self._receiver.fileno()

    def take(self) -> bytes:
        """The numbers of the signals that came since the last time."""
        try:
            return self._receiver.recv(4096)
        except BlockingIOError:
            return b""

    def close(self) -> None:
        """No signal comes here any more."""
        signal.set_wakeup_fd(-1)
        self._receiver.close()
        self._sender.close()


def _do_nothing(_number: int, _frame: object) -> None:
    """The wake-up descriptor tells the loop."""
