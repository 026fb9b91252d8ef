"""Whole manifests: the normal form, texts without hints, and portable data hashes.

Pure; any thread may call it. `normalize` builds an object per file and takes seconds for a million of them; `strip`
and `pdh` run at the speed of a search. InvalidManifest names the line where a text cannot be understood.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping
from mmap import mmap
from typing import Final

from arvfuse.errors import InvalidManifest
from arvfuse.model.collections import PDH
from arvfuse.model.digests import md5
from arvfuse.model.escapes import unescape
from arvfuse.model.rendering import render_line, render_placeholder
from arvfuse.model.streams import FileSpec, clipped, parse_line, read_files, refuse_sized_placeholder, shown

Text = bytes | bytearray | memoryview | mmap
"""A manifest's text, also one that is mapped from a file."""

Path = tuple[bytes, ...]
Tree = dict[Path, dict[bytes, FileSpec]]

_CHUNK_BYTES: Final = 1 << 20
_ANY_HINT: Final = re.compile(rb"\+[0-9]+\+")
# A file token has a colon after its digits, so a word that begins like this can only be a locator.
_HINTS: Final = re.compile(rb"( [0-9a-f]{32}\+[0-9]+)\+[^ \n]+")


def strip(text: Text) -> bytes:
    """*text* with every locator reduced to digest and size, all else byte for byte as it is."""
    whole = text if isinstance(text, bytes) else bytes(text)
    return whole if _ANY_HINT.search(whole) is None else _HINTS.sub(rb"\1", whole)


def pdh(text: Text) -> PDH:
    """The portable data hash: md5 of the stripped text, and its length. Copies *text* only if there are hints."""
    stripped = text if _ANY_HINT.search(text) is None else strip(text)
    return PDH(f"{md5(stripped).hexdigest()}+{len(stripped)}")


def normalize(text: Text, strip: bool = False) -> bytes:
    """*text* in normal form: a line per directory in walk order, files by name, each block listed once.

    With *strip*, hints are removed before (two signatures of one block are two blocks else)."""
    if strip:
        text = _strip(text)
    tree = read_tree(text)
    paths = sorted(tree)
    lines: list[bytes] = []
    for at, path in enumerate(paths):
        if tree[path]:
            lines.append(render_line(path, ((name, spec.raw_segments()) for name, spec in tree[path].items()), ""))
        elif at + 1 == len(paths) or paths[at + 1][: len(path)] != path:
            lines.append(render_placeholder(path))
    return b"".join(lines)


def read_tree(text: Text) -> Tree:
    """Every directory that the text has a line or a placeholder for, with its files; also from texts that are not in
    normal form. A path that is a file and a directory is an error."""
    tree: Tree = {}
    first_line: dict[Path, int] = {}
    for number, _, line in lines_of(text):
        parts = parse_line(line, number)
        if parts.path not in tree and not _has_slash(line):
            tree[parts.path] = read_files(parts, number)
            first_line[parts.path] = number
            continue
        total = parts.stream.size
        for raw_position, raw_size, raw_name in parts.tokens:
            position, size = clipped(raw_position, raw_size, total, number)
            *below, name = unescape(raw_name).split(b"/")
            if b"" in below or b"." in below or not name:
                raise InvalidManifest(f"line {number}: bad file name {shown(raw_name)}")
            directory = (*parts.path, *below)
            first_line.setdefault(directory, number)
            files = tree.setdefault(directory, {})
            if name == b".":
                refuse_sized_placeholder(raw_size, number)
            elif name in files:
                files[name].extend(parts.stream, position, size)
            else:
                files[name] = FileSpec(parts.stream, position, size)
    both = find_collision(tree)
    if both is not None:
        number = next(at for directory, at in first_line.items() if directory[: len(both)] == both)
        raise InvalidManifest(f"line {number}: {shown(b'/'.join(both))} is a file and a directory")
    return tree


def find_collision(tree: Mapping[Path, Container[bytes]]) -> Path | None:
    """A path that is a directory of *tree* (or one on the way to a directory) and a file in its parent, or None."""
    seen: set[Path] = {()}
    for directory in tree:
        path = directory
        while path not in seen:
            seen.add(path)
            if path[-1] in tree.get(path[:-1], ()):
                return path
            path = path[:-1]
    return None


def lines_of(text: Text) -> Iterator[tuple[int, int, bytes]]:
    """(number from 1, position, line without its line feed) of each line; the last one may lack its line feed.

    Copies about 1 MiB at a time: searching bytes is several times as fast as searching a mapped file."""
    for position, number, chunk in chunks_of(text):
        start = 0
        while start < len(chunk):
            end = chunk.find(b"\n", start)
            end = len(chunk) if end < 0 else end
            yield number, position + start, chunk[start:end]
            number += 1
            start = end + 1


def chunks_of(text: Text) -> Iterator[tuple[int, int, bytes]]:
    """(position, number of its first line, bytes) of chunks that end where lines end."""
    view = memoryview(text)
    position, number, size = 0, 1, _CHUNK_BYTES
    while position < len(view):
        chunk = bytes(view[position : position + size])
        if position + len(chunk) < len(view):
            cut = chunk.rfind(b"\n") + 1
            if not cut:
                size *= 2
                continue
            chunk = chunk[:cut]
        yield position, number, chunk
        position += len(chunk)
        number += chunk.count(b"\n")
        size = _CHUNK_BYTES


def _has_slash(line: bytes) -> bool:
    first = line.find(b" ")
    return line.find(b"/", first) >= 0 or line.find(b"\\057", first) >= 0


_strip = strip
