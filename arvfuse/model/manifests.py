"""A manifest that is opened without being read: a line is parsed when its directory is listed.

Opening notes where the lines are and what their directories are called; that is all that is kept, so a million files
in a thousand directories cost a thousand small objects. A text whose structure is not normal (see `Manifest`) is
rewritten in normal form first, which costs as much as reading all of it.

A Manifest never changes; any thread may use it. It holds on to its text: a mapped file can be closed only when the
Manifest is gone. Bad texts raise InvalidManifest, which names the line.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Final, NamedTuple

from arvfuse.errors import InvalidManifest, NoSuchEntry
from arvfuse.model.dirindex import NO_KEY, DirectoryIndex, build_index
from arvfuse.model.escapes import show
from arvfuse.model.normalizing import Path, Text, normalize
from arvfuse.model.scanning import Index, scan
from arvfuse.model.streams import FileSpec, parse_line, read_files

SMALL_BYTES: Final = 1 << 16
"""A line up to this length is quickly parsed (some 1,500 files: 2 ms)."""

SMALL_CHILDREN: Final = 250
"""So many subdirectories are quickly found."""


class Listing(NamedTuple):
    """The entries of one directory, both in order of their names."""

    files: Mapping[bytes, FileSpec]
    dirs: Sequence[bytes]


class Manifest:
    """The tree that a manifest describes.

    Structure is normal when each directory has exactly one line, lines are in walk order (a directory's own line, then
    its subdirectories by name), no file name contains a separator, and only directories without entries have a
    placeholder. ``is_normalized`` tells whether *text* was like that as given. Files within a line are put in order
    when they are listed.

    Syntax inside the lines of texts above 1 MiB, and collisions of files with directories there, are found by
    `listing` or `totals`, not on opening.
    """

    __slots__ = ("_paths", "_starts", "_view", "is_normalized", "origin", "text")

    def __init__(self, text: Text, origin: str = "", lines: Index | None = None) -> None:
        """*origin*: where others can find the same text, kept for its owner; "" if nowhere. *lines*: what a scan of
        the text has found, if that is known."""
        self.text: Final = text
        self.origin: Final = origin
        index = lines if lines is not None else scan(text)
        self.is_normalized: Final = index is not None
        if index is None:
            text = normalize(text)
            index = scan(text)
            assert index is not None, "normal form is normal"
        self._view: Final = memoryview(text).toreadonly()
        # Line i is about directory _paths[i] and is _view[_starts[i]:_starts[i + 1]]. Rising, since that is walk order.
        self._paths: Final = index.paths
        self._starts: Final = index.starts

    def __repr__(self) -> str:
        return f"<Manifest {len(self._view)} bytes, {len(self._paths)} lines, normalized={self.is_normalized}>"

    @property
    def lines(self) -> Index:
        """Where the lines of the text in normal form are."""
        return Index(self._paths, self._starts)

    @property
    def normal_text(self) -> bytes:
        """The text in normal form, as bytes."""
        return bytes(self._view)

    def has_directory(self, path: Path) -> bool:
        """Whether *path* is a directory; the root always is."""
        at = bisect_left(self._paths, path)
        return not path or (at < len(self._paths) and self._paths[at][: len(path)] == path)

    def listing(self, path: Path) -> Listing:
        """The entries of directory *path*; NoSuchEntry if there is no such directory."""
        first, last = self._range(path)
        dirs = list(self._children(path, first, last))
        files: dict[bytes, FileSpec] = {}
        if first < last and self._paths[first] == path:
            files = read_files(parse_line(self._line_text(first), first + 1), first + 1)
            for name in dirs:
                if name in files:
                    raise InvalidManifest(f"line {first + 1}: {name!r} is a file and a directory")
        return Listing(files, dirs)

    def index(self, path: Path) -> DirectoryIndex:
        """The entries of directory *path*; NoSuchEntry if there is no such directory."""
        return DirectoryIndex(self.index_bytes(path, NO_KEY))

    def index_bytes(self, path: Path, key: bytes) -> bytes:
        """As index(), for a file."""
        first, last = self._range(path)
        line = self._line_text(first) if first < last and self._paths[first] == path else b""
        return build_index(line, self._children(path, first, last), first + 1, key=key)

    def is_big(self, path: Path) -> bool:
        """Whether directory *path* has so many entries that making its index takes more than about a millisecond."""
        first, last = self._range(path)
        if first < last and self._paths[first] == path and self._starts[first + 1] - self._starts[first] > SMALL_BYTES:
            return True
        children = islice(self._children(path, first, last), SMALL_CHILDREN + 1)
        return last - first > SMALL_CHILDREN and sum(1 for _ in children) > SMALL_CHILDREN

    def subtree(self, path: Path) -> memoryview:
        """The lines of directory *path* and of all below it; NoSuchEntry if there is no such directory."""
        first, last = self._range(path)
        return self._view[self._starts[first] : self._starts[last]]

    def line(self, path: Path) -> memoryview | None:
        """The line of directory *path* itself, None if it has no files (or does not exist)."""
        at = bisect_left(self._paths, path)
        if at == len(self._paths) or self._paths[at] != path:
            return None
        return self._view[self._starts[at] : self._starts[at + 1]]

    def totals(self) -> tuple[int, int]:
        """(number of files, sum of their sizes). Reads everything, and so finds every error."""
        count = size = 0
        for path in self._paths:
            files = self.listing(path).files
            count += len(files)
            size += sum(spec.size for spec in files.values())
        return count, size

    def _range(self, path: Path) -> tuple[int, int]:
        """Lines [first, last) are those of *path* and all below it."""
        if not path:
            return 0, len(self._paths)
        first = bisect_left(self._paths, path)
        if first == len(self._paths) or self._paths[first][: len(path)] != path:
            raise NoSuchEntry(show(b"/".join(path)))
        return first, self._end_of(path, first)

    def _end_of(self, path: Path, first: int) -> int:
        """The first line behind *first* that is not below *path*. Looks near *first* before it bisects."""
        paths, depth = self._paths, len(path)
        step, low, high = 1, first, len(paths)
        while low + step < high:
            if paths[low + step][:depth] != path:
                high = low + step
                break
            low += step
            step *= 2
        return bisect_left(paths, True, low + 1, high, key=lambda other: other[:depth] != path)

    def _children(self, path: Path, first: int, last: int) -> Iterator[bytes]:
        depth = len(path)
        at = first
        if at < last and len(self._paths[at]) == depth:
            at += 1
        while at < last:
            child = self._paths[at][: depth + 1]
            yield child[depth]
            at = self._end_of(child, at)

    def _line_text(self, at: int) -> bytes:
        return bytes(self._view[self._starts[at] : self._starts[at + 1] - 1])
