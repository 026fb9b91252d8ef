"""What is compared: this project, the native file system and the bare loops, each as a place to work in.

A ``Subject`` is started for a block and gives a ``Place``. No threads; servers are processes of their own. Whatever
happens in the block, nothing stays mounted and no server runs on. Failure: CommandFailed.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from bench.mounting import CommandFailed, arvfuse, detach
from bench.processes import cpu_seconds, mount_processes

START_S: Final = 60.0
OURS: Final = "arvfuse"
LLFUSE: Final = "arvfuse llfuse"
NATIVE: Final = "native"
BARE_KERNEL: Final = "bare kernel loop"
BARE_LLFUSE: Final = "bare llfuse"
HOME: Final = "home"
"""Where in a mount of ours the collections are."""


def nothing(*_directories: Path) -> None:
    """There is nothing to do."""


def no_processes() -> Sequence[int]:
    """Nobody serves it but the kernel."""
    return ()


@dataclass(slots=True)
class Place:
    """A subject while it runs. *top* is an empty directory in it.

    *settle*: returns when all that was written below a directory is stored and recorded. *cold*: the next look at
    directories finds nothing in the kernel's caches (of this place; what is behind it may be cached). *processes*: who
    serves it now. *clear*: makes room when a directory is done with."""

    name: str
    top: Path
    settle: Callable[[Path], None] = nothing
    cold: Callable[..., None] = nothing
    processes: Callable[[], Sequence[int]] = no_processes
    clear: Callable[[Path], None] = shutil.rmtree
    cpu_before_s: float = field(default=0.0, init=False)

    def fresh(self, name: str) -> Path:
        """A new directory (of this project: a new collection)."""
        path = self.top / name
        path.mkdir()
        return path

    def start_cpu(self) -> None:
        """From here on CPU time counts."""
        self.cpu_before_s = cpu_seconds(list(self.processes()))

    def used_cpu_s(self) -> float:
        """CPU time of the serving processes since start_cpu()."""
        return cpu_seconds(list(self.processes())) - self.cpu_before_s


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to measure. *run* mounts it below a directory for a block."""

    name: str
    run: Callable[[Path], AbstractContextManager[Place]]


def ours(name: str, driver: str, *options: str) -> Subject:
    """This project with an embedded store; the directories are collections of the home project."""

    @contextmanager
    def run(top: Path) -> Iterator[Place]:
        mountpoint, store = top / "mnt", top / "store"
        mountpoint.mkdir()
        words = ("mount", "--read-write", "--driver", driver, *options, "--store", str(store), str(mountpoint))

        def cold(*_directories: Path) -> None:
            arvfuse("unmount", mountpoint)
            arvfuse(*words)

        arvfuse(*words)
        try:
            yield Place(
                name, mountpoint / HOME, commit, cold, lambda: mount_processes(mountpoint), clear=nothing
            )  # content that is stored stays: emptying a collection would be timed by nobody and take long
            arvfuse("unmount", mountpoint)
        except BaseException:
            detach(mountpoint)
            raise

    return Subject(name, run)


def commit(collection: Path) -> None:
    """Commit a collection on demand."""
    json.loads((collection / ".arvados#collection").read_text())


def native() -> Subject:
    """The file system of the working directory."""

    @contextmanager
    def run(top: Path) -> Iterator[Place]:
        directory = top / "mnt"
        directory.mkdir()
        yield Place(NATIVE, directory, cold=drop_pages)

    return Subject(NATIVE, run)


def bare_kernel(preallocate_mib: int, latency: str = "auto") -> Subject:
    """The in-memory file system on /dev/fuse."""

    @contextmanager
    def run(top: Path) -> Iterator[Place]:
        words = ("bench.bare_kernel", "--preallocate", str(preallocate_mib), "--latency", latency)
        with served([sys.executable, "-m", *words], top / "mnt") as (mountpoint, server):

            def cold(*directories: Path) -> None:
                drop_pages(*directories)
                os.kill(server.pid, signal.SIGUSR1)
                time.sleep(0.2)  # it tells the kernel file by file

            yield Place(BARE_KERNEL, mountpoint, cold=cold, processes=lambda: [server.pid])

    return Subject(BARE_KERNEL, run)


def bare_llfuse(preallocate_mib: int) -> Subject:
    """The in-memory file system on llfuse."""

    @contextmanager
    def run(top: Path) -> Iterator[Place]:
        words = ("bench.bare_llfuse", "--preallocate", str(preallocate_mib))
        with served([sys.executable, "-m", *words], top / "mnt") as (mountpoint, server):
            yield Place(BARE_LLFUSE, mountpoint, cold=drop_pages, processes=lambda: [server.pid])

    return Subject(BARE_LLFUSE, run)


@contextmanager
def served(
    words: Sequence[str], mountpoint: Path, *, source: Path | None = None
) -> Iterator[tuple[Path, subprocess.Popen[bytes]]]:
    """A server in the foreground that mounts at its last argument, for a block. *source*: the argument before it."""
    mountpoint.mkdir()
    command = [*words, *([str(source)] if source is not None else []), str(mountpoint)]
    with tempfile.TemporaryFile() as said:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said, stderr=said)
        try:
            _await_mount(mountpoint, server, said)
            yield mountpoint, server
        finally:
            _end(mountpoint, server)


def _await_mount(mountpoint: Path, server: subprocess.Popen[bytes], said: IO[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not os.path.ismount(mountpoint):
        if time.monotonic() > deadline or server.poll() is not None:
            said.seek(0)
            raise CommandFailed(f"{server.args!r} did not mount: {said.read().decode(errors='replace')[-500:]}")
        time.sleep(0.02)


def _end(mountpoint: Path, server: subprocess.Popen[bytes]) -> None:
    """Unmount; whoever does not end by that is ended."""
    detach(mountpoint)
    try:
        server.wait(20)
    except subprocess.TimeoutExpired:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def drop_pages(*directories: Path) -> None:
    """Write out and drop the pages of the files below *directories*; names stay cached."""
    for directory in directories:
        subprocess.run(["sync", "-f", str(directory)], check=True)
        for path in directory.rglob("*"):
            if path.is_file():
                fd = os.open(path, os.O_RDONLY)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)
