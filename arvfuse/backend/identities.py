"""What users may call a collection: a uuid, a portable data hash, or a path of names below home, with or without
``home/`` before it, whose collection may be a kept version (``name@version``). What follows is a path inside it.

Threading: plain functions over a catalog. Failure: NoSuchRecord that says what was looked for, ArgumentError if the
text can be none of these.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from arvfuse.errors import ArgumentError, NoSuchRecord
from arvfuse.model.collections import PDH, CollectionRecord, ProjectRecord, Version
from arvfuse.ports import Catalog
from arvfuse.sdk.paths import PDH_RULE, UUID_RULE

_HOME: Final = "home"
_ADVICE: Final = "`arvfuse collections` lists those there are"
_VERSION: Final = re.compile(r"(.+)@([0-9]{1,18})", re.DOTALL)  # more digits than a catalog can count name no version


class Resolved(NamedTuple):
    """What an identity means: a record, or a content without one; *path* is what was said of the inside.

    *current*: the record is the newest version, so it can be written to."""

    record: CollectionRecord | None
    pdh: PDH
    path: str
    current: bool

    @property
    def identity(self) -> str:
        """What it is opened by: the uuid of what can be written to, else the portable data hash."""
        return self.record.uuid if self.record is not None and self.current else str(self.pdh)


def resolve(catalog: Catalog, identity: str) -> Resolved:
    """What *identity* means: ``ID`` or ``ID/path``. A hash is taken as it is: opening it tells whether it is known."""
    names = [name for name in identity.split("/") if name]
    if not names:
        raise ArgumentError(f"{identity!r}: not a collection; give a uuid, a hash, name@version or home/NAME")
    head, inside = names[0], "/".join(names[1:])
    if UUID_RULE.fullmatch(head):
        record = catalog.get(head)
        return Resolved(record, record.pdh, inside, True)
    if PDH_RULE.fullmatch(head):
        return Resolved(None, PDH("+".join(head.split("+")[:2])), inside, False)
    return _below_home(catalog, identity, names[1:] if head == _HOME and len(names) > 1 else names)


def _below_home(catalog: Catalog, identity: str, names: list[str]) -> Resolved:
    owner = catalog.home().uuid
    for index, name in enumerate(names):
        record, current = _find(catalog, owner, name), True
        if record is None and "@" in name:
            record, current = _version(catalog, owner, name), False
        if isinstance(record, ProjectRecord):
            owner = record.uuid
        elif record is not None:
            return Resolved(record, record.pdh, "/".join(names[index + 1 :]), current)
        else:
            raise NoSuchRecord(f"{identity}: no such collection; {_ADVICE}")
    raise NoSuchRecord(f"{identity}: a project, not a collection; {_ADVICE}")


def _version(catalog: Catalog, owner: str, name: str) -> CollectionRecord | None:
    """The record of ``name@version``."""
    match = _VERSION.fullmatch(name)
    record = _find(catalog, owner, match.group(1)) if match else None
    if match is None or not isinstance(record, CollectionRecord):
        return None
    return catalog.get(record.uuid, version=Version(int(match.group(2))))


def _find(catalog: Catalog, owner: str, name: str) -> CollectionRecord | ProjectRecord | None:
    """The record of that name; none has one that is not UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return None
    return catalog.find(owner, name)
