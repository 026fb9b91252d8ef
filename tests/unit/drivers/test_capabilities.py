"""The table of differences. What it says of programs is tried in tests/mounted/test_drivers.py."""

from __future__ import annotations

from arvfuse.drivers.capabilities import CAPABILITIES, Capability
from tests.support.sources import TOP


def test_every_difference_says_what_is_seen_without_it() -> None:
    assert len({each.what for each in CAPABILITIES}) == len(CAPABILITIES) > 5
    page = (TOP / "doc/drivers.md").read_text()
    for each in CAPABILITIES:
        assert isinstance(each, Capability)
        assert each.what in page
        assert each.llfuse or each.without in page
