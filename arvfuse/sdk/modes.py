"""What ``open(path, mode)`` means: Python's modes, their letters in any order behind the first. Pure."""

from __future__ import annotations

from typing import NamedTuple

from arvfuse.errors import ArgumentError


class Mode(NamedTuple):
    """A parsed mode. *name* is its canonical text ("rb+")."""

    name: str
    read: bool
    write: bool
    append: bool
    create: bool
    truncate: bool
    exclusive: bool
    binary: bool


def parse_mode(mode: str) -> Mode:
    """The meaning of *mode*: one of r w a x first, then b or t and + at most once each. ArgumentError, TypeError."""
    if not isinstance(mode, str):
        raise TypeError(f"a mode is a text, not {type(mode).__name__}")
    kind, rest = mode[:1], mode[1:]
    if (
        not kind
        or kind not in "rwax"
        or len(set(rest)) != len(rest)
        or set(rest) - set("bt+")
        or {"b", "t"} <= set(rest)
    ):
        raise ArgumentError(f"invalid mode {mode!r}: one of r w a x, then b or t, then +")
    plus = "+" in rest
    binary = "b" in rest
    return Mode(
        name=kind + ("b" if binary else "") + ("+" if plus else ""),
        read=kind == "r" or plus,
        write=kind != "r" or plus,
        append=kind == "a",
        create=kind != "r",
        truncate=kind == "w",
        exclusive=kind == "x",
        binary=binary,
    )
