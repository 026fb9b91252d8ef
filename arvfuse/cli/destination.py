"""Where ``get`` writes: a directory that is never left, whatever the names in a collection say.

Every step goes by a descriptor of the directory above and follows no symbolic link. A file gets its name when it is
complete. Failure: EntryExists for what is there already (without *force*), NotADirectory for a file or link in the
way; what was complete before stays, an incomplete file does not.
"""

from __future__ import annotations

import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import Final

from arvfuse.errors import EntryExists, InvalidPath, NotADirectory

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Destination:
    """The directory at *path*, which is made if it is missing. Close it."""

    def __init__(self, path: str, *, force: bool = False) -> None:
        self._path: Final = path
        self._force: Final = force
        os.makedirs(path, exist_ok=True)
        # The destination itself may be a link: its user named it.
        self._top: Final = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # Where the last step ended: the next one mostly is there or below, and needs no walk from the top.
        self._last_names: tuple[str, ...] = ()
        self._last = os.dup(self._top)

    def close(self) -> None:
        """Close the descriptors."""
        os.close(self._last)
        os.close(self._top)

    def make_directory(self, names: tuple[str, ...]) -> None:
        """The directory *names* below the destination exists."""
        with self._open(names):
            pass

    def write(self, names: tuple[str, ...], parts: Iterable[bytes | memoryview]) -> int:
        """A file of *parts*; its size."""
        with self._open(names[:-1]) as parent:
            return write_file(parent, _checked(names[-1]), parts, force=self._force, shown=self._show(names))

    @contextmanager
    def _open(self, names: tuple[str, ...]) -> Iterator[int]:
        known = len(self._last_names)
        if names[:known] != self._last_names:
            known = 0
        at = os.dup(self._last if known else self._top)
        try:
            for index, name in enumerate(names[known:], known):
                with suppress(FileExistsError):
                    os.mkdir(_checked(name), dir_fd=at)
                try:
                    below = os.open(name, _DIRECTORY, dir_fd=at)
                except OSError as error:
                    shown = self._show(names[: index + 1])
                    raise NotADirectory(shown, "in the way, and not a directory; move it or choose another") from error
                os.close(at)
                at = below
            os.dup2(at, self._last, inheritable=False)
            self._last_names = names
            yield at
        finally:
            os.close(at)

    def _show(self, names: tuple[str, ...]) -> str:
        return os.path.join(self._path, *names)


def write_file(parent: int, name: str, parts: Iterable[bytes | memoryview], *, force: bool, shown: str) -> int:
    """A file *name* in the directory of descriptor *parent*, complete or not at all; its size."""
    found = _look(parent, name)
    if found is not None and stat.S_ISDIR(found.st_mode):
        raise EntryExists(shown, "a directory; choose another destination")
    if found is not None and not force:
        raise EntryExists(shown, "there already; -f overwrites it")
    hidden = f".arvfuse-get-{secrets.token_hex(8)}"
    written = 0
    descriptor = os.open(hidden, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666, dir_fd=parent)
    try:
        with open(descriptor, "wb", buffering=0) as file:
            for part in parts:
                written += _write_all(file.fileno(), part)
        if force:
            os.rename(hidden, name, src_dir_fd=parent, dst_dir_fd=parent)
            return written
        try:
            os.link(hidden, name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=False)
        except FileExistsError:
            raise EntryExists(shown, "was made meanwhile; -f overwrites it") from None
        except OSError:  # a file system without links: the check above has to do
            os.rename(hidden, name, src_dir_fd=parent, dst_dir_fd=parent)
            return written
        os.unlink(hidden, dir_fd=parent)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(hidden, dir_fd=parent)
        raise
    return written


def _write_all(descriptor: int, part: bytes | memoryview) -> int:
    view = memoryview(part)
    done = 0
    while done < len(view):
        done += os.write(descriptor, view[done:])
    return done


def _look(parent: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _checked(name: str) -> str:
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidPath(repr(name), "a name that would leave the destination; get other parts one by one")
    return name
