from __future__ import annotations

import threading
from pathlib import Path

import pytest

from arvfuse.errors import ArgumentError, StoreUnavailable
from arvfuse.stores.cached import Cached
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from arvfuse.stores.shelves import DirectoryShelf, MemoryShelf
from tests.support.stores import noise, spooled

DATA = noise(200_000)


def test_a_block_is_fetched_once_and_survives_an_outage() -> None:
    inner = Faulty(MemoryStore(), "fetch_range: ok FAIL*")
    store = Cached(inner, MemoryShelf(1 << 20))
    locator = store.put(DATA)
    for start in (0, 70_000, 199_999):
        assert bytes(store.fetch_range(locator, start, 10)) == DATA[start : start + 10]
    assert inner.calls("fetch_range") == 1
    with pytest.raises(StoreUnavailable):
        store.fetch_range(store.put(b"other"), 0, 1)
    assert repr(store).startswith("<Cached <MemoryShelf")


def test_lines_keep_small_reads_small() -> None:
    inner = Faulty(MemoryStore())
    store = Cached(inner, MemoryShelf(1 << 20), line_bytes=1 << 16)
    locator = store.put(DATA)
    assert bytes(store.fetch_range(locator, 65_530, 10)) == DATA[65_530:65_540]
    assert inner.calls("fetch_range") == 2
    assert bytes(store.fetch_range(locator, 0, 131_072)) == DATA[:131_072]
    assert inner.calls("fetch_range") == 2
    with pytest.raises(ArgumentError):
        Cached(inner, MemoryShelf(1), line_bytes=1000)


def test_a_failed_fetch_is_not_remembered() -> None:
    store = Cached(Faulty(MemoryStore(), "fetch_range: FAIL"), MemoryShelf(1 << 20))
    locator = store.put(DATA)
    with pytest.raises(StoreUnavailable):
        store.fetch_range(locator, 0, 1)
    assert bytes(store.fetch_range(locator, 0, 1)) == DATA[:1]


class Gate(MemoryStore):
    """Lets nobody read before it is opened, and counts who asks."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Semaphore(0)
        self.fetches = 0
        self.open = threading.Event()

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        self.fetches += 1
        self.asked.release()
        self.open.wait()
        return super().fetch_range(locator, start, length)


def test_one_flight_for_all_readers() -> None:
    inner = Gate()
    store = Cached(inner, MemoryShelf(1 << 20))
    locator = store.put(DATA)
    got: list[bytes] = []
    threads = [
        threading.Thread(target=lambda: got.append(bytes(store.fetch_range(locator, 5, 5))), name=f"reader-{n}")
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    inner.asked.acquire()
    inner.open.set()
    for thread in threads:
        thread.join()
    assert got == [DATA[5:10]] * 8
    assert inner.fetches == 1


def test_what_was_adopted_needs_no_fetch(tmp_path: Path) -> None:
    inner = Faulty(MemoryStore())
    store = Cached(inner, DirectoryShelf(tmp_path / "cache", 1 << 20))
    locator = store.adopt(*spooled(tmp_path / "spool", DATA))
    assert bytes(store.fetch_range(locator, 100_000, 10)) == DATA[100_000:100_010]
    assert inner.calls("fetch_range") == 0
    assert store.contains(locator)
    store.barrier()
    assert store.free_bytes() == (0, 0)
    store.close()
