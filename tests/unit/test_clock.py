"""The system's clock, as far as it can be asserted without waiting."""

from __future__ import annotations

import time

from arvfuse.clock import SupportsMonotonic, SystemClock, WaitsOnConditions
from arvfuse.ports import Clock
from tests.support.clock import FakeClock


def test_the_system_clock_tells_the_systems_time():
    clock: Clock = SystemClock()
    before = time.time_ns(), time.monotonic()
    told = clock.time_ns(), clock.monotonic()
    after = time.time_ns(), time.monotonic()
    assert before[0] <= told[0] <= after[0]
    assert before[1] <= told[1] <= after[1]


def test_no_time_passes_in_a_sleep_of_nothing():
    assert SystemClock().sleep(0) is None
    assert SystemClock().sleep(-1) is None
    before = time.monotonic()
    SystemClock().sleep(0.002)
    assert time.monotonic() - before >= 0.002


def test_only_the_fake_waits_on_conditions_in_its_own_time():
    assert not isinstance(SystemClock(), WaitsOnConditions)
    assert isinstance(FakeClock(), WaitsOnConditions)


def test_both_serve_deadlines():
    clocks: list[SupportsMonotonic] = [SystemClock(), FakeClock()]
    assert all(isinstance(clock.monotonic(), float) for clock in clocks)
