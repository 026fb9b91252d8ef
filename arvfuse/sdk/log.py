"""The log of one mount or session: the totally ordered record of every change, small data inline.

``LogWriter`` is the only writer. ``append`` gives a record its sequence number and its place without any I/O;
``flush`` is a group write: whoever holds the LOG lock writes all that is queued. Inline data is readable from
memory until it is written. When a write fails for want of space the reserve gives some and the write is repeated;
if that fails too the log is failed: nothing more is taken (LogFailed), what was not written is refused to its
requests. The next file is opened ahead, and until that succeeds the current one grows: no want of descriptors fails
the log. ``LogReader`` follows a log that is being written, or reads a dead one; a cut-off record at the end of the
last file is the end. Any thread may call the writer; a reader belongs to one thread.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
import logging
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged, LogFailed, StoreUnavailable
from arvfuse.model import records
from arvfuse.model.records import FILE_HEADER, HEADER, Record, address_of, split_address
from arvfuse.ports import Clock
from arvfuse.sdk.carrying import Copy, Places
from arvfuse.sdk.reserve import Reserve
from arvfuse.sync import Rank, RankedLock

log = logging.getLogger(__name__)

LOG_FILE_BYTES: Final = 64 << 20
RESERVE_BYTES: Final = 64 << 20
_CARRIED: Final = records.CODES[records.Carried]
_IOV_MAX: Final = 1000
_MOST_FILE_BYTES: Final = 1 << 31  # of a file whose successor cannot be opened; an address has room for twice that
_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})
_READ_BYTES: Final = 4 << 20


def log_path(directory: Path, number: int) -> Path:
    """Log file *number* below the mount's directory."""
    return directory / "log" / f"{number:08d}"


def log_numbers(directory: Path) -> list[int]:
    """The numbers of the log files that exist, ascending."""
    try:
        names = os.listdir(directory / "log")
    except FileNotFoundError:
        return []
    return sorted(int(name) for name in names if name.isdigit())


class DroppedLog(LookupError):
    """The log file was dropped since the address was taken: resolve the segment again."""


