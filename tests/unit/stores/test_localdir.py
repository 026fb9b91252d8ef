from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import (
    BlockMissing,
    Damaged,
    DigestCollision,
    NoSpace,
    NoSuchEntry,
    NotADirectory,
    ReadOnly,
    SchemaMismatch,
    StoreUnavailable,
)
from arvfuse.model.checks import PIECE_BYTES, piece_checks
from arvfuse.stores.localdir import INDEX_NAME, LocalDir, open_store
from tests.support.stores import COLLIDING, StillClock, flip, local, md5, noise, spooled

ROOT = Path(__file__).parents[3]
DATA = noise(300_000)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalDir]:
    made = local(tmp_path / "store")
    yield made
    made.close()


def reopened(store: LocalDir) -> LocalDir:
    store.close()
    return local(store.directory)


def bytes_read() -> int:
    with open("/proc/self/io") as counters:
        return int(counters.readline().split()[1])


# -- opening


def test_open_store_makes_a_store_only_when_asked(tmp_path: Path) -> None:
    for read_only in (True, False):
        with pytest.raises(NoSuchEntry, match="no store here"):
            open_store(tmp_path / "s", clock=StillClock(), read_only=read_only, unsafe_filesystem=True)
    with pytest.raises(NoSuchEntry):
        open_store(tmp_path / "s", clock=StillClock(), read_only=True, create=True, unsafe_filesystem=True)
    assert not (tmp_path / "s").exists()
    made = open_store(tmp_path / "a/b/s", clock=StillClock(), create=True, unsafe_filesystem=True)
    assert repr(made) == f"<LocalDir {tmp_path / 'a/b/s'} <Unsynced 0 blocks, 0 directories>>"
    made.close()
    open_store(tmp_path / "a/b/s", clock=StillClock(), unsafe_filesystem=True).close()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("x")
    for create in (True, False):
        with pytest.raises(NotADirectory, match="not a directory, so not a store"):
            open_store(tmp_path / "s", clock=StillClock(), create=create, unsafe_filesystem=True)


def test_a_newer_index_is_refused(store: LocalDir) -> None:
    store.close()
    connection = sqlite3.connect(store.directory / "blocks" / INDEX_NAME)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(SchemaMismatch):
        local(store.directory)


def test_read_only_refuses_changes(store: LocalDir, tmp_path: Path) -> None:
    locator = store.put(DATA)
    reader = open_store(store.directory, clock=StillClock(), read_only=True, unsafe_filesystem=True)
    assert bytes(reader.fetch_range(locator, 5, 5)) == DATA[5:10]
    assert "read-only" in repr(reader)
    with pytest.raises(ReadOnly):
        reader.put(b"x")
    with pytest.raises(ReadOnly):
        reader.adopt(*spooled(tmp_path / "s", b"x"))
    reader.barrier()
    reader.close()


AS_A_STRANGER = """
import ctypes, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
# Without CAP_DAC_OVERRIDE root obeys mode bits like everybody; the bounding set counts from the next exec on.
if os.geteuid() == 0 and len(sys.argv) == 4:
    assert ctypes.CDLL(None).prctl(24, 1, 0, 0, 0) == 0
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:], "again"])
from arvfuse.errors import NotPermitted
from arvfuse.stores.localdir import open_store
from tests.support.stores import StillClock
try:
    open_store(Path(sys.argv[2]), clock=StillClock(), unsafe_filesystem=True)
    sys.exit("opened for writing")
except NotPermitted as exc:
    print(exc)
store = open_store(Path(sys.argv[2]), clock=StillClock(), read_only=True, unsafe_filesystem=True)
print(bytes(store.fetch_range(sys.argv[3], 299_990, 10)).hex())
store.verify(sys.argv[3])
store.close()
"""


