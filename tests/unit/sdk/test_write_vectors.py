"""The write-path vectors of the manifest specification: what a commit makes of a change, and where we differ.

We differ from the ancestor on purpose in three things: a hole is a zero block of the next power of two, not of 64 MiB;
what is written again before a commit is replaced where it lies; data is cut at 64 MiB of the file, not of the writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.sdk.collection import Collection
from arvfuse.sdk.file import ArvadosFileWriter
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"
FOO = "acbd18db4cc2f85cedef654fccc4a4d8+3"
PIECE = 64 << 20


@pytest.fixture
def store() -> MemoryStore:
    store = MemoryStore()
    store.put(b"0123456789")
    return store


@pytest.fixture
def opened(tmp_path: Path, store: MemoryStore) -> Iterator[Callable[[str], Collection]]:
    host = make_host(tmp_path, store)
    yield lambda text: Collection(text, host=host)
    host.close()


def at(offset: int, data: bytes) -> Callable[[ArvadosFileWriter], object]:
    def write(handle: ArvadosFileWriter) -> None:
        handle.seek(offset)
        handle.write(data)

    return write


SMALL = [
    (f"{A} 0:10:count.txt", at(0, b"foo"), f"{FOO} {A} 0:3:count.txt 6:7:count.txt"),
    (f"{A} 0:10:count.txt", at(3, b"foo"), f"{A} {FOO} 0:3:count.txt 10:3:count.txt 6:4:count.txt"),
    (f"{A} 0:10:count.txt", at(7, b"foo"), f"{A} {FOO} 0:7:count.txt 10:3:count.txt"),
    (
        f"{A} 0:10:count.txt 0:10:count.txt",
        at(7, b"foobar"),
        f"{A} 3858f62230ac3c915f300c664312c63f+6 0:7:count.txt 10:6:count.txt 3:7:count.txt",
    ),
    (
        f"{A} 0:4:count.txt 0:4:count.txt 0:4:count.txt",
        at(2, b"abcdefg"),
        f"{A} 7ac66c0f148de9519b8bd264312c4d64+7 0:2:count.txt 10:7:count.txt 1:3:count.txt",
    ),
    (f"{A} 0:10:count.txt", lambda handle: handle.truncate(8), f"{A} 0:8:count.txt"),
    # the ancestor: 7f614da9...+67108864, 64 MiB for two bytes of zeros
    (
        f"{A} 0:10:count.txt",
        lambda handle: handle.truncate(12),
        f"{A} c4103f122d27677c9db144cae1394a66+2 0:12:count.txt",
    ),
]


@pytest.mark.parametrize(("before", "change", "after"), SMALL)
def test_a_change_of_a_file(
    opened: Callable[[str], Collection], before: str, change: Callable[[ArvadosFileWriter], object], after: str
) -> None:
    collection = opened(f". {before}\n")
    with collection.open("count.txt", "r+b") as handle:
        change(handle)
    assert collection.manifest_text() == f". {after}\n"


def test_a_hole_is_a_small_block_of_zeros(opened: Callable[[str], Collection], store: MemoryStore) -> None:
    """The ancestor stores 64 MiB of zeros for two; we give ``c410...+2``."""
    collection = opened("")
    with collection.open("count.txt", "wb") as handle:
        at(2, b"0123456789")(handle)
    assert collection.manifest_text() == f". c4103f122d27677c9db144cae1394a66+2 {A} 0:12:count.txt\n"
    assert store.contains("c4103f122d27677c9db144cae1394a66+2")


def test_a_long_hole_reads_the_same_zeros_again(opened: Callable[[str], Collection]) -> None:
    """2 x 64 MiB + 2 bytes of hole: as the ancestor, since the zero block is never larger than 64 MiB."""
    collection = opened("")
    with collection.open("count.txt", "wb") as handle:
        at(2 * PIECE + 2, b"0123456789")(handle)
    zeros = "7f614da9329cd3aebf59b91aadc30bf0+67108864"
    assert collection.manifest_text() == (
        f". {zeros} {A} 0:67108864:count.txt 0:67108864:count.txt 0:2:count.txt 67108864:10:count.txt\n"
    )
    assert collection["count.txt"].size() == 2 * PIECE + 12


def test_what_is_written_again_is_replaced_where_it_lies(
    opened: Callable[[str], Collection], store: MemoryStore
) -> None:
    """Ten times the same place: the ancestor buffers 100 bytes and repacks; we never have more than ten."""
    collection = opened("")
    with collection.open("count.txt", "wb") as handle:
        for _ in range(10):
            at(0, b"0123456789")(handle)
    assert collection.manifest_text() == f". {A} 0:10:count.txt\n"
    assert list(store.blocks()) == [A]


def test_big_files_are_cut_at_64_mib_whatever_the_writes(opened: Callable[[str], Collection]) -> None:
    """The ancestor closes a block when the next write would not fit (67108000 bytes here) for small appends,
    and fills it for one big write; we cut at 64 MiB, as `put` does: the same file always has the same blocks."""
    whole = b"0123456789" * 10_000_000
    first, last = (f"{hashlib.md5(part).hexdigest()}+{len(part)}" for part in (whole[:PIECE], whole[PIECE:]))
    expected = f". {first} {last} 0:100000000:count.txt\n"
    appended, written = opened(""), opened("")
    with appended.open("count.txt", "wb") as handle:
        for start in range(0, len(whole), 1_000_000):
            handle.write(whole[start : start + 1_000_000])
    with written.open("count.txt", "wb") as handle:
        handle.write(whole[:10])
        handle.write(whole[10:])
    assert (appended.manifest_text(), written.manifest_text()) == (expected, expected)


def test_small_files_share_a_block_in_order_of_their_paths(opened: Callable[[str], Collection]) -> None:
    collection = opened("")
    for name, data in (("foo.txt", b"foo"), ("count.txt", b"0123456789")):
        with collection.open(name, "wb") as handle:
            handle.write(data)
            handle.close(flush=False)
    expected = ". a8430a058b8fbf408e1931b794dbd6fb+13 0:10:count.txt 10:3:foo.txt\n"
    assert collection.manifest_text() == expected


def test_a_big_file_does_not_go_into_the_shared_block(opened: Callable[[str], Collection]) -> None:
    collection = opened("")
    for name, data in (("count.txt", b"0123456789"), ("foo.txt", b"foo"), ("third", b"3" * (33 << 20))):
        with collection.open(name, "wb") as handle:
            handle.write(data)
    third = f"{hashlib.md5(b'3' * (33 << 20)).hexdigest()}+{33 << 20}"
    assert collection.manifest_text() == (
        f". a8430a058b8fbf408e1931b794dbd6fb+13 {third} 0:10:count.txt 10:3:foo.txt 13:34603008:third\n"
    )


def test_seventy_files_of_a_mebibyte_make_two_blocks(opened: Callable[[str], Collection], store: MemoryStore) -> None:
    collection = opened("")
    for number in range(70):
        with collection.open(f"{number:02}", "wb") as handle:
            handle.write(bytes([number]) * ((1 << 20) - 10))
    collection.flush()
    assert sum(1 for locator in store.blocks() if locator != A) == 2