class LogWriter:
    """Appends records to numbered files.

    Invariants: addresses and sequence numbers rise; flushed_seq <= seq; every queued record has a place behind all
    written ones.
    """

    def __init__(
        self,
        directory: Path,
        *,
        boot_id: bytes,
        clock: Clock,
        first_seq: int = 1,
        file_bytes: int = LOG_FILE_BYTES,
        reserve_bytes: int = 0,
    ) -> None:
        self._directory: Final = directory
        self._boot_id: Final = boot_id
        self._clock: Final = clock
        self._file_bytes: Final = file_bytes
        self._reserve: Final = Reserve(directory / "log" / "reserve", reserve_bytes)
        self._queue_lock: Final = RankedLock(Rank.LEAF)
        # (file, number, buffers) of records that are not written; guarded by: _queue_lock
        self._queue: list[tuple[int, int, list[bytes | memoryview]]] = []
        self._unwritten: dict[int, bytes | memoryview] = {}  # address -> inline data; guarded by: _queue_lock
        self._seq = first_seq - 1  # guarded by: _queue_lock
        self._number = (log_numbers(directory) or [0])[-1] + 1  # file of the next record; guarded by: _queue_lock
        self._position = FILE_HEADER.size  # in that file; guarded by: _queue_lock
        self._stay = False  # the next file cannot be opened now; guarded by: _queue_lock
        self._failure: LogFailed | None = None  # guarded by: _queue_lock
        self._sync_lock: Final = RankedLock(Rank.LOG, -1)  # held across flushes of the disk, by nobody who writes
        self._placed = False  # the directories above are on the disk; guarded by: _sync_lock
        self._write_lock: Final = RankedLock(Rank.LOG)
        self._flushed = first_seq - 1  # guarded by: _write_lock; read without
        self._fds: dict[int, int] = {}  # file number -> descriptor; changed under both locks, read under either
        self._places: Final = Places()  # of data whose file was dropped; guarded by: _queue_lock
        self._reading = 0  # reads with a descriptor in hand; guarded by: _queue_lock
        self._retired: list[int] = []  # descriptors of dropped files; guarded by: _queue_lock
        self._unsynced: set[int] = set()  # guarded by: _write_lock
        self._written = (-1, 0)  # the file written last, and its size; guarded by: _write_lock
        self._next_path: Final = directory / "log" / "next"
        self._next_fd = -1  # guarded by: _write_lock
        (directory / "log").mkdir(parents=True, exist_ok=True)
        if reserve_bytes:
            with self._write_lock:
                self._reserve.fill()
                self._open_next_locked()

    def __repr__(self) -> str:
        state = "failed" if self._failure else "open"
        return f"<LogWriter {state} seq={self._seq} flushed={self._flushed} file={self._number}>"

    @property
    def seq(self) -> int:
        """The number of the last record appended."""
        return self._seq

    @property
    def flushed_seq(self) -> int:
        """The number of the last record that survives our death."""
        return self._flushed

    @property
    def file_number(self) -> int:
        """The file into which the next record goes (or the one behind it)."""
        return self._number

    def append(
        self, tree: int, code: int, body: bytes, data: bytes | memoryview = b"", *, flags: int = 0, wall_ns: int = 0
    ) -> tuple[int, int]:
        """Queue a record; (its sequence number, the log address of *data*). Memory only. LogFailed once failed.

        *data* must not change before flush() of that number returned."""
        size = HEADER.size + len(body) + len(data)
        now = wall_ns or self._clock.time_ns()
        with self._queue_lock:
            self._make_room_locked(size)
            return self._queue_locked(tree, code, body, data, flags, now)

    def append_in(
        self, number: int, tree: int, code: int, body: bytes, data: bytes | memoryview = b"", *, flags: int = 0,
        wall_ns: int = 0,
    ) -> tuple[int, int] | None:  # fmt: skip
        """As append(), but None, and nothing queued, if the record would not go into log file *number*: there is the
        Base that it needs, and files are dropped one by one."""
        size = HEADER.size + len(body) + len(data)
        now = wall_ns or self._clock.time_ns()
        with self._queue_lock:
            self._make_room_locked(size)
            return self._queue_locked(tree, code, body, data, flags, now) if self._number == number else None

    def flush(self, seq: int) -> None:
        """Return when every record up to *seq* survives the death of our processes. LogFailed if it cannot."""
        if self._flushed >= seq:
            return
        with self._write_lock:
            if self._flushed >= seq:
                return
            self._write_queued_locked()

    def read(self, address: int, length: int) -> bytes | memoryview:
        """Inline data. DroppedLog if the file is gone; Damaged if it is shorter than it should be."""
        number, position = split_address(address)
        with self._queue_lock:
            if number not in self._fds and (now := self._places.find(address)) is not None:
                number, position = split_address(now)
            for start, data in self._unwritten.items():
                if start <= address < start + len(data):
                    return bytes(
                        memoryview(data)[address - start : address - start + length]
                    )  # the writer's own buffer
            fd = self._fds.get(number)
            if fd is None:
                raise DroppedLog(number)
            self._reading += 1
        try:
            data = os.pread(fd, length, position)
        finally:
            self._done_reading()
        if len(data) != length:
            raise Damaged(f"log file {number}: ends inside the data of a record")
        return data

    def sync(self) -> None:
        """Every record appended so far survives a power cut when this returns. LogFailed if one never will,
        StoreUnavailable if there is no descriptor for it now."""
        with self._sync_lock:  # who comes while another flushes the disk waits for that: its records may be among them
            with self._write_lock:
                if self._flushed < self._seq or self._failure is not None:
                    self._write_queued_locked()
                unsynced, self._unsynced = self._unsynced, set()
                with self._queue_lock:
                    fds = [self._fds[number] for number in unsynced if number in self._fds]
                    self._reading += 1  # keeps the descriptors of files that are dropped meanwhile
            try:
                for fd in fds:
                    os.fdatasync(fd)
                sync_directory(self._directory / "log")
                self._sync_place()
            except OSError as exc:
                if exc.errno in _NO_DESCRIPTORS:
                    with self._write_lock:
                        self._unsynced |= unsynced
                    raise StoreUnavailable(f"the log of the mount: {exc.strerror}") from exc
                raise self._fail(exc) from exc  # what the disk refused once it may say to have the next time
            finally:
                self._done_reading()

    def check_room(self) -> None:
        """NoSpace while the reserve is in use: what was accepted needs it, so nothing is to be begun."""
        if self._reserve.in_use:
            with self._write_lock:
                self._reserve.fill()

    def carry(self, copies: Sequence[Copy]) -> int:
        """Write copies of records behind all others; they are safe, and found there, when this returns. The number of
        the file. LogFailed."""
        body = records.encode_carried([(copy.end, copy.data) for copy in copies])
        seq, end = self.append(0, _CARRIED, body)
        self.flush(seq)
        self.sync()  # what was safe from a power cut where it stood has to be so here
        carried = records.decode(_CARRIED, memoryview(body), end)
        assert isinstance(carried, records.Carried)
        with self._queue_lock:
            self._places.note(carried)
        return end >> 32

    def file_of(self, address: int) -> int:
        """The number of the file in which inline data are now."""
        with self._queue_lock:
            now = self._places.find(address)
        return (address if now is None else now) >> 32

    def sizes(self) -> dict[int, int]:
        """The bytes of each file that exists."""
        with self._write_lock:
            return {number: os.fstat(fd).st_size for number, fd in self._fds.items()}

    def numbers(self) -> list[int]:
        """The files that exist, ascending; the last is the one being written."""
        return sorted(self._fds)

    def drop(self, number: int) -> int:
        """Delete a file that nothing needs any more; the bytes it had. Never the one being written.

        OSError: it is there as before."""
        with self._write_lock:
            if number >= self._number or number not in self._fds:
                return 0
            size = os.fstat(self._fds[number]).st_size
            log_path(self._directory, number).unlink(missing_ok=True)
            with self._queue_lock:  # a read that has begun keeps the descriptor from being closed and used again
                self._retired.append(self._fds.pop(number))
                self._places.keep(set(self._fds))
                idle = [] if self._reading else self._take_retired_locked()
            for fd in idle:
                os.close(fd)
        return size

    def close(self) -> None:
        """Write what is queued and close the files (which stay)."""
        with self._write_lock:
            if self._queue and self._failure is None:
                self._write_queued_locked()
            with self._queue_lock:
                fds = [*self._fds.values(), *self._take_retired_locked()]
                self._fds.clear()
            if self._next_fd >= 0:
                fds.append(self._next_fd)
                self._next_fd = -1
                self._next_path.unlink(missing_ok=True)
        for fd in fds:
            os.close(fd)

    def _make_room_locked(self, size: int) -> None:
        """Go on to the next file if *size* bytes do not fit into this one. LogFailed."""
        if self._failure is not None:
            raise self._failure
        most = _MOST_FILE_BYTES if self._stay else self._file_bytes
        if self._position + size > most and self._position > FILE_HEADER.size:
            self._number += 1
            self._position = FILE_HEADER.size

    def _queue_locked(
        self, tree: int, code: int, body: bytes, data: bytes | memoryview, flags: int, wall_ns: int
    ) -> tuple[int, int]:
        self._seq += 1
        start = self._position + HEADER.size + len(body)
        address = address_of(self._number, start)
        self._queue.append((self._number, self._seq, records.frame(self._seq, wall_ns, tree, flags, code, body, data)))
        if len(data):
            self._unwritten[address] = data
        self._position = start + len(data)
        return self._seq, address

    def _done_reading(self) -> None:
        with self._queue_lock:
            self._reading -= 1
            idle = [] if self._reading else self._take_retired_locked()
        for fd in idle:
            os.close(fd)

    def _sync_place(self) -> None:
        """Once: the names that lead to us, as far up as they were made for a mount. The caller holds _sync_lock."""
        if not self._placed:
            for directory in (self._directory, *self._directory.parents[:2]):
                with contextlib.suppress(PermissionError):  # not ours, so not new
                    sync_directory(directory)
            self._placed = True

    def _fail(self, exc: OSError) -> LogFailed:
        """Nothing more is taken; the error that says so."""
        failure = LogFailed(f"the log of the mount cannot be written: {exc.strerror}; free space, then remount")
        with self._queue_lock:
            self._failure = failure
        return failure

    def _take_retired_locked(self) -> list[int]:
        retired, self._retired = self._retired, []
        return retired

    def _write_queued_locked(self) -> None:
        """The one place that does I/O under a lock (LOG)."""
        with self._queue_lock:
            queued, self._queue = self._queue, []
            addresses = list(self._unwritten)
            failure = self._failure
        if failure is not None:
            raise failure
        if len(queued) == 1:  # the usual case: nobody else writes at this moment
            number, seq, parts = queued[0]
            self._write_file_locked(number, parts)
            self._flushed = seq
        else:
            for number, group in itertools.groupby(queued, key=lambda record: record[0]):
                written = list(group)
                self._write_file_locked(number, [part for _, _, parts in written for part in parts])
                self._flushed = written[-1][1]
        with self._queue_lock:
            for address in addresses:
                del self._unwritten[address]
            half = self._position > self._file_bytes // 2
        if half:
            self._open_next_locked()

    def _write_file_locked(self, number: int, parts: list[bytes | memoryview]) -> None:
        try:
            while True:
                try:
                    return self._append_locked(number, parts)
                except OSError as exc:
                    if exc.errno not in (errno.ENOSPC, errno.EDQUOT) or not self._reserve.give_up():
                        raise
        except OSError as exc:
            raise self._fail(exc) from exc

    def _append_locked(self, number: int, parts: list[bytes | memoryview]) -> None:
        """All of *parts* at the end of the file, which may have to be made; nothing of them if that is an OSError."""
        fd = self._fds.get(number)
        if fd is None:
            fd = self._make_file_locked(log_path(self._directory, number))
            with self._queue_lock:
                self._fds[number] = fd
        self._unsynced.add(number)
        file, good = self._written
        if file != number:
            good = os.fstat(fd).st_size
        if not good:
            parts = [records.file_header(number, self._boot_id), *parts]
        self._written = (number, good)
        try:
            write_all(fd, parts)
        except OSError:
            os.ftruncate(fd, good)
            raise
        self._written = (number, good + sum(map(len, parts)))

    def _make_file_locked(self, path: Path) -> int:
        """A descriptor of the new file *path*: the one that was opened ahead, if there is one. OSError."""
        if self._next_fd < 0:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_APPEND, 0o600)
        os.rename(self._next_path, path)
        fd, self._next_fd = self._next_fd, -1
        return fd

    def _open_next_locked(self) -> None:
        """Open the file after the current one, under no number yet. If that fails the next flush tries again."""
        if self._next_fd >= 0:
            return
        flags = os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_APPEND
        try:
            self._next_fd = os.open(self._next_path, flags, 0o600)
        except OSError as exc:
            if not self._stay:
                log.warning("the next file of the mount's log cannot be opened, this one grows: %s", exc)
        with self._queue_lock:
            self._stay = self._next_fd < 0


