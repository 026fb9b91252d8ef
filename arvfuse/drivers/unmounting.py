"""Unmounting from outside: a helper is executed, because umount(2) waits for the process that answers the mount.

Threading: any thread but one that answers requests. Failure: Busy if somebody uses the mount, ArvfuseError with
what the helper said otherwise; a mount point that is not mounted any more is no failure.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from arvfuse.errors import ArvfuseError, Busy

_GONE: Final = ("not mounted", "not found in /etc/mtab", "no mount point specified")


def command(*mountpoints: Path, lazy: bool = False) -> list[str]:
    """The helper's command line: umount for root, fusermount for others (who can name one at a time)."""
    places = [str(mountpoint) for mountpoint in mountpoints]
    if os.geteuid() == 0:
        return ["umount", "--no-canonicalize", *(["--lazy"] if lazy else []), *places]
    from shutil import which

    helper = which("fusermount3") or "fusermount"
    if len(places) > 1:
        return ["sh", "-c", 'for place do "$0" -u -z -- "$place"; done', helper, *places]
    return [helper, "-u", *(["-z"] if lazy else []), "--", *places]


def unmount(mountpoint: Path, *, lazy: bool = False, timeout_s: float) -> None:
    """Detach the mount at *mountpoint* (absolute). Returns when the kernel has handed over its last pages."""
    import subprocess

    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command(mountpoint, lazy=lazy), cwd="/", env=environment, stdin=subprocess.DEVNULL, capture_output=True,
            text=True, timeout=timeout_s, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise Busy(f"{mountpoint}: unmounting took more than {timeout_s:g} s") from None
    if done.returncode == 0:
        return
    said = done.stderr.strip()
    if any(text in said.lower() for text in _GONE):
        return
    if "busy" in said.lower():
        raise Busy(f"{mountpoint}: in use")
    raise ArvfuseError(f"{mountpoint}: {said or f'the helper ended with {done.returncode}'}")