@pytest.mark.parametrize("indexed", [True, False])
def test_a_directory_that_cannot_be_written(store: LocalDir, indexed: bool) -> None:
    locator = store.put(DATA)
    store.close()
    blocks = store.directory / "blocks"
    if not indexed:
        (blocks / INDEX_NAME).unlink()
    before = sorted((path, path.stat().st_mtime_ns) for path in store.directory.rglob("*"))
    for path in (blocks, store.directory):
        path.chmod(0o555)
    try:
        done = subprocess.run(
            [sys.executable, "-c", AS_A_STRANGER, str(ROOT), str(store.directory), locator],
            capture_output=True,
            text=True,
            check=False,
        )
    finally:
        for path in (store.directory, blocks):
            path.chmod(0o755)
    assert done.returncode == 0, done.stderr
    refusal, data = done.stdout.splitlines()
    assert refusal.startswith(f"{blocks}: the store is not writable")
    assert data == DATA[-10:].hex()
    assert sorted((path, path.stat().st_mtime_ns) for path in store.directory.rglob("*")) == before


# -- writing


def test_put_makes_a_read_only_file_in_the_keepstore_layout(store: LocalDir) -> None:
    locator = store.put(b"foo")
    path = store.directory / "blocks/acb/acbd18db4cc2f85cedef654fccc4a4d8"
    assert store.path(locator) == path
    assert path.read_bytes() == b"foo"
    assert path.stat().st_mode & 0o777 == 0o444
    assert sorted(os.listdir(path.parent)) == [path.name]


def test_adopt_links(store: LocalDir, tmp_path: Path) -> None:
    path, digest, size, checks = spooled(tmp_path / "spool", DATA)
    path.chmod(0o644)
    locator = store.adopt(path, digest, size, checks)
    assert os.path.samefile(path, store.path(locator))
    assert path.stat().st_mode & 0o777 == 0o444
    assert store.adopt(path, digest, size, checks) == locator  # by recovery, of a file that was adopted before


def test_adopt_from_another_device_copies(store: LocalDir) -> None:
    foreign = os.memfd_create("spool")
    os.write(foreign, DATA)
    path = Path(f"/proc/self/fd/{foreign}")
    locator = store.adopt(path, md5(DATA), len(DATA), piece_checks(DATA))
    assert store.path(locator).read_bytes() == DATA
    assert store.path(locator).stat().st_mode & 0o777 == 0o444
    os.pwrite(foreign, b"changed", 0)
    wanted = noise(300_000, seed=2)
    with pytest.raises(Damaged, match="changed while"):
        store.adopt(path, md5(wanted), len(wanted), piece_checks(wanted))
    assert not store.contains(f"{md5(wanted)}+300000")
    os.close(foreign)


def test_a_damaged_block_is_replaced_by_the_next_put(store: LocalDir, tmp_path: Path) -> None:
    other = local(store.directory)
    locator = store.put(DATA)
    flip(store.path(locator), 100_000)
    for reader in (store, other):
        with pytest.raises(Damaged):
            reader.fetch_range(locator, 100_000, 1)
    assert store.adopt(*spooled(tmp_path / "spool", DATA)) == locator
    for reader in (store, other):
        assert bytes(reader.fetch_range(locator, 0, 300_000)) == DATA
    assert len(list((store.directory / "quarantine").iterdir())) == 1
    other.close()


def test_a_collision_quarantines_nothing(store: LocalDir) -> None:
    store.put(COLLIDING[0])
    with pytest.raises(DigestCollision):
        store.put(COLLIDING[1])
    assert not (store.directory / "quarantine").exists()


# -- reading


def test_a_small_read_costs_its_pieces_only(store: LocalDir) -> None:
    data = noise(8 << 20)
    locator = store.put(data)
    store.fetch_range(locator, 0, 1)
    before = bytes_read()
    assert bytes(store.fetch_range(locator, 5 << 20, 4096)) == data[5 << 20 : (5 << 20) + 4096]
    assert PIECE_BYTES <= bytes_read() - before < PIECE_BYTES + 4096
    before = bytes_read()
    assert bytes(store.fetch_range(locator, PIECE_BYTES - 1, 2)) == data[PIECE_BYTES - 1 : PIECE_BYTES + 1]
    assert bytes_read() - before < 2 * PIECE_BYTES + 4096


