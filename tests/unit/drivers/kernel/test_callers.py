"""Whether a signal is about to end a thread."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

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


def test_whoever_is_hidden_is_not_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    """/proc may be mounted so that it shows no processes of others."""

    def hidden(*_: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr("builtins.open", hidden)
    assert not is_dying(os.getpid())


def test_a_thread_with_a_kill_pending_is_dying(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    status = tmp_path / "status"
    monkeypatch.setattr("builtins.open", lambda *_: io.open(status, "rb"))  # noqa: UP020 # the other is replaced
    for pending, expected in (("0000000000000100", True), ("0000000000000200", False), ("0000000000000302", True)):
        status.write_text(f"Name:\tls\nThreads:\t1\nSigPnd:\t{pending}\nShdPnd:\t0000000000000100\n")
        assert is_dying(7) == expected
    status.write_text("Name:\tls\n")
    assert not is_dying(7)


def test_whoever_has_ended_is() -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    assert is_dying(ended.pid)
