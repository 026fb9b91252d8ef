"""Which failure ends a command with which exit code. Pure; the codes are a contract (doc/cli.md)."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from arvfuse import errors

DONE: Final = 0
FAILED: Final = 1
USAGE: Final = 2
MISSING: Final = 3
BUSY: Final = 4
UNREACHABLE: Final = 5
DAMAGED: Final = 6
NOT_COMMITTED: Final = 7
INTERRUPTED: Final = 130

CODES: Final[Mapping[type[errors.ArvfuseError], int]] = MappingProxyType(
    {
        errors.ArvfuseError: FAILED,
        errors.UsageError: USAGE,
        errors.ArgumentError: USAGE,
        errors.NoSuchEntry: MISSING,
        errors.NoSuchRecord: MISSING,
        errors.EntryExists: BUSY,
        errors.DirectoryNotEmpty: BUSY,
        errors.NameTaken: BUSY,
        errors.CommitConflict: BUSY,
        errors.Busy: BUSY,
        errors.StoreUnavailable: UNREACHABLE,
        errors.BlockMissing: DAMAGED,
        errors.Damaged: DAMAGED,
        errors.InvalidManifest: DAMAGED,
        errors.NotCommitted: NOT_COMMITTED,
    }
)


def code_for(error: errors.ArvfuseError) -> int:
    """The exit code of the nearest class that has one."""
    return next(CODES[kind] for kind in type(error).__mro__ if kind in CODES)
