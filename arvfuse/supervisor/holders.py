"""Who keeps a mount busy: processes with a file, a directory or a mapping of it.

Reads links below /proc only, which the kernel answers without asking the mount. Threading: plain functions.
Failure: a process that ends meanwhile, or may not be looked at, is passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Holder(NamedTuple):
    """A process and one path by which it holds the mount."""

    process: int
    command: str
    path: str

    def __str__(self) -> str:
        return f"{self.command}[{self.process}] ({self.path})"


def holders(mountpoint: Path, *, device: str, proc: Path = Path("/proc")) -> list[Holder]:
    """Processes that hold the mount at *mountpoint*; *device* is ``major:minor`` of mountinfo, for mappings."""
    found = []
    for directory in proc.iterdir():
        if not directory.name.isdigit():
            continue
        path = next(_held(directory, str(mountpoint), device), None)
        if path is not None:
            found.append(Holder(int(directory.name), _command(directory), path))
    return sorted(found)


def _held(process: Path, mountpoint: str, device: str) -> Iterator[str]:
    for link in ("cwd", "root", "exe"):
        yield from _below(process / link, mountpoint)
    try:
        names = os.listdir(process / "fd")
    except OSError:
        names = []
    for name in names:
        yield from _below(process / "fd" / name, mountpoint)
    yield from _mapped(process / "maps", device)


def _below(link: Path, mountpoint: str) -> Iterator[str]:
    try:
        target = os.readlink(link)
    except OSError:
        return
    if target == mountpoint or target.startswith(mountpoint + "/"):
        yield target


def _mapped(maps: Path, device: str) -> Iterator[str]:
    major, _, minor = device.partition(":")
    wanted = f"{int(major):02x}:{int(minor):02x}"
    try:
        lines = maps.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[3] == wanted:
            yield fields[5]


def _command(process: Path) -> str:
    try:
        return (process / "comm").read_text(errors="surrogateescape").strip()
    except OSError:
        return "?"