def test_sound_pieces_of_a_damaged_block_can_be_read(store: LocalDir) -> None:
    locator = store.put(DATA)
    flip(store.path(locator), 100_000)
    assert bytes(store.fetch_range(locator, 0, PIECE_BYTES)) == DATA[:PIECE_BYTES]
    with pytest.raises(Damaged):
        store.fetch_range(locator, PIECE_BYTES, 1)


def test_a_damaged_block_is_hashed_once(store: LocalDir) -> None:
    data = noise(2 << 20)
    locator = store.put(data)
    flip(store.path(locator))
    with pytest.raises(Damaged):
        store.fetch_range(locator, 0, 1)
    before = bytes_read()
    with pytest.raises(Damaged):
        store.fetch_range(locator, 0, 1)
    assert bytes_read() - before < 3 * PIECE_BYTES


def test_a_truncated_block_is_damaged_and_a_removed_one_missing(store: LocalDir) -> None:
    locator = store.put(DATA)
    path = store.path(locator)
    path.chmod(0o644)
    os.truncate(path, 200_000)
    with pytest.raises(Damaged):
        store.fetch_range(locator, 199_990, 20)
    assert not store.contains(locator)
    store = reopened(store)
    path.unlink()
    with pytest.raises(BlockMissing):
        store.fetch_range(locator, 0, 1)
    store.close()


@pytest.mark.parametrize("loss", ["missing", "rubbish"])
def test_the_index_is_rebuilt_as_blocks_are_read(store: LocalDir, loss: str) -> None:
    locator = store.put(DATA)
    store.close()
    index = store.directory / "blocks" / INDEX_NAME
    if loss == "missing":
        index.unlink()
    else:
        index.write_bytes(b"rubbish" * 5000)
    store = local(store.directory)
    assert store.last_verified_ns(locator) is None
    assert bytes(store.fetch_range(locator, 299_999, 1)) == DATA[-1:]
    assert store.last_verified_ns(locator) == StillClock().now_ns
    store = reopened(store)
    before = bytes_read()
    store.fetch_range(locator, 0, 1)
    assert bytes_read() - before < 2 * PIECE_BYTES + 32768  # the index is read too
    store.close()


def test_a_wrong_row_is_mended_and_the_data_returned(store: LocalDir) -> None:
    locator = store.put(DATA)
    store.close()
    index = store.directory / "blocks" / INDEX_NAME
    connection = sqlite3.connect(index)
    connection.execute("UPDATE blocks SET checks = ?", (bytes(40),))
    connection.commit()
    connection.close()
    store = local(store.directory)
    assert bytes(store.fetch_range(locator, 0, 300_000)) == DATA
    store.close()
    connection = sqlite3.connect(index)
    assert connection.execute("SELECT checks FROM blocks").fetchone() == (piece_checks(DATA),)
    connection.close()


