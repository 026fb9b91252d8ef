"""What users may call a collection: a uuid, a portable data hash, or a path of names below home, with or without
``home/`` before it, whose collection may be a kept version (``name@version``).

Threading: plain functions over a catalog. Failure: NoSuchRecord that says what was looked for, ArgumentError if the
text can be none of these.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from arvfuse.errors import ArgumentError, NoSuchRecord
from arvfuse.model.collections import PDH, CollectionRecord, ProjectRecord, Version
from arvfuse.ports import Catalog

_HOME: Final = "home"
_UUID: Final = re.compile(r"[0-9a-z]{5}-4zz18-[0-9a-z]{15}")
_PDH: Final = re.compile(r"[0-9a-f]{32}\+\d+")
_VERSION: Final = re.compile(r"(.+)@(\d+)")


class Found(NamedTuple):
    """A collection, or one of its versions or contents, and what of the text lies below it."""

    record: CollectionRecord
    is_current: bool  # False: a version or a content: it never changes
    path: str = ""

    @property
    def identity(self) -> str:
        """By what a mount opens it: the uuid if it may change, else the content's hash."""
        return self.record.uuid if self.is_current else self.record.pdh


def resolve(catalog: Catalog, text: str) -> Found:
    """The collection of *text*, which may go on with ``/path`` below it."""
    names = text.strip("/").split("/")
    if not names[0]:
        raise ArgumentError(f"{text!r}: not a collection; give a uuid, a hash, name@version or home/NAME")
    if _UUID.fullmatch(names[0]):
        return Found(catalog.get(names[0]), True, "/".join(names[1:]))
    if _PDH.fullmatch(names[0]):
        found = catalog.find_by_pdh(PDH(names[0]))
        if found is None:
            raise NoSuchRecord(f"{names[0]}: no collection has that content; see `arvfuse collections`")
        return Found(found, False, "/".join(names[1:]))
    owner = catalog.home().uuid
    start = 1 if names[0] == _HOME and len(names) > 1 else 0
    for index in range(start, len(names)):
        record, is_current = _named(catalog, owner, names[index])
        if isinstance(record, CollectionRecord):
            return Found(record, is_current, "/".join(names[index + 1 :]))
        if record is None:
            raise NoSuchRecord(f"{text}: no such collection; see `arvfuse collections`")
        owner = record.uuid
    raise NoSuchRecord(f"{text}: a project, not a collection; see `arvfuse collections`")


def _named(catalog: Catalog, owner: str, name: str) -> tuple[CollectionRecord | ProjectRecord | None, bool]:
    """The record, and whether it is a current one."""
    record = catalog.find(owner, name)
    version = _VERSION.fullmatch(name)
    if record is not None or version is None:
        return record, True
    record = catalog.find(owner, version.group(1))
    if not isinstance(record, CollectionRecord):
        return None, True
    return catalog.get(record.uuid, version=Version(int(version.group(2)))), False
