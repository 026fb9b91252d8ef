"""The threaded driver on libfuse 2: requests of llfuse's worker threads become calls of ``Operations``.

Every handler gives up llfuse's global lock at once, so requests run side by side; a Pending is waited for, at most for
the stall bound. llfuse ends its loop at any exception but FUSEError, so all handlers answer through ``_answer``.

Threading: mount(), serve() and close() belong to the main thread of the engine, handlers to llfuse's workers. One
mount per process: llfuse keeps it in globals. The process must never use the mount itself. Failure: a mount that
cannot be made is UsageError; serve() returns when the mount was unmounted, whoever did that.
"""

from __future__ import annotations

import logging
import os
import queue
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import llfuse

from arvfuse.drivers.errnos import NOT_IMPLEMENTED, reply_for
from arvfuse.drivers.notices import DeviceNotices, open_devices
from arvfuse.errors import InvalidPath, NotPermitted, StoreUnavailable, UsageError
from arvfuse.fresh.node import PREFERRED_IO_BYTES, Attr, Entry, Listed
from arvfuse.fresh.pending import Pending
from arvfuse.operations import Operations

log = logging.getLogger(__name__)
T = TypeVar("T")

WORKERS: Final = 64
MAX_READ_BYTES: Final = 128 * 1024
STALL_BOUND_S: Final = 300.0
_NOTIFY_THREAD: Final = "(_notify_loop)"
_NOTIFY_JOIN_S: Final = 5.0


def mount_options(*, mount_id: str, subtype: str = "arvfuse", read_only: bool, allow_other: bool) -> set[str]:
    """Options of fuse_mount. Permissions are checked by us (default_permissions off); ``ro`` also by the kernel."""
    options = set(llfuse.default_options) - {"default_permissions", "nonempty"}
    options |= {f"fsname=arvfuse:{mount_id}", "big_writes", f"max_read={MAX_READ_BYTES}"}
    if subtype:
        options.add(f"subtype={subtype}")
    if read_only:
        options.add("ro")
    if allow_other:
        options.add("allow_other")
    return options