def test_an_unknown_block_is_hashed_once_for_all_readers(store: LocalDir) -> None:
    data = noise(4 << 20)
    path = store.path(f"{md5(data)}+{len(data)}")
    path.parent.mkdir()
    path.write_bytes(data)  # as a Keepstore left it
    start = threading.Barrier(8)
    got: list[bytes] = []

    def read() -> None:
        start.wait()
        got.append(bytes(store.fetch_range(f"{md5(data)}+{len(data)}", 1 << 20, 8)))

    threads = [threading.Thread(target=read, name=f"reader-{n}") for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [data[1 << 20 : (1 << 20) + 8]] * 8


def test_verify_reads_everything_and_notes_when(tmp_path: Path) -> None:
    local(tmp_path / "s").close()
    clock = StillClock(now_ns=1000)
    store = LocalDir(tmp_path / "s", clock=clock)
    locator = store.put(DATA)
    assert store.last_verified_ns(locator) == 1000
    clock.now_ns = 2000
    store.verify(locator)
    assert store.last_verified_ns(locator) == 2000
    flip(store.path(locator), 299_999)
    clock.now_ns = 3000
    with pytest.raises(Damaged):
        store.verify(locator)
    assert store.last_verified_ns(locator) == 2000
    flip(store.path(locator), 299_999)
    store.verify(locator)
    assert store.last_verified_ns(locator) == 3000
    with pytest.raises(BlockMissing):
        store.verify(f"{md5(b'none')}+4")
    with pytest.raises(BlockMissing):
        store.verify(f"{md5(DATA)}+299999")
    store.close()


def test_blocks_are_listed_in_order(store: LocalDir) -> None:
    locators = sorted(store.put(b"%d" % number) for number in range(20))
    assert list(store.blocks()) == locators


def test_free_bytes_are_those_of_the_disk(store: LocalDir) -> None:
    total, available = store.free_bytes()
    assert 0 < available < total


def test_close_gives_descriptors_back(tmp_path: Path) -> None:
    local(tmp_path / "warm").close()
    before = set(os.listdir("/proc/self/fd"))
    store = local(tmp_path / "s")
    for number in range(100):
        store.fetch_range(store.put(b"%d" % number), 0, 1)
    assert len(os.listdir("/proc/self/fd")) < len(before) + 80
    store.close()
    assert set(os.listdir("/proc/self/fd")) == before


# -- the barrier


class Disk:
    """Counts flushes, and fails those it is told to: -1 is all of them."""

    def __init__(self, directory: Path) -> None:
        local(directory).close()
        self.failures = 0
        self.code = errno.EIO
        self.flushed: list[int] = []
        self.store = LocalDir(directory, clock=StillClock(), flush_file=self.flush)

    def flush(self, fd: int) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError(self.code, "flush")
        os.fdatasync(fd)
        self.flushed.append(os.fstat(fd).st_ino)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    made = Disk(tmp_path / "store")
    yield made
    made.store.close()


def test_a_barrier_flushes_what_came_since_the_last(disk: Disk, tmp_path: Path) -> None:
    one = disk.store.path(disk.store.put(b"one"))
    two = disk.store.path(disk.store.adopt(*spooled(tmp_path / "two", b"two")))
    assert disk.flushed == []
    disk.store.barrier()
    assert sorted(disk.flushed) == sorted(path.stat().st_ino for path in (one, two))
    disk.store.barrier()
    assert len(disk.flushed) == 2


def test_a_barrier_flushes_duplicates_of_another_process(disk: Disk) -> None:
    other = local(disk.store.directory)
    path = other.path(other.put(DATA))
    disk.store.put(DATA)
    disk.store.barrier()
    assert disk.flushed == [path.stat().st_ino]
    other.close()


def test_a_block_whose_flush_failed_is_written_anew(disk: Disk) -> None:
    locator = disk.store.put(DATA)
    lost = os.open(disk.store.path(locator), os.O_RDONLY)
    disk.failures = 1
    disk.store.barrier()
    assert disk.store.path(locator).stat().st_ino != os.fstat(lost).st_ino
    assert disk.flushed == [disk.store.path(locator).stat().st_ino]
    assert bytes(disk.store.fetch_range(locator, 0, 300_000)) == DATA
    os.close(lost)


@pytest.mark.parametrize(("code", "kind"), [(errno.EIO, StoreUnavailable), (errno.ENOSPC, NoSpace)])
def test_a_barrier_that_failed_fails_until_the_block_is_safe(disk: Disk, code: int, kind: type[Exception]) -> None:
    locator = disk.store.put(DATA)
    lost = os.open(disk.store.path(locator), os.O_RDONLY)
    disk.failures, disk.code = -1, code
    for _ in range(2):
        with pytest.raises(kind):
            disk.store.barrier()
    disk.failures = 0
    disk.store.barrier()
    # Flushing the pages that the kernel once gave up would have proved nothing.
    assert os.fstat(lost).st_ino not in disk.flushed
    assert len(disk.flushed) == 1
    os.close(lost)


def test_a_barrier_fails_while_a_block_is_gone(disk: Disk) -> None:
    locator = disk.store.put(DATA)
    disk.store.path(locator).unlink()
    for _ in range(2):
        with pytest.raises(BlockMissing):
            disk.store.barrier()
    disk.store.put(DATA)
    disk.store.barrier()
