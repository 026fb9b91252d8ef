"""Where a read cache keeps its lines: in memory or in a directory, both bounded in bytes, oldest use first out.

A line is a part of a block: number n of lines of a fixed length. Any thread may call. A shelf never raises for its own
troubles: what cannot be kept is not kept, what cannot be read or does not fit its sums is dropped and answered as a
miss. Several processes may share a directory; each keeps its bound for what it has seen there.
"""

from __future__ import annotations

import itertools
import logging
import os
import re
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from arvfuse.model.checks import PIECE_BYTES, piece_checks
from arvfuse.stores.blockfiles import link_descriptor
from arvfuse.stores.hashing import write_all
from arvfuse.stores.lru import Lru
from arvfuse.stores.openfiles import OpenFiles

log = logging.getLogger(__name__)
_OPEN_FILES: Final = 64
_LINE_FILE: Final = re.compile(r"([0-9a-f]{32})\+([0-9]+)\.([0-9]+)x([0-9]+)", re.ASCII)


class Line(NamedTuple):
    """Which part of which block: bytes [number * line_bytes, (number + 1) * line_bytes) of a block of *size*."""

    digest: str
    size: int
    number: int
    line_bytes: int

    @property
    def start(self) -> int:
        """Offset in the block."""
        return self.number * self.line_bytes

    @property
    def length(self) -> int:
        """Bytes of this line."""
        return max(0, min(self.line_bytes, self.size - self.start))


class Shelf(Protocol):
    """What Cached needs to keep lines."""

    def read(self, line: Line, start: int, end: int) -> bytes | memoryview | None:
        """Bytes [start, end) of the line, checked, or None."""
        ...

    def keep(self, line: Line, data: bytes | memoryview) -> None:
        """Keep the whole line."""
        ...

    def adopt(self, line: Line, path: Path, checks: bytes) -> None:
        """Keep the whole line, which is the finished file at *path*, if that costs no copy."""
        ...

    def close(self) -> None: ...


class MemoryShelf:
    """Lines as bytes objects, at most *limit_bytes*."""

    def __init__(self, limit_bytes: int) -> None:
        self._lines: Final[Lru[Line, bytes]] = Lru(limit_bytes)

    def __repr__(self) -> str:
        return f"<MemoryShelf {self._lines!r}>"

    def read(self, line: Line, start: int, end: int) -> bytes | memoryview | None:
        """A view of the kept bytes."""
        data = self._lines.get(line)
        return None if data is None else memoryview(data)[start:end]

    def keep(self, line: Line, data: bytes | memoryview) -> None:
        """Keep a copy, or *data* itself if that is bytes."""
        self._lines.put(line, bytes(data), len(data))

    def adopt(self, line: Line, path: Path, checks: bytes) -> None:
        """Nothing: it would be a copy."""

    def close(self) -> None:
        """Give the memory back."""
        self._lines.clear()


class DirectoryShelf:
    """Lines as files below *directory*, each with a file of the sums of its 64 KiB pieces, at most *limit_bytes*.

    What an earlier process left there is found again. Raises OSError only when it is made."""

    def __init__(self, directory: Path, limit_bytes: int) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory: Final = directory
        self._numbers: Final = itertools.count()
        self._lines: Final[Lru[Line, bytes]] = Lru(limit_bytes)  # line -> sums
        self._open: Final = OpenFiles(_OPEN_FILES)
        for line in self._found():
            self._admit(line)

    def __repr__(self) -> str:
        return f"<DirectoryShelf {self._directory} {self._lines!r}>"

    def read(self, line: Line, start: int, end: int) -> bytes | memoryview | None:
        """Read the pieces that the range touches and check them; a line that fails is removed."""
        sums = self._lines.get(line)
        if sums is None:
            sums = self._admit(line)  # another process may have brought it
            if sums is None:
                return None
        low = start - start % PIECE_BYTES
        high = min(-(-end // PIECE_BYTES) * PIECE_BYTES, line.length)
        data = self._pread(line, low, high - low)
        if len(data) != high - low or piece_checks(data) != sums[low // PIECE_BYTES * 8 : -(-high // PIECE_BYTES) * 8]:
            log.warning("%s: damaged or gone from the cache; it is fetched again", self._path(line))
            self._lines.pop(line)
            self._remove(line)
            return None
        return memoryview(data)[start - low : end - low]

    def keep(self, line: Line, data: bytes | memoryview) -> None:
        """Write the sums, then the line, each complete when its name appears."""
        try:
            self._write(self._sums_path(line), piece_checks(data))
            self._write(self._path(line), data)
        except OSError as exc:
            log.warning("%s: cannot keep a block in the cache: %s", self._directory, exc)
            return
        self._admit(line)

    def adopt(self, line: Line, path: Path, checks: bytes) -> None:
        """Link the file; no copy where that cannot be."""
        try:
            self._write(self._sums_path(line), checks)
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                link_descriptor(descriptor, self._path(line))
            finally:
                os.close(descriptor)
        except FileExistsError:
            pass
        except OSError as exc:
            log.debug("%s: not linked into the cache: %s", path, exc)
            return
        self._admit(line)

    def close(self) -> None:
        """Close the files; they stay for the next process."""
        self._open.close()

    def _admit(self, line: Line) -> bytes | None:
        """Count the line that is on the disk as used now, make room for it, and return its sums."""
        try:
            sums = self._sums_path(line).read_bytes()
            length = self._path(line).stat().st_size
        except OSError:
            return None
        if length != line.length or len(sums) != 8 * -(-length // PIECE_BYTES):
            self._remove(line)
            return None
        for gone, _ in self._lines.put(line, sums, length + len(sums)):
            self._remove(gone)
        return sums

    def _found(self) -> list[Line]:
        """The lines in the directory, written longest ago first."""
        ages: list[tuple[int, Line]] = []
        for path in self._directory.glob("???/*"):
            match = _LINE_FILE.fullmatch(path.name)
            if match is not None:
                digest, size, number, line_bytes = match.groups()
                ages.append((path.stat().st_mtime_ns, Line(digest, int(size), int(number), int(line_bytes))))
        return [line for _, line in sorted(ages)]

    def _path(self, line: Line) -> Path:
        name = f"{line.digest}+{line.size}.{line.number}x{line.line_bytes}"
        return self._directory / line.digest[:3] / name

    def _sums_path(self, line: Line) -> Path:
        return self._path(line).with_suffix(".sums" + self._path(line).suffix)

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        spare = path.parent / f".new-{os.getpid()}-{id(self):x}-{next(self._numbers)}"
        path.parent.mkdir(exist_ok=True)
        try:
            descriptor = os.open(spare, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o400)
            try:
                write_all(descriptor, memoryview(data), 0)
            finally:
                os.close(descriptor)
            os.rename(spare, path)
        except OSError:
            spare.unlink(missing_ok=True)
            raise

    def _pread(self, line: Line, offset: int, length: int) -> bytes:
        try:
            file = self._open.acquire(
                self._path(line).name, lambda: os.open(self._path(line), os.O_RDONLY | os.O_CLOEXEC)
            )
            try:
                return os.pread(file.fd, length, offset)
            finally:
                self._open.release(file)
        except OSError:
            return b""

    def _remove(self, line: Line) -> None:
        self._open.drop(self._path(line).name)
        for path in (self._path(line), self._sums_path(line)):
            try:
                path.unlink(missing_ok=True)
            except OSError as exc:
                log.warning("%s: cannot be removed from the cache: %s", path, exc)
