"""What a kernel with a write-back cache does, each measured once and a case since. On the kernel driver alone."""

from __future__ import annotations

import errno
import json
import mmap
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from arvfuse.drivers.kernel.wire import Init
from tests.support.driven import PATIENCE_S, Server, code_of, served
from tests.support.programs import eventually

pytestmark = pytest.mark.mounted
PAGE = mmap.PAGESIZE

APPEND = """
import os, sys
fd = os.open(sys.argv[1], os.O_APPEND | os.O_WRONLY)
for number in range(200):
    os.write(fd, (sys.argv[2] * 9).encode() + b"\\n")
"""
OLDER = (
    Init.WRITEBACK_CACHE, Init.DO_READDIRPLUS, Init.MAX_PAGES, Init.PARALLEL_DIROPS, Init.ATOMIC_O_TRUNC,
    Init.HANDLE_KILLPRIV_V2, Init.READDIRPLUS_AUTO, Init.EXPLICIT_INVAL_DATA, Init.CACHE_SYMLINKS,
)  # fmt: skip


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with served("kernel", tmp_path) as made:
        yield made


@pytest.fixture
def collection(server: Server) -> Path:
    path = server.mountpoint / "home" / "c"
    path.mkdir()
    return path


def drop_pages(path: Path) -> None:
    """What is read next comes from the driver."""
    opened = os.open(path, os.O_RDONLY)
    os.fsync(opened)
    os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(opened)


def test_appenders_overwrite_nothing(collection: Path) -> None:
    """Their pages come with the offset, by whichever handle that may write."""
    path = collection / "log"
    path.write_bytes(b"first\n")
    reader = os.open(path, os.O_RDONLY)
    running = [subprocess.Popen([sys.executable, "-c", APPEND, path, who]) for who in "abcd"]
    assert [process.wait(PATIENCE_S) for process in running] == [0] * 4
    drop_pages(path)
    lines = path.read_bytes().splitlines()
    assert lines[0] == b"first"
    assert sorted(lines[1:]) == sorted(who.encode() * 9 for who in "abcd" for _ in range(200))
    assert os.fstat(reader).st_size == 6 + 4 * 200 * 10
    os.close(reader)


def test_a_part_of_a_page_is_written_by_a_handle_that_may_not_read(server: Server, collection: Path) -> None:
    path = collection / "f"
    path.write_bytes(b"a" * 3 * PAGE)
    drop_pages(path)
    server.calls()
    with path.open("r+b", buffering=0) as again:
        again.close()
    opened = os.open(path, os.O_WRONLY)
    os.pwrite(opened, b"xyz", PAGE + 10)
    os.close(opened)
    assert server.calls()["read"] > 0, "the page was completed first"
    drop_pages(path)
    wanted = bytearray(b"a" * 3 * PAGE)
    wanted[PAGE + 10 : PAGE + 13] = b"xyz"
    assert path.read_bytes() == wanted


def test_small_writes_become_large_requests(server: Server, collection: Path) -> None:
    with (collection / "f").open("wb", buffering=0) as file:
        for _ in range(1000):
            file.write(b"x" * 1000)
    assert server.calls()["write"] <= 10
    drop_pages(collection / "f")
    assert (collection / "f").read_bytes() == b"x" * 1_000_000


def test_a_mapping_outlives_its_descriptor(collection: Path) -> None:
    """Pages come after FLUSH, and before RELEASE."""
    path = collection / "f"
    path.write_bytes(bytes(10 * PAGE))
    with path.open("r+b") as file:
        view = mmap.mmap(file.fileno(), 0)
    view[5 * PAGE : 5 * PAGE + 5] = b"later"
    assert path.read_bytes()[5 * PAGE : 5 * PAGE + 5] == b"later"
    view.close()
    drop_pages(path)
    assert path.read_bytes() == bytes(5 * PAGE) + b"later" + bytes(5 * PAGE - 5)


def test_times_are_those_of_the_program(collection: Path) -> None:
    path = collection / "f"
    path.write_bytes(b"1")
    os.utime(path, ns=(10**18, 10**18 + 5))
    with path.open("ab") as file:
        file.write(b"2")
        file.flush()
        os.utime(path, ns=(2 * 10**18, 2 * 10**18 + 7))  # its pages are not written back yet
    drop_pages(path)
    assert (path.stat().st_atime_ns, path.stat().st_mtime_ns, path.stat().st_size) == (2 * 10**18, 2 * 10**18 + 7, 2)
    with path.open("ab", buffering=0) as file:
        file.write(b"3")
        written = os.fstat(file.fileno()).st_mtime_ns
        os.fsync(file.fileno())
        assert os.fstat(file.fileno()).st_mtime_ns == written
    assert path.stat().st_mtime_ns == written > 10**18 * 1.5


