"""What every test run shares: how long properties search, what a mounted test needs, what is swept before it.

A property test searches the same examples in every run; ``HYPOTHESIS_PROFILE=long`` makes it 5,000 new ones. A test
marked ``mounted`` that cannot mount fails and says why: a machine without /dev/fuse has not passed these tests.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

from tests.support import mounts

SLOW_MACHINES = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile(
    "default", derandomize=True, deadline=None, database=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)
settings.register_profile(
    "long", max_examples=5000, deadline=None, database=None, print_blob=True, suppress_health_check=SLOW_MACHINES
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def pytest_sessionstart(session: pytest.Session) -> None:
    """Sweep the mounts that killed runs left behind."""
    for mountpoint in mounts.sweep():
        session.config.get_terminal_writer().line(f"swept the mount of a dead test run: {mountpoint}")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """A mounted test fails with the reason where nothing can be mounted; it is never skipped."""
    if item.get_closest_marker("mounted") is not None and (problem := mounts.fuse_problem()) is not None:
        pytest.fail(f"needs a mount: {problem}", pytrace=False)
