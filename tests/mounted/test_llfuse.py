"""The llfuse driver on a real mount, served by a process of its own over an in-memory engine."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.drivers.unmounting import unmount
from arvfuse.errors import Busy
from tests.support import mounts
from tests.support.sources import PACKAGE

pytestmark = pytest.mark.mounted
PATIENCE_S = 30
NOT_SUPPORTED = errno.errorcode[errno.ENOTSUP]  # one number, two names


class Server:
    """The serving process, and what it says."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self.mountpoint = directory / "mnt"
        self.mountpoint.mkdir()
        self._errors = (directory / "errors").open("w+")
        command = [sys.executable, "-m", "tests.support.llfuse_server", str(directory / "engine"), str(self.mountpoint)]
        self.process = subprocess.Popen(
            [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
            start_new_session=True,
        )  # fmt: skip
        mounts.record(self.mountpoint, pids=[self.process.pid])
        assert self.line() == "ready", self.errors()

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, command: str) -> str:
        """Send a command; what the process says when it is done."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()
        return self.line()

    def errors(self) -> str:
        self._errors.seek(0)
        return self._errors.read()

    def unmount(self) -> None:
        """Unmount, and see the process end by itself and in order."""
        unmount(self.mountpoint, timeout_s=PATIENCE_S)
        assert self.line() == "ended", self.errors()
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(PATIENCE_S) == 0, self.errors()

    def sweep(self) -> None:
        """Whatever happened: no mount and no process is left."""
        if mounts.mounted(self.mountpoint) is not None:
            mounts.detach(self.mountpoint)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()
        mounts.forget(self.mountpoint)
        self._errors.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    made = Server(tmp_path)
    yield made
    made.sweep()


@pytest.fixture
def collection(server: Server) -> Path:
    path = server.mountpoint / "home" / "c"
    path.mkdir()
    return path


def code_of(call: object, *arguments: object) -> str:
    """The name of the errno that *call* fails with."""
    with pytest.raises(OSError) as raised:
        call(*arguments)  # type: ignore[operator]
    assert raised.value.errno is not None
    return errno.errorcode[raised.value.errno]


def test_a_tree_goes_in_and_comes_out(server: Server, collection: Path) -> None:
    row = mounts.mounted(server.mountpoint)
    assert row is not None
    assert (row.source, row.kind) == ("arvfuse:test", "fuse.arvfuse")
    source = PACKAGE / "fusedir"
    shutil.copytree(source, collection / "tree", ignore=shutil.ignore_patterns("__pycache__"))
    names = sorted(path.name for path in source.glob("*.py"))
    assert sorted(os.listdir(collection / "tree")) == names
    assert all((collection / "tree" / name).read_bytes() == (source / name).read_bytes() for name in names)
    text = (collection / ".arvados#collection").read_text()
    assert "./tree" in text
    assert text.endswith("}\n")
    assert ".arvados#collection" not in os.listdir(collection)
    server.unmount()


def test_errnos_as_the_kernel_hands_them_on(server: Server, collection: Path) -> None:
    home, by_id = server.mountpoint / "home", server.mountpoint / "by_id"
    (collection / "f").write_bytes(b"x")
    (collection / "d").mkdir()
    (collection / "d" / "e").mkdir()
    assert code_of((collection / "none").read_bytes) == "ENOENT"
    assert code_of((home / "file").write_bytes, b"x") == NOT_SUPPORTED
    assert code_of((by_id / "x").mkdir) == "EPERM"
    assert code_of(os.listdir, by_id / "x") == "ENOENT"
    assert code_of(home.joinpath("c").rmdir) == "ENOTEMPTY"
    assert code_of((collection / "d").rmdir) == "ENOTEMPTY"
    assert code_of(os.symlink, "a", collection / "s") == "EPERM"
    assert code_of(os.link, collection / "f", collection / "l") == "EPERM"
    assert code_of(os.mkfifo, collection / "p") == NOT_SUPPORTED
    assert code_of(os.rename, collection / "d", home / "d") == "EPERM"
    assert code_of((collection / ("n" * 256)).write_bytes, b"") == "ENAMETOOLONG"
    assert code_of((home / os.fsdecode(b"\xff")).mkdir) == "EILSEQ"
    for flags in (0, os.XATTR_CREATE, os.XATTR_REPLACE):
        assert code_of(os.setxattr, collection / "f", "user.a", b"1", flags) == NOT_SUPPORTED
    assert (collection / "f").read_bytes() == b"x", "the mount lives"
    server.unmount()


def test_times_modes_sizes_and_odd_names(server: Server, collection: Path) -> None:
    name = os.fsdecode(b"\xff odd\\:\n")
    path = collection / name
    path.write_bytes(b"hello")
    assert os.listdir(collection) == [name]
    os.utime(path, ns=(5_000_000_001, 7_000_000_002))
    os.chmod(path, 0o751)
    found = path.stat()
    assert (found.st_atime_ns, found.st_mtime_ns, found.st_mode) == (5_000_000_001, 7_000_000_002, stat.S_IFREG | 0o751)
    os.truncate(path, 1_000_000)
    assert path.stat().st_mtime_ns > 7_000_000_002
    assert (path.stat().st_size, path.stat().st_blocks) == (1_000_000, 1954)
    with path.open("r+b") as file:
        file.seek(999_999)
        file.write(b"!")
        os.fsync(file.fileno())
    assert path.read_bytes() == b"hello" + bytes(999_994) + b"!"
    space = os.statvfs(collection)
    assert (space.f_namemax, space.f_frsize * space.f_blocks) == (255, 1 << 40)
    server.unmount()


def test_c3_open_files_survive(server: Server, collection: Path) -> None:
    (collection / "d").mkdir()
    first = collection / "d" / "f"
    first.write_bytes(b"first")
    with first.open("r+b") as file:
        os.rename(collection / "d", collection / "moved")
        (collection / "tmp").write_bytes(b"second")
        os.replace(collection / "tmp", collection / "moved" / "f")
        assert file.read() == b"first"
        file.write(b"!")
        file.flush()
        assert os.fstat(file.fileno()).st_size == 6
        assert (collection / "moved" / "f").read_bytes() == b"second"
    (server.mountpoint / "home" / "c2").mkdir()
    with (collection / "moved" / "f").open("rb") as file:
        os.rename(collection / "moved", server.mountpoint / "home" / "c2" / "again")
        assert file.read() == b"second"
    assert (server.mountpoint / "home" / "c2" / "again" / "f").read_bytes() == b"second"
    server.unmount()


def test_a_shared_mapping_is_written_back(server: Server, collection: Path) -> None:
    path = collection / "f"
    path.write_bytes(bytes(10_000))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), 10_000) as view:
        view[5_000:5_005] = b"hello"
    assert path.read_bytes()[4_999:5_006] == b"\0hello\0"
    server.unmount()


def test_a_mount_in_use_is_busy(server: Server, collection: Path) -> None:
    with (collection / "f").open("wb"), pytest.raises(Busy):
        unmount(server.mountpoint, timeout_s=PATIENCE_S)
    server.unmount()
    unmount(server.mountpoint, timeout_s=PATIENCE_S)  # not mounted any more: no failure


def test_notices_wait_for_a_request_and_nobody_waits_for_them(server: Server) -> None:
    """The kernel keeps a notice about a directory while a request in it is being answered."""
    assert os.listdir(server.mountpoint / "by_id") == []
    server.tell("hold")
    waiting = threading.Thread(target=os.listdir, args=(server.mountpoint / "home",), name="waits for the backend")
    waiting.start()
    said = server.tell("notices 2000")
    assert "generation=0" in said
    assert os.listdir(server.mountpoint / "by_id") == [], "other directories are answered"
    server.tell("release")
    waiting.join(PATIENCE_S)
    assert not waiting.is_alive()
    server.unmount()


def test_an_unmount_with_2000_notices_pending_ends(server: Server, collection: Path) -> None:
    server.tell("notices 2000")
    server.unmount()


def test_b3_read_only_is_enforced_by_the_kernel_too(tmp_path: Path) -> None:
    server = Server(tmp_path, "ro")
    try:
        path = server.mountpoint / "home" / "c1" / "f"
        assert path.read_bytes() == b"hello"
        assert stat.S_IMODE(path.stat().st_mode) == 0o555
        for call, arguments in (
            (os.truncate, (path, 0)),
            (path.unlink, ()),
            (path.write_bytes, (b"",)),
            (os.mkdir, (path.parent / "d",)),
            (os.rename, (path, path.parent / "g")),
            (os.utime, (path,)),
            (os.chmod, (path, 0)),
            (os.open, (path, os.O_RDONLY | os.O_TRUNC)),
        ):
            assert code_of(call, *arguments) == "EROFS"
        assert not os.access(path, os.W_OK)
        server.unmount()
    finally:
        server.sweep()
