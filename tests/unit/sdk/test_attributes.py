"""Attributes that users give."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.sdk.attributes import check_attributes, to_datetime, to_ns


def test_times_go_both_ways() -> None:
    moment = datetime(2026, 3, 2, 7, 15, 28, 123456, tzinfo=UTC)
    assert to_ns(moment) == 1772435728123456000
    assert to_datetime(1772435728123456789) == moment
    assert to_ns(moment.replace(tzinfo=None)) == to_ns(moment)
    assert to_ns(moment.astimezone(timezone(timedelta(hours=5)))) == to_ns(moment)
    assert to_ns(None) is None
    assert to_datetime(None) is None


@pytest.mark.parametrize("given", [([1], None, None), (None, "default", None), (None, None, "2026-01-01")])
def test_wrong_types_are_refused(given: tuple[object, object, object]) -> None:
    with pytest.raises(ArgumentError):
        check_attributes(*given)
    assert check_attributes({}, [], datetime(2026, 1, 1)) is None
