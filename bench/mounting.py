"""A mount for a program: `arvfuse mount` and `arvfuse unmount` as a user types them, and clean-up in every case.

No threads. A command that fails raises CommandFailed with what it printed. Whatever happens inside the with block,
the mount is gone afterwards: unmounted, or detached if that fails.
"""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

COMMAND: Final = (sys.executable, "-m", "arvfuse")
UNMOUNT_S: Final = 600
"""Seconds an unmount may take to commit everything."""
GIVE_UP_S: Final = 20
"""Seconds it may take after something went wrong."""


class CommandFailed(Exception):
    """A command ended with something else than 0."""


def arvfuse(*arguments: str | Path, timeout_s: float = UNMOUNT_S) -> str:
    """Run the command line and return what it printed."""
    program = Path(sys.executable).with_name("arvfuse")
    command = [str(program)] if program.exists() else list(COMMAND)
    words = [*command, *map(str, arguments)]
    with tempfile.TemporaryFile("w+") as said:  # a file, not a pipe: a mount lives on and would hold a pipe open
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        _await_end(process, timeout_s)
        said.seek(0)
        text = said.read()
    if process.returncode:
        raise CommandFailed(f"{' '.join(words[-6:])}: exit code {process.returncode}\n{text}".rstrip())
    return text


def _await_end(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    """As wait(*timeout_s*), which looks every 50 ms: what takes 200 would be measured as anything up to 250."""
    descriptor = os.pidfd_open(process.pid)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        if not poll.poll(timeout_s * 1000):
            process.kill()
            process.wait()
            raise subprocess.TimeoutExpired(process.args, timeout_s)
    finally:
        os.close(descriptor)
    process.wait()


@contextmanager
def mounted(store: Path, mountpoint: Path, *options: str, driver: str = "auto") -> Iterator[Path]:
    """Mount *store* at *mountpoint* for the block; leaving it commits, and raises if that fails."""
    mountpoint.mkdir(exist_ok=True)
    arvfuse("mount", *options, "--driver", driver, "--store", store, mountpoint)
    try:
        yield mountpoint
        arvfuse("unmount", mountpoint)
    except BaseException:
        # In order if that goes: processes whose store is gone before they could commit would try again for minutes.
        with suppress(CommandFailed, OSError, subprocess.SubprocessError):
            arvfuse("unmount", "--deadline", f"{GIVE_UP_S}", mountpoint, timeout_s=3 * GIVE_UP_S)
        detach(mountpoint)
        raise


def offers(driver: str, top: Path) -> bool:
    """Whether this installation mounts by *driver*; tried in the directory *top*."""
    place = top / f"try-{driver}"
    place.mkdir()
    try:
        with mounted(place / "store", place / "mnt", "--read-write", driver=driver):
            return True
    except CommandFailed:
        return False
    finally:
        shutil.rmtree(place, ignore_errors=True)


def detach(mountpoint: Path) -> None:
    """Take whatever is mounted there out of the tree at once; nothing there is no error."""
    command = ["umount", "-l"] if os.geteuid() == 0 else ["fusermount3", "-uz"]
    subprocess.run([*command, str(mountpoint)], capture_output=True, timeout=60, check=False)


@contextmanager
def workplace(name: str, *, needs_bytes: int = 0, parent: Path | None = None) -> Iterator[Path]:
    """A directory of the program's own that is gone afterwards; CommandFailed if there is not room enough."""
    top = Path(tempfile.mkdtemp(prefix=f"arvfuse-{name}-", dir=parent))
    before = signal.signal(signal.SIGTERM, lambda _signal, _frame: sys.exit(128 + signal.SIGTERM))
    try:
        free = shutil.disk_usage(top).free
        if free < needs_bytes:
            raise CommandFailed(f"{top}: {free >> 20} MiB free, {needs_bytes >> 20} MiB needed; set TMPDIR")
        yield top
    finally:
        for mountpoint in _mounts_below(top):
            detach(mountpoint)
        shutil.rmtree(top, ignore_errors=True)
        signal.signal(signal.SIGTERM, before)


def _mounts_below(top: Path) -> Sequence[Path]:
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    points = [Path(line.split(" ")[4].encode().decode("unicode_escape")) for line in lines]
    return [point for point in points if top in point.parents]
