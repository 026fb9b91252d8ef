"""Open files of the library: binary handles with a position, and text wrappers over them.

A handle has no buffer of its own: what write() took is in the log or spool when it returns, close() and flush() only
deliver failures that came in the background (promise D4). Reads give everything that was asked for unless the file
ends; what comes next is fetched ahead where the store is not at hand (`sdk.ahead`).

Threading: any thread; a handle's lock makes each operation one step that reads, writes and moves the position.
Failure: what raised did not move the position. Operations on a closed handle raise ValueError.
"""

from __future__ import annotations

import io
import os
import threading
import zlib
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from arvfuse.errors import ArgumentError, InvalidPath
from arvfuse.sdk.modes import Mode

if TYPE_CHECKING:
    from arvfuse.sdk.fileitem import ArvadosFile

CHUNK_BYTES: Final = 64 << 20  # a longer write gives way to readers and to the put threads in between
READ_BYTES: Final = 1 << 20
_LINE_BYTES: Final = 64 << 10  # of a line that are looked for at once, at most
_SHORT_LINE_BYTES: Final = 512  # and at least


class ArvadosFileReader:
    """A binary handle for reading. ``size``, ``tell``, ``name`` and ``mode`` work after close, too."""

    def __init__(self, item: ArvadosFile, mode: Mode) -> None:
        self._item: Final = item
        self._mode: Final = mode
        self._lock: Final = threading.Lock()
        self._position = 0  # guarded by: _lock
        self._line_bytes = _SHORT_LINE_BYTES  # that a line is likely to fit into; guarded by: _lock
        self._closed = False  # guarded by: _lock
        self._seen = item.open_handle(write=mode.write)  # background failures already told; guarded by: _lock
        self._ahead: Final = item.read_ahead() if mode.read else None  # guarded by: _lock

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<{type(self).__name__} {self.name!r} {self.mode} {state} at {self._position}>"

    @property
    def name(self) -> str:
        """The file's name without its directory."""
        return self._item.name

    @property
    def mode(self) -> str:
        return self._mode.name

    @property
    def closed(self) -> bool:
        return self._closed

    @property
    def arvadosfile(self) -> ArvadosFile:
        """The file that the handle is of."""
        return self._item

    def stream_name(self) -> str:
        """The stream name of the file's directory."""
        return self._item.parent_stream_name()

    def size(self) -> int:
        """Bytes of the file now."""
        return self._item.size()

    def readable(self) -> bool:
        return self._mode.read

    def writable(self) -> bool:
        return self._mode.write

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        """The position."""
        return self._position

    def seek(self, pos: int, whence: int = os.SEEK_SET) -> int:
        """Move the position, also beyond the end; the new one. InvalidPath (EINVAL) if it would be negative."""
        with self._lock:
            self._check_open()
            if whence == os.SEEK_CUR:
                pos += self._position
            elif whence == os.SEEK_END:
                pos += self.size()
            elif whence != os.SEEK_SET:
                raise ArgumentError(f"whence cannot be {whence}")
            if pos < 0:
                raise InvalidPath(self.name, "a position cannot be negative")
            if self._ahead is not None and pos != self._position:
                self._ahead.cancel()
            self._position = pos
            return pos

    def read(self, size: int | None = -1) -> bytes:
        """*size* bytes from the position, fewer only at the end of the file; all that is left if it is negative."""
        with self._lock:
            self._check_readable()
            data = bytes(self._fetch_on(self._position, size))
            self._position += len(data)
            return data

    def readinto(self, buffer: bytearray | memoryview) -> int:
        """Fill *buffer* as far as the file goes; the number of bytes."""
        view = memoryview(buffer).cast("B")
        with self._lock:
            self._check_readable()
            data = self._fetch_on(self._position, len(view))
            view[: len(data)] = data
            self._position += len(data)
            return len(data)

    def readfrom(self, offset: int, size: int, num_retries: int | None = None) -> bytes:
        """*size* bytes from *offset*; the position stays. *num_retries* is the store's business and ignored."""
        with self._lock:
            self._check_readable()
        return bytes(self._fetch(offset, size))

    def readall(self, size: int = READ_BYTES, num_retries: int | None = None) -> Iterator[bytes]:
        """The rest of the file in parts of *size* bytes."""
        while data := self.read(size):
            yield data

    def readall_decompressed(self, size: int = READ_BYTES, num_retries: int | None = None) -> Iterator[bytes]:
        """The whole file, decompressed if its name ends in ``.gz`` or ``.bz2``."""
        self.seek(0)
        if self.name.endswith(".bz2"):
            from bz2 import BZ2Decompressor

            yield from self._decompressed(BZ2Decompressor, size)
        elif self.name.endswith(".gz"):
            yield from self._decompressed(lambda: zlib.decompressobj(16 + zlib.MAX_WBITS), size)
        else:
            yield from self.readall(size)

    def readline(self, size: int | None = -1) -> bytes:
        """Bytes up to and with the next line feed, at most *size*."""
        limit = -1 if size is None else size
        with self._lock:
            self._check_readable()
            parts: list[bytes] = []
            at, left, wanted = self._position, limit, self._line_bytes
            while left:
                part = bytes(self._fetch_on(at, wanted if left < 0 else min(left, wanted)))
                wanted = min(2 * wanted, _LINE_BYTES)
                end = part.find(b"\n") + 1
                if end:
                    part = part[:end]
                parts.append(part)
                at += len(part)
                left = left - len(part) if left > 0 else left
                if end or not part:
                    break
            line = b"".join(parts)
            # Twice the last one: a fetch for a line is to take the line, not the next hundred, which it would again.
            self._line_bytes = max(_SHORT_LINE_BYTES, min(2 * len(line), _LINE_BYTES))
            self._position = at
            return line

    def readlines(self, sizehint: int = -1, num_retries: int | None = None) -> list[bytes]:
        """The lines that are left; at least *sizehint* bytes of them if it is positive."""
        lines: list[bytes] = []
        total = 0
        for line in self:
            lines.append(line)
            total += len(line)
            if 0 < sizehint <= total:
                break
        return lines

    def __iter__(self) -> Iterator[bytes]:
        with self._lock:
            self._check_open()
        return iter(self.readline, b"")

    def flush(self) -> None:
        """Raise what failed in the background since the last flush of this handle, if something did."""
        with self._lock:
            self._check_open()
            self._flush_locked()

    def close(self, flush: bool = True) -> None:
        """Close the handle; with *flush*, raise what failed in the background. Closing again does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            if self._ahead is not None:
                self._ahead.close()
            self._item.close_handle(write=self._mode.write)
            if flush and self._mode.write:
                self._flush_locked()

    def __enter__(self) -> Self:
        with self._lock:
            self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _fetch(self, offset: int, size: int | None) -> bytes | memoryview:
        return self._item.fetch(offset, self._wanted(offset, size))

    def _fetch_on(self, offset: int, size: int | None) -> bytes | memoryview:
        """As _fetch, for who reads on from the position. Lock held."""
        size = self._wanted(offset, size)
        if self._ahead is not None:
            self._ahead.reading(offset, size)
        return self._item.fetch(offset, size, self._ahead)

    def _wanted(self, offset: int, size: int | None) -> int:
        return max(self.size() - offset, 0) if size is None or size < 0 else size

    def _decompressed(self, make: object, size: int) -> Iterator[bytes]:
        """Members one after another, as gzip and bzip2 concatenate them."""
        assert callable(make)
        machine = make()
        for data in self.readall(size):
            while data:
                out = machine.decompress(data)
                if out:
                    yield out
                data = machine.unused_data
                if machine.eof:
                    machine = make()

    def _flush_locked(self) -> None:
        mark = self._seen
        self._seen = self._item.error_mark()
        self._item.flush_errors(mark)

    def _check_open(self) -> None:
        if self._closed:
            raise ValueError("I/O operation on closed file")

    def _check_readable(self) -> None:
        self._check_open()
        if not self._mode.read:
            raise io.UnsupportedOperation("not readable")


class ArvadosFileWriter(ArvadosFileReader):
    """A binary handle for writing; for reading too if its mode has a ``+``. With mode ``a`` every write goes to the
    end of the file, wherever that is then."""

    def __init__(self, item: ArvadosFile, mode: Mode) -> None:
        super().__init__(item, mode)
        if mode.append:
            self._position = item.size()

    def write(self, data: bytes | bytearray | memoryview | str, num_retries: int | None = None) -> int:
        """Write all of *data* (a text as UTF-8); the number of bytes."""
        view = memoryview(data.encode() if isinstance(data, str) else data).cast("B")
        with self._lock:
            self._check_open()
            done = 0
            while done < len(view):
                part = view[done : done + CHUNK_BYTES]
                if self._mode.append:
                    self._position = self._item.append(part)
                else:
                    self._item.store(self._position, part)
                    self._position += len(part)
                done += len(part)
            return len(view)

    def writelines(self, seq: Iterable[bytes | str], num_retries: int | None = None) -> None:
        """Write each of *seq*; line feeds are theirs."""
        for each in seq:
            self.write(each)

    def truncate(self, size: int | None = None) -> int:
        """Set the file's size, to the position if none is given (0 if negative); the position stays."""
        with self._lock:
            self._check_open()
            size = self._position if size is None else max(size, 0)
            self._item.truncate(size)
            return size

    def fsync(self) -> None:
        """What was written to the file survives a power cut when this returns (promise D2)."""
        with self._lock:
            self._check_open()
            self._item.fsync()
            self._flush_locked()


