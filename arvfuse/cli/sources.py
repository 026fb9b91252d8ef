"""What ``put`` takes: the files and directories below paths of the command line, under the names they will have.

As rsync: ``DIR`` stands for itself, ``DIR/`` for its contents. Symbolic links are followed (a manifest cannot say
them); one that leads back into its own directories is an error. Failure: NoSuchEntry, NotSupported for what is neither
file nor directory, EntryExists for two things of one name.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from arvfuse.errors import ArgumentError, EntryExists, NoSuchEntry, NotPermitted, NotSupported


class Source(NamedTuple):
    """One thing to be stored: *target* is its path in the collection, *size* is -1 for a directory."""

    path: str
    target: str
    size: int

    @property
    def is_directory(self) -> bool:
        return self.size < 0


_Identity = tuple[int, int]
_SLASHES: Final = "/"


def sources(paths: Sequence[str]) -> list[Source]:
    """Everything below *paths*, in path order, each directory before what is in it."""
    found: dict[str, Source] = {}
    for path in paths:
        for source in _below(path):
            known = found.get(source.target)
            if known is None:
                found[source.target] = source
            elif not (known.is_directory and source.is_directory):
                raise EntryExists(
                    source.target, f"both {known.path} and {source.path} would be it; put them apart, or rename one"
                )
    return [found[target] for target in sorted(found, key=lambda target: os.fsencode(target).split(b"/"))]


def _below(path: str) -> Iterator[Source]:
    if not path:
        raise ArgumentError("'': not a path; leave it out")
    contents = path.endswith(_SLASHES)
    real = path.rstrip(_SLASHES) or _SLASHES
    name = os.path.basename(os.path.abspath(real))
    entry = _look(real)
    if stat.S_ISDIR(entry.st_mode):
        if os.path.basename(real) in (".", "..") or not name:
            contents = True  # "." has no name of its own here
        yield from _directory(real, "" if contents else name, entry)
    elif contents:
        raise NoSuchEntry(path, "not a directory; leave out the slash")
    else:
        yield _file(real, name, entry)


def _directory(top: str, top_target: str, top_entry: os.stat_result) -> Iterator[Source]:
    """All below a directory, which may be deeper than the interpreter's stack."""
    todo: list[tuple[str, str, os.stat_result, frozenset[_Identity]]] = [(top, top_target, top_entry, frozenset())]
    while todo:
        path, target, entry, above = todo.pop()
        identity = (entry.st_dev, entry.st_ino)
        if identity in above:
            raise NotSupported(path, "a symbolic link that leads back to a directory above it; remove it or put less")
        if target:
            yield Source(path, target, -1)
        try:
            names = os.listdir(path)
        except PermissionError as error:
            raise NotPermitted(path, "cannot be listed; correct its permissions") from error
        above |= {identity}
        for name in sorted(names, key=os.fsencode):
            inner = os.path.join(path, name)
            entry = _look(inner)
            place = f"{target}/{name}" if target else name
            if stat.S_ISDIR(entry.st_mode):
                todo.append((inner, place, entry, above))
            else:
                yield _file(inner, place, entry)


def _file(path: str, target: str, entry: os.stat_result) -> Source:
    if not stat.S_ISREG(entry.st_mode):
        raise NotSupported(path, "neither a file nor a directory; leave it out")
    return Source(path, target, entry.st_size)


def _look(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except FileNotFoundError:
        what = "a symbolic link that leads nowhere; remove it" if os.path.islink(path) else "no such file or directory"
        raise NoSuchEntry(path, what) from None
    except PermissionError as error:
        raise NotPermitted(path, "cannot be looked at; correct the permissions above it") from error
    except OSError as error:
        raise NotSupported(path, f"{os.strerror(error.errno or 0)}; leave it out") from error