class LogReader:
    """Reads records in order across files, from the first that exists."""

    def __init__(self, directory: Path) -> None:
        self._directory: Final = directory
        self._number = 0  # confined to the reading thread, as all below
        self._position = 0
        self._fd = -1
        self._left = b""
        self.boot_id = b""
        self.numbers: set[int] = set()  # of the files from which it has read

    def read(self) -> Iterator[Record]:
        """The records that are there and were not given yet. Damaged if one that is wholly there is not sound."""
        while True:
            if self._fd < 0 and not self._open_next():
                return
            yield from self._read_file()
            later = [n for n in log_numbers(self._directory) if n > self._number]
            if not later:
                return
            yield from self._read_file()  # what came between our last read and the start of the next file
            if self._left:
                raise Damaged(f"log file {self._number}: ends inside a record, and is not the last")
            os.close(self._fd)
            self._fd = -1

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open_next(self) -> bool:
        later = [n for n in log_numbers(self._directory) if n > self._number]
        if not later:
            return False
        try:
            fd = os.open(log_path(self._directory, later[0]), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:  # dropped since we looked: covered, or carried to where we come yet
            return self._open_next()
        head = os.pread(fd, FILE_HEADER.size, 0)
        if len(head) < FILE_HEADER.size:  # being made, or cut off at birth
            os.close(fd)
            return False
        try:
            self.boot_id = records.check_file_header(head, later[0])
        except BaseException:
            os.close(fd)
            raise
        self.numbers.add(later[0])
        self._fd, self._number, self._position, self._left = fd, later[0], FILE_HEADER.size, b""
        return True

    def _read_file(self) -> Iterator[Record]:
        while True:
            chunk = os.pread(self._fd, _READ_BYTES, self._position + len(self._left))
            if not chunk:
                return
            data = self._left + chunk if self._left else chunk
            base = address_of(self._number, self._position)
            end = base
            for record in records.parse(memoryview(data), base):
                end = record.end
                yield record
            self._left = data[end - base :]
            self._position += end - base


def write_all(fd: int, parts: list[bytes | memoryview]) -> None:
    """writev of any number of parts, looping on short writes."""
    if len(parts) == 1:
        done = os.write(fd, parts[0])
        if done == len(parts[0]):
            return
        parts = [memoryview(parts[0])[done:]]
    pending = [memoryview(part) for part in parts if len(part)]
    while pending:
        written = os.writev(fd, pending[:_IOV_MAX])
        done = 0
        while done < len(pending) and written >= len(pending[done]):
            written -= len(pending[done])
            done += 1
        if written:
            pending[done] = pending[done][written:]
        del pending[:done]


def sync_directory(path: Path) -> None:
    """The names in *path* survive a power cut when this returns."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
