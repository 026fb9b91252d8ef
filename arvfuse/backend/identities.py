"""What users may call a collection: a uuid, a portable data hash, ``name@version``, or a path below ``home/``.

Threading: plain functions over a catalog. Failure: NoSuchRecord that says what was looked for, ArgumentError if the
text can be none of these.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from arvfuse.errors import ArgumentError, NoSuchRecord
from arvfuse.model.collections import PDH, CollectionRecord, ProjectRecord, Version
from arvfuse.ports import Catalog

HOME: Final = "home"
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
    head, _, rest = text.partition("/")
    if not head:
        raise ArgumentError(f"{text!r}: not a collection; give a uuid, a hash, name@version or home/NAME")
    if _UUID.fullmatch(head):
        return Found(catalog.get(head), True, rest)
    if _PDH.fullmatch(head):
        found = catalog.find_by_pdh(PDH(head))
        if found is None:
            raise NoSuchRecord(f"{head}: no collection has that content; see `arvfuse collections`")
        return Found(found, False, rest)
    if head == HOME:
        return _below(catalog, catalog.home(), rest, text)
    version = _VERSION.fullmatch(head)
    if version:
        named = _versioned(catalog, version.group(1), Version(int(version.group(2))))
        return Found(named, False, rest)
    raise NoSuchRecord(f"{text}: no such collection; give a uuid, a hash, name@version or home/NAME")


def _versioned(catalog: Catalog, name: str, version: Version) -> CollectionRecord:
    if _UUID.fullmatch(name):
        return catalog.get(name, version=version)
    record = catalog.find(catalog.home().uuid, name)
    if not isinstance(record, CollectionRecord):
        raise NoSuchRecord(f"{name}: no such collection in home; see `arvfuse collections`")
    return catalog.get(record.uuid, version=version)


def _below(catalog: Catalog, project: ProjectRecord, path: str, text: str) -> Found:
    name, _, rest = path.partition("/")
    record = catalog.find(project.uuid, name) if name else None
    if record is None:
        raise NoSuchRecord(f"{text}: no such collection; see `arvfuse collections`")
    if isinstance(record, ProjectRecord):
        return _below(catalog, record, rest, text)
    return Found(record, True, rest)
