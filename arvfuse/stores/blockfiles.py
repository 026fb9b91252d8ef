"""The directory of blocks: names, links, temporary files, quarantine. The layout of a Keepstore directory volume.

Owns ``blocks/abc/abcdef...`` and ``quarantine/``. Any thread of any process may work in one directory at a time: a name
appears by link(2) with complete content and is never linked or renamed over other content. What a collector of garbage
must not take away in between is done under a shared flock on ``blocks/.gc-lock`` (each call opens it anew: a flock
belongs to the open file, and threads that shared one would unlock each other). OSErrors pass as they are.
"""

from __future__ import annotations

import errno
import fcntl
import itertools
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged, DigestCollision
from arvfuse.model.digests import md5
from arvfuse.stores.blocknames import is_digest
from arvfuse.stores.hashing import CHUNK_BYTES, hash_file, same_content, write_all

GC_LOCK: Final = ".gc-lock"
_REPAIR_LOCK: Final = ".repair-lock"
_CANNOT_LINK: Final = frozenset({errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK})
_Read = Callable[[int, int], bytes]


def sync_directory(path: Path) -> None:
    """fsync the directory *path*: its entries survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Temporary:
    """A file without a block's name. close() forgets it; what was linked from it stays."""

    def __init__(self, fd: int, path: Path | None) -> None:
        self.fd: Final = fd
        self._path: Final = path  # None: an O_TMPFILE, which the kernel forgets by itself, also after SIGKILL

    def __enter__(self) -> Temporary:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the descriptor and remove the temporary name."""
        os.close(self.fd)
        if self._path is not None:
            self._path.unlink(missing_ok=True)


class BlockFiles:
    """The files below *directory* (``DIR/blocks``) and *quarantine*. Changed directories are told to *changed*."""

    def __init__(self, directory: Path, quarantine: Path, changed: Callable[[Path], None]) -> None:
        self.directory: Final = directory
        self.quarantine: Final = quarantine
        self._changed: Final = changed
        self._numbers: Final = itertools.count()

    def __repr__(self) -> str:
        return f"<BlockFiles {self.directory}>"

    def path(self, digest: str) -> Path:
        """Where block *digest* is, or would be."""
        return self.directory / digest[:3] / digest

    def open(self, digest: str) -> int:
        """A descriptor for reading block *digest*. FileNotFoundError if there is none."""
        return os.open(f"{self.directory}/{digest[:3]}/{digest}", os.O_RDONLY | os.O_CLOEXEC)

    def names(self) -> Iterator[tuple[str, int]]:
        """(digest, bytes) of every block, in the order of digests; what is no block is passed over."""
        for fan in sorted(name for name in os.listdir(self.directory) if len(name) == 3):
            try:
                with os.scandir(self.directory / fan) as entries:
                    found = sorted(entry.name for entry in entries if is_digest(entry.name) and entry.name[:3] == fan)
            except (FileNotFoundError, NotADirectoryError):
                continue
            for name in found:
                try:
                    yield name, os.stat(self.directory / fan / name).st_size
                except FileNotFoundError:
                    continue  # a collector was faster

    def temporary(self) -> Temporary:
        """An empty, writable file on the store's file system."""
        try:
            return Temporary(os.open(self.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600), None)
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT, errno.EINVAL):
                raise
        return self.named_temporary()

    def named_temporary(self) -> Temporary:
        """As temporary(), where the file system has no O_TMPFILE."""
        while True:
            path = self._spare(self.directory)
            try:
                return Temporary(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600), path)
            except FileExistsError:
                continue  # left over from a dead process of our number

    def take(self, digest: str, size: int, fd: int) -> bool:
        """Give the finished file *fd* the name *digest*: True if it is new, False if the same content was there.

        OSError with an errno that cannot_link() knows: *fd* has to be copied to the store's file system first."""
        while not self._link(digest, fd):
            # Linked before, as when recovery adopts what was adopted: nothing to compare.
            if self._is_named(digest, fd) and self._touch(digest, fd):
                return False
            if self.keep(digest, size, lambda offset, length: os.pread(fd, length, offset)):
                return False
        return True

    def keep(self, digest: str, size: int, read: _Read) -> bool:
        """Whether the block is there with the content that *read* (offset, length) gives; if so it is made young.

        A block that does not match its name goes to the quarantine, and the answer is False. DigestCollision if both
        contents have the md5; Damaged if it is ours that has not."""
        while True:
            try:
                existing = self.open(digest)
            except FileNotFoundError:
                return False
            try:
                if self._same(existing, size, read):
                    if self._touch(digest, existing):
                        return True
                    continue  # taken away or replaced since we opened it: look again
                self._refuse_collision(digest, existing, size, read)
                self._set_aside(digest, existing)
                return False
            finally:
                os.close(existing)

    def rewrite(self, digest: str, flush_file: Callable[[int], None]) -> None:
        """Write the block anew, from what can still be read of it, and flush that: for a block whose flush failed.

        The kernel reports a lost page once and then calls it clean, so flushing the same file again proves nothing.
        Damaged if what is read is not the block any more."""
        source = self.open(digest)
        try:
            with self.temporary() as copy:
                copy_file(source, copy.fd)
                if hash_file(copy.fd).digest != digest:
                    raise Damaged(f"{self.path(digest)}: not on the disk, and what is in memory is not this block")
                os.fchmod(copy.fd, 0o444)
                flush_file(copy.fd)
                with self._locked(_REPAIR_LOCK, fcntl.LOCK_EX), self._locked(GC_LOCK, fcntl.LOCK_SH):
                    spare = self._spare(self.path(digest).parent)
                    link_descriptor(copy.fd, spare)
                    # The one rename over a block: the same content, compared by its md5, on sound pages.
                    os.replace(spare, self.path(digest))
        finally:
            os.close(source)
        self._changed(self.path(digest).parent)

    # -- parts of the above

    def _link(self, digest: str, fd: int) -> bool:
        path = self.path(digest)
        with self._locked(GC_LOCK, fcntl.LOCK_SH):
            try:
                link_descriptor(fd, path)
            except FileExistsError:
                return False
            except FileNotFoundError:
                path.parent.mkdir(exist_ok=True)
                self._changed(self.directory)
                try:
                    link_descriptor(fd, path)
                except FileExistsError:
                    return False
            os.utime(fd)  # young, however long the bytes waited in the spool
        self._changed(path.parent)
        return True

    def _touch(self, digest: str, existing: int) -> bool:
        with self._locked(GC_LOCK, fcntl.LOCK_SH):
            if not self._is_named(digest, existing):
                return False
            os.utime(existing)
        self._changed(self.path(digest).parent)
        return True

    def _is_named(self, digest: str, fd: int) -> bool:
        try:
            return os.path.samestat(os.stat(self.path(digest)), os.fstat(fd))
        except FileNotFoundError:
            return False

    def _same(self, existing: int, size: int, read: _Read) -> bool:
        try:
            return same_content(existing, size, read)
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return False  # a sector that cannot be read: to be replaced by good bytes

    def _refuse_collision(self, digest: str, existing: int, size: int, read: _Read) -> None:
        try:
            found = hash_file(existing).digest
        except OSError as exc:
            if exc.errno != errno.EIO:
                raise
            return
        if found != digest:
            return
        ours = md5()
        for offset in range(0, size, CHUNK_BYTES):
            ours.update(read(offset, min(CHUNK_BYTES, size - offset)))
        if ours.hexdigest() != digest:
            raise Damaged(f"the content given for block {digest} is not of that name")
        raise DigestCollision(f"{self.path(digest)}: other content with the same md5; the new one is refused")

    def _set_aside(self, digest: str, existing: int) -> None:
        with self._locked(_REPAIR_LOCK, fcntl.LOCK_EX):
            # Someone may have replaced it while we hashed: only what we saw to be bad is moved.
            if not self._is_named(digest, existing):
                return
            self.quarantine.mkdir(exist_ok=True)
            places = (self.quarantine / f"{digest}.{number}" for number in itertools.count())
            os.rename(self.path(digest), next(place for place in places if not place.exists()))
        self._changed(self.quarantine)
        self._changed(self.path(digest).parent)

    def _spare(self, parent: Path) -> Path:
        return parent / f".new-{os.getpid()}-{id(self):x}-{next(self._numbers)}"

    @contextmanager
    def _locked(self, name: str, how: int) -> Iterator[None]:
        descriptor = os.open(self.directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, how)
            yield
        finally:
            os.close(descriptor)


def cannot_link(exc: OSError) -> bool:
    """Whether *exc*, raised by linking, says that only a copy can get the file there."""
    return exc.errno in _CANNOT_LINK


def copy_file(source: int, target: int) -> None:
    """Copy all bytes; shares them where the file system can."""
    offset = 0
    while True:
        try:
            done = os.copy_file_range(source, target, 1 << 30, offset, offset)
        except OSError as exc:
            if offset or exc.errno not in (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
            break
        if not done:
            return
        offset += done
    while chunk := os.pread(source, 1 << 20, offset):
        write_all(target, memoryview(chunk), offset)
        offset += len(chunk)


def link_descriptor(fd: int, path: Path) -> None:
    """linkat(2) of an open file, named or not, to *path*: exactly the bytes that were hashed, whatever is renamed."""
    # os.link() calls link(2), which does not follow /proc's magic link, unless a directory descriptor is given.
    parent = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.link(f"/proc/self/fd/{fd}", path.name, src_dir_fd=parent, dst_dir_fd=parent, follow_symlinks=True)
    finally:
        os.close(parent)
