"""Attributes of records as the library's users give and get them. Pure; bad types raise ArgumentError."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from arvfuse.errors import ArgumentError

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


def check_attributes(properties: object, storage_classes: object, trash_at: object) -> None:
    """Refuse attributes of the wrong type; None is none given."""
    if properties is not None and not isinstance(properties, dict):
        raise ArgumentError("properties is to be a dictionary")
    if storage_classes is not None and not isinstance(storage_classes, list):
        raise ArgumentError("storage_classes is to be a list")
    if trash_at is not None and not isinstance(trash_at, datetime):
        raise ArgumentError("trash_at is to be a datetime")


def to_ns(moment: datetime | None) -> int | None:
    """Nanoseconds since 1970; a time without a zone is UTC."""
    if moment is None:
        return None
    since = (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1000


def to_datetime(time_ns: int | None) -> datetime | None:
    """The time in UTC, to the microsecond."""
    return None if time_ns is None else _EPOCH + timedelta(microseconds=time_ns // 1000)
