"""One suite for every block store. A new adapter adds a line to tests/support/stores.py and writes no other test."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.errors import ArgumentError, BlockMissing, Damaged, DigestCollision, InvalidLocator
from arvfuse.model.checks import PIECE_BYTES
from arvfuse.model.locators import EMPTY_BLOCK
from arvfuse.ports import BlockStore
from arvfuse.stores.cached import Cached
from arvfuse.stores.memory import MemoryStore
from arvfuse.stores.shelves import DirectoryShelf
from tests.support.stores import COLLIDING, STORES, flip, local, md5, noise, spooled

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=sorted(STORES))
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[BlockStore]:
    made = STORES[request.param](tmp_path / "store")
    yield made
    made.close()


def test_it_is_a_block_store(store: BlockStore) -> None:
    assert isinstance(store, BlockStore)


def test_what_was_put_is_fetched(store: BlockStore) -> None:
    data = noise(100_000)
    assert store.put(data) == f"{md5(data)}+100000"
    assert bytes(store.fetch_range(f"{md5(data)}+100000", 0, 100_000)) == data


def test_put_twice_gives_one_locator(store: BlockStore) -> None:
    assert store.put(b"foo") == store.put(memoryview(b"foo")) == "acbd18db4cc2f85cedef654fccc4a4d8+3"


def test_a_put_of_other_buffers(store: BlockStore) -> None:
    words = memoryview(bytearray(noise(64))).cast("I")
    locator = store.put(words)
    assert locator.endswith("+64")
    assert bytes(store.fetch_range(locator, 0, 64)) == bytes(words)


def test_the_empty_block_needs_no_storage(store: BlockStore, tmp_path: Path) -> None:
    assert bytes(store.fetch_range(EMPTY_BLOCK, 0, 10)) == b""
    assert store.contains(EMPTY_BLOCK)
    assert store.put(b"") == EMPTY_BLOCK
    assert store.adopt(*spooled(tmp_path / "empty", b"")) == EMPTY_BLOCK


@pytest.mark.parametrize("size", [1, PIECE_BYTES - 1, PIECE_BYTES, PIECE_BYTES + 1, 3 * PIECE_BYTES, 200_001])
def test_ranges_at_the_edges_of_pieces(store: BlockStore, size: int) -> None:
    data = noise(size, seed=size)
    locator = store.put(data)
    edges = sorted(
        {0, 1, size // 2, size - 1, size, size + 1} | {k * PIECE_BYTES + d for k in (1, 2) for d in (-1, 0, 1)}
    )
    for start in edges:
        for end in edges:
            if start <= end:
                assert bytes(store.fetch_range(locator, start, end - start)) == data[start:end], (start, end)


def test_random_ranges(store: BlockStore) -> None:
    data = noise(300_000)
    locator = store.put(data)
    dice = random.Random(3)
    for _ in range(200):
        start, length = dice.randrange(300_000), dice.randrange(150_000)
        assert bytes(store.fetch_range(locator, start, length)) == data[start : start + length], (start, length)


def test_a_range_past_the_end_is_short_and_a_negative_one_refused(store: BlockStore) -> None:
    locator = store.put(b"foobar")
    assert bytes(store.fetch_range(locator, 3, 100)) == b"bar"
    assert bytes(store.fetch_range(locator, 6, 1)) == b""
    assert bytes(store.fetch_range(locator, 100, 1)) == b""
    for start, length in ((-1, 2), (0, -1)):
        with pytest.raises(ArgumentError):
            store.fetch_range(locator, start, length)


def test_a_missing_block(store: BlockStore) -> None:
    locator = f"{md5(b'nobody')}+6"
    assert not store.contains(locator)
    with pytest.raises(BlockMissing):
        store.fetch_range(locator, 0, 6)


def test_another_size_is_another_block(store: BlockStore) -> None:
    store.put(b"foobar")
    wrong = f"{md5(b'foobar')}+5"
    assert not store.contains(wrong)
    with pytest.raises(BlockMissing):
        store.fetch_range(wrong, 0, 5)


def test_hints_are_accepted(store: BlockStore) -> None:
    locator = store.put(b"foobar")
    hinted = f"{locator}+Aabcdef@5f000000+K@zzzzz"
    assert store.contains(hinted)
    assert bytes(store.fetch_range(hinted, 1, 3)) == b"oob"


@pytest.mark.parametrize(
    "locator", ["", "foo", "acbd18db4cc2f85cedef654fccc4a4d8", "ACBD18DB4CC2F85CEDEF654FCCC4A4D8+3"]
)
def test_what_is_no_locator(store: BlockStore, locator: str) -> None:
    with pytest.raises(InvalidLocator):
        store.fetch_range(locator, 0, 1)
    with pytest.raises(InvalidLocator):
        store.contains(locator)


def test_a_block_that_is_too_large(store: BlockStore) -> None:
    with pytest.raises(ArgumentError):
        store.put(bytes((1 << 26) + 1))


def test_adopt_leaves_the_file_usable_and_read_only(store: BlockStore, tmp_path: Path) -> None:
    data = noise(200_000)
    path, digest, size, checks = spooled(tmp_path / "spool", data)
    assert store.adopt(path, digest, size, checks) == f"{digest}+{size}"
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o444
    path.unlink()
    assert bytes(store.fetch_range(f"{digest}+{size}", 70_000, 70_000)) == data[70_000:140_000]
    assert store.contains(f"{digest}+{size}")


def test_adopt_of_what_is_there_is_a_hit(store: BlockStore, tmp_path: Path) -> None:
    data = noise(70_000)
    locator = store.put(data)
    assert store.adopt(*spooled(tmp_path / "one", data)) == locator
    assert store.adopt(*spooled(tmp_path / "two", data)) == locator
    assert store.put(data) == locator
    assert bytes(store.fetch_range(locator, 0, 70_000)) == data


def test_adopt_refuses_a_file_of_another_size(store: BlockStore, tmp_path: Path) -> None:
    path, digest, size, checks = spooled(tmp_path / "spool", b"foobar")
    with pytest.raises(Damaged):
        store.adopt(path, digest, size + 1, checks)
    assert not store.contains(f"{digest}+{size + 1}")


def test_adopt_refuses_a_name_that_is_none(store: BlockStore, tmp_path: Path) -> None:
    path, _, size, checks = spooled(tmp_path / "spool", b"foobar")
    for digest in ("", "../../../../etc/passwd", "A" * 32):
        with pytest.raises(ArgumentError):
            store.adopt(path, digest, size, checks)


def test_an_md5_collision_is_refused_and_nothing_lost(store: BlockStore, tmp_path: Path) -> None:
    first, second = COLLIDING
    assert first != second
    locator = store.put(first)
    with pytest.raises(DigestCollision):
        store.put(second)
    with pytest.raises(DigestCollision):
        store.adopt(*spooled(tmp_path / "spool", second))
    assert bytes(store.fetch_range(locator, 0, 128)) == first
    assert (tmp_path / "spool").read_bytes() == second


def test_barrier_is_idempotent(store: BlockStore, tmp_path: Path) -> None:
    store.barrier()
    locator = store.put(b"foobar")
    store.adopt(*spooled(tmp_path / "spool", noise(100)))
    store.barrier()
    store.barrier()
    assert store.contains(locator)


def test_free_bytes_are_sane(store: BlockStore) -> None:
    total, available = store.free_bytes()
    assert 0 <= available <= total


def test_close_is_idempotent(store: BlockStore) -> None:
    store.put(b"foobar")
    store.close()
    store.close()


def test_sixteen_threads_put_and_read_the_same_block(store: BlockStore, tmp_path: Path) -> None:
    data = noise(150_000)
    spools = [spooled(tmp_path / f"spool{number}", data) for number in range(8)]
    start = threading.Barrier(16)
    got: list[bytes] = []

    def through(make: Callable[[], str]) -> None:
        start.wait()
        got.append(bytes(store.fetch_range(make(), 0, len(data))))

    works: list[Callable[[], str]] = [lambda: store.put(data)] * 8
    works += [lambda spool=spool: store.adopt(*spool) for spool in spools]
    threads = [threading.Thread(target=through, args=(work,), name=f"putter-{n}") for n, work in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert got == [data] * 16


@pytest.mark.parametrize("offset", [0, PIECE_BYTES, 150_000])
@pytest.mark.parametrize("known", [True, False])
def test_a_flipped_bit_in_a_local_store_is_never_returned(tmp_path: Path, offset: int, known: bool) -> None:
    data = noise(200_000)
    store = local(tmp_path / "store")
    locator = store.put(data)
    if not known:
        store.close()
        for path in (tmp_path / "store/blocks").glob("index.sqlite3*"):
            path.unlink()
        store = local(tmp_path / "store")
    flip(store.path(locator), offset)
    with pytest.raises(Damaged):
        store.fetch_range(locator, 0, 200_000)
    with pytest.raises(Damaged):
        store.fetch_range(locator, offset, 1)
    store.close()


@pytest.mark.parametrize("line_bytes", [1 << 16, 1 << 26])
def test_a_flipped_bit_in_a_cache_is_never_returned(tmp_path: Path, line_bytes: int) -> None:
    data = noise(200_000)
    store = Cached(MemoryStore(), DirectoryShelf(tmp_path / "cache", 1 << 22), line_bytes=line_bytes)
    locator = store.put(data)
    assert bytes(store.fetch_range(locator, 0, 200_000)) == data
    lines = [path for path in (tmp_path / "cache").rglob("*+*") if ".sums" not in path.name]
    assert lines
    for path in lines:
        flip(path)
    assert bytes(store.fetch_range(locator, 0, 200_000)) == data
    store.close()


def test_two_stores_on_one_directory_see_each_others_blocks(tmp_path: Path) -> None:
    one, two = local(tmp_path / "store"), local(tmp_path / "store")
    data = noise(100_000)
    with pytest.raises(BlockMissing):
        two.fetch_range(f"{md5(data)}+100000", 0, 1)
    locator = one.put(data)
    assert two.contains(locator)
    assert bytes(two.fetch_range(locator, 90_000, 100)) == data[90_000:90_100]
    assert two.put(data) == locator
    assert two.put(b"other") == one.put(b"other")
    two.barrier()
    one.close()
    two.close()


@pytest.mark.parametrize("how", ["put", "adopt"])
def test_a_block_survives_sigkill_right_after_it_was_stored(tmp_path: Path, how: str) -> None:
    data = noise(3_000_000)
    spool = spooled(tmp_path / "spool", data)
    local(tmp_path / "store").close()
    program = (
        "import sys, pathlib\n"
        "from tests.support.stores import local, spooled\n"
        "store = local(pathlib.Path(sys.argv[1]))\n"
        "path = pathlib.Path(sys.argv[2])\n"
        "data = path.read_bytes()\n"
        "locator = store.put(data) if sys.argv[3] == 'put' else store.adopt(*spooled(path.with_suffix('.x'), data))\n"
        "print(locator, flush=True)\n"
        "import os, signal\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "store"), str(spool[0]), how],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -9, done.stderr
    store = local(tmp_path / "store")
    assert list(store.blocks()) == [done.stdout.strip()] == [f"{md5(data)}+{len(data)}"]
    store.verify(done.stdout.strip())
    assert bytes(store.fetch_range(done.stdout.strip(), 0, len(data))) == data
    assert not list((tmp_path / "store/blocks").rglob(".new-*"))
    store.close()
