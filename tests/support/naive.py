"""What a store holds, read without a line of the product's code: SQLite, a manifest split at spaces, files of blocks.

The second way to every content that mounted tests compare with. Slow and strict: each block is hashed.
"""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

_LOCATOR = re.compile(rb"([0-9a-f]{32})\+(\d+)")
_OCTAL = re.compile(rb"\\([0-7]{3})")
_KEPT_BLOCKS = 8


def saved_digests(store: Path, name: str) -> dict[bytes, str]:
    """md5 by path of every file in the collection called *name*, as its record and its blocks have it."""
    text = _manifest(store, name)
    found: dict[bytes, hashlib._Hash] = {}
    blocks: dict[bytes, bytes] = {}
    for line in filter(None, text.split(b"\n")):
        stream, *words = line.split(b" ")
        locators = [word for word in words if _LOCATOR.match(word)]
        at, spans = 0, []
        for locator in locators:
            size = int(locator.split(b"+")[1])
            spans.append((at, size, locator))
            at += size
        for word in words[len(locators) :]:
            start, length, file = word.split(b":", 2)
            if file == rb"\056":  # the mark of an empty directory
                continue
            digest = found.setdefault(b"/".join([*_plain(stream).split(b"/")[1:], _plain(file)]), hashlib.md5())
            low, high = int(start), int(start) + int(length)
            for position, size, locator in spans:
                first, last = max(low, position), min(high, position + size)
                if first < last:
                    digest.update(_block(store, locator, blocks)[first - position : last - position])
    return {path: digest.hexdigest() for path, digest in found.items()}


def digests(top: Path) -> dict[bytes, str]:
    """md5 by path of every file below a directory."""
    root = os.fsencode(top)
    found = {}
    for directory, _, files in os.walk(root):
        for file in files:
            path = os.path.join(directory, file)
            with open(path, "rb") as opened:
                found[os.path.relpath(path, root)] = hashlib.file_digest(opened, "md5").hexdigest()
    return found


def _manifest(store: Path, name: str) -> bytes:
    with closing(sqlite3.connect(f"file:{store}/catalog.sqlite3?mode=ro", uri=True)) as catalog:
        rows = catalog.execute("SELECT pdh FROM collections WHERE name = ? AND NOT is_trashed", (name,)).fetchall()
    ((pdh,),) = rows
    if pdh.endswith("+0"):
        return b""
    (path,) = (path for path in (store / "manifests").rglob(f"{pdh}*") if path.is_file())
    text = path.read_bytes()
    assert f"{hashlib.md5(text).hexdigest()}+{len(text)}" == pdh
    return text


def _block(store: Path, locator: bytes, kept: dict[bytes, bytes]) -> bytes:
    if locator not in kept:
        while len(kept) >= _KEPT_BLOCKS:
            del kept[next(iter(kept))]
        digest, size = locator.split(b"+")[:2]
        data = (store / "blocks" / digest[:3].decode() / digest.decode()).read_bytes()
        assert (hashlib.md5(data).hexdigest().encode(), len(data)) == (digest, int(size)), locator
        kept[locator] = data
    return kept[locator]


def _plain(word: bytes) -> bytes:
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8)]), word)
