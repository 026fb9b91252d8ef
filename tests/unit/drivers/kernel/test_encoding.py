"""Attributes, entries and listings as bytes."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.encoding import Encoder, nothing, opened_directory, space, written
from arvfuse.fresh.node import Attr, Entry, Listed, Space
from arvfuse.fusedir.listings import Keeping

FILE = Attr(7, False, 0o640, 1000, 5_000_000_003, -1, 1.5)
DIRECTORY = Attr(8, True, 0o755, 4096, 1, 1, 0.0)
ENCODER = Encoder(1000, 100)


def attributes(packed: bytes) -> dict[str, int]:
    names = "ino size blocks atime mtime ctime atimensec mtimensec ctimensec mode nlink uid gid rdev blksize flags"
    return dict(zip(names.split(), wire.ATTR.unpack(packed), strict=True))


def test_attributes_of_a_file() -> None:
    packed = ENCODER.attributes(FILE)
    assert wire.ATTR_OUT.unpack(packed)[:3] == (1, 500_000_000, 0)
    found = attributes(packed[-wire.ATTR.size :])
    assert (found["ino"], found["size"], found["blocks"], found["mode"]) == (7, 1000, 2, stat.S_IFREG | 0o640)
    assert (found["mtime"], found["mtimensec"], found["ctime"], found["ctimensec"]) == (5, 3, 5, 3)
    assert (found["atime"], found["atimensec"]) == (-1, 999_999_999)  # before 1970
    assert (found["uid"], found["gid"], found["nlink"], found["flags"]) == (1000, 100, 1, 0)


def test_an_entry_says_how_long_name_and_attributes_may_be_kept() -> None:
    packed = ENCODER.entry(Entry(FILE, 60.25))
    assert wire.ENTRY_HEAD.unpack_from(packed) == (7, 0, 60, 1, 250_000_000, 500_000_000)
    assert attributes(packed[wire.ENTRY_HEAD.size :])["ino"] == 7
    assert stat.S_ISDIR(attributes(ENCODER.entry(Entry(DIRECTORY, 0.0))[wire.ENTRY_HEAD.size :])["mode"])


def test_a_missing_name_is_node_0_to_be_kept() -> None:
    packed = ENCODER.missing(2.5)
    assert len(packed) == wire.ENTRY_OUT.size
    assert wire.ENTRY_HEAD.unpack_from(packed) == (0, 0, 2, 0, 500_000_000, 0)


def listed() -> Iterator[Listed]:
    yield Listed(b".", 1, True, 1)
    yield Listed(b"..", 1, True, 2)
    for number in range(3, 1003):
        yield Listed(b"name-%d" % number, number, False, number)


@pytest.mark.parametrize("size", [0, 31, 32, 33, 500, 4096, 1 << 20])
def test_as_many_names_as_fit(size: int) -> None:
    packed = ENCODER.names(listed(), size)
    whole = ENCODER.names(listed(), 1 << 20)
    assert len(packed) <= size
    assert whole.startswith(packed)
    left = whole[len(packed) :]
    if left:  # the next one would not have fitted
        length = wire.DIRENT.unpack_from(left)[2]
        assert len(packed) + (wire.DIRENT.size + length + 7) // 8 * 8 > size


def test_names_with_entries_ask_for_what_fits_only() -> None:
    asked: list[bytes] = []

    def entries_of(fitting: list[Listed]) -> list[Entry | None]:
        asked.extend(each.name for each in fitting)
        unknown = (b".", b"..", b"name-4")
        return [None if each.name in unknown else Entry(FILE._replace(no=each.no), 1.0) for each in fitting]

    packed = ENCODER.names_with_entries(listed(), 950, entries_of)
    found = []
    while packed:
        number = wire.ENTRY_HEAD.unpack_from(packed)[0]
        record = packed[wire.ENTRY_OUT.size :]
        _, cookie, length, _ = wire.DIRENT.unpack_from(record)
        found.append((number, cookie, record[wire.DIRENT.size : wire.DIRENT.size + length]))
        packed = record[(wire.DIRENT.size + length + 7) // 8 * 8 :]
    assert found == [(0, 1, b"."), (0, 2, b".."), (3, 3, b"name-3"), (0, 4, b"name-4"), (5, 5, b"name-5")]
    assert asked == [b".", b"..", b"name-3", b"name-4", b"name-5"]  # each counts as known to the kernel


def test_small_answers() -> None:
    assert nothing(7) == b""
    for fills, holds, flags in (
        (False, False, 0),
        (True, False, wire.Fopen.CACHE_DIR),
        (True, True, wire.Fopen.CACHE_DIR | wire.Fopen.KEEP_CACHE),
    ):
        assert opened_directory(7, Keeping(fills, holds)) == wire.OPEN_OUT.pack(7, flags, 0)
    assert written(77) == wire.WRITE_OUT.pack(77, 0)
    found = wire.STATFS_OUT.unpack(space(Space(1 << 40, 1 << 39, 1 << 17)))
    assert found == (1 << 23, 1 << 22, 1 << 22, 0, 0, 1 << 17, 255, 1 << 17, 0)
