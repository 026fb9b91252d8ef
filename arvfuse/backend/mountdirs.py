"""The directories of mounts below ``DIR/mounts``: their names, their locks, and which of them belong to the dead.

A directory is locked by a flock on one open file description that all processes of its mount hold, so the lock is
free only when all of them are dead. It gets its name only after it is locked, and loses it before it is removed:
whoever finds an unlocked directory under a mount's name may take it over. Threading: plain functions. Failure: the
OSError of the file system as NotPermitted or ReadOnly with the path.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.errors import ArvfuseError, NotPermitted, ReadOnly
from arvfuse.model.collections import MountId

MOUNTS: Final = "mounts"
LOCK: Final = "lock"
CONTROL: Final = "control"
MESSAGES: Final = "messages"
DRAINING: Final = "draining"  # exists from the begin of an unmount until it is given up or over
_ALPHABET: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
_ID_LENGTH: Final = 8
_HIDDEN: Final = "."


class MountDirectory(NamedTuple):
    """A locked directory of a mount; *lock* is a descriptor, whoever has it open keeps the lock."""

    mount: MountId
    path: Path
    lock: int

    def unlock(self) -> None:
        """Close our share of the lock."""
        os.close(self.lock)

    def remove(self) -> None:
        """The mount left nothing behind: remove its directory. The lock is still to be closed."""
        from shutil import rmtree  # at the end of a mount alone

        hidden = self.path.with_name(f"{_HIDDEN}{self.mount}")
        os.rename(self.path, hidden)
        rmtree(hidden, ignore_errors=True)


def create(store: Path) -> MountDirectory:
    """A new mount's directory below the store at *store*, locked."""
    mounts = store / MOUNTS
    try:
        mounts.mkdir(exist_ok=True)
        while True:
            mount = MountId("".join(_ALPHABET[byte % len(_ALPHABET)] for byte in os.urandom(_ID_LENGTH)))
            hidden, path = mounts / f"{_HIDDEN}{mount}", mounts / mount
            if path.exists():
                continue
            hidden.mkdir(mode=0o700)
            lock = os.open(hidden / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.rename(hidden, path)
            return MountDirectory(mount, path, lock)
    except OSError as error:
        raise _translated(error, mounts) from error


def take_over(path: Path) -> MountDirectory | None:
    """The directory at *path*, locked by us, if its mount is dead; None if it lives or is gone."""
    try:
        lock = os.open(path / LOCK, os.O_RDWR | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.path.samestat(os.fstat(lock), os.stat(path / LOCK)):
            return MountDirectory(MountId(path.name), path, lock)
    except (BlockingIOError, FileNotFoundError):
        pass  # alive, or another recovery was faster
    os.close(lock)
    return None


def is_alive(path: Path) -> bool:
    """True if processes of that mount live (or a recovery works on it). Writes nothing."""
    try:
        lock = os.open(path / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(lock)
    return False


def mounts_of(store: Path) -> Iterator[Path]:
    """The directories of all mounts, living and dead, by name."""
    try:
        names = sorted(os.listdir(store / MOUNTS))
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        path = store / MOUNTS / name
        if not name.startswith(_HIDDEN) and path.is_dir():
            yield path


def has_changes(path: Path) -> bool:
    """True if the mount's log is not empty."""
    try:
        with os.scandir(path / "log") as entries:
            return any(entry.name.isdigit() and entry.stat().st_size > 0 for entry in entries)
    except FileNotFoundError:
        return False


def waiting(store: Path) -> list[MountId]:
    """Dead mounts whose changes wait for a recovery. Takes over nothing."""
    return [MountId(path.name) for path in mounts_of(store) if has_changes(path) and not is_alive(path)]


def _translated(error: OSError, path: Path) -> ArvfuseError | OSError:
    if error.errno in (errno.EACCES, errno.EPERM):
        return NotPermitted(str(path), "cannot be written; a read-only mount needs no writing, or fix its permissions")
    if error.errno == errno.EROFS:
        return ReadOnly(str(path), "on a read-only file system")
    return error