def test_truncation_wins_over_pages_that_wait(collection: Path) -> None:
    path = collection / "f"
    with path.open("wb", buffering=0) as first:
        first.write(b"x" * 5 * PAGE)
        with path.open("wb", buffering=0) as second:  # O_TRUNC
            assert os.fstat(first.fileno()).st_size == 0
            second.write(b"new")
    drop_pages(path)
    assert path.read_bytes() == b"new"
    with path.open("r+b", buffering=0) as file:
        file.write(b"y" * 5 * PAGE)
        os.ftruncate(file.fileno(), 10)
        os.ftruncate(file.fileno(), 2 * PAGE)
    drop_pages(path)
    assert path.read_bytes() == b"y" * 10 + bytes(2 * PAGE - 10)


def test_d4_a_failed_write_is_told_to_every_handle(server: Server, collection: Path) -> None:
    """The kernel tells whoever comes next, or nobody; we tell all who have it open, readers too."""
    path = collection / "f"
    path.write_bytes(b"old")
    handles = [os.open(path, flags) for flags in (os.O_RDWR, os.O_RDONLY, os.O_WRONLY)]
    os.write(handles[2], b"lost")
    server.tell("fail")
    os.sync()
    told = []
    for handle in handles:
        try:
            os.close(handle)
        except OSError as failure:
            told.append(failure.errno)
    assert len(told) == 3
    assert set(told) <= {errno.ENOSPC, errno.EIO}
    with path.open("rb"):
        pass  # opened later: not told


def test_d4_what_could_not_be_written_is_not_shown(server: Server, collection: Path) -> None:
    """The kernel keeps the page as if it had been: it is told to forget it."""
    path = collection / "f"
    path.write_bytes(b"old content")
    opened = os.open(path, os.O_WRONLY)
    os.write(opened, b"NEW")
    server.tell("fail")
    assert code_of(os.fsync, opened) in ("ENOSPC", "EIO")
    with suppress(OSError):  # may say so once more
        os.close(opened)
    eventually(lambda: path.read_bytes() == b"old content")


def test_d4_a_file_that_could_not_grow_has_its_size_when_it_is_closed(server: Server, collection: Path) -> None:
    """A kernel that writes back takes no size from us while it knows the file."""
    path = collection / "f"
    path.write_bytes(b"old content")
    opened = os.open(path, os.O_WRONLY | os.O_APPEND)
    os.write(opened, b" and more")
    server.tell("fail")
    assert code_of(os.fsync, opened) in ("ENOSPC", "EIO")
    with suppress(OSError):
        os.close(opened)
    eventually(lambda: (path.stat().st_size, path.read_bytes()) == (11, b"old content"))
    with path.open("ab") as again:
        again.write(b"!")
    eventually(lambda: path.read_bytes() == b"old content!")


