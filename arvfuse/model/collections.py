"""Values of records: what a catalog keeps about collections and projects. Times are integers of nanoseconds UTC."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, NewType

Version = NewType("Version", int)
PDH = NewType("PDH", str)
MountId = NewType("MountId", str)

EMPTY_PDH = PDH("d41d8cd98f00b204e9800998ecf8427e+0")


class CollectionRecord(NamedTuple):
    """One version of a collection; the manifest text is fetched by its PDH."""

    uuid: str
    owner: str
    name: str
    version: Version
    pdh: PDH
    properties: Mapping[str, Any] = MappingProxyType({})
    created_at_ns: int = 0
    modified_at_ns: int = 0
    trash_at_ns: int | None = None
    is_trashed: bool = False
    storage_classes: tuple[str, ...] = ("default",)
    replication: int | None = None


class ProjectRecord(NamedTuple):
    """A record that owns collections and projects. A user's home is one with ``kind="user"``."""

    uuid: str
    owner: str
    name: str
    kind: str = "project"
    modified_at_ns: int = 0
    version: Version = Version(1)


class Applied(NamedTuple):
    """What a save covers: records of *mount*'s log up to and including *seq*; *ours_pdh* is our tree at *seq*,
    which differs from the saved one when the save merged."""

    mount: MountId
    seq: int
    ours_pdh: PDH


class Save(NamedTuple):
    """One conditional save: *manifest* becomes the next version of *uuid* if its version still is *expect*."""

    uuid: str
    expect: Version
    pdh: PDH
    manifest: bytes
    applied: Applied | None = None
    properties: Mapping[str, Any] | None = None
    trash_at_ns: int | None = None
    storage_classes: tuple[str, ...] | None = None
    keep_previous: bool = False


class Change(NamedTuple):
    """One entry of a change feed: record *uuid* is now at *version*/*pdh*, below *owner*, before below *old_owner*."""

    uuid: str
    kind: str  # "collection" | "project"
    event: str  # "create" | "update" | "trash"
    version: Version
    pdh: PDH | None
    owner: str
    old_owner: str
    writer: str
