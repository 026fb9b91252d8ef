"""What a power cut leaves: the bytes of files that were flushed, and the names in directories that were.

``with PowerCut(top) as disk:`` watches every fsync and fdatasync below *top* made from Python (SQLite's own are not
seen: keep catalogs elsewhere). ``disk.after(target)`` then writes what a disk that kept nothing else would hold. A
directory that was flushed itself counts as present with all above it, as on journaling file systems.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from types import TracebackType
from typing import Any, Final


class PowerCut:
    """Records flushes while it is entered. Any thread may flush."""

    def __init__(self, top: Path) -> None:
        self._top: Final = top
        self._files: dict[int, bytes] = {}  # inode -> content when it was last flushed
        self._names: dict[Path, dict[str, int]] = {}  # directory -> its entries when it was last flushed
        self._held: list[int] = []  # descriptors that keep inode numbers from being used again
        self._real: Final = (os.fsync, os.fdatasync)

    def __enter__(self) -> PowerCut:
        fsync, fdatasync = self._real

        def watched_fsync(fd: Any) -> None:
            fsync(fd)
            self._flushed(fd if isinstance(fd, int) else fd.fileno())

        def watched_fdatasync(fd: Any) -> None:
            fdatasync(fd)
            self._flushed(fd if isinstance(fd, int) else fd.fileno())

        os.fsync, os.fdatasync = watched_fsync, watched_fdatasync
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        os.fsync, os.fdatasync = self._real
        for fd in self._held:
            os.close(fd)

    def holds(self, path: Path) -> bool:
        """Whether the file would be there, whole, after a power cut now."""
        inode = self._names.get(path.parent, {}).get(path.name)
        return inode is not None and self._files.get(inode) == path.read_bytes()

    def after(self, target: Path) -> Path:
        """The tree below *top* as it is after a power cut now, written to *target*."""
        for directory, names in self._names.items():
            place = target / directory.relative_to(self._top)
            place.mkdir(parents=True, exist_ok=True)
            for name, inode in names.items():
                if not (directory / name).is_dir():
                    (place / name).write_bytes(self._files.get(inode, b""))
        return target

    def _flushed(self, fd: int) -> None:
        status = os.fstat(fd)
        path = Path(os.readlink(f"/proc/self/fd/{fd}"))
        if stat.S_ISDIR(status.st_mode):
            if path.is_relative_to(self._top):
                with os.scandir(path) as entries:
                    self._names[path] = {entry.name: entry.inode() for entry in entries}
        else:
            self._held.append(os.open(f"/proc/self/fd/{fd}", os.O_RDONLY | os.O_CLOEXEC))
            self._files[status.st_ino] = os.pread(self._held[-1], status.st_size, 0)
