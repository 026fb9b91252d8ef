"""The kernel's table of mounts, read without touching any of them. Pure but for reading /proc."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from arvfuse.errors import InvalidPath
from arvfuse.model.collections import MountId

SOURCE_PREFIX: Final = "arvfuse:"
FURTHER: Final = "/"
"""Behind it stands which of the further mounts of an engine it is."""
_ESCAPE: Final = re.compile(rb"\\([0-7]{3})")
_MAX_LINKS: Final = 40


class MountEntry(NamedTuple):
    """One line of the table. *device* is ``major:minor``; of a FUSE mount, minor is its connection's number."""

    mountpoint: Path
    device: str
    kind: str
    source: str
    options: str

    @property
    def mount(self) -> MountId | None:
        """Our mount id, None if it is not ours."""
        if self.source.startswith(SOURCE_PREFIX):
            return MountId(self.source.removeprefix(SOURCE_PREFIX).partition(FURTHER)[0])
        return None

    @property
    def is_further(self) -> bool:
        """True for one that was added to a running engine."""
        return self.mount is not None and FURTHER in self.source


def parse(table: bytes) -> Iterator[MountEntry]:
    """The entries of a mountinfo text, in order: of two at one place the later one covers the earlier."""
    for line in table.splitlines():
        left, _, right = line.partition(b" - ")
        fields, tail = left.split(), right.split(b" ")
        if len(fields) < 6 or len(tail) < 2:
            continue
        yield MountEntry(
            mountpoint=Path(os.fsdecode(_unescape(fields[4]))),
            device=os.fsdecode(fields[2]),
            kind=os.fsdecode(_unescape(tail[0])),
            source=os.fsdecode(_unescape(tail[1])),
            options=os.fsdecode(fields[5]),
        )


def read() -> list[MountEntry]:
    """The mounts that this process sees."""
    return list(parse(Path("/proc/self/mountinfo").read_bytes()))


def mounted_at(path: Path) -> MountEntry | None:
    """What is mounted exactly at *path* (real), the topmost."""
    found = [entry for entry in read() if entry.mountpoint == path]
    return found[-1] if found else None


def mounted_as(mount: MountId) -> MountEntry | None:
    """Where mount *mount* of ours is, the first of its engine."""
    return next((entry for entry in read() if entry.mount == mount and not entry.is_further), None)


def real_path(path: Path) -> Path:
    """*path* without symbolic links, absolute. Unlike realpath(3) it never asks a mounted file system about its root
    or anything below: a mount that hangs does not make us hang. InvalidPath if links go round in circles."""
    mounted = {entry.mountpoint for entry in read()}
    todo = list(reversed((Path.cwd() / path).parts[1:]))
    done, links = Path("/"), 0
    while todo:
        part = todo.pop()
        if part == "..":
            done = done.parent
            continue
        step = done / part
        # What is mounted at step is a directory, never a link; below a mount of ours nothing is asked either.
        target = None if step in mounted else _link(step)
        if target is None:
            done = step
            continue
        links += 1
        if links > _MAX_LINKS:
            raise InvalidPath(str(path), "its symbolic links lead in circles")
        if target.startswith("/"):
            done = Path("/")
        todo.extend(reversed([piece for piece in target.split("/") if piece not in ("", ".")]))
    return done


def _link(path: Path) -> str | None:
    try:
        return os.readlink(path)
    except OSError:
        return None


def _unescape(field: bytes) -> bytes:
    return _ESCAPE.sub(lambda match: bytes([int(match.group(1), 8)]), field)
