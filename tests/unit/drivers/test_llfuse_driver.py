"""The llfuse driver without a mount: what becomes of values, failures and Pendings. Mounted: tests/mounted."""

from __future__ import annotations

import errno
import logging
import os
import stat
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import llfuse
import pytest

from arvfuse.drivers.llfuse_driver import (
    MAX_READ_BYTES,
    STALL_BOUND_S,
    WORKERS,
    LlfuseDriver,
    mount_options,
)
from arvfuse.errors import Damaged, NoSuchEntry
from arvfuse.fusedir.listings import PLACES
from arvfuse.model.manifests import Manifest
from arvfuse.operations import Operations
from tests.support.engines import Mounted


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(b"")))
    made.write_file(1, b"f", b"hello")
    yield made
    made.close()


def driver_of(operations: Operations, stall_bound_s: float = 5) -> LlfuseDriver:
    """A driver that serves *operations* as if main() ran."""
    driver = LlfuseDriver(Path("/nowhere"), set(), stall_bound_s=stall_bound_s)
    driver.attach(operations)
    return driver


@pytest.fixture
def driver(mounted: Mounted) -> Iterator[LlfuseDriver]:
    """Called as llfuse calls it: with its lock held."""
    with llfuse.lock:
        yield driver_of(mounted.ops)


def test_options_say_what_is_mounted_and_how() -> None:
    options = mount_options(mount_id="m1", read_only=True, allow_other=False)
    assert {"fsname=arvfuse:m1", "subtype=arvfuse", "big_writes", f"max_read={MAX_READ_BYTES}", "ro"} <= options
    assert not {"default_permissions", "nonempty", "allow_other"} & options
    writable = mount_options(mount_id="m1", subtype="x", read_only=False, allow_other=True)
    assert {"subtype=x", "allow_other"} <= writable
    assert "ro" not in writable
    assert (WORKERS, MAX_READ_BYTES, STALL_BOUND_S) == (64, 131072, 300)


def test_attributes_are_filled_in(driver: LlfuseDriver, mounted: Mounted) -> None:
    entry = driver.lookup(1, b"f", None)
    assert (entry.st_ino, entry.st_size, entry.st_blocks, entry.st_nlink) == (mounted.walk(b"f"), 5, 1, 1)
    assert (entry.st_mode, entry.st_uid, entry.st_blksize) == (stat.S_IFREG | 0o644, os.getuid(), 131072)
    assert (entry.entry_timeout, entry.attr_timeout) == (60, 60)
    assert stat.S_ISDIR(driver.getattr(1, None).st_mode)
    assert driver.getattr(entry.st_ino, None).st_mtime_ns == mounted.engine.clock.time_ns()
    space = driver.statfs(None)
    assert (space.f_namemax, space.f_blocks, space.f_bfree) == (255, (1 << 40) >> 17, (1 << 39) >> 17)


def test_operations_by_their_handlers(driver: LlfuseDriver, mounted: Mounted) -> None:
    handle, entry = driver.create(1, b"new", 0o600, os.O_RDWR, None)
    assert driver.write(handle, 0, b"data") == 4
    driver.flush(handle)
    driver.fsync(handle, True)
    assert bytes(driver.read(handle, 1, 2)) == b"at"
    driver.release(handle)
    assert driver.mkdir(1, b"d", 0o755, None).st_nlink == 2
    driver.rename(1, b"new", 1, b"newer", None)
    assert driver.mknod(1, b"node", stat.S_IFREG, 0, None).st_size == 0
    driver.unlink(1, b"node", None)
    driver.rmdir(1, b"d", None)
    directory = driver.opendir(1, None)
    names = [(name, attr.st_mode, cookie % PLACES) for name, attr, cookie in driver.readdir(directory, 2)]
    assert names == [(b"f", stat.S_IFREG, 3), (b"newer", stat.S_IFREG, 4)]
    driver.fsyncdir(directory, False)
    driver.releasedir(directory)
    opened = driver.open(entry.st_ino, os.O_RDONLY, None)
    driver.release(opened)
    assert driver.access(entry.st_ino, os.R_OK, None)
    driver.forget([(entry.st_ino, 1)])
    assert not mounted.ops.host.inodes.knows(entry.st_ino)


