"""Files as users hold them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.sdk.collection import Collection
from arvfuse.sdk.fileitem import COMPARE_BYTES, ArvadosFile, Range, same_content
from arvfuse.sdk.host import Host
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    store = MemoryStore()
    store.put(b"0123456789")
    host = make_host(tmp_path, store)
    yield host
    host.close()


def test_what_a_file_says(host: Host) -> None:
    c = Collection(f"./d {A}+K@abcde 2:4:f 0:2:f\n", host=host)
    item = c.find("d/f")
    assert isinstance(item, ArvadosFile)
    assert (item.name, item.parent, item.stream_name(), item.parent_stream_name()) == ("f", c["d"], "./d/f", "./d")
    assert (item.size(), item.readfrom(1, 4), item.readfrom(5, 9)) == (6, b"3450", b"1")
    assert item.segments() == [Range(f"{A}+K@abcde", 0, 4, 2), Range(f"{A}+K@abcde", 4, 2, 0)]
    assert (item.writable(), item.committed(), item.modified(), item.root_collection()) == (True, True, False, c)
    assert (item.has_remote_blocks(), repr(item)) == (False, "<ArvadosFile 'f' size=6>")


def test_changing_a_file(host: Host) -> None:
    c = Collection(f". {A} 0:10:f 0:3:g\n", host=host)
    item = c["f"]
    item.writeto(12, b"ab")
    assert item.segments()[0] == Range(A, 0, 10, 0)
    assert [part.locator for part in item.segments()] == [A, None, None]
    item.truncate(13)
    assert (item.readfrom(0, 100), item.modified()) == (b"0123456789\0\0a", True)
    item.flush()
    assert None not in [part.locator for part in item.segments()[2:]]
    item.replace_contents(c["g"])
    item.replace_contents(item)
    assert item.readfrom(0, 100) == b"012"
    c.remove("f")
    assert (item.parent, item.readfrom(0, 3)) == (None, b"012")


def test_equal_content(host: Host) -> None:
    c = Collection(f". {A} {A}+Z 0:10:a 0:4:b 14:6:b 0:9:c\n", host=host)
    with c.open("written", "wb") as handle:
        handle.write(b"0123456789")
    assert same_content(c["a"], c["b"])  # split otherwise, and with a hint
    assert same_content(c["a"], c["written"])
    assert not same_content(c["a"], c["c"])
    assert c["written"] == c["b"]
    with c.open("c", "ab") as handle:
        handle.write(b"!")
    assert c["c"] != c["a"]
    assert COMPARE_BYTES == 64 << 20


def test_fsync_asks_that_the_content_is_kept(host: Host) -> None:
    c = Collection(host=host)
    with c.open("f", "wb") as handle:
        handle.write(b"x")
        assert not host.has_kept
        handle.fsync()
        assert host.has_kept
