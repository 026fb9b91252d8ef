"""Waiting for requests: what is held and polled while they flow, and nothing when they do not."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import pytest

from arvfuse.drivers.kernel.latency import DEVICE, POLL_S, QUIET_S, Latency, Mode

EVENT = [(3, 1)]


class Epoll:
    """Answers polls as told and remembers how long each was to wait (-1: for ever)."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.waits: list[float] = []

    def poll(self, timeout: float = -1) -> Any:
        self.waits.append(timeout)
        return self.answers.pop(0) if self.answers else EVENT if timeout < 0 else []


def wait(latency: Latency, epoll: Epoll) -> Any:
    return latency.wait(epoll)  # type: ignore[arg-type] # has what is used


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "latency"
    path.touch()
    return path


def test_bounds() -> None:
    assert (Path("/dev/cpu_dma_latency"), 0.002, 0.0001) == (DEVICE, QUIET_S, POLL_S)
    assert {mode.value for mode in Mode} == {"auto", "poll", "sleep"}


def test_sleep_only_sleeps(device: Path) -> None:
    latency, epoll = Latency(Mode.SLEEP, device=device), Epoll()
    for _ in range(3):
        assert wait(latency, epoll) == EVENT
    assert epoll.waits == [-1, -1, -1]
    assert not latency.held
    assert device.read_bytes() == b""


def test_auto_holds_the_device_while_requests_flow_and_lets_go_when_they_do_not(device: Path) -> None:
    latency = Latency(Mode.AUTO, device=device)
    epoll = Epoll(EVENT, EVENT, [], EVENT)
    assert repr(latency) == "<Latency auto not held>"
    assert wait(latency, epoll) == EVENT
    assert latency.held
    assert device.read_bytes() == struct.pack("=i", 0)
    assert wait(latency, epoll) == EVENT
    assert wait(latency, epoll) == EVENT  # nothing came for 2 ms: let go, wait for ever, hold again
    assert epoll.waits == [-1, QUIET_S, QUIET_S, -1]
    assert repr(latency) == "<Latency auto held>"
    latency.close()
    latency.close()
    assert not latency.held


def test_nothing_is_held_during_a_long_wait(device: Path) -> None:
    latency = Latency(Mode.AUTO, device=device)
    held: list[bool] = []

    class Watched(Epoll):
        def poll(self, timeout: float = -1) -> Any:
            if timeout < 0:
                held.append(latency.held)
            return super().poll(timeout)

    epoll = Watched(EVENT, [], EVENT)
    wait(latency, epoll)
    wait(latency, epoll)
    assert held == [False, False]
    latency.close()


def test_poll_polls_for_a_short_time_and_sleeps_then(device: Path) -> None:
    latency = Latency(Mode.POLL, device=device)
    epoll = Epoll([], [], EVENT)
    assert wait(latency, epoll) == EVENT
    assert epoll.waits[0] == 0
    epoll = Epoll()
    assert wait(latency, epoll) == EVENT
    assert epoll.waits[-1] == -1
    assert set(epoll.waits[:-1]) == {0}
    assert device.read_bytes() == b""


def test_auto_without_the_device_is_polling_at_most(tmp_path: Path) -> None:
    latency = Latency(Mode.AUTO, device=tmp_path / "none")
    for _ in range(3):
        epoll = Epoll()
        assert wait(latency, epoll) == EVENT
        assert set(epoll.waits) <= {0, -1}
    assert not latency.held


def test_a_device_that_is_taken_away_makes_it_slower_only(device: Path) -> None:
    latency = Latency(Mode.AUTO, device=device)
    device.unlink()
    os.mkdir(device)
    assert wait(latency, Epoll(EVENT)) == EVENT
    assert not latency.held