def test_set_user_id_goes_when_others_write(collection: Path) -> None:
    """root keeps it; whoever else writes, cuts or gives the file away takes it off."""
    path = collection / "f"
    for number, act in enumerate(("open(p, 'ab').write(b'x')", "os.truncate(p, 1)", "open(p, 'wb')")):
        path.write_bytes(b"content")
        os.chmod(path, 0o6777)
        code = f"import os, sys; p = sys.argv[1]; os.setgid(65534); os.setuid(65534); {act}"
        done = subprocess.run(
            [sys.executable, "-c", code, path], capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        if os.geteuid() == 0 and "Permission" in done.stderr:
            # without allow_other only who mounted may look: capabilities are what the kernel goes by
            code = code.replace("os.setgid(65534); os.setuid(65534);", "")
            command = ["setpriv", "--bounding-set=-fsetid", "--inh-caps=-fsetid", "--", sys.executable, "-c", code]
            done = subprocess.run([*command, path], capture_output=True, text=True, timeout=PATIENCE_S, check=False)
        assert done.returncode == 0, done.stderr
        assert stat.S_IMODE(path.stat().st_mode) == 0o777, number
    os.chmod(path, 0o4755)
    os.chown(path, 65534, 65534)
    assert stat.S_IMODE(path.stat().st_mode) == 0o755


@pytest.mark.parametrize("masked", OLDER, ids=lambda flag: flag.name)
def test_older_paths_do_the_same(tmp_path: Path, masked: Init) -> None:
    with served("kernel", tmp_path, f"mask={int(masked)}") as server:
        assert masked.name.lower() not in server.status()["features"]
        collection = server.mountpoint / "home" / "c"
        collection.mkdir()
        content = os.urandom(3 << 20)
        (collection / "big").write_bytes(content)
        writes = server.calls()["write"]
        assert writes >= (24 if masked is Init.MAX_PAGES else 3), "requests are of 128 KiB then"
        drop_pages(collection / "big")
        assert (collection / "big").read_bytes() == content
        for number in range(100):
            (collection / f"file{number}").write_bytes(b"%d" % number)
        found = {entry.name: entry.stat().st_size for entry in os.scandir(collection)}
        assert found == {"big": 3 << 20} | {f"file{number}": len(str(number)) for number in range(100)}
        with (collection / "big").open("wb") as file:
            file.write(b"short")
        assert (collection / "big").read_bytes() == b"short"
        os.chmod(collection / "big", 0o4755)
        os.chown(collection / "big", 1, 1)
        assert stat.S_IMODE((collection / "big").stat().st_mode) == 0o755
        assert not (collection / "none").exists()
        (collection / "none").touch()
        assert (collection / "none").exists()


def test_without_a_write_back_cache_each_write_is_a_request(tmp_path: Path) -> None:
    with served("kernel", tmp_path, "no-writeback") as server:
        (server.mountpoint / "home" / "c").mkdir()
        with (server.mountpoint / "home" / "c" / "f").open("wb", buffering=0) as file:
            for number in range(10):
                file.write(b"x")
                assert server.calls()["write"] == 1, number


def test_missing_names_are_asked_for_once_and_appear_at_once(server: Server, collection: Path) -> None:
    assert not (collection / "f").exists()
    server.calls()
    for _ in range(5):
        assert not (collection / "f").exists()
    assert server.calls().get("lookup", 0) == 0
    uuid = next(iter(os.listdir(server.mountpoint / "by_id")), None)
    (collection / "f").write_bytes(b"here")
    assert (collection / "f").read_bytes() == b"here"
    assert uuid is None or (server.mountpoint / "by_id" / uuid / "f").exists()


def test_a_cold_listing_brings_attributes(tmp_path: Path) -> None:
    """`ls -l` of 5,000 files that the kernel does not know: names and attributes together, few look-ups."""
    with served("kernel", tmp_path, "files=5000") as server:
        collection = server.mountpoint / "home" / "many"
        with os.scandir(collection) as entries:
            found = {entry.name: entry.stat().st_size for entry in entries}
        assert found == {f"file{number}": number % 6 for number in range(5000)}
        calls = server.calls()
        assert calls.get("lookup", 0) + calls.get("getattr", 0) < 1000, calls
        with os.scandir(collection) as entries:
            for entry in entries:
                assert entry.stat().st_size < 6
                os.unlink(entry.path)
        assert os.listdir(collection) == []


def test_listings_of_collections_are_kept_by_the_kernel_by_any_path(tmp_path: Path) -> None:
    with served("kernel", tmp_path, "ro") as server:
        record = json.loads((server.mountpoint / "home" / "c1" / ".arvados#collection").read_text())
        fixed, named = server.mountpoint / "by_id" / record["portable_data_hash"], server.mountpoint / "home" / "c1"
        for top in (fixed, named):
            for _ in range(2):  # the first is remembered when it is complete
                assert (sorted(os.listdir(top)), os.listdir(top / "d")) == (["d", "f"], ["g"])
            server.calls()
            assert (sorted(os.listdir(top)), os.listdir(top / "d")) == (["d", "f"], ["g"])
            assert server.calls().get("readdir", 0) == 0


@pytest.mark.parametrize("by", ["record", "hash"])
def test_b3_read_only_mounts_need_no_open(tmp_path: Path, by: str) -> None:
    with served("kernel", tmp_path, "ro", *["pdh"] * (by == "hash")) as server:
        top = server.mountpoint if by == "hash" else server.mountpoint / "home" / "c1"
        for _ in range(2):
            assert sorted(os.listdir(top)) == ["d", "f"]
            assert (os.listdir(top / "d"), (top / "d" / "g").read_bytes()) == (["g"], b"hello")
            assert sorted(entry.name for entry in os.scandir(top) if entry.stat().st_mode) == ["d", "f"]
        calls = server.calls()
        assert [calls.get(name, 0) for name in ("open", "flush", "release", "read")] == [0, 0, 0, 0]
        assert calls["read_node"] > 0
        assert (calls.get("opendir", 0) == 0) == (by == "hash")
        assert (top / ".arvados#collection").read_text().endswith("}\n")
        for path in ("new", "f", "d/g"):
            with pytest.raises(OSError, match="Read-only"):
                (top / path).open("ab")
