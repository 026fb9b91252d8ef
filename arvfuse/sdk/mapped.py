"""Manifest texts, and indexes of lines and of directories, as files: written once, mapped by who reads them.

An index is made again whenever it is missing, cut short, damaged or of another version, so it is written without
fsync; its name and its key say of which directory of which text it is. Files appear by rename with all their content
and are never changed, so what is mapped stays as it is. Threading: any thread, any number of processes. Failure: the
OSError of the file system; Damaged for a file that is no index of what was asked for.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from pathlib import Path
from typing import Final

from arvfuse.errors import Damaged
from arvfuse.model.digests import blake2b
from arvfuse.model.dirindex import DirectoryIndex
from arvfuse.model.lineindex import decode_lines
from arvfuse.model.manifests import Manifest
from arvfuse.model.sealed import KEY_BYTES
from arvfuse.sdk.nodes import Path as NodePath

_LARGE_TEXT_BYTES: Final = 1 << 16  # below that a copy is cheaper than a mapping


def open_manifest(file: Path, lines: Path | None = None, *, verify: bool = False) -> Manifest:
    """The manifest whose text is *file*, from where others can read it too (``Manifest.origin``).

    *lines*: a file that says where its lines are; without it the text is scanned (3 to 40 ms per MB). *verify*: read
    all of both, for who finds a file that it did not just write."""
    text = map_file(file)
    if lines is None:
        return Manifest(text, str(file))
    return Manifest(text, str(file), decode_lines(map_file(lines), lines_key(file), text, verify=verify))


def map_file(file: Path) -> bytes | mmap.mmap:
    """What is in *file*, which is never changed."""
    with open(file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if size < _LARGE_TEXT_BYTES:
            return opened.read()
        return mmap.mmap(opened.fileno(), size, prot=mmap.PROT_READ)


def lines_key(text: Path) -> bytes:
    """What tells the line index of the text in file *text* from all others."""
    return blake2b(b"lines\0" + os.fsencode(text.name), KEY_BYTES)


def index_key(text: Path, path: NodePath) -> bytes:
    """What tells the index of directory *path* of the text in file *text* from all others."""
    return blake2b(b"\0".join((os.fsencode(text.name), *path)), KEY_BYTES)


def index_name(text: Path, path: NodePath) -> str:
    """The name of the index's file: it begins with the text's."""
    return f"{text.name}.{index_key(text, path).hex()}"


def open_index(file: Path, key: bytes, *, verify: bool) -> DirectoryIndex:
    """The index in *file*, mapped. *verify*: read all of it, for who finds a file that it did not just write."""
    with open(file, "rb") as opened:
        size = os.fstat(opened.fileno()).st_size
        if not size:
            raise Damaged(f"{file}: an empty file, not a directory index")
        index = DirectoryIndex(mmap.mmap(opened.fileno(), size, prot=mmap.PROT_READ))
    if index.key != key:
        raise Damaged(f"{file}: the index of another directory")
    if verify:
        index.verify()
    return index


def write_file(file: Path, data: bytes) -> None:
    """Put a file that can be made again into place, over whatever is there."""
    file.parent.mkdir(exist_ok=True)
    beside = file.with_name(f"{file.name}.{os.urandom(4).hex()}.new")
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
        with open(descriptor, "wb", buffering=0) as opened:
            rest = memoryview(data)
            while rest:
                rest = rest[opened.write(rest) :]
        os.rename(beside, file)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(beside)
        raise
