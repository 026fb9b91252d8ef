"""Waiting until somebody writes to a file, by inotify(7): nothing runs while nobody does.

A watch belongs to one waiting thread; any thread may wake or close it. Failure: make_watch() gives None where the
system has no more watches to give, or none at all; whoever waits then looks now and then.
"""

from __future__ import annotations

import errno
import os
import select
import weakref
from pathlib import Path
from typing import Final

_IN_MODIFY: Final = 0x2
_IN_CREATE: Final = 0x100
_IN_MOVED_TO: Final = 0x80
_READ_BYTES: Final = 1 << 16


class FileWatch:
    """Tells that a file in *directory* was written, made, or moved there. OSError."""

    def __init__(self, directory: Path) -> None:
        import ctypes  # not needed where nobody waits

        libc = ctypes.CDLL(None, use_errno=True)
        self._notify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._notify < 0:
            raise OSError(ctypes.get_errno(), "inotify")
        if libc.inotify_add_watch(self._notify, os.fsencode(directory), _IN_MODIFY | _IN_CREATE | _IN_MOVED_TO) < 0:
            code = ctypes.get_errno()
            os.close(self._notify)
            raise OSError(code, os.strerror(code), str(directory))
        self._wake: Final = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poll: Final = select.poll()
        self._poll.register(self._notify, select.POLLIN)
        self._poll.register(self._wake, select.POLLIN)
        # also when nobody has closed it: who closes a feed cannot know that its waiter is done
        self._close: Final = weakref.finalize(self, _close, self._notify, self._wake)

    def wait(self, timeout_s: float) -> bool:
        """True when something was written since the last call, False at the timeout or when woken."""
        ready = {descriptor for descriptor, _ in self._poll.poll(max(0, int(timeout_s * 1000)))}
        if self._notify not in ready:
            return False
        while True:
            try:
                if not os.read(self._notify, _READ_BYTES):
                    return True
            except BlockingIOError:
                return True
            except OSError as error:
                if error.errno != errno.EINTR:
                    raise

    def wake(self) -> None:
        """Make wait() return now, and whenever it is called."""
        os.eventfd_write(self._wake, 1)

    def close(self) -> None:
        """Nobody waits any more. Harmless when repeated."""
        self._close()


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def make_watch(directory: Path) -> FileWatch | None:
    """A watch; None where there is none to be had."""
    try:
        return FileWatch(directory)
    except (OSError, AttributeError):
        return None
