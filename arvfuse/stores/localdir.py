"""The embedded store: blocks as files of a local directory, the layout of a Keepstore directory volume.

Owns ``DIR/blocks`` and ``DIR/quarantine`` together with every other process that opened them. Any thread may call.
A put or adopted block is complete and named when the call returns, so it survives SIGKILL; its writeback is started
then, and barrier() waits for it. Every read is checked against xxh3 sums of 64 KiB pieces; sums that do not fit lead
to a look at the whole block, so that a wrong sum is mended and a wrong block is Damaged. Nothing here deletes a block.
A process opens a store after it was forked, never before.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from arvfuse.errors import BlockMissing, Damaged, NoSuchEntry, NotADirectory, NotPermitted, ReadOnly
from arvfuse.model.checks import PIECE_BYTES, piece_checks
from arvfuse.model.digests import md5
from arvfuse.model.locators import EMPTY_BLOCK
from arvfuse.ports import Clock
from arvfuse.stores.blockfiles import BlockFiles, cannot_link, copy_file, sync_directory
from arvfuse.stores.blocknames import check_block, clip, digest_and_size
from arvfuse.stores.diskerrors import disk_error, translated
from arvfuse.stores.filesystems import refuse_unsafe
from arvfuse.stores.flights import Flights
from arvfuse.stores.hashing import hash_file, write_all
from arvfuse.stores.index import BlockIndex, IndexRow
from arvfuse.stores.lru import Lru
from arvfuse.stores.openfiles import OpenFiles
from arvfuse.stores.syncing import Unsynced
from arvfuse.writeback import start_writeback

INDEX_NAME: Final = "index.sqlite3"
_OPEN_FILES: Final = 64
_ROW_BYTES: Final = 16 << 20  # checks of 2,000 full blocks, 125 GiB of data
_REMEMBERED_DAMAGED: Final = 1024
# Large blocks go to the disk while the writer goes on; small ones together, at the barrier.
_EARLY_WRITEBACK_BYTES: Final = 1 << 20


def open_store(
    directory: Path,
    *,
    clock: Clock,
    create: bool = False,
    read_only: bool = False,
    unsafe_filesystem: bool = False,
    lazily: bool = False,
) -> LocalDir:
    """Open the blocks of the store at *directory*; with *create*, make it if there is none.

    Refused, with the reason in one line: a file system that cannot be trusted (NotSupported, unless
    *unsafe_filesystem*), no store there (NoSuchEntry), no directory (NotADirectory), a directory that cannot be
    written (NotPermitted, ReadOnly; unless *read_only*, which writes nothing but a rebuildable index where it can),
    an index of a newer version (SchemaMismatch; with *lazily*, when it is first needed)."""
    blocks = directory / "blocks"
    if not unsafe_filesystem:
        refuse_unsafe(blocks)
    with translated(directory, "open the store"):
        if directory.exists() and not directory.is_dir():
            raise NotADirectory(str(directory), "not a directory, so not a store; choose another directory")
        if create and not read_only:
            try:
                _make_directories(blocks)
            except (FileExistsError, NotADirectoryError) as error:
                raise NotADirectory(str(directory), "its path goes through a file; choose another directory") from error
        if not blocks.is_dir():
            raise NoSuchEntry(str(directory), "no store here (it has no directory blocks)")
    if not read_only:
        _require_writable(blocks)
    return LocalDir(directory, clock=clock, read_only=read_only, lazily=lazily)


class LocalDir:
    """A BlockStore on ``DIR/blocks``, which exists. Made by open_store(); *flush_file* is fdatasync but in tests."""

    ahead_bytes: Final = 0  # the system reads files ahead by itself

    def __init__(
        self,
        directory: Path,
        *,
        clock: Clock,
        read_only: bool = False,
        lazily: bool = False,
        flush_file: Callable[[int], None] = os.fdatasync,
    ) -> None:
        blocks = directory / "blocks"
        self.directory: Final = directory
        self.read_only: Final = read_only
        self._clock: Final = clock
        self._flush_file: Final = flush_file
        self._unsynced: Final = Unsynced()
        self._files: Final = BlockFiles(blocks, directory / "quarantine", self._unsynced.note_directory)
        self._index: Final = BlockIndex(
            blocks / INDEX_NAME,
            writable=not read_only or os.access(blocks, os.W_OK, effective_ids=True),
            lazily=lazily,
        )
        self._open: Final = OpenFiles(_OPEN_FILES)
        self._rows: Final[Lru[str, IndexRow]] = Lru(_ROW_BYTES)
        self._hashing: Final[Flights[str, IndexRow]] = Flights()
        # digest -> what the file looked like when its whole content did not match its name
        self._damaged: Final[Lru[str, tuple[int, ...]]] = Lru(_REMEMBERED_DAMAGED)
        # Digests whose flush failed once. Confined to the thread that runs the barrier; Unsynced lets in one at a time.
        self._suspects: Final[set[str]] = set()

    def __repr__(self) -> str:
        return f"<LocalDir {self.directory}{' read-only' if self.read_only else ''} {self._unsynced!r}>"

    # -- the port

    def put(self, data: bytes | memoryview) -> str:
        """Store *data*, at most 64 MiB. NoSpace, NotPermitted, ReadOnly, StoreUnavailable, DigestCollision."""
        with memoryview(data) as whole, whole.cast("B") as view:
            digest = md5(view).hexdigest()
            self._check_writable(digest, len(view))
            if not view:
                return EMPTY_BLOCK
            with translated(self._files.path(digest), "write"):
                if not self._files.keep(digest, len(view), lambda at, length: bytes(view[at : at + length])):
                    with self._files.temporary() as file:
                        write_all(file.fd, view, 0)
                        self._name(digest, len(view), file.fd)
            return self._stored(digest, len(view), piece_checks(view))

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        """Link the finished file at *path* as block *digest*; copied where a link cannot be. Errors as put();
        Damaged if the file is not of *size*, or what is copied does not fit *checks*."""
        self._check_writable(digest, size)
        if not size:
            return EMPTY_BLOCK
        with translated(path, "adopt"):
            source = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                found = os.fstat(source).st_size
                if found != size:
                    raise Damaged(f"{path}: {found} bytes instead of the {size} of block {digest}")
                self._adopt_descriptor(source, digest, size, checks)
            finally:
                os.close(source)
        return self._stored(digest, size, checks)

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        """The bytes, checked. Reads the 64 KiB pieces that the range touches and no more, but for a block that the
        index does not know: that is hashed whole, once."""
        digest, size = digest_and_size(locator)
        start, end = clip(start, length, size)
        if start == end:
            return b""
        low = start - start % PIECE_BYTES
        high = min(-(-end // PIECE_BYTES) * PIECE_BYTES, size)
        data = self._checked(digest, self._row(digest, size), low, high)
        if data is None:
            data = self._checked(digest, self._second_look(digest), low, high)
            if data is None:
                raise Damaged(f"{self._files.path(digest)}: reads differ from one time to the next")
        return data if len(data) == end - start else memoryview(data)[start - low : end - low]

    def contains(self, locator: str) -> bool:
        """Whether a file of that name and size is there; its content is not read."""
        digest, size = digest_and_size(locator)
        if not size:
            return True
        path = self._files.path(digest)
        try:
            return path.stat().st_size == size
        except FileNotFoundError:
            return False
        except OSError as exc:
            raise disk_error(exc, path, "read") from exc

    def barrier(self) -> None:
        """Flush every block and directory entry this object made or met as duplicates since the last barrier.

        If a flush fails the block is written anew; if that fails, StoreUnavailable, now and at the next barrier."""
        with translated(self._files.directory, "flush"):
            self._unsynced.barrier(self._flush)

    def free_bytes(self) -> tuple[int, int]:
        """(total, available to us) bytes of the file system."""
        with translated(self.directory, "read"):
            found = os.statvfs(self.directory)
        return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize

    def close(self) -> None:
        """Close all files. Idempotent; nothing is flushed."""
        self._open.close()
        self._index.close()

    # -- beyond the port

    def path(self, locator: str) -> Path:
        """The file of a block."""
        return self._files.path(digest_and_size(locator)[0])

    def blocks(self) -> Iterator[str]:
        """The locators of all blocks by name and file size, in the order of their digests; contents are not read."""
        with translated(self._files.directory, "read"):
            for digest, size in self._files.names():
                yield f"{digest}+{size}"

    def verify(self, locator: str) -> None:
        """Hash the whole block as it is on the disk and note when. Damaged, BlockMissing, StoreUnavailable."""
        digest, size = digest_and_size(locator)
        if size:
            self._damaged.pop(digest)
            self._require_size(digest, size, self._hashing.run(digest, lambda: self._hash_whole(digest, uncached=True)))

    def last_verified_ns(self, locator: str) -> int | None:
        """When the whole block last matched its name (ns since 1970 UTC), or None if nobody knows."""
        row = self._index.get(digest_and_size(locator)[0])
        return None if row is None else row.verified_ns

    # -- writing

    def _check_writable(self, digest: str, size: int) -> None:
        check_block(digest, size)
        if self.read_only:
            raise ReadOnly(str(self.directory), "the store was opened read-only")

    def _adopt_descriptor(self, source: int, digest: str, size: int, checks: bytes) -> None:
        try:
            self._name(digest, size, source)
        except OSError as exc:
            if not cannot_link(exc):
                raise
            with self._files.temporary() as copy:
                copy_file(source, copy.fd)
                if hash_file(copy.fd).checks != checks:
                    raise Damaged(f"block {digest} changed while it was copied into the store") from exc
                self._name(digest, size, copy.fd)

    def _name(self, digest: str, size: int, fd: int) -> None:
        if os.fstat(fd).st_mode & 0o777 != 0o444:
            os.fchmod(fd, 0o444)
        if self._files.take(digest, size, fd) and size >= _EARLY_WRITEBACK_BYTES:
            start_writeback(fd)

    def _stored(self, digest: str, size: int, checks: bytes) -> str:
        """Note what has its name now; the content was hashed by the caller or compared byte for byte."""
        self._unsynced.note_block(digest)
        self._open.drop(digest)  # may be a damaged file that was replaced
        self._damaged.pop(digest)
        self._learn(digest, IndexRow(size, checks, self._clock.time_ns()))
        return f"{digest}+{size}"

    def _flush(self, blocks: set[str], directories: set[Path]) -> None:
        # All on their way first: then the first fdatasync commits the journal for the others too.
        for digest in blocks:
            self._start_writeback(digest)
        for digest in blocks:
            self._flush_block(digest)
        for directory in sorted(directories | {self._files.path(digest).parent for digest in blocks}):
            sync_directory(directory)

    def _start_writeback(self, digest: str) -> None:
        try:
            descriptor = self._files.open(digest)
        except FileNotFoundError:
            return  # _flush_block() says so
        try:
            start_writeback(descriptor)
        finally:
            os.close(descriptor)

    def _flush_block(self, digest: str) -> None:
        try:
            descriptor = self._files.open(digest)
        except FileNotFoundError as exc:
            # Not forgotten: a commit must not name it. Storing the block again ends this.
            raise BlockMissing(f"{self._files.path(digest)}: taken away before it was safe on the disk") from exc
        try:
            if digest not in self._suspects:
                self._flush_file(descriptor)
                return
        except OSError:
            self._suspects.add(digest)
        finally:
            os.close(descriptor)
        self._files.rewrite(digest, self._flush_file)
        self._open.drop(digest)
        self._suspects.discard(digest)

    # -- reading

    def _checked(self, digest: str, row: IndexRow, low: int, high: int) -> bytes | None:
        """The bytes from *low* to *high*, both at piece edges or the block's end, or None if they do not fit *row*."""
        data = self._read(digest, low, high - low)
        wanted = row.checks[low // PIECE_BYTES * 8 : -(-high // PIECE_BYTES) * 8]
        return data if len(data) == high - low and piece_checks(data) == wanted else None

    def _read(self, digest: str, offset: int, length: int) -> bytes:
        try:
            file = self._open.acquire(digest, lambda: self._files.open(digest))
            try:
                data = os.pread(file.fd, length, offset)
                while len(data) < length and (more := os.pread(file.fd, length - len(data), offset + len(data))):
                    data += more
                return data
            finally:
                self._open.release(file)
        except FileNotFoundError as exc:
            raise BlockMissing(f"block {digest}: not in {self.directory}") from exc
        except OSError as exc:
            raise disk_error(exc, self._files.path(digest), "read") from exc

    def _row(self, digest: str, size: int) -> IndexRow:
        row = self._rows.get(digest)
        if row is None:
            row = self._index.get(digest)
            if row is None:
                row = self._hashing.run(digest, lambda: self._hash_whole(digest))
            else:
                self._rows.put(digest, row, len(row.checks) + 256)
        return self._require_size(digest, size, row)

    def _second_look(self, digest: str) -> IndexRow:
        """A row that was made from the file as it is now: another process may have replaced a damaged block, or the
        row is what is damaged."""
        self._open.drop(digest)
        return self._hashing.run(digest, lambda: self._hash_whole(digest))

    def _hash_whole(self, digest: str, *, uncached: bool = False) -> IndexRow:
        path = self._files.path(digest)
        try:
            descriptor = self._files.open(digest)
        except FileNotFoundError as exc:
            raise BlockMissing(f"block {digest}: not in {self.directory}") from exc
        except OSError as exc:
            raise disk_error(exc, path, "read") from exc
        with translated(path, "read"):
            try:
                status = os.fstat(descriptor)
                look = (status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
                if self._damaged.get(digest) == look:  # so that a damaged block costs its hashing once
                    raise Damaged(f"{path}: does not match its name")
                if uncached:
                    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                found = hash_file(descriptor)
            finally:
                os.close(descriptor)
        if found.digest != digest:
            self._damaged.put(digest, look, 1)
            raise Damaged(f"{path}: does not match its name (its md5 is {found.digest})")
        row = IndexRow(found.size, found.checks, self._clock.time_ns())
        self._learn(digest, row)
        return row

    def _learn(self, digest: str, row: IndexRow) -> None:
        self._rows.put(digest, row, len(row.checks) + 256)
        self._index.put(digest, row)

    def _require_size(self, digest: str, size: int, row: IndexRow) -> IndexRow:
        if row.size != size:
            raise BlockMissing(f"block {digest}: in {self.directory} with {row.size} bytes, not with {size}")
        return row


def _make_directories(path: Path) -> None:
    """mkdir -p, each new entry flushed: what a barrier promises is worth nothing below a directory that is lost."""
    if path.is_dir():
        return
    _make_directories(path.parent)
    path.mkdir(exist_ok=True)
    sync_directory(path.parent)


def _require_writable(blocks: Path) -> None:
    if os.access(blocks, os.W_OK | os.X_OK, effective_ids=True):
        return
    if os.statvfs(blocks).f_flag & os.ST_RDONLY:
        raise ReadOnly(str(blocks), "the store is on a read-only file system; open it read-only")
    raise NotPermitted(str(blocks), "the store is not writable for this user; open it read-only or change its owner")
