"""Other FUSE file systems on this machine, doing the same work: bindfs and rclone, and s3ql where it is installed.

Each keeps its bytes in a local directory and uses no network. They are never required: ``present`` gives those whose
programs are here and says in one line which are not (`make bench-tools` installs what Debian has). No threads.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Final

from bench.mounting import CommandFailed, detach
from bench.subjects import Place, Subject, served

BINDFS: Final = "bindfs"
RCLONE: Final = "rclone"
S3QL: Final = "s3ql"
UPLOADED_S: Final = 300.0
_CONFIG: Final = "[local]\ntype = alias\nremote = {0}\n"


@contextmanager
def bindfs(top: Path) -> Iterator[Place]:
    """A directory shown elsewhere, through libfuse 3: hashes and copies nothing."""
    source, mountpoint = top / "source", top / "mnt"
    source.mkdir()
    words = ["bindfs", "-f"]
    with _remountable(words, mountpoint, source) as (cold, processes):
        yield Place(BINDFS, mountpoint, cold=cold, processes=processes)


@contextmanager
def rclone(top: Path) -> Iterator[Place]:
    """A local directory as a remote, with a cache for writes; a file is stored when it has been copied there."""
    source, mountpoint, config = top / "source", top / "mnt", top / "rclone.conf"
    source.mkdir()
    config.write_text(_CONFIG.format(source))
    words = [
        "rclone", "mount", "--config", str(config), "--cache-dir", str(top / "cache"), "--vfs-cache-mode", "writes",
        "--vfs-write-back", "0s", "--attr-timeout", "60s", "--dir-cache-time", "60m", "--poll-interval", "0",
        "--log-level", "ERROR", "local:",
    ]  # fmt: skip

    def settle(directory: Path) -> None:
        _await_copied(directory, source / directory.relative_to(mountpoint))

    with _remountable(words, mountpoint, None) as (cold, processes):

        def cold_when_copied(*directories: Path) -> None:
            for directory in directories:
                settle(directory)
            cold()

        yield Place(RCLONE, mountpoint, settle, cold_when_copied, processes)


@contextmanager
def s3ql(top: Path) -> Iterator[Place]:
    """A file system in blocks of its own with a SQLite database, kept in a local directory, not encrypted."""
    blocks, mountpoint, auth = top / "blocks", top / "mnt", top / "authinfo"
    blocks.mkdir()
    auth.touch(mode=0o600)
    common = ["--authfile", str(auth), "--cachedir", str(top / "cache")]
    _run("mkfs.s3ql", "--plain", *common, f"local://{blocks}")
    words = ["mount.s3ql", "--fg", "--compress", "none", *common, f"local://{blocks}"]

    def settle(_directory: Path) -> None:
        _run("s3qlctrl", "flushcache", str(mountpoint))

    with _remountable(words, mountpoint, None, unmount=["umount.s3ql"]) as (cold, processes):
        yield Place(S3QL, mountpoint, settle, cold, processes)


PROGRAMS: Final[Mapping[str, tuple[str, Subject]]] = MappingProxyType(
    {
        BINDFS: ("bindfs", Subject(BINDFS, bindfs)),
        RCLONE: ("rclone", Subject(RCLONE, rclone)),
        S3QL: ("mount.s3ql", Subject(S3QL, s3ql)),
    }
)


def present() -> tuple[list[Subject], str]:
    """The peers that can be run here, and a line that names those that cannot ("" if all are here)."""
    found = [subject for program, subject in PROGRAMS.values() if shutil.which(program)]
    missing = [name for name, (program, _) in PROGRAMS.items() if not shutil.which(program)]
    return found, f"not compared, not installed here: {', '.join(missing)}" if missing else ""


@contextmanager
def _remountable(
    words: list[str], mountpoint: Path, source: Path | None, *, unmount: list[str] | None = None
) -> Iterator[tuple[Callable[..., None], Callable[[], Sequence[int]]]]:
    """A served mount that can be made cold: ended and started anew in its place."""
    runs = [served(words, mountpoint, source=source)]
    servers = [runs[0].__enter__()[1]]

    def end() -> None:
        if unmount is not None:
            _run(*unmount, str(mountpoint))
        runs.pop().__exit__(None, None, None)
        servers.pop()

    def cold(*_directories: Path) -> None:
        end()
        mountpoint.rmdir()
        runs.append(served(words, mountpoint, source=source))
        servers.append(runs[0].__enter__()[1])

    try:
        yield cold, lambda: [server.pid for server in servers]
    finally:
        if runs:
            try:
                end()
            except CommandFailed:
                detach(mountpoint)
                raise


def _await_copied(directory: Path, copy: Path) -> None:
    """Return when every file below *directory* is in *copy* with its size and time."""
    wanted = {
        os.path.relpath(os.path.join(base, name), directory): _size_and_time(os.path.join(base, name))
        for base, _, names in os.walk(directory)
        for name in names
    }
    deadline = time.monotonic() + UPLOADED_S
    while wanted:
        for name, expected in list(wanted.items()):
            try:
                if _size_and_time(copy / name) != expected:
                    break
                del wanted[name]
            except FileNotFoundError:
                break
        if wanted and time.monotonic() > deadline:
            raise CommandFailed(f"rclone: {len(wanted)} files were not copied within {UPLOADED_S:g} s")
        if wanted:
            time.sleep(0.02)


def _size_and_time(path: str | Path) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_size, found.st_mtime_ns // 1_000_000


def _run(*words: str) -> None:
    done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(words)}: exit code {done.returncode}\n{done.stderr}".rstrip())
