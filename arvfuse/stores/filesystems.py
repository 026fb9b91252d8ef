"""Which file systems a store may live on.

A store needs link(2) that is atomic, flock and POSIX locks that hold between processes, shared memory for SQLite's WAL,
and fdatasync that means it. Network file systems, FUSE and overlays break one or the other in silence, so they are
refused by name before anything is written. Stateless; reads /proc only. What cannot be told is accepted.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from arvfuse.errors import NotSupported

_KINDS: Final = {
    "overlay": "an overlay",
    "cifs": "SMB",
    "9p": "a network file system",
    "afs": "a network file system",
    "ceph": "a network file system",
    "coda": "a network file system",
    "lustre": "a network file system",
    "ncpfs": "a network file system",
}
_FAMILIES: Final = {"nfs": "NFS", "smb": "SMB", "fuse": "FUSE"}


def unsafe_kind(filesystem: str) -> str | None:
    """What an operator calls *filesystem* (a type of /proc/self/mountinfo) if a store cannot trust it, else None."""
    for prefix, kind in _FAMILIES.items():
        if filesystem.startswith(prefix):
            return kind
    return _KINDS.get(filesystem)


def filesystem_of(path: Path) -> str:
    """The type of the file system that holds *path*, or of its nearest parent that exists; "" if it cannot be told."""
    while not path.exists() and path != path.parent:
        path = path.parent
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            info = Path(f"/proc/self/fdinfo/{descriptor}").read_text()
        finally:
            os.close(descriptor)
        mount = next(line.split()[1] for line in info.splitlines() if line.startswith("mnt_id:"))
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
            return filesystem_in(table.read(), mount)
    except (OSError, StopIteration, IndexError):
        return ""  # no /proc: nothing to refuse on


def filesystem_in(mountinfo: str, mount: str) -> str:
    """The type of mount number *mount* in the text of a mountinfo file; "" if it is not there."""
    for line in mountinfo.splitlines():
        number, _, rest = line.partition(" ")
        if number == mount:
            # The number of optional fields varies; a lone "-" ends them (proc(5)).
            return rest.partition(" - ")[2].split(" ", 1)[0]
    return ""


def refuse_unsafe(path: Path) -> None:
    """Raise NotSupported, with the reason and the way out, if a store at *path* could not keep its promises."""
    refuse_kind(path, filesystem_of(path))


def refuse_kind(path: Path, filesystem: str) -> None:
    """As refuse_unsafe(), for a file system type that is known already."""
    kind = unsafe_kind(filesystem)
    if kind is not None:
        raise NotSupported(
            str(path),
            f"on {kind} ({filesystem}), where locks, links and fsync cannot be trusted; "
            "use a local disk, or --unsafe-filesystem to do it all the same",
        )
