"""Manifest texts as files: ``manifests/abc/abcdef...+size``, immutable, named by their PDH.

Fan-out is by the first three characters of the md5, as for blocks. What lies there is the stripped text (block
locators are digest and size only), so that the file's md5 and length *are* its name and every reader can check it.
A text is safe from a power cut when keep() returns: written beside, fsync'ed, linked into place, directory fsync'ed.
Files are never changed; one that does not match its name is replaced when somebody keeps that text again. A hit is
touched, so that a collector of unused texts sees it in use. No locks: any thread, any number of processes.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from arvfuse.errors import ArgumentError, Damaged, NoSuchRecord, ReadOnly, StoreUnavailable
from arvfuse.model.collections import PDH
from arvfuse.model.digests import md5
from arvfuse.model.normalizing import strip

_PDH: Final = re.compile(r"[0-9a-f]{32}\+[0-9]{1,19}")
_COMPARE_BYTES: Final = 1 << 20
# What a killed writer left beside; nobody writes one text for a day.
_LEFTOVER_NS: Final = 24 * 3600 * 1_000_000_000


def pdh_of_stripped(text: bytes | memoryview) -> PDH:
    """The PDH of a text that has no hints in its locators: md5 and length as they are."""
    return PDH(f"{md5(text).hexdigest()}+{len(text)}")


def stripped_for(pdh: PDH, text: bytes | memoryview) -> bytes | memoryview:
    """*text*, or its stripped form: whichever *pdh* names; no copy where none is needed. ArgumentError otherwise."""
    if pdh_of_stripped(text) == pdh:
        return text
    stripped = strip(text)
    if pdh_of_stripped(stripped) == pdh:
        return stripped
    raise ArgumentError(f"{pdh}: not the portable data hash of the manifest that came with it")


def make_directory(path: Path) -> None:
    """mkdir -p that survives a power cut."""
    if path.is_dir():
        return
    make_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        path.mkdir()
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Names in *path* survive a power cut after this."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class ManifestFiles:
    """The texts below *directory*. Failures of the file system are StoreUnavailable with the reason."""

    def __init__(self, directory: Path, *, read_only: bool = False) -> None:
        self._directory: Final = directory
        self._beside: Final = directory / "tmp"
        self._read_only: Final = read_only

    def prepare(self, now_ns: int) -> None:
        """Make the directories and remove what killed writers left; once, by an opener that may write."""
        with self._translated():
            make_directory(self._beside)
            with os.scandir(self._beside) as leftovers:
                for leftover in leftovers:
                    with contextlib.suppress(FileNotFoundError):
                        if now_ns - leftover.stat().st_mtime_ns > _LEFTOVER_NS:
                            os.unlink(leftover.path)

    def place(self, pdh: PDH) -> Path:
        """Where the text of *pdh* lies if it is there. ArgumentError if *pdh* is none."""
        if not _PDH.fullmatch(pdh):
            raise ArgumentError(f"{pdh!r}: not a portable data hash (32 hexadecimal digits, +, size)")
        return self._directory / pdh[:3] / pdh

    def peek(self, pdh: PDH) -> Path | None:
        """The file with the text, None if there is none. Only its size is checked: Damaged if that is wrong."""
        place = self.place(pdh)
        with self._translated():
            try:
                size = place.stat().st_size
            except FileNotFoundError:
                return None
        if size != _size(pdh):
            raise _damaged(place)
        return place

    def load(self, pdh: PDH) -> bytes:
        """The text, checked. NoSuchRecord if it is not there, Damaged if it does not match its name."""
        place = self.place(pdh)
        with self._translated():
            try:
                text = place.read_bytes()
            except FileNotFoundError as exc:
                raise NoSuchRecord(f"{pdh}: no manifest of that hash in this store") from exc
        if pdh_of_stripped(text) != pdh:
            raise _damaged(place)
        return text

    def keep(self, pdh: PDH, text: bytes | memoryview) -> None:
        """Store *text*, durably; ArgumentError if *pdh* is not its hash."""
        place = self.place(pdh)
        if self._read_only:
            raise ReadOnly(str(place), "the store was opened read-only")
        stripped = stripped_for(pdh, text)
        with self._translated():
            make_directory(place.parent)
            if not self._is_there(place, stripped):
                self._write(place, stripped)
            # Also after a hit: whoever linked it may not have got to this line.
            sync_directory(place.parent)

    def _is_there(self, place: Path, text: bytes | memoryview) -> bool:
        try:
            if not _same(place, text):
                return False
            os.utime(place)
        except FileNotFoundError:
            return False
        return True

    def _write(self, place: Path, text: bytes | memoryview) -> None:
        beside = self._beside / f"{place.name}.{os.urandom(8).hex()}"
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        try:
            try:
                rest = memoryview(text)
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            try:
                os.link(beside, place)
            except FileExistsError:
                # Another writer was first, or what is there is damaged. Both hold after this the same, right bytes.
                os.rename(beside, place)
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(beside)

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as exc:
            where = exc.filename or self._directory
            raise StoreUnavailable(f"{where}: {exc.strerror}; the manifests of the store are out of reach") from exc


def _size(pdh: PDH) -> int:
    return int(pdh.partition("+")[2])


def _same(place: Path, text: bytes | memoryview) -> bool:
    if place.stat().st_size != len(text):
        return False
    view = memoryview(text)
    with open(place, "rb", buffering=0) as file:
        for start in range(0, len(view), _COMPARE_BYTES):
            expected = view[start : start + _COMPARE_BYTES]
            if file.read(len(expected)) != expected:
                return False
    return True


def _damaged(place: Path) -> Damaged:
    return Damaged(f"{place}: the manifest does not match its name; run `arvfuse fsck` and restore it from a copy")
