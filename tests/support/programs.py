"""The program as its users run it: commands with a time limit, and mounts that never outlive their test."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tests.support import mounts

LIMIT_S = 60.0
ROOT = Path(__file__).resolve().parents[2]


def environment(home: Path, **more: str) -> dict[str, str]:
    """An environment in which nothing of the user's own settings counts."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ARVFUSE_", "XDG_"))}
    return {**kept, "HOME": str(home), "PYTHONPATH": str(ROOT), **more}


class Program:
    """``arvfuse`` with a store, a mount point and a home of its own below *place*."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.store = place / "store"
        self.mountpoint = place / "mnt"
        self.mountpoint.mkdir()
        self.environment = environment(place)

    def run(
        self, *arguments: str | Path, check: int | None = None, limit_s: float = LIMIT_S, input: bytes | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command; *check* is the exit code that it must have."""
        done = subprocess.run(
            [sys.executable, "-m", "arvfuse", *map(str, arguments)],
            env={**self.environment, "ARVFUSE_STORE": str(self.store)},
            cwd=self.place,
            stdin=subprocess.DEVNULL if input is None else None,
            input=None if input is None else input.decode(),
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=False,
        )
        if check is not None:
            assert done.returncode == check, (arguments, done.returncode, done.stdout, done.stderr, self.log())
        return done

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        """Start a command that goes on; the caller waits for it."""
        return subprocess.Popen(
            [sys.executable, "-m", "arvfuse", *map(str, arguments)],
            env={**self.environment, "ARVFUSE_STORE": str(self.store)},
            cwd=self.place,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    @contextmanager
    def mounted(
        self, *options: str, mountpoint: Path | None = None, dies: bool = False, limit_s: float = LIMIT_S
    ) -> Iterator[Path]:
        """A mount in the background. Afterwards it is gone, whatever the test did, and so are its processes.

        *dies*: the test kills it, so there may be nothing left to unmount. *limit_s*: how long it may live."""
        place = mountpoint or self.mountpoint
        mounts.record(place)
        self.run("mount", *options, place, check=0)
        processes = self.processes(place)
        mounts.record(place, pids=list(processes.values()))
        # A test that hangs in the mount is freed by killing what should answer.
        watchdog = threading.Timer(limit_s, lambda: kill(processes))
        watchdog.start()
        try:
            yield place
            if mounts.mounted(place) is not None and not dies:
                self.run("unmount", place, check=0)
        finally:
            watchdog.cancel()
            watchdog.join()
            with suppress(subprocess.TimeoutExpired):
                if mounts.mounted(place) is not None:
                    mounts.detach(place)
            kill(processes)
            mounts.forget(place)

    @contextmanager
    def mounted_twice(self, *options: str) -> Iterator[tuple[Path, Path]]:
        """One collection in two writable mounts of the store: (here, there)."""
        other = self.place / "other"
        other.mkdir()
        with self.mounted(*options) as here, self.mounted(*options, mountpoint=other) as there:
            (there / "home" / "c").mkdir()
            eventually(lambda: (here / "home" / "c").is_dir())
            yield here / "home" / "c", there / "home" / "c"

    def status(self, mountpoint: Path | None = None) -> dict[str, Any]:
        """What the mount says of itself."""
        done = self.run("status", "--json", mountpoint or self.mountpoint, check=0)
        status: dict[str, Any] = json.loads(done.stdout)["mounts"][0]
        return status

    def processes(self, mountpoint: Path | None = None) -> dict[str, int]:
        """``supervisor``, ``engine``, ``backend``: process ids."""
        found: dict[str, int] = self.status(mountpoint)["processes"]
        return found

    def collections(self) -> dict[str, dict[str, Any]]:
        """The records of the store by name."""
        done = self.run("collections", "--json", check=0)
        return {record["name"]: record for record in json.loads(done.stdout)["collections"]}

    def log(self) -> str:
        """What the mounts that are still there have logged."""
        return "\n".join(path.read_text()[-4000:] for path in self.store.glob("mounts/*/log.txt"))


def kill(processes: dict[str, int]) -> None:
    """End processes of a mount that are left. Their command line is looked at: ids are used again."""
    for process in processes.values():
        with suppress(OSError):
            if b"arvfuse" in Path(f"/proc/{process}/cmdline").read_bytes():
                os.kill(process, signal.SIGKILL)


def eventually(true: Callable[[], object], *, limit_s: float = 20.0) -> None:
    """Wait until *true* of other processes; fails after *limit_s*."""
    deadline = time.monotonic() + limit_s
    while not true():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.02)


def ended(process: int) -> bool:
    """True if there is no such process, or only its corpse."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"