def test_setattr_passes_on_what_is_set(driver: LlfuseDriver) -> None:
    number = driver.lookup(1, b"f", None).st_ino
    nothing = dict.fromkeys(("size", "mtime", "atime", "mode", "uid", "gid"), False)

    def fields(**wanted: bool) -> Any:
        return SimpleNamespace(**{f"update_{name}": value for name, value in {**nothing, **wanted}.items()})

    attr = llfuse.EntryAttributes()
    attr.st_size, attr.st_mtime_ns, attr.st_atime_ns, attr.st_mode = 3, 7, 8, stat.S_IFREG | 0o600
    assert driver.setattr(number, attr, fields(size=True), None, None).st_size == 3
    changed = driver.setattr(number, attr, fields(mtime=True, atime=True, mode=True), None, None)
    assert (changed.st_mtime_ns, changed.st_atime_ns, stat.S_IMODE(changed.st_mode)) == (7, 8, 0o600)
    owner = driver.setattr(number, attr, fields(uid=True, gid=True), None, None)
    assert owner.st_uid == os.getuid()


@pytest.mark.parametrize(
    ("call", "code"),
    [
        (lambda d: d.lookup(1, b"none", None), errno.ENOENT),
        (lambda d: d.unlink(1, b"none", None), errno.ENOENT),
        (lambda d: d.getattr(999, None), errno.ESTALE),
        (lambda d: d.symlink(1, b"s", b"t", None), errno.EPERM),
        (lambda d: d.link(1, 1, b"l", None), errno.EPERM),
        (lambda d: d.readlink(1, None), errno.EINVAL),
        (lambda d: d.getxattr(1, b"user.x"), errno.ENOSYS),
        (lambda d: d.setxattr(1, b"user.x", b"", None), errno.ENOSYS),
        (lambda d: d.listxattr(1, None), errno.ENOSYS),
        (lambda d: d.removexattr(1, b"user.x", None), errno.ENOSYS),
        (lambda d: d.mknod(1, b"p", stat.S_IFIFO, 0, None), errno.ENOTSUP),
        (lambda d: d.read(999, 0, 1), errno.ESTALE),
    ],
)
def test_failures_become_errnos(driver: LlfuseDriver, call: Any, code: int) -> None:
    with pytest.raises(llfuse.FUSEError) as raised:
        call(driver)
    assert raised.value.errno == code


class Answers:
    """Operations of which one method answers as told."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.undone: list[Any] = []
        self.undo = self.undone.append

    def __getattr__(self, name: str) -> Any:
        def call(*args: Any, **named: Any) -> Any:
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return call


@pytest.mark.parametrize("failure", [KeyError("a bug"), RecursionError(), MemoryError(), Damaged("bytes")])
def test_nothing_but_fuse_errors_leaves_a_handler(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    driver = driver_of(Answers(failure))  # type: ignore[arg-type]
    with llfuse.lock:
        with pytest.raises(llfuse.FUSEError) as raised:
            driver.unlink(1, b"f", None)
        driver.forget([(1, 1)])
    assert raised.value.errno == errno.EIO
    assert "Traceback" in caplog.text


def test_ordinary_failures_are_not_shouted(driver: LlfuseDriver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO), pytest.raises(llfuse.FUSEError):
        driver.lookup(1, b"none", None)
    assert caplog.text == ""


def test_a_pending_is_waited_for_without_the_lock() -> None:
    pending: Future[int] = Future()
    driver = driver_of(Answers(pending))  # type: ignore[arg-type]

    def settle() -> None:
        with llfuse.lock:  # another request goes on meanwhile
            pending.set_result(7)

    other = threading.Thread(target=settle)
    with llfuse.lock:
        other.start()
        assert driver.opendir(1, None) == 7
    other.join()


def test_a_failed_pending_is_its_failure() -> None:
    pending: Future[int] = Future()
    pending.set_exception(NoSuchEntry("x"))
    driver = driver_of(Answers(pending))  # type: ignore[arg-type]
    with llfuse.lock, pytest.raises(llfuse.FUSEError) as raised:
        driver.opendir(1, None)
    assert raised.value.errno == errno.ENOENT


def test_c4_no_answer_within_the_bound_is_eio_and_undone_when_it_comes() -> None:
    pending: Future[Any] = Future()
    operations = Answers(pending)
    driver = driver_of(operations, stall_bound_s=0.01)  # type: ignore[arg-type]
    with llfuse.lock, pytest.raises(llfuse.FUSEError) as raised:
        driver.opendir(1, None)
    assert raised.value.errno == errno.EIO
    assert operations.undone == []
    pending.set_result(7)
    assert operations.undone == [7]
