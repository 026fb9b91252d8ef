"""What commands print: data on standard output, everything else on standard error.

Threading: the command's main thread. Failure: a reader of standard output that went away ends the command quietly.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, TextIO

from arvfuse import errors

_SCHEMA: Final = 1

# What to do about a failure whose text, made where nobody knows of commands, does not say it: of the nearest class.
ADVICE: Final[Mapping[type[errors.ArvfuseError], str]] = MappingProxyType(
    {
        errors.ArvfuseError: "correct that and try again",
        errors.NoSuchRecord: "`arvfuse collections` lists what there is",
        errors.NameTaken: "choose another name",
        errors.NoSpace: "make room and try again",
        errors.StoreUnavailable: "check the store and try again",
        errors.InvalidManifest: "restore it from a copy",
        errors.BlockMissing: "restore it from a copy",
        errors.Damaged: "restore it from a copy",
    }
)


def complain(text: str) -> None:
    """One line ``arvfuse: WHAT: WHY; DO`` on standard error."""
    sys.stderr.write(f"arvfuse: {' '.join(text.split())}\n")


def line_of(error: errors.ArvfuseError) -> str:
    """``WHAT: WHY; DO`` of a failure, all on one line."""
    text = " ".join(str(error).split())
    if "; " in text:
        return text
    return f"{text}; {next(ADVICE[kind] for kind in type(error).__mro__ if kind in ADVICE)}"


def print_json(value: Mapping[str, Any]) -> None:
    """One object with the schema's number."""
    print(json.dumps({"schema": _SCHEMA, **value}, ensure_ascii=True))


def print_bytes(line: bytes) -> None:
    """A line that need not be UTF-8."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")


def show_size(size: float) -> str:
    """``1.5 MiB``."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError


class Progress:
    """A line on standard error that is written again and again; silent where that is no terminal, or with quiet."""

    def __init__(self, *, quiet: bool = False, stream: TextIO | None = None) -> None:
        self._stream: Final = stream if stream is not None else sys.stderr
        self._shown: Final = not quiet and self._stream.isatty()
        self._width = 0

    def show(self, text: str) -> None:
        """Replace the line."""
        if self._shown:
            self._stream.write("\r" + text.ljust(self._width))
            self._stream.flush()
            self._width = len(text)

    def close(self) -> None:
        """Take the line away."""
        if self._shown and self._width:
            self._stream.write("\r" + " " * self._width + "\r")
            self._stream.flush()
            self._width = 0
