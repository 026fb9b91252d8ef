"""The hierarchy of failures: one root, the builtin kinds, one line for an operator."""

from __future__ import annotations

import errno
import os

import pytest

from arvfuse import errors
from arvfuse.errors import (
    ArgumentError,
    ArvfuseError,
    BlockMissing,
    Busy,
    CommitConflict,
    CrossDevice,
    Damaged,
    DigestCollision,
    DirectoryNotEmpty,
    EntryExists,
    FileTooBig,
    InvalidLocator,
    InvalidManifest,
    InvalidPath,
    IsADirectory,
    LogFailed,
    NameNotText,
    NameTaken,
    NameTooLong,
    NoSpace,
    NoSuchEntry,
    NoSuchOffset,
    NoSuchRecord,
    NotADirectory,
    NotCommitted,
    NotPermitted,
    NotSupported,
    ReadOnly,
    SchemaMismatch,
    StaleNode,
    StoreUnavailable,
    UsageError,
)

PATH_ERRORS = [
    (NoSuchEntry, errno.ENOENT, FileNotFoundError),
    (EntryExists, errno.EEXIST, FileExistsError),
    (NotADirectory, errno.ENOTDIR, NotADirectoryError),
    (IsADirectory, errno.EISDIR, IsADirectoryError),
    (DirectoryNotEmpty, errno.ENOTEMPTY, OSError),
    (ReadOnly, errno.EROFS, OSError),
    (NotPermitted, errno.EPERM, PermissionError),
    (NotSupported, errno.ENOTSUP, OSError),
    (InvalidPath, errno.EINVAL, OSError),
    (NoSuchOffset, errno.ENXIO, OSError),
    (NameTooLong, errno.ENAMETOOLONG, OSError),
    (NameNotText, errno.EILSEQ, OSError),
    (FileTooBig, errno.EFBIG, OSError),
    (CrossDevice, errno.EXDEV, OSError),
    (NoSpace, errno.ENOSPC, OSError),
    (StaleNode, errno.ESTALE, OSError),
]
OTHERS = [
    (UsageError, ArvfuseError),
    (ArgumentError, ValueError),
    (InvalidLocator, ArgumentError),
    (InvalidManifest, ArgumentError),
    (NoSuchRecord, ArvfuseError),
    (NameTaken, ArvfuseError),
    (CommitConflict, ArvfuseError),
    (Busy, ArvfuseError),
    (StoreUnavailable, ArvfuseError),
    (BlockMissing, ArvfuseError),
    (Damaged, ArvfuseError),
    (DigestCollision, Damaged),
    (SchemaMismatch, ArvfuseError),
    (LogFailed, ArvfuseError),
    (NotCommitted, ArvfuseError),
]


@pytest.mark.parametrize(("kind", "code", "builtin"), PATH_ERRORS)
def test_an_error_about_a_path_is_the_builtin_kind_too(kind: type[OSError], code: int, builtin: type[OSError]) -> None:
    error = kind("dir/file")
    assert isinstance(error, ArvfuseError)
    assert isinstance(error, builtin)
    assert error.errno == code
    assert error.filename == "dir/file"
    assert str(error) == f"dir/file: {os.strerror(code)}"


@pytest.mark.parametrize(("kind", "code", "builtin"), PATH_ERRORS)
def test_a_reason_replaces_the_systems_words(kind: type[OSError], code: int, builtin: type[OSError]) -> None:
    assert str(kind("", "because")) == "because"
    assert str(kind("x", "because")) == "x: because"
    assert str(kind()) == os.strerror(code)
    assert kind().filename is None


@pytest.mark.parametrize(("kind", "parent"), OTHERS)
def test_every_other_error_has_its_place_and_says_what_it_was_given(
    kind: type[ArvfuseError], parent: type[Exception]
) -> None:
    assert issubclass(kind, ArvfuseError)
    assert issubclass(kind, parent)
    assert not issubclass(kind, OSError)
    assert str(kind("one line")) == "one line"


def test_only_an_outage_is_worth_a_retry() -> None:
    classes = {name: kind for name, kind in vars(errors).items() if isinstance(kind, type)}
    retryable = {name for name, kind in classes.items() if issubclass(kind, ArvfuseError) and kind.retryable}
    assert retryable == {"StoreUnavailable"}


def test_an_outage_is_never_a_missing_name() -> None:
    assert not issubclass(StoreUnavailable, FileNotFoundError)
    assert not issubclass(BlockMissing, FileNotFoundError)


def test_every_class_is_in_these_tables() -> None:
    listed = {kind for kind, *_ in PATH_ERRORS} | {kind for kind, _ in OTHERS} | {ArvfuseError}
    defined = {
        kind
        for name, kind in vars(errors).items()
        if isinstance(kind, type) and issubclass(kind, ArvfuseError) and not name.startswith("_")
    }
    assert defined == listed
