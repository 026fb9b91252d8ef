"""What every catalog of ours decides alike: names, the next state of a record, which versions stay.

Pure functions on values, so that the catalog in a file and the one in memory cannot drift apart.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from arvfuse.errors import ArgumentError, CommitConflict, NameNotText, NameTaken, NoSuchRecord, NotPermitted
from arvfuse.model.collections import PDH, Change, CollectionRecord, ProjectRecord, Save, Version

NAME_CHARACTERS: Final = 255
DEFAULT_CLASSES: Final = ("default",)

SECOND_NS: Final = 1_000_000_000
HOUR_NS: Final = 3600 * SECOND_NS
DAY_NS: Final = 24 * HOUR_NS
# A state that stood for so long is worth keeping when the next one comes.
IDLE_NS: Final = 10 * SECOND_NS

HAS_CONTENTS: Final = "the project has contents; trash or move them first"

_SUFFIX_CHARACTERS: Final = len(" (123456789012345)")


class Kept(NamedTuple):
    """A kept version, as far as thinning looks at it."""

    version: Version
    made_at_ns: int


def check_name(name: str, *, may_be_empty: bool = False) -> str:
    """*name* if a record may have it. NameNotText for one that is not UTF-8, ArgumentError for the rest."""
    try:
        name.encode()
    except UnicodeEncodeError as exc:
        shown = name.encode("utf-8", "backslashreplace").decode()
        raise NameNotText(shown, "names of collections and projects are UTF-8 text; choose another name") from exc
    if not name and not may_be_empty:
        raise ArgumentError("'': a record of this kind needs a name; give it one")
    if name in (".", ".."):
        raise ArgumentError(f"{name!r}: cannot be the name of a record; choose another name")
    if "/" in name or "\0" in name:
        raise ArgumentError(f"{name!r}: has a slash or a NUL in it; choose a name without")
    if len(name) > NAME_CHARACTERS:
        raise ArgumentError(
            f"{name[:40]}...: a name of {len(name)} characters; names have at most {NAME_CHARACTERS}; shorten it"
        )
    return name


def unique_name(name: str, uuid: str) -> str:
    """*name* with the end of *uuid* behind it, cut so that both fit."""
    return f"{name[: NAME_CHARACTERS - _SUFFIX_CHARACTERS]} ({uuid[-15:]})"


def checked_properties(properties: Mapping[str, Any] | None) -> dict[str, Any]:
    """A copy of its own of *properties*, as JSON gives it back. ArgumentError if it cannot be JSON."""
    try:
        copied = json.loads(json.dumps(dict(properties or {}), allow_nan=False))
    except (TypeError, ValueError) as exc:
        raise ArgumentError(f"properties cannot be written as JSON: {exc}") from exc
    assert isinstance(copied, dict)
    return copied


def checked_classes(classes: Sequence[str] | None) -> tuple[str, ...]:
    """Storage classes of a record; none given means the default one."""
    return tuple(classes or ()) or DEFAULT_CLASSES


def checked_trash_time(trash_at_ns: int | None) -> int | None:
    """A time for the trash that every catalog can store: 0 to the year 2262. ArgumentError beyond."""
    if trash_at_ns is not None and not 0 <= trash_at_ns < 1 << 63:
        raise ArgumentError(f"{trash_at_ns}: not a time for the trash; give nanoseconds since 1970, before 2262")
    return trash_at_ns


def as_of(record: CollectionRecord, now_ns: int) -> CollectionRecord:
    """*record* as it is at *now_ns*: one whose time has come is in the trash although nobody wrote that down."""
    if not record.is_trashed and record.trash_at_ns is not None and record.trash_at_ns <= now_ns:
        return record._replace(is_trashed=True)
    return record


def check_expected(record: CollectionRecord | ProjectRecord, expect: Version | None) -> None:
    """CommitConflict if *record* is at another version than *expect* (None: any will do)."""
    if expect is not None and record.version != expect:
        raise CommitConflict(
            f"{record.uuid}: is at version {record.version}, the change was based on {expect}; merge and try again"
        )


def check_free(holder: CollectionRecord | ProjectRecord | None, record: CollectionRecord | ProjectRecord) -> None:
    """NameTaken if *holder*, who has the name of *record*, is another record."""
    if holder is not None and holder.uuid != record.uuid:
        raise NameTaken(f"{record.name}: {record.owner} has a record of that name ({holder.uuid}); choose another name")


def not_kept(uuid: str, version: Version) -> NoSuchRecord:
    """The error for a version that is not there (any more)."""
    return NoSuchRecord(f"{uuid}: version {version} was not kept; `arvfuse versions` lists those that were")


def trashed_project(record: ProjectRecord, expect: Version | None, now_ns: int) -> ProjectRecord:
    """*record* as it goes to the trash. NotPermitted for a user's home, CommitConflict if it moved."""
    if record.kind == "user":
        raise NotPermitted(record.name, "a user's home cannot be trashed")
    check_expected(record, expect)
    return record._replace(version=Version(record.version + 1), modified_at_ns=now_ns)