class LlfuseDriver(llfuse.Operations):  # type: ignore[misc] # llfuse is not typed
    """One mount. *stall_bound_s*: how long a request waits for the backend before it is EIO.

    ``notices`` is there once it is mounted.
    """

    def __init__(self, mountpoint: Path, options: set[str], *, stall_bound_s: float = STALL_BOUND_S) -> None:
        super().__init__()
        self.mountpoint: Final = mountpoint
        self._options: Final = frozenset(options)
        self._stall_bound_s: Final = stall_bound_s
        self._notices: DeviceNotices | None = None  # set by mount()
        self._operations: Operations | None = None  # set by attach(), before the first request

    # life

    def mount(self) -> DeviceNotices:
        """Mount; requests wait in the kernel until serve(). What tells the kernel to forget is returned."""
        before = open_devices()
        try:
            llfuse.init(self, str(self.mountpoint), set(self._options))
        except RuntimeError as failure:
            raise UsageError(
                f"{self.mountpoint}: cannot be mounted: {failure}; see the message of libfuse"
            ) from failure
        (device,) = open_devices() - before
        os.set_inheritable(device, False)  # a child that holds it keeps a dead mount hanging
        self._notices = DeviceNotices(device)
        return self._notices

    @property
    def notices(self) -> DeviceNotices:
        """The KernelNotices port, once mounted."""
        assert self._notices is not None
        return self._notices

    def tick(self, stall_bound_s: float) -> None:
        """Nothing: each worker looks at its own clock."""

    def status(self) -> dict[str, Any]:
        """For people."""
        return {"driver": "llfuse", "protocol": "", "features": []}

    def attach(self, operations: Operations) -> None:
        """What answers requests. Its notifier sends by what mount() returned."""
        self._operations = operations

    def serve(self, operations: Operations, *, workers: int = WORKERS) -> None:
        """Answer requests until the mount is gone."""
        self.attach(operations)
        # llfuse interrupts its workers with this signal at the end; by default it would end the process.
        signal.signal(signal.SIGUSR1, _do_nothing)
        try:
            llfuse.main(workers=workers, handle_signals=False)
        except queue.Full:
            log.warning("llfuse's own notice queue was full at the end")  # not used by us: harmless
        for thread in threading.enumerate():
            if thread.name.endswith(_NOTIFY_THREAD):
                thread.join(_NOTIFY_JOIN_S)  # it uses the channel that close() frees

    def close(self) -> None:
        """Free the session. The mount is gone by now: see ``drivers.unmounting``."""
        llfuse.close(unmount=False)
        if self._notices is not None:
            self._notices.close()

    # names

    def lookup(self, parent_inode: int, name: bytes, ctx: Any) -> Any:
        return self._entry(self._answer("lookup", self._ops.lookup, parent_inode, name))

    def forget(self, inode_list: list[tuple[int, int]]) -> None:
        with llfuse.lock_released:
            try:
                self._ops.forget(inode_list)
            except Exception:  # top of a request that has no reply: an exception would end the mount
                log.critical("forget failed", exc_info=True)

    def mkdir(self, parent_inode: int, name: bytes, mode: int, ctx: Any) -> Any:
        return self._entry(self._answer("mkdir", self._ops.mkdir, parent_inode, name, mode))

    def mknod(self, parent_inode: int, name: bytes, mode: int, rdev: int, ctx: Any) -> Any:
        return self._entry(self._answer("mknod", self._ops.mknod, parent_inode, name, mode))

    def unlink(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        self._answer("unlink", self._ops.unlink, parent_inode, name)

    def rmdir(self, parent_inode: int, name: bytes, ctx: Any) -> None:
        self._answer("rmdir", self._ops.rmdir, parent_inode, name)

    def rename(self, parent_inode_old: int, name_old: bytes, parent_inode_new: int, name_new: bytes, ctx: Any) -> None:
        self._answer("rename", self._ops.rename, parent_inode_old, name_old, parent_inode_new, name_new)

    def symlink(self, parent_inode: int, name: bytes, target: bytes, ctx: Any) -> Any:
        self._answer("symlink", _refuse, NotPermitted("", "no symbolic links here"))

    def link(self, inode: int, new_parent_inode: int, new_name: bytes, ctx: Any) -> Any:
        self._answer("link", _refuse, NotPermitted("", "no hard links here"))

    def readlink(self, inode: int, ctx: Any) -> Any:
        self._answer("readlink", _refuse, InvalidPath("", "no symbolic link"))

    # attributes

    def getattr(self, inode: int, ctx: Any) -> Any:
        return self._attributes(self._answer("getattr", self._ops.getattr, inode))

    def setattr(self, inode: int, attr: Any, fields: Any, fh: int | None, ctx: Any) -> Any:
        wanted: dict[str, int] = {}
        if fields.update_size:
            wanted["size"] = attr.st_size
        if fields.update_mtime:
            wanted["mtime_ns"] = attr.st_mtime_ns
        if fields.update_atime:
            wanted["atime_ns"] = attr.st_atime_ns
        if fields.update_mode:
            wanted["mode"] = stat.S_IMODE(attr.st_mode)
        return self._attributes(self._answer("setattr", self._ops.setattr, inode, handle=fh, **wanted))

    def access(self, inode: int, mode: int, ctx: Any) -> bool:
        return self._answer("access", self._ops.access, inode, mode)

    def statfs(self, ctx: Any) -> Any:
        space = self._answer("statfs", self._ops.statfs)
        reply = llfuse.StatvfsData()
        reply.f_bsize = reply.f_frsize = space.block_bytes
        reply.f_blocks = space.total_bytes // space.block_bytes
        reply.f_bfree = reply.f_bavail = space.free_bytes // space.block_bytes
        reply.f_namemax = space.name_max
        return reply

    # Attributes with names: the kernel is told once that there are none, and asks no more (it would before each
    # write). llfuse itself calls getxattr() without a context when a name is to be created.

    def getxattr(self, inode: int, name: bytes, ctx: Any = None) -> bytes:
        raise llfuse.FUSEError(NOT_IMPLEMENTED)

    def setxattr(self, inode: int, name: bytes, value: bytes, ctx: Any = None) -> None:
        raise llfuse.FUSEError(NOT_IMPLEMENTED)

    def listxattr(self, inode: int, ctx: Any = None) -> list[bytes]:
        raise llfuse.FUSEError(NOT_IMPLEMENTED)

    def removexattr(self, inode: int, name: bytes, ctx: Any = None) -> None:
        raise llfuse.FUSEError(NOT_IMPLEMENTED)

    # files

    def create(self, parent_inode: int, name: bytes, mode: int, flags: int, ctx: Any) -> tuple[int, Any]:
        created = self._answer("create", self._ops.create, parent_inode, name, mode, flags)
        return created.opened.handle, self._entry(created.entry)

    def open(self, inode: int, flags: int, ctx: Any) -> int:
        return self._answer("open", self._ops.open, inode, flags).handle

    def read(self, fh: int, off: int, size: int) -> Any:
        parts = self._answer("read", self._ops.read, fh, off, size)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def write(self, fh: int, off: int, buf: bytes) -> int:
        return self._answer("write", self._write, fh, off, buf)

    def flush(self, fh: int) -> None:
        self._answer("flush", self._ops.flush, fh)

    def fsync(self, fh: int, datasync: bool) -> None:
        self._answer("fsync", self._ops.fsync, fh, datasync)

    def release(self, fh: int) -> None:
        self._answer("release", self._ops.release, fh)

    # directory handles

    def opendir(self, inode: int, ctx: Any) -> int:
        return self._answer("opendir", self._ops.opendir, inode)

    def readdir(self, fh: int, off: int) -> Iterator[tuple[bytes, Any, int]]:
        names: Iterator[Listed] = self._answer("readdir", self._ops.readdir, fh, off)
        attributes = llfuse.EntryAttributes()  # llfuse copies it before it asks for the next
        while True:
            # Names of a snapshot: a few instructions each, not worth giving up the lock.
            listed = next(names, None)
            if listed is None:
                return
            attributes.st_ino = listed.no
            attributes.st_mode = stat.S_IFDIR if listed.is_dir else stat.S_IFREG
            yield listed.name, attributes, listed.cookie

    def releasedir(self, fh: int) -> None:
        self._answer("releasedir", self._ops.releasedir, fh)

    def fsyncdir(self, fh: int, datasync: bool) -> None:
        self._answer("fsyncdir", self._ops.fsyncdir, fh, datasync)

    # answers

    @property
    def _ops(self) -> Operations:
        assert self._operations is not None
        return self._operations

    def _answer(self, what: str, call: Callable[..., T | Pending[T]], *args: Any, **named: Any) -> T:
        """The value of *call*, waited for; every failure as the FUSEError that the table gives for it."""
        with llfuse.lock_released:
            try:
                value = call(*args, **named)
                return self._wait(value) if isinstance(value, Pending) else value
            except Exception as failure:  # top of a request
                code, level = reply_for(failure)
                if log.isEnabledFor(level):
                    log.log(level, "%s: %s", what, failure, exc_info=level >= logging.ERROR)
                raise llfuse.FUSEError(code) from failure

    def _write(self, handle: int, offset: int, data: bytes) -> int:
        """What is accepted is answered when there is room, or fails by itself when the store has stalled."""
        written = self._ops.write(handle, offset, data)
        return written.result() if isinstance(written, Pending) else written

    def _wait(self, pending: Pending[T]) -> T:
        try:
            return pending.result(self._stall_bound_s)
        except TimeoutError:
            if pending.done():
                raise
            operations = self._ops
            pending.add_done_callback(lambda late: None if late.exception() else operations.undo(late.result()))
            raise StoreUnavailable(f"no answer within {self._stall_bound_s:g} s") from None

    def _entry(self, entry: Entry) -> Any:
        attributes = self._attributes(entry.attr)
        attributes.entry_timeout = entry.timeout_s
        return attributes

    def _attributes(self, attr: Attr) -> Any:
        reply = llfuse.EntryAttributes()
        reply.st_ino = attr.no
        reply.st_mode = attr.mode | (stat.S_IFDIR if attr.is_dir else stat.S_IFREG)
        reply.st_nlink = attr.links
        reply.st_uid = self._ops.uid
        reply.st_gid = self._ops.gid
        reply.st_size = attr.size
        reply.st_blksize = PREFERRED_IO_BYTES
        reply.st_blocks = attr.blocks
        reply.st_mtime_ns = reply.st_ctime_ns = attr.mtime_ns
        reply.st_atime_ns = attr.atime_ns
        reply.attr_timeout = attr.timeout_s
        return reply


def _refuse(failure: Exception) -> None:
    raise failure


def _do_nothing(_number: int, _frame: object) -> None:
    """Handler of a signal that only has to interrupt a system call."""
