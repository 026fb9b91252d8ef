"""Who waits for an answer: whether a signal is about to end that thread, or only has to be handled by it.

The kernel tells of any signal (INTERRUPT), once a request, and goes on waiting for the answer unless the caller is to
end. On other file systems of a disk a signal with a handler, a stop or a continuation never shows in a call; programs
do not expect EINTR there (what runs on Go gets a signal every 10 ms), and a name that was made would be reported as
not made. So only the end of its caller ends a wait, as on NFS.

Source of the format: proc(5), status. Stateless.
"""

from __future__ import annotations

import os
import signal
from typing import Final

_PENDING: Final = b"\nSigPnd:\t"  # of the thread: what ends a process is sent to each of its threads as SIGKILL
_KILL: Final = 1 << (signal.SIGKILL - 1)


def is_dying(thread: int) -> bool:
    """True if a signal ends *thread* (a number in our process namespace; 0: not known), or it has ended."""
    if not thread:
        return False
    try:
        with open(f"/proc/{thread}/status", "rb") as file:
            status = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return not _exists(thread)  # it may only be hidden from us
    except OSError:
        return False
    _, _, rest = status.partition(_PENDING)
    return bool(int(rest[:16] or b"0", 16) & _KILL)


def _exists(thread: int) -> bool:
    try:
        os.kill(thread, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
