"""Records as the Arvados API writes them: JSON objects and their times.

Pure. Used by generated files (``.arvados#collection``) and by whatever speaks the REST protocol. Times of ours are
integers of nanoseconds since 1970 UTC; the API's are RFC 3339 texts in UTC with exactly nine fractional digits.
Bad input raises ArgumentError; nothing is guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import ciso8601

from arvfuse.errors import ArgumentError
from arvfuse.model.collections import CollectionRecord

COLLECTION_KIND: Final = "arvados#collection"

_SECOND_NS: Final = 1_000_000_000
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
# datetime ends at microseconds, so the fraction is cut out and kept as an integer of its own.
_FRACTION: Final = re.compile(r"[.,](\d+)")


def format_time(time_ns: int) -> str:
    """*time_ns* as ``2026-03-02T07:15:28.123456000Z``. ArgumentError outside the years 1 to 9999."""
    seconds, fraction_ns = divmod(time_ns, _SECOND_NS)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError as exc:
        raise ArgumentError(f"{time_ns}: not a time between the years 1 and 9999") from exc
    return f"{moment.replace(tzinfo=None).isoformat()}.{fraction_ns:09d}Z"


def parse_time(text: str) -> int:
    """Nanoseconds of an RFC 3339 (ISO 8601) text; without an offset it is UTC. ArgumentError if it is none."""
    found = _FRACTION.search(text)
    fraction = found.group(1) if found else ""
    whole = text[: found.start()] + text[found.end() :] if found else text
    try:
        moment = ciso8601.parse_datetime(whole)
    except ValueError as exc:
        raise ArgumentError(f"{text!r}: not a time; write it like 2026-03-02T07:15:28.123456000Z") from exc
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    since = moment - _EPOCH
    return (since.days * 86_400 + since.seconds) * _SECOND_NS + int(fraction[:9].ljust(9, "0"))


def records_json(record: CollectionRecord, manifest_text: bytes | memoryview | str | None = None) -> dict[str, Any]:
    """The API's object for *record*; with *manifest_text* None the key is left out, as in the API's lists.

    What we do not keep has the value that a server gives to a record that never set it."""
    trash_at = None if record.trash_at_ns is None else format_time(record.trash_at_ns)
    result: dict[str, Any] = {
        "kind": COLLECTION_KIND,
        "etag": f"{record.uuid}-{record.version}",
        "uuid": record.uuid,
        "current_version_uuid": record.uuid,
        "owner_uuid": record.owner,
        "name": record.name,
        "description": None,
        "portable_data_hash": str(record.pdh),
        "version": int(record.version),
        "preserve_version": False,
        "properties": dict(record.properties),
        "storage_classes_desired": list(record.storage_classes),
        "storage_classes_confirmed": [],
        "storage_classes_confirmed_at": None,
        "replication_desired": record.replication,
        "replication_confirmed": None,
        "replication_confirmed_at": None,
        "created_at": format_time(record.created_at_ns),
        "modified_at": format_time(record.modified_at_ns),
        "trash_at": trash_at,
        "delete_at": trash_at,
        "is_trashed": record.is_trashed,
    }
    if manifest_text is not None:
        if not isinstance(manifest_text, str):
            # Readers accept raw bytes in names that a strict writer would have escaped; JSON must carry them too.
            manifest_text = str(manifest_text, "utf-8", "surrogateescape")
        result["manifest_text"] = manifest_text
    return result
