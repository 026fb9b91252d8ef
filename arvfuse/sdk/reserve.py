"""Room on the disk that is kept for the log: what was accepted is written when nothing else is left.

A preallocated file that gives its room up in steps, so that who else fills the disk does not get it all at once.
While some of it is given up nothing new is begun (promise D4). Threading: the owner's lock guards it; ``in_use`` may
be read without. Failure: NoSpace.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from arvfuse.errors import NoSpace

STEP_BYTES: Final = 4 << 20


class Reserve:
    """*size* bytes in the file *path*; 0: there is none. ``in_use``: less than that is left."""

    def __init__(self, path: Path, size: int) -> None:
        self._path: Final = path
        self._size: Final = size
        self.in_use = False

    def __repr__(self) -> str:
        return f"<Reserve {self._size} bytes{' in use' if self.in_use else ''}>"

    def fill(self) -> None:
        """Have the whole room, again. NoSpace: what is left of it stays."""
        if not self._size:
            return
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise NoSpace(str(self._path.parent), "no room for the reserve of the mount's log") from exc
        left = os.fstat(fd).st_size
        try:
            os.posix_fallocate(fd, 0, self._size)
        except OSError as exc:
            os.ftruncate(fd, left)
            if not left:
                self._path.unlink()
            raise NoSpace(str(self._path.parent), "no room for the reserve of the mount's log") from exc
        finally:
            os.close(fd)
        self.in_use = False

    def give_up(self) -> bool:
        """Give a part of the room to whoever writes next; False if none is left. Needs no descriptor."""
        try:
            left = self._path.stat().st_size if self._size else 0
        except FileNotFoundError:
            return False
        if not left:
            return False
        self.in_use = True
        if left > STEP_BYTES:
            os.truncate(self._path, left - STEP_BYTES)
        else:
            self._path.unlink()
        return True
