"""One mount's requests: from an opcode to a call of ``Operations``, and from its answer to a reply.

The one place that catches: whatever a request raises becomes an errno (``drivers.errnos``), a malformed request EIO
and a line in the log, an unknown one ENOSYS. A Pending is parked (``connection``): its reply is written by whoever
settles it, and the reader goes on.

With a write-back cache a WRITE carries pages, not a call: its handle is any that may write, pid and uid say nothing,
the offset is exact also for O_APPEND, and it may come long after the write. So its failure is told to every handle of
the file, and READ is answered for handles that were opened for writing only.

Threading: serve() by the engine's readers, several at a time; parked replies by any thread. Failure: none leaves.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final, TypeAlias

from arvfuse.drivers.errnos import NOT_IMPLEMENTED
from arvfuse.drivers.kernel import encoding, wire
from arvfuse.drivers.kernel.connection import Connection, Reply
from arvfuse.drivers.kernel.negotiation import Agreed, Wanted, agree
from arvfuse.drivers.kernel.readers import Reader
from arvfuse.drivers.kernel.wire import Fattr, Fopen, Op
from arvfuse.errors import InvalidPath, NoSuchEntry, NotPermitted, NotSupported
from arvfuse.fresh.node import Created, Entry, Opened
from arvfuse.operations import Operations

log = logging.getLogger(__name__)

Body: TypeAlias = memoryview
Handler = Callable[[int, int, Body], Reply]

LARGE_READ_BYTES: Final = 1 << 16
_OPEN_FLAGS: Final = int(Fopen.KEEP_CACHE)
_DIRECT_FLAGS: Final = int(Fopen.DIRECT_IO)
_HEADER_BYTES: Final = wire.IN_HEADER.size
_WRITE_START: Final = wire.WRITE_IN.size
_FALLOC_KEEP_SIZE: Final = 1
_MOST_COPIED_BYTES: Final = 1 << 30
"""The reply has 32 bits for the count."""
_NS: Final = 1_000_000_000
_LOOK_EVERY: Final = 7
# Plain numbers: an IntFlag's & costs a microsecond.
_NOFLUSH: Final = int(Fopen.NOFLUSH)
_MODE, _SIZE, _FH = int(Fattr.MODE), int(Fattr.SIZE), int(Fattr.FH)
_ATIME, _ATIME_NOW, _MTIME, _MTIME_NOW = map(int, (Fattr.ATIME, Fattr.ATIME_NOW, Fattr.MTIME, Fattr.MTIME_NOW))
_KILL_SUIDGID, _OWNER = int(Fattr.KILL_SUIDGID), int(Fattr.UID | Fattr.GID)


class Refused(Exception):
    """Answer with errno *code*; ordinary, not logged."""

    def __init__(self, code: int) -> None:
        super().__init__(os.strerror(code))
        self.code: Final = code


class Session:
    """The connection of one mount. *device*: its descriptor, not blocking; close() closes it.

    *on_end* is called once when the mount is gone, by a reader."""

    def __init__(self, device: int, operations: Operations, wanted: Wanted, *, on_end: Callable[[], None]) -> None:
        self._connection: Final = Connection(device, operations.undo)
        self._operations: Final = operations
        self._wanted: Final = wanted
        self._on_end: Final = on_end
        self._encoder: Final = encoding.Encoder(operations.uid, operations.gid)
        self._handlers: Final[dict[int, Handler]] = self._table()
        self._reader: Final = threading.local()
        self.agreed: Agreed | None = None  # set by INIT, the first request
        self.requests = 0  # about: several readers count
        self._more = False  # when we looked for another request at once there was one

    def __repr__(self) -> str:
        state = "serving" if self.agreed else "new"
        return f"<Session {state} requests={self.requests} {self._connection!r}>"

    @property
    def parked(self) -> int:
        """Requests that wait for the backend or for room."""
        return self._connection.parked

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._connection.device

    def serve(self, reader: Reader, limit: int) -> bool:
        """Answer requests; False: the mount is gone. See ``readers.Session``."""
        device, view = self._connection.device, reader.view
        buffers = (reader.buffer,)
        self._reader.value = reader
        for _ in range(limit):
            try:
                size = os.readv(device, buffers)
            except BlockingIOError:
                self._more = False
                return True
            except OSError as failure:
                if failure.errno in (errno.ENOENT, errno.EINTR):
                    continue  # the request was given up before it was read
                if failure.errno != errno.ENODEV:
                    log.error("the kernel's connection failed: %s", failure)
                return False
            if not size:
                return False
            reader.served += 1
            reader.busy = True
            self._answer(view, size)
            reader.busy = False
            if not reader.leads:
                return True
            # One caller after another: the next request is not there yet, and to look would be a call for nothing. So
            # look at times, and always while it pays.
            if not self._more and self.requests & _LOOK_EVERY:
                return True
            self._more = True
        return True

    def fail_stalled(self, bound_s: float) -> None:
        """See Connection.fail_stalled and end_dying; called now and then."""
        self._connection.end_dying()
        self._connection.fail_stalled(bound_s)

    def ended(self) -> None:
        """The mount is gone and no reader is busy with it."""
        self._on_end()

    def close(self) -> None:
        """Close the connection; what was parked is answered by nobody. Harmless when repeated."""
        self._connection.close()

    # one request

    def _answer(self, view: memoryview, size: int) -> None:
        self.requests += 1
        unique = opcode = 0
        try:
            if size < _HEADER_BYTES:
                raise struct.error("too short for a header")
            length, opcode, unique, node, _uid, _gid, caller, _extensions, _ = wire.IN_HEADER.unpack_from(view)
            if opcode in wire.UNANSWERED:
                unique = 0
            if length != size:
                raise struct.error(f"{size} bytes that say they are {length}")
            handler = self._handlers.get(opcode)
            if handler is None:
                raise Refused(NOT_IMPLEMENTED)
            reply = handler(unique, node, view[_HEADER_BYTES:size])
        except Refused as refused:
            self._connection.refuse(unique, refused.code)
            return
        except (struct.error, wire.Malformed) as failure:
            log.error("malformed request: %s: %s", view[: min(size, 64)].hex(), failure)
            self._connection.refuse(unique, errno.EIO)
            return
        except Exception as failure:  # top of a request
            self._connection.fail(unique, wire.op_name(opcode), failure)
            return
        if reply is not None:
            self._connection.reply(unique, reply)
        elif unique:
            self._connection.waits(unique, caller)

    def _hand_over(self) -> None:
        """What follows may wait for a disk: another reader leads meanwhile."""
        self._reader.value.hand_over()

    def _ready(
        self, unique: int, value: Any, encode: Callable[[Any], Reply], what: str, accepted: bytes | None = None
    ) -> Reply:
        """The reply to *value*, or None if it has to wait (*accepted*: see Connection.park)."""
        if isinstance(value, Future):
            self._connection.park(unique, value, encode, what, accepted)
            return None
        return encode(value)

    # handlers; each is given the request's number, the node, and what follows the header

    def _table(self) -> dict[int, Handler]:
        table: dict[int, Handler] = {
            Op.INIT: self._init, Op.INTERRUPT: self._interrupt, Op.DESTROY: self._done,
            Op.LOOKUP: self._lookup, Op.FORGET: self._forget, Op.BATCH_FORGET: self._batch_forget,
            Op.GETATTR: self._getattr, Op.SETATTR: self._setattr, Op.ACCESS: self._access, Op.STATFS: self._statfs,
            Op.MKNOD: self._mknod, Op.MKDIR: self._mkdir, Op.UNLINK: self._unlink, Op.RMDIR: self._rmdir,
            Op.RENAME: self._rename, Op.RENAME2: self._rename2, Op.SYMLINK: self._symlink, Op.LINK: self._link,
            Op.READLINK: self._readlink,
            Op.OPEN: self._open, Op.CREATE: self._create, Op.READ: self._read, Op.WRITE: self._write,
            Op.FLUSH: self._flush, Op.FSYNC: self._fsync, Op.RELEASE: self._release,
            Op.LSEEK: self._lseek, Op.FALLOCATE: self._fallocate, Op.COPY_FILE_RANGE: self._copy_file_range,
            Op.OPENDIR: self._opendir, Op.READDIR: self._readdir, Op.READDIRPLUS: self._readdirplus,
            Op.RELEASEDIR: self._releasedir, Op.FSYNCDIR: self._fsyncdir,
        }  # fmt: skip
        if self._wanted.no_open:
            table |= {Op.READ: self._read_node}
            del table[Op.OPEN], table[Op.FLUSH]
        if self._wanted.no_opendir:
            del table[Op.OPENDIR]
        return table

    def _interrupt(self, _unique: int, _node: int, body: Body) -> None:
        self._connection.interrupt(wire.INTERRUPT_IN.unpack_from(body)[0])

    def _init(self, _unique: int, _node: int, body: Body) -> Reply:
        agreed, reply = agree(body, self._wanted)
        if agreed is not None:
            self.agreed = agreed
            log.info("FUSE 7.%d: %s", agreed.minor, " ".join(agreed.names()))
        return reply

    def _done(self, _unique: int, _node: int, _body: Body) -> Reply:
        return b""

    # names

    def _lookup(self, unique: int, node: int, body: Body) -> Reply:
        name = wire.split_name(body, 0)
        at_once = self._operations.find(node, name)
        if isinstance(at_once, Entry):
            return self._encoder.entry(at_once)
        if at_once is not None:
            return self._encoder.missing(at_once)
        try:
            found = self._operations.lookup(node, name)
        except NoSuchEntry:
            return self._encoder.missing(self._operations.missing_keep_s(node))
        return self._ready(unique, found, self._encoder.entry, "lookup")

    def _forget(self, _unique: int, node: int, body: Body) -> None:
        self._operations.forget(((node, wire.FORGET_IN.unpack_from(body)[0]),))

    def _batch_forget(self, _unique: int, _node: int, body: Body) -> None:
        count, _ = wire.BATCH_FORGET_IN.unpack_from(body)
        start = wire.BATCH_FORGET_IN.size
        end = start + count * wire.FORGET_ONE.size
        if end > len(body):
            raise struct.error("fewer nodes than it says")
        self._operations.forget(wire.FORGET_ONE.iter_unpack(body[start:end]))

    def _mknod(self, unique: int, node: int, body: Body) -> Reply:
        mode, _rdev, _umask, _ = wire.MKNOD_IN.unpack_from(body)
        made = self._operations.mknod(node, wire.split_name(body, wire.MKNOD_IN.size), mode)
        return self._ready(unique, made, self._encoder.entry, "mknod")

    def _mkdir(self, unique: int, node: int, body: Body) -> Reply:
        mode, _umask = wire.MKDIR_IN.unpack_from(body)
        made = self._operations.mkdir(node, wire.split_name(body, wire.MKDIR_IN.size), mode)
        return self._ready(unique, made, self._encoder.entry, "mkdir")

    def _unlink(self, unique: int, node: int, body: Body) -> Reply:
        return self._ready(unique, self._operations.unlink(node, wire.split_name(body, 0)), encoding.nothing, "unlink")

    def _rmdir(self, unique: int, node: int, body: Body) -> Reply:
        return self._ready(unique, self._operations.rmdir(node, wire.split_name(body, 0)), encoding.nothing, "rmdir")

    def _rename(self, unique: int, node: int, body: Body) -> Reply:
        (target,) = wire.RENAME_IN.unpack_from(body)
        old, new = wire.split_two_names(body, wire.RENAME_IN.size)
        return self._ready(unique, self._operations.rename(node, old, target, new), encoding.nothing, "rename")

    def _rename2(self, unique: int, node: int, body: Body) -> Reply:
        target, flags, _ = wire.RENAME2_IN.unpack_from(body)
        old, new = wire.split_two_names(body, wire.RENAME2_IN.size)
        return self._ready(unique, self._operations.rename(node, old, target, new, flags), encoding.nothing, "rename")

    def _symlink(self, _unique: int, _node: int, _body: Body) -> Reply:
        raise NotPermitted("", "no symbolic links here")

    def _link(self, _unique: int, _node: int, _body: Body) -> Reply:
        raise NotPermitted("", "no hard links here")

    def _readlink(self, _unique: int, _node: int, _body: Body) -> Reply:
        raise InvalidPath("", "no symbolic link")

    # attributes

    def _getattr(self, _unique: int, node: int, _body: Body) -> Reply:
        return self._encoder.attributes(self._operations.getattr(node))

    def _setattr(self, unique: int, node: int, body: Body) -> Reply:
        valid, _, handle, size, _, atime, mtime, _, atime_ns, mtime_ns, _, mode, _, _, _, _ = (
            wire.SETATTR_IN.unpack_from(body)
        )
        wanted: dict[str, int] = {}
        if valid & _SIZE:
            wanted["size"] = size
            if valid & _FH:
                wanted["handle"] = handle
        if valid & _MTIME:
            wanted["mtime_ns"] = time.time_ns() if valid & _MTIME_NOW else mtime * _NS + mtime_ns
        if valid & _ATIME:
            wanted["atime_ns"] = time.time_ns() if valid & _ATIME_NOW else atime * _NS + atime_ns
        if valid & _MODE:
            wanted["mode"] = stat.S_IMODE(mode)
        if valid & (_KILL_SUIDGID | _OWNER):
            self._operations.drop_privileges(node)
        return self._ready(unique, self._operations.setattr(node, **wanted), self._encoder.attributes, "setattr")

    def _access(self, _unique: int, node: int, body: Body) -> Reply:
        mask, _ = wire.ACCESS_IN.unpack_from(body)
        self._operations.access(node, mask)
        return b""

    def _statfs(self, unique: int, _node: int, _body: Body) -> Reply:
        return self._ready(unique, self._operations.statfs(), encoding.space, "statfs")

    # files

    def _create(self, unique: int, node: int, body: Body) -> Reply:
        flags, mode, _umask, kill = wire.CREATE_IN.unpack_from(body)
        name = wire.split_name(body, wire.CREATE_IN.size)
        made = self._operations.create(node, name, mode, flags)
        return self._ready(unique, made, lambda created: self._created(created, kill), "create")

    def _created(self, created: Created, kill: int) -> Reply:
        if kill & wire.OPEN_KILL_SUIDGID:  # it was there, unknown to the kernel
            self._operations.drop_privileges(created.entry.attr.no)
        return self._encoder.entry(created.entry) + self._opened(created.opened)

    def _open(self, _unique: int, node: int, body: Body) -> Reply:
        flags, kill = wire.OPEN_IN.unpack_from(body)
        opened = self._opened(self._operations.open(node, flags))
        if kill & wire.OPEN_KILL_SUIDGID:
            self._operations.drop_privileges(node)
        return opened

    def _opened(self, opened: Opened) -> bytes:
        flags = _DIRECT_FLAGS if opened.direct else _OPEN_FLAGS
        if self._operations.read_only:
            flags |= _NOFLUSH
        return wire.OPEN_OUT.pack(opened.handle, flags, 0)

    def _read(self, _unique: int, _node: int, body: Body) -> Reply:
        handle, offset, size, _, _, _, _ = wire.READ_IN.unpack_from(body)
        if size > LARGE_READ_BYTES:
            self._hand_over()
        return tuple(self._operations.read(handle, offset, size))

    def _read_node(self, _unique: int, node: int, body: Body) -> Reply:
        _, offset, size, _, _, _, _ = wire.READ_IN.unpack_from(body)
        if size > LARGE_READ_BYTES:
            self._hand_over()
        return tuple(self._operations.read_node(node, offset, size))

    def _write(self, unique: int, node: int, body: Body) -> Reply:
        handle, offset, size, flags, _, _, _ = wire.WRITE_IN.unpack_from(body)
        data = body[_WRITE_START:]
        if len(data) != size:
            raise struct.error(f"{len(data)} bytes to write that say they are {size}")
        taken = bool(flags & wire.WRITE_CACHE)
        try:
            written = self._operations.write(handle, offset, data, taken=taken)
        except Exception as failure:
            if taken:
                self._operations.lost(handle, failure)
            raise
        if flags & wire.WRITE_KILL_SUIDGID:
            self._operations.drop_privileges(node)
        return self._ready(unique, written, encoding.written, "write", encoding.written(size))

    def _flush(self, _unique: int, _node: int, body: Body) -> Reply:
        self._operations.flush(wire.FLUSH_IN.unpack_from(body)[0])
        return b""

    def _fsync(self, unique: int, _node: int, body: Body) -> Reply:
        handle, flags, _ = wire.FSYNC_IN.unpack_from(body)
        self._hand_over()
        done = self._operations.fsync(handle, bool(flags & wire.FSYNC_FDATASYNC))
        return self._ready(unique, done, encoding.nothing, "fsync")

    def _release(self, _unique: int, _node: int, body: Body) -> Reply:
        self._operations.release(wire.RELEASE_IN.unpack_from(body)[0])
        return b""

    def _lseek(self, _unique: int, _node: int, body: Body) -> Reply:
        handle, offset, whence, _ = wire.LSEEK_IN.unpack_from(body)
        if whence not in (os.SEEK_DATA, os.SEEK_HOLE):
            raise Refused(errno.EINVAL)
        if self._wanted.writeback and self._operations.is_written(handle):
            raise Refused(errno.EINVAL)  # pages that we were not given yet may lie in what is a hole here
        return wire.LSEEK_OUT.pack(self._operations.seek(handle, offset, data=whence == os.SEEK_DATA))

    def _fallocate(self, _unique: int, _node: int, body: Body) -> Reply:
        handle, offset, length, mode, _ = wire.FALLOCATE_IN.unpack_from(body)
        if mode & ~_FALLOC_KEEP_SIZE:
            raise NotSupported("", "nothing but allocation")
        self._operations.allocate(handle, offset, length, keep_size=bool(mode & _FALLOC_KEEP_SIZE))
        return b""

    def _copy_file_range(self, _unique: int, _node: int, body: Body) -> Reply:
        source, start, _, target, at, length, flags = wire.COPY_FILE_RANGE_IN.unpack_from(body)
        if flags:
            raise Refused(errno.EINVAL)
        copied = self._operations.copy_range(source, start, target, at, min(length, _MOST_COPIED_BYTES))
        return wire.WRITE_OUT.pack(copied, 0)

    # directory handles

    def _opendir(self, unique: int, node: int, _body: Body) -> Reply:
        def opened(handle: int) -> bytes:
            return encoding.opened_directory(handle, self._operations.keeping(handle))

        return self._ready(unique, self._operations.opendir(node), opened, "opendir")

    def _readdir(self, unique: int, node: int, body: Body) -> Reply:
        handle, cookie, size, _, _, _, _ = wire.READ_IN.unpack_from(body)
        names = self._operations.readdir(handle, cookie, node)
        return self._ready(unique, names, lambda listed: self._encoder.names(listed, size), "readdir")

    def _readdirplus(self, unique: int, node: int, body: Body) -> Reply:
        handle, cookie, size, _, _, _, _ = wire.READ_IN.unpack_from(body)
        names = self._operations.readdir(handle, cookie, node)
        entries_of = self._operations.listed_entries
        return self._ready(
            unique, names,
            lambda listed: self._encoder.names_with_entries(listed, size, lambda all_: entries_of(handle, all_, node)),
            "readdirplus",
        )  # fmt: skip

    def _releasedir(self, _unique: int, _node: int, body: Body) -> Reply:
        self._operations.releasedir(wire.RELEASE_IN.unpack_from(body)[0])
        return b""

    def _fsyncdir(self, unique: int, _node: int, body: Body) -> Reply:
        handle, flags, _ = wire.FSYNC_IN.unpack_from(body)
        self._hand_over()
        done = self._operations.fsyncdir(handle, bool(flags & wire.FSYNC_FDATASYNC))
        return self._ready(unique, done, encoding.nothing, "fsyncdir")
