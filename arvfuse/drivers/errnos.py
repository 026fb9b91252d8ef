"""Which errno a failure becomes, and how loudly it is logged: the one place where an errno is given.

A table by class; a class that is not in it takes the row of its nearest base. Pure. A failure that is not one of
ours is a bug: EIO, with its traceback.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from arvfuse import errors

_DEBUG, _INFO, _WARNING, _ERROR = logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR

REPLY: Final[Mapping[type[errors.ArvfuseError], tuple[int, int]]] = MappingProxyType(
    {
        # the ordinary life of a file system
        errors.NoSuchEntry: (errno.ENOENT, _DEBUG),
        errors.EntryExists: (errno.EEXIST, _DEBUG),
        errors.NotADirectory: (errno.ENOTDIR, _DEBUG),
        errors.IsADirectory: (errno.EISDIR, _DEBUG),
        errors.DirectoryNotEmpty: (errno.ENOTEMPTY, _DEBUG),
        errors.ReadOnly: (errno.EROFS, _DEBUG),
        errors.NotPermitted: (errno.EPERM, _DEBUG),
        errors.NotSupported: (errno.ENOTSUP, _DEBUG),
        errors.InvalidPath: (errno.EINVAL, _DEBUG),
        errors.NoSuchOffset: (errno.ENXIO, _DEBUG),
        errors.NameTooLong: (errno.ENAMETOOLONG, _DEBUG),
        errors.NameNotText: (errno.EILSEQ, _DEBUG),
        errors.FileTooBig: (errno.EFBIG, _DEBUG),
        errors.CrossDevice: (errno.EXDEV, _DEBUG),
        errors.StaleNode: (errno.ESTALE, _DEBUG),  # the kernel looks the name up again
        errors.NoSuchRecord: (errno.ENOENT, _DEBUG),
        errors.NameTaken: (errno.EEXIST, _DEBUG),
        # what an operator may have to do something about
        errors.NoSpace: (errno.ENOSPC, _WARNING),
        errors.Busy: (errno.EBUSY, _INFO),
        errors.CommitConflict: (errno.ESTALE, _WARNING),
        errors.StoreUnavailable: (errno.EIO, _WARNING),  # never ENOENT: an outage does not make names vanish
        errors.NotCommitted: (errno.EIO, _WARNING),
        # the name exists, its bytes do not; and worse
        errors.BlockMissing: (errno.EIO, _ERROR),
        errors.Damaged: (errno.EIO, _ERROR),
        errors.DigestCollision: (errno.EIO, _ERROR),
        errors.SchemaMismatch: (errno.EIO, _ERROR),
        errors.LogFailed: (errno.EIO, _ERROR),
        # a call that means nothing: a request that says so is one that we made wrongly from data
        errors.ArgumentError: (errno.EINVAL, _WARNING),
        errors.InvalidLocator: (errno.EIO, _ERROR),
        errors.InvalidManifest: (errno.EIO, _ERROR),
        errors.UsageError: (errno.EINVAL, _WARNING),
        # what the backend could not name more exactly
        errors.ArvfuseError: (errno.EIO, _ERROR),
    }
)
BUG: Final = (errno.EIO, logging.CRITICAL)
NOT_IMPLEMENTED: Final = errno.ENOSYS  # the kernel never asks for such an operation again


def reply_for(failure: BaseException) -> tuple[int, int]:
    """(errno, log level) for *failure*."""
    return next((REPLY[cls] for cls in type(failure).__mro__ if cls in REPLY), BUG)
