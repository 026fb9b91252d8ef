"""Every failure arvfuse raises on purpose; str() of one is a line for an operator.

A class exists where some caller reacts differently. Library users can also catch the file-like ones as the
builtin OSError kinds (``NoSuchEntry`` is a ``FileNotFoundError``). Nothing here knows FUSE, HTTP or SQLite:
the errno of a reply is given in ``drivers.errnos``, the exit code of a command in ``cli.exits``.
"""

from __future__ import annotations

import errno
import os
from typing import ClassVar


class ArvfuseError(Exception):
    """Root of the hierarchy."""

    retryable: ClassVar[bool] = False


class _PathError(ArvfuseError, OSError):
    """An error about a path that also is the builtin OSError kind with the same errno."""

    code: ClassVar[int] = errno.EIO

    def __init__(self, path: str = "", why: str = "") -> None:
        OSError.__init__(self, self.code, why or os.strerror(self.code), path or None)

    def __str__(self) -> str:
        return f"{self.filename}: {self.strerror}" if self.filename else str(self.strerror)


class NoSuchEntry(_PathError, FileNotFoundError):
    """The name does not exist. An outage is never reported as this."""

    code = errno.ENOENT


class EntryExists(_PathError, FileExistsError):
    """The name is taken."""

    code = errno.EEXIST


class NotADirectory(_PathError, NotADirectoryError):
    """A path goes through a file."""

    code = errno.ENOTDIR


class IsADirectory(_PathError, IsADirectoryError):
    """A file operation was asked of a directory."""

    code = errno.EISDIR


class DirectoryNotEmpty(_PathError):
    """A directory that has entries cannot be removed or replaced."""

    code = errno.ENOTEMPTY


class ReadOnly(_PathError):
    """A change was asked of a read-only mount, collection or handle."""

    code = errno.EROFS


class NotPermitted(_PathError, PermissionError):
    """The operation is never allowed on this kind of entry."""

    code = errno.EPERM


class NotSupported(_PathError):
    """The operation has no meaning here (a plain file in a project, a device node)."""

    code = errno.ENOTSUP


class InvalidPath(_PathError):
    """A directory moved into itself, a negative offset: never meaningful."""

    code = errno.EINVAL


class NoSuchOffset(_PathError):
    """A seek for data or a hole beyond the end of the file."""

    code = errno.ENXIO


class NameTooLong(_PathError):
    """A name of more than 255 bytes."""

    code = errno.ENAMETOOLONG


class NameNotText(_PathError):
    """A record name that is not UTF-8."""

    code = errno.EILSEQ


class FileTooBig(_PathError):
    """Beyond 16 TiB."""

    code = errno.EFBIG


class CrossDevice(_PathError):
    """A move that has to be a copy (between trees that cannot share)."""

    code = errno.EXDEV


class NoSpace(_PathError):
    """The spool or the store is full."""

    code = errno.ENOSPC


class StaleNode(_PathError):
    """A node number that was replaced: look the name up again."""

    code = errno.ESTALE


class ArgumentError(ArvfuseError, ValueError):
    """A call that means nothing: a bad path, mode or manifest text."""


class UsageError(ArvfuseError):
    """Bad command line, environment or configuration."""


class InvalidLocator(ArgumentError):
    """Not a block locator."""


class InvalidManifest(ArgumentError):
    """Not a manifest; *str()* names the line."""


class NoSuchRecord(ArvfuseError):
    """No collection, project or version of that identity."""


class NameTaken(ArvfuseError):
    """Another live record of the owner has the name."""


class CommitConflict(ArvfuseError):
    """The record moved since the version a save was based on, and merging was not asked or did not end."""


class Busy(ArvfuseError):
    """In use: a mount point with holders, a store with a draining mount, a collection that is mounted."""


class StoreUnavailable(ArvfuseError):
    """The store or catalog is out of reach, or failed in a way that may pass."""

    retryable = True


class BlockMissing(ArvfuseError):
    """A manifest names it, the store does not hold it."""


class Damaged(ArvfuseError):
    """Bytes that are not what their name or check sum says."""


class DigestCollision(Damaged):
    """Two different contents with one md5: refused, nothing is overwritten."""


class SchemaMismatch(ArvfuseError):
    """A catalog or log written by a newer version, or not one of ours."""


class LogFailed(ArvfuseError):
    """The log of the mount could not be written; no further change is taken."""


class NotCommitted(ArvfuseError):
    """Changes could not be committed in time; they are kept for recovery."""
