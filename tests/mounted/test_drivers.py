"""Both drivers on a real mount, served by a process of its own over an in-memory engine: the same cases for each.

Where they may differ stands in ``arvfuse.drivers.capabilities``; what programs see of that is tried here too.
"""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.drivers.unmounting import unmount
from arvfuse.errors import Busy
from tests.support import mounts
from tests.support.driven import PATIENCE_S, Server, code_of
from tests.support.programs import eventually
from tests.support.sources import PACKAGE

pytestmark = pytest.mark.mounted
NOT_SUPPORTED = errno.errorcode[errno.ENOTSUP]  # one number, two names


@pytest.fixture(params=["kernel", "llfuse"])
def driver(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
def server(driver: str, tmp_path: Path) -> Iterator[Server]:
    made = Server(driver, tmp_path)
    yield made
    made.sweep()


@pytest.fixture
def collection(server: Server) -> Path:
    path = server.mountpoint / "home" / "c"
    path.mkdir()
    return path


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


def test_b3_read_only_is_enforced_by_the_kernel_too(driver: str, tmp_path: Path) -> None:
    server = Server(driver, tmp_path, "ro")
    try:
        path = server.mountpoint / "home" / "c1" / "f"
        assert path.read_bytes() == b"hello"
        assert stat.S_IMODE(path.stat().st_mode) == 0o555
        for call, arguments in (
            (os.truncate, (path, 0)),
            (path.unlink, ()),
            (path.write_bytes, (b"",)),
            (os.mkdir, (path.parent / "new",)),
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


def test_room_is_made_for_a_file(server: Server, collection: Path) -> None:
    """fallocate(2) where the driver has it, else what posix_fallocate(3) does instead."""
    with (collection / "f").open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, 100_000)
        assert os.fstat(file.fileno()).st_size == 100_000
    assert server.calls().get("write", 0) == (0 if server.driver == "kernel" else 25)  # glibc: a byte in each page
    assert (collection / "f").read_bytes() == bytes(100_000)
    server.unmount()


def test_data_are_sought(server: Server, collection: Path) -> None:
    with (collection / "f").open("wb") as file:
        os.pwrite(file.fileno(), b"x" * 4096, 1 << 20)
        os.ftruncate(file.fileno(), 2 << 20)
    opened = os.open(collection / "f", os.O_RDONLY)

    def is_written() -> bool:
        try:
            return os.lseek(opened, 0, os.SEEK_DATA) < 0
        except OSError as failure:
            return failure.errno == errno.EINVAL

    eventually(lambda: not is_written())  # that the writer has closed it is told a moment later
    data, hole = (os.lseek(opened, 0, whence) for whence in (os.SEEK_DATA, os.SEEK_HOLE))
    assert (data, hole) == ((1 << 20, 0) if server.driver == "kernel" else (0, 2 << 20))
    assert os.lseek(opened, 1 << 20, os.SEEK_HOLE) == ((1 << 20) + 4096 if server.driver == "kernel" else 2 << 20)
    assert code_of(os.lseek, opened, 3 << 20, os.SEEK_DATA) == "ENXIO"
    os.close(opened)
    server.unmount()


def test_a_copy_of_a_file_that_is_being_written_has_all_that_was(server: Server, collection: Path) -> None:
    with (collection / "f").open("wb", buffering=0) as file:
        os.ftruncate(file.fileno(), 8 << 20)
        os.fsync(file.fileno())
        os.pwrite(file.fileno(), b"data", 5 << 20)
        subprocess.run(["cp", "--sparse=auto", collection / "f", collection / "copy"], check=True, timeout=PATIENCE_S)
    assert (collection / "copy").read_bytes() == bytes(5 << 20) + b"data" + bytes((3 << 20) - 4)
    server.unmount()


def test_a_rename_that_must_not_replace(server: Server, collection: Path) -> None:
    for name in ("a", "b"):
        (collection / name).write_text(name)
    done = subprocess.run(["mv", "--no-clobber", "a", "b"], cwd=collection, timeout=PATIENCE_S, check=False)
    assert done.returncode in (0, 1)
    assert [(collection / name).read_text() for name in ("a", "b")] == ["a", "b"]
    server.unmount()


def test_a_write_that_fails_is_told(server: Server, collection: Path) -> None:
    """By the write itself, or with a write-back cache by the fsync or close of every handle."""
    first, second = (os.open(collection / "f", os.O_RDWR | os.O_CREAT) for _ in range(2))
    server.tell("fail")
    told = {first: 0, second: 0}

    def told_by(handle: int, *calls: Callable[[], object]) -> None:
        for call in calls:
            try:
                call()
            except OSError:
                told[handle] += 1

    told_by(first, lambda: os.write(first, b"lost"), lambda: os.fsync(first))
    told_by(second, lambda: os.fsync(second), lambda: os.close(second))
    told_by(first, lambda: os.close(first))
    assert told[first] >= 1
    if server.driver == "kernel":  # the write itself had succeeded
        assert told[second] >= 1
    (collection / "f").write_bytes(b"kept")
    assert (collection / "f").read_bytes() == b"kept"
    server.unmount()


def test_a_request_that_waits_holds_nobody_up(server: Server) -> None:
    for name in ("home", "by_id"):
        (server.mountpoint / name).stat()  # llfuse has one look-up at a time in a directory
    server.tell("hold")
    waiting = subprocess.Popen(["ls", server.mountpoint / "home"], stdout=subprocess.DEVNULL)
    while "waits" not in server.tell("waiting"):
        pass
    for _ in range(20):
        assert os.listdir(server.mountpoint / "by_id") == []
    assert waiting.poll() is None
    server.tell("release")
    assert waiting.wait(PATIENCE_S) == 0
    server.unmount()


def test_a_writer_ahead_of_a_full_spool_is_held_and_others_are_not(server: Server, collection: Path) -> None:
    (collection / "other").write_bytes(b"other")
    server.calls()
    server.tell("full")
    code = "import os, sys; f = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT); os.write(f, b'x' * 5000); os.fsync(f)"
    writer = subprocess.Popen([sys.executable, "-c", code, collection / "f"])
    while not server.calls().get("write"):
        pass
    for _ in range(20):
        assert (collection / "other").read_bytes() == b"other"
        assert sorted(os.listdir(collection))[0] == "f"
    assert writer.poll() is None
    server.tell("room")
    assert writer.wait(PATIENCE_S) == 0
    assert (collection / "f").read_bytes() == b"x" * 5000
    server.unmount()


def test_c3_whoever_opens_a_name_that_others_replace_all_the_time_gets_a_file(server: Server, collection: Path) -> None:
    """A path walk finds one file, the next rename replaces it, and the open comes to a number without a name."""
    common, stop, failures = collection / "common", threading.Event(), list[OSError]()
    common.write_bytes(b"0" * 100)

    def replace(number: int) -> None:
        own = collection / f"own{number}"
        while not stop.is_set():
            own.write_bytes(b"%d" % number * 100)
            os.replace(own, common)

    def read() -> None:
        try:
            for _ in range(500):
                data = common.read_bytes()
                assert len(data) == 100, data
                assert data == data[:1] * 100
        except OSError as failure:
            failures.append(failure)

    writers = [threading.Thread(target=replace, args=(number,)) for number in range(2)]
    readers = [threading.Thread(target=read) for _ in range(4)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in readers:
        thread.join()
    stop.set()
    for thread in writers:
        thread.join()
    assert failures == []
