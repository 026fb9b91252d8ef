"""Whether a signal is about to end a thread."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading

from arvfuse.drivers.kernel.callers import is_dying


def test_whoever_runs_or_is_not_known_is_not_dying() -> None:
    assert not is_dying(os.getpid())
    assert not is_dying(threading.get_native_id())
    assert not is_dying(0)


def test_a_signal_that_waits_to_be_handled_ends_nobody() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)
        assert not is_dying(threading.get_native_id())
        assert signal.sigwait({signal.SIGUSR1}) == signal.SIGUSR1
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})


def test_whoever_has_ended_is() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_dying(ended.pid)