def next_record(record: CollectionRecord, now_ns: int, **changes: Any) -> CollectionRecord | None:
    """*record* with the *changes* that are not None, at the next version; None when that changes nothing.

    A time for the trash that is past is taken as now."""
    changes = {field: value for field, value in changes.items() if value is not None}
    if "properties" in changes:
        changes["properties"] = checked_properties(changes["properties"])
    if "storage_classes" in changes:
        changes["storage_classes"] = checked_classes(changes["storage_classes"])
    trash_at_ns = checked_trash_time(changes.get("trash_at_ns"))
    if trash_at_ns is not None and trash_at_ns <= now_ns:
        changes["trash_at_ns"] = now_ns
        changes["is_trashed"] = True
    changed = record._replace(**changes)
    if changed == record:
        return None
    return changed._replace(version=Version(record.version + 1), modified_at_ns=now_ns)


def saved_record(record: CollectionRecord, save: Save, now_ns: int) -> CollectionRecord | None:
    """What *save* makes of *record*; None when it changes nothing. CommitConflict if the version moved."""
    check_expected(record, save.expect)
    return next_record(
        record,
        now_ns,
        pdh=save.pdh,
        properties=save.properties,
        trash_at_ns=save.trash_at_ns,
        storage_classes=save.storage_classes,
    )


def keeps(previous: CollectionRecord, now_ns: int, *, asked: bool = False, label: str | None = None) -> bool:
    """Whether *previous* stays listable when its successor is made at *now_ns*."""
    return asked or label is not None or now_ns - previous.modified_at_ns >= IDLE_NS


def thinned(kept: Iterable[Kept], now_ns: int) -> list[Version]:
    """Versions to drop of *kept* (newest first, labelled ones left out by the caller).

    All of the last hour stay, then the newest of each hour for a day, then the newest of each day."""
    dropped = []
    seen: set[tuple[int, int]] = set()
    for version, made_at_ns in kept:
        age_ns = now_ns - made_at_ns
        if age_ns < HOUR_NS:
            continue
        step_ns = HOUR_NS if age_ns < DAY_NS else DAY_NS
        slot = (step_ns, made_at_ns // step_ns)
        if slot in seen:
            dropped.append(version)
        seen.add(slot)
    return dropped


def change_of(
    record: CollectionRecord | ProjectRecord, writer: str, event: str = "update", old_owner: str | None = None
) -> Change:
    """The feed's entry for *record*, just changed by *writer*; *old_owner* where it moved."""
    pdh: PDH | None = None
    kind = "project"
    if isinstance(record, CollectionRecord):
        pdh, kind = record.pdh, "collection"
        event = "trash" if record.is_trashed else event
    return Change(
        uuid=record.uuid,
        kind=kind,
        event=event,
        version=record.version,
        pdh=pdh,
        owner=record.owner,
        old_owner=old_owner or record.owner,
        writer=writer,
    )