class _Raw(io.RawIOBase):
    """A handle as the io module wants it, for the buffers of text handles."""

    def __init__(self, handle: ArvadosFileReader) -> None:
        self._handle: Final = handle
        self.name = handle.name
        self.mode = handle.mode

    def readable(self) -> bool:
        return self._handle.readable()

    def writable(self) -> bool:
        return self._handle.writable()

    def seekable(self) -> bool:
        return True

    def seek(self, pos: int, whence: int = os.SEEK_SET, /) -> int:
        return self._handle.seek(pos, whence)

    def tell(self) -> int:
        return self._handle.tell()

    def truncate(self, size: int | None = None, /) -> int:
        assert isinstance(self._handle, ArvadosFileWriter)
        return self._handle.truncate(size)

    def readinto(self, buffer: bytearray | memoryview, /) -> int:  # type: ignore[override] # io has no name for its buffers in 3.11
        return self._handle.readinto(buffer)

    def write(self, data: bytes | bytearray | memoryview, /) -> int:  # type: ignore[override] # as above
        assert isinstance(self._handle, ArvadosFileWriter)
        return self._handle.write(data)

    def close(self) -> None:
        if not self.closed:
            try:
                super().close()  # flushes
            finally:
                self._handle.close()


def open_text(handle: ArvadosFileReader, encoding: str | None) -> io.TextIOWrapper:
    """A text wrapper over *handle*, which it closes. What it buffers is written at flush() and close()."""
    raw = _Raw(handle)
    buffer: io.BufferedReader | io.BufferedWriter | io.BufferedRandom
    if not handle.writable():
        buffer = io.BufferedReader(raw)
    elif handle.readable():
        buffer = io.BufferedRandom(raw)
    else:
        buffer = io.BufferedWriter(raw)  # type: ignore[arg-type] # io has no name for its buffers in 3.11
    return io.TextIOWrapper(buffer, encoding=encoding or "utf-8")
