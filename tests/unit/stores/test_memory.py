from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import Damaged
from arvfuse.stores.memory import MemoryStore
from tests.support.stores import md5, spooled


def test_blocks_are_listed_and_copied() -> None:
    store = MemoryStore()
    data = bytearray(b"foo")
    locator = store.put(memoryview(data))
    data[:] = b"bar"
    assert bytes(store.fetch_range(locator, 0, 3)) == b"foo"
    store.put(b"bar")
    assert list(store.blocks()) == sorted([locator, f"{md5(b'bar')}+3"])
    assert repr(store) == "<MemoryStore 2 blocks>"


def test_adopt_looks_at_the_sums(tmp_path: Path) -> None:
    path, digest, size, _ = spooled(tmp_path / "s", b"foo")
    with pytest.raises(Damaged):
        MemoryStore().adopt(path, digest, size, b"01234567")
