"""Signals as bytes on a descriptor."""

from __future__ import annotations

import os
import select
import signal

from arvfuse.supervisor.signals import SIGNALS, SignalPipe


def test_signals_come_in_order_and_wake_a_poll():
    before = {number: signal.getsignal(number) for number in SIGNALS}
    pipe = SignalPipe()
    try:
        pipe.start()
        assert pipe.take() == b""
        os.kill(os.getpid(), signal.SIGUSR2)
        os.kill(os.getpid(), signal.SIGHUP)
        assert select.select([pipe], [], [], 10)[0] == [pipe]
        assert pipe.take() == bytes([signal.SIGUSR2, signal.SIGHUP])
        assert pipe.take() == b""
    finally:
        pipe.close()
        for number, handler in before.items():
            signal.signal(number, handler)
    assert signal.SIGTERM in SIGNALS
