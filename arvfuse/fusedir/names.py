"""How names of records become names of directory entries, and which names stand for records. Pure."""

from __future__ import annotations

import re
from typing import Final

from arvfuse.errors import InvalidPath, NameNotText, NameTooLong
from arvfuse.model.escapes import show

NAME_MAX_BYTES: Final = 255
RECORD_FILE: Final = b".arvados#collection"
PORTABLE_HASH: Final = re.compile(rb"[0-9a-f]{32}\+[0-9]{1,20}")
UUID: Final = re.compile(rb"[0-9a-z]{5}-(?:4zz18|j7d0g|tpzed)-[0-9a-z]{15}")


def shown_name(record_name: str) -> bytes | None:
    """The entry's name for a record called *record_name*; None: it is not shown (it has no name)."""
    if not record_name:
        return None
    if record_name in (".", ".."):
        return b"_" * len(record_name)
    return record_name.replace("/", "_").replace("\0", "_").encode("utf-8", "surrogateescape")


def may_differ(name: bytes) -> bool:
    """True if a record that shows as *name* may be called otherwise."""
    return b"_" in name


def identity(name: bytes) -> str | None:
    """The uuid or portable data hash that *name* is exactly; None if it is neither."""
    if PORTABLE_HASH.fullmatch(name) or UUID.fullmatch(name):
        return name.decode("ascii")
    return None


def check_new_name(name: bytes) -> bytes:
    """*name* if an entry of a collection may be given it. NameTooLong, InvalidPath."""
    if len(name) > NAME_MAX_BYTES:
        raise NameTooLong(show(name))
    if name in (b"", b".", b"..") or b"/" in name or b"\0" in name:
        raise InvalidPath(show(name))
    return name


def record_name(name: bytes) -> str:
    """The name of a record to be made or renamed. NameTooLong, InvalidPath, NameNotText."""
    try:
        return check_new_name(name).decode("utf-8")
    except UnicodeDecodeError:
        raise NameNotText(show(name)) from None
