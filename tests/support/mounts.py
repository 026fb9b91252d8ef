"""Mounts that tests make are recorded, so that the next run can sweep what a killed run left behind.

A record is a file in a directory of this user's below the temporary directory: where the mount is, which test run
made it, and which processes serve it. Only mounts of type ``fuse.arvfuse`` at a recorded place whose run is dead are
swept; nobody else's mount is touched. Tools that may hang on a dead mount are run as processes of their own.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple


class MountRow(NamedTuple):
    """A line of the mount table."""

    mountpoint: str
    kind: str
    source: str


def fuse_problem() -> str | None:
    """Why nothing can be mounted on this machine, or None."""
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as error:
        return f"/dev/fuse cannot be opened: {error.strerror}"
    if shutil.which("fusermount3") is None:
        return "fusermount3 is not there (Debian: the package fuse3)"
    return None


def mount_table() -> list[MountRow]:
    """The mounts this process sees. Reads the kernel's table only, never a mount."""
    rows = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        kind, source = right.split(" ")[:2]
        rows.append(MountRow(_unescaped(left.split(" ")[4]), kind, _unescaped(source)))
    return rows


def mounted(mountpoint: Path) -> MountRow | None:
    """The row of the mount at *mountpoint*, the topmost one."""
    return next((row for row in reversed(mount_table()) if row.mountpoint == str(mountpoint)), None)


def record(mountpoint: Path, *, pids: Sequence[int] = ()) -> None:
    """Note, before or after mounting, that this run mounts at *mountpoint*; *pids* are processes that serve it."""
    directory = _directory()
    directory.mkdir(mode=0o700, exist_ok=True)
    text = {"mountpoint": str(mountpoint), "run": _identity(os.getpid()), "served_by": [_identity(pid) for pid in pids]}
    _file(mountpoint).write_text(json.dumps(text))


def forget(mountpoint: Path) -> None:
    """The mount is gone."""
    _file(mountpoint).unlink(missing_ok=True)


def detach(mountpoint: Path) -> None:
    """Take the mount out of the tree at once, whatever holds it; a mount that is not there is no error."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
    subprocess.run([*command, str(mountpoint)], stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)


def sweep() -> list[str]:
    """Detach the mounts and end the processes of runs that are dead; the mount points that were swept."""
    swept = []
    for file in sorted(_directory().glob("*.json")):
        try:
            noted = json.loads(file.read_text())
        except (OSError, ValueError):  # another run's, gone or half written
            continue
        if _alive(noted["run"]):
            continue
        mountpoint = Path(noted["mountpoint"])
        while (row := mounted(mountpoint)) is not None and row.kind == "fuse.arvfuse":
            detach(mountpoint)
            swept.append(str(mountpoint))
            if mounted(mountpoint) == row:  # it cannot be detached: say so by leaving the record
                break
        else:
            file.unlink(missing_ok=True)
        for identity in noted["served_by"]:
            if _alive(identity):
                with suppress(ProcessLookupError):
                    os.kill(identity[0], signal.SIGKILL)
    return swept


def _directory() -> Path:
    return Path(tempfile.gettempdir()) / f"arvfuse-tests-{os.getuid()}"


def _file(mountpoint: Path) -> Path:
    return _directory() / f"{hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:24]}.json"


def _identity(pid: int) -> list[int]:
    """A process id and its start time, which together are never used again."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return [pid, -1]
    return [pid, int(stat.rpartition(")")[2].split()[19])]


def _alive(identity: list[int]) -> bool:
    return identity[1] >= 0 and _identity(identity[0]) == identity


def _unescaped(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), text)
