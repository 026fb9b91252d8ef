"""Names and paths as the library's users write them: text, with ``/`` between names.

Names are bytes below the facade; what is not UTF-8 goes through as surrogate escapes, both ways. Pure functions.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from arvfuse.errors import ArgumentError, NotADirectory
from arvfuse.model.merge import conflict_name
from arvfuse.sdk.nodes import Path

PDH_RULE: Final = re.compile(r"[0-9a-f]{32}\+[0-9]+(\+\S+)*")
UUID_RULE: Final = re.compile(r"[a-z0-9]{5}-4zz18-[a-z0-9]{15}")

_SECOND_NS: Final = 1_000_000_000


def encode(name: str) -> bytes:
    """The bytes of a name."""
    return name.encode("utf-8", "surrogateescape")


def decode(name: bytes) -> str:
    """The text of a name."""
    return name.decode("utf-8", "surrogateescape")


def split(path: str) -> tuple[Path, bool]:
    """(names, whether a slash stood at the end) of a relative path. ArgumentError if it is empty or has a component
    ``.``, NotADirectory if a component is empty."""
    if not path:
        raise ArgumentError("the path is empty")
    *names, last = path.split("/")
    if last:
        names.append(last)
    if "" in names:
        raise NotADirectory(path, "a component of the path is empty")
    if "." in names:
        raise ArgumentError(f"{path}: a name cannot be '.'")
    return tuple(map(encode, names)), not last


def join(path: Path) -> str:
    """The text of a path."""
    return "/".join(map(decode, path))


def from_stream(path: Path) -> str:
    """The stream name of a directory: ``.`` or ``./a/b``, unescaped."""
    return "/".join((".", *map(decode, path)))


def free_conflict_path(path: str, now_ns: int, taken: Callable[[str], bool]) -> str:
    """``path~YYYYMMDD-HHMMSS~conflict~``, in the first second from *now_ns* on whose name is free."""
    head, _, name = path.rpartition("/")
    while True:
        fresh = decode(conflict_name(encode(name), now_ns))
        candidate = f"{head}/{fresh}" if head else fresh
        if not taken(candidate):
            return candidate
        now_ns += _SECOND_NS
