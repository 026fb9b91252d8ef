"""The put threads, and what they do: hash the live ranges of a file and hand it to the store as a block.

A spool file whose live bytes are the whole file is adopted as it is; otherwise the live ranges are copied to a file
of their own first, so dead bytes are never stored. Hashing reads into one reused buffer per call, never a mapping
(a disk error must be an error, not SIGBUS). Owns its threads; close() joins them.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from arvfuse.errors import Damaged, StoreUnavailable
from arvfuse.model.checks import BlockHasher, piece_checks
from arvfuse.ports import BlockStore

PUT_THREADS: Final = 2
_BUFFER_BYTES: Final = 1 << 20
_GATHER_BYTES: Final = 1 << 18


class Pool(Protocol):
    """What runs puts: threads in life, a stepper in tests."""

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]: ...

    def close(self) -> None: ...


class PutPool:
    """Put threads with names."""

    def __init__(self, threads: int = PUT_THREADS) -> None:
        from concurrent.futures import ThreadPoolExecutor  # an engine has no pool

        self._executor: Final = ThreadPoolExecutor(threads, thread_name_prefix="put")

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        return self._executor.submit(fn, *args)

    def finish(self) -> None:
        """Finish all that was submitted, join."""
        self._executor.shutdown(wait=True)

    def close(self) -> None:
        """Finish what runs, cancel what waits, join."""
        self._executor.shutdown(wait=True, cancel_futures=True)


class Stored(NamedTuple):
    """A block that the store has: where each live range of its source went is offsets in order of *ranges*."""

    locator: str
    ranges: tuple[tuple[int, int], ...]


def put_ranges(
    store: BlockStore,
    path: Path,
    ranges: Sequence[tuple[int, int]],
    begun: Callable[[], BlockHasher | None] | None = None,
) -> Stored:
    """Store the live *ranges* (offset, length) of the file at *path* as one block. Store errors; Damaged.

    *begun*: gives what was hashed of the file already, from its begin on in whole pieces; it counts if the file still
    has these."""
    live = tuple(ranges)
    hasher = begun() if begun is not None else None
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise Damaged(f"spool file {path}: gone") from None
    except OSError as exc:
        raise StoreUnavailable(f"spool file {path}: {exc.strerror}") from exc
    try:
        if len(live) == 1 and live[0] == (0, os.fstat(fd).st_size):
            if hasher is None or not _has_begun(path, fd, live[0][1], hasher):
                hasher = BlockHasher()
            for view in read_ranges(path, fd, [(hasher.size, live[0][1] - hasher.size)]):
                hasher.update(view)
            if stat.S_IMODE(os.fstat(fd).st_mode) & 0o222:
                os.fchmod(fd, 0o444)
            return Stored(store.adopt(path, hasher.digest(), hasher.size, hasher.checks()), live)
        return Stored(put_parts(store, path.with_name(path.name + ".live"), read_ranges(path, fd, live)), live)
    finally:
        os.close(fd)


def put_parts(store: BlockStore, temporary: Path, parts: Iterable[memoryview | bytes]) -> str:
    """Store the concatenation of *parts* as one block, by way of the file *temporary*, which is gone afterwards."""
    temporary.parent.mkdir(parents=True, exist_ok=True)
    temporary.unlink(missing_ok=True)
    hasher = BlockHasher()
    try:
        with open(temporary, "xb", buffering=0) as file:
            for part in gathered(parts):
                view = memoryview(part)
                hasher.update(view)
                while len(view):
                    view = view[file.write(view) :]
            os.fchmod(file.fileno(), 0o444)
        return store.adopt(temporary, hasher.digest(), hasher.size, hasher.checks())
    finally:
        temporary.unlink(missing_ok=True)


def gathered(parts: Iterable[memoryview | bytes], size: int = _GATHER_BYTES) -> Iterable[memoryview | bytes]:
    """The same bytes in portions of *size* or more, but for the last: many small ones are hashed and written together.

    A part is done with when the next is asked for, so its buffer may be used again."""
    held = bytearray()
    for part in parts:
        if not held and len(part) >= size:
            yield part
            continue
        held += part
        if len(held) >= size:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


def _has_begun(path: Path, fd: int, size: int, hasher: BlockHasher) -> bool:
    """Whether the file of *size* bytes still begins with what was hashed."""
    if hasher.size > size:
        return False
    at, known = 0, hasher.checks()
    for view in read_ranges(path, fd, [(0, hasher.size)]):  # of whole pieces each, but for the last
        checks = piece_checks(view)
        if known[at : at + len(checks)] != checks:
            return False
        at += len(checks)
    return True


def read_ranges(path: Path, fd: int, ranges: Sequence[tuple[int, int]]) -> Iterable[memoryview]:
    """The bytes of *ranges* (offset, length) of the file, portion by portion in one buffer. Damaged if it ends."""
    buffer = memoryview(bytearray(_BUFFER_BYTES))
    for offset, length in ranges:
        done = 0
        while done < length:
            count = os.preadv(fd, [buffer[: min(_BUFFER_BYTES, length - done)]], offset + done)
            if not count:
                raise Damaged(f"spool file {path}: shorter than what was written to it")
            yield buffer[:count]
            done += count
