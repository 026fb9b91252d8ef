"""What the put threads do: live ranges of a file become a block."""

from __future__ import annotations

import os
import stat
import threading
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from arvfuse.errors import Damaged, StoreUnavailable
from arvfuse.model.checks import piece_checks
from arvfuse.sdk.putpool import PUT_THREADS, Pool, PutPool, Stored, gathered, put_parts, put_ranges, read_ranges
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.stepper import Stepper
from tests.support.stores import md5, noise

DATA = noise(3_000_000)


class Watching(MemoryStore):
    """Notes what it is asked to adopt."""

    def __init__(self) -> None:
        super().__init__()
        self.adopted: list[tuple[str, int]] = []

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        self.adopted.append((path.name, stat.S_IMODE(path.stat().st_mode)))
        assert piece_checks(path.read_bytes()) == checks
        return super().adopt(path, digest, size, checks)


def spool(tmp_path: Path, data: bytes = DATA) -> Path:
    path = tmp_path / "spool" / "7"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def test_a_wholly_live_file_is_adopted_as_it_is(tmp_path: Path) -> None:
    store, path = Watching(), spool(tmp_path)
    stored = put_ranges(store, path, [(0, len(DATA))])
    assert stored == Stored(f"{md5(DATA)}+{len(DATA)}", ((0, len(DATA)),))
    assert store.adopted == [("7", 0o444)]
    assert bytes(store.fetch_range(stored.locator, 0, len(DATA))) == DATA


@pytest.mark.parametrize(
    "ranges",
    [
        [(0, 10)],
        [(10, len(DATA) - 10)],
        [(0, 5), (5, len(DATA) - 5)],
        [(100, 1_500_000), (2_000_000, 1), (2_500_000, 500_000)],
    ],
)
def test_dead_bytes_are_never_stored(tmp_path: Path, ranges: list[tuple[int, int]]) -> None:
    store, path = Watching(), spool(tmp_path)
    live = b"".join(DATA[offset : offset + length] for offset, length in ranges)
    assert put_ranges(store, path, ranges) == Stored(f"{md5(live)}+{len(live)}", tuple(ranges))
    assert store.adopted == [("7.live", 0o444)]
    assert os.listdir(path.parent) == ["7"]


def test_a_file_that_is_gone_or_too_short_is_no_block(tmp_path: Path) -> None:
    store = MemoryStore()
    with pytest.raises(Damaged, match="gone"):
        put_ranges(store, tmp_path / "nothing", [(0, 1)])
    path = spool(tmp_path, b"0123456789")
    with pytest.raises(Damaged, match=f"spool file {path}: shorter"):
        put_ranges(store, path, [(0, 11)])
    assert (list(store.blocks()), os.listdir(path.parent)) == ([], ["7"])


def test_ranges_are_read_in_portions(tmp_path: Path) -> None:
    path = spool(tmp_path)
    with path.open("rb") as file:
        portions = [bytes(view) for view in read_ranges(path, file.fileno(), [(5, 10), (100, 2_500_000)])]
        assert (portions[0], b"".join(portions[1:])) == (DATA[5:15], DATA[100:2_500_100])
        with pytest.raises(Damaged, match=f"spool file {path}: shorter"):
            list(read_ranges(path, file.fileno(), [(0, len(DATA) + 1)]))


def test_parts_become_one_block(tmp_path: Path) -> None:
    store = Watching()
    parts = [DATA[:10], memoryview(DATA)[10:100_000], b"", DATA[100_000:]]
    assert put_parts(store, tmp_path / "new" / "pack1", parts) == f"{md5(DATA)}+{len(DATA)}"
    assert store.adopted == [("pack1", 0o444)]
    assert os.listdir(tmp_path / "new") == []


def test_what_a_dead_process_left_is_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "pack1").write_bytes(b"half of something")
    assert put_parts(MemoryStore(), tmp_path / "pack1", [b"abc"]) == f"{md5(b'abc')}+3"
    assert not (tmp_path / "pack1").exists()


def test_a_failed_put_leaves_the_source_and_nothing_else(tmp_path: Path) -> None:
    store, path = Faulty(MemoryStore(), "adopt: FAIL*2"), spool(tmp_path)
    for ranges in ([(0, len(DATA))], [(1, 2)]):
        with pytest.raises(StoreUnavailable):
            put_ranges(store, path, ranges)
        assert (os.listdir(path.parent), path.read_bytes()) == (["7"], DATA)
        assert put_ranges(MemoryStore(), path, ranges).ranges == tuple(ranges)  # a later try finds all it needs


def test_threads_have_names_and_an_end() -> None:
    pool = PutPool()
    gate, names = threading.Barrier(PUT_THREADS + 1), []

    def work() -> int:
        names.append(threading.current_thread().name)
        gate.wait()
        return 42

    jobs = [pool.submit(work) for _ in range(PUT_THREADS)]
    gate.wait()
    assert [job.result() for job in jobs] == [42] * PUT_THREADS
    assert sorted(names) == [f"put_{number}" for number in range(PUT_THREADS)]
    pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name in names]


def test_close_cancels_what_waits_and_finish_does_it() -> None:
    for end, cancelled in ((PutPool.close, True), (PutPool.finish, False)):
        pool, begun, go = PutPool(threads=1), threading.Event(), threading.Event()

        def first(begun: threading.Event = begun, go: threading.Event = go) -> None:
            begun.set()
            go.wait()

        running, waiting = pool.submit(first), pool.submit(int)
        begun.wait()
        ending = threading.Thread(target=end, args=(pool,), name="ending")
        ending.start()
        if cancelled:
            with pytest.raises(CancelledError):  # which comes while the first one runs
                waiting.result()
        go.set()
        ending.join()
        assert (running.result(), waiting.cancelled()) == (None, cancelled)


def test_a_stepper_is_a_pool_too() -> None:
    steps = Stepper()
    pool: Pool = steps
    job = pool.submit(md5, b"")
    assert (job.done(), steps.run_until_idle(), job.result()) == (False, 1, md5(b""))
    pool.close()


@pytest.mark.parametrize("sizes", [[], [1], [3, 4, 5], [10, 1, 10, 1], [9, 10], [25], [0, 0, 1]])
def test_small_parts_are_gathered_and_the_bytes_stay_the_same(sizes):
    reused = bytearray(max(sizes, default=0))
    wanted = b""

    def parts():
        nonlocal wanted
        for number, size in enumerate(sizes):
            reused[:size] = bytes([number]) * size
            wanted += reused[:size]
            yield memoryview(reused)[:size]

    portions = [bytes(portion) for portion in gathered(parts(), 10)]
    assert b"".join(portions) == wanted
    assert all(len(portion) >= 10 for portion in portions[:-1])
    assert all(portions)
