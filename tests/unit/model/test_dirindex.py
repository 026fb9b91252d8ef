"""The index of a directory: the same entries as the line, found without reading it; what is damaged is found out."""

from __future__ import annotations

import random
import struct
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import Damaged, InvalidManifest
from arvfuse.model import dirindex
from arvfuse.model.dirindex import (
    COUNTS,
    EMPTY,
    ENTRY,
    FORMAT_VERSION,
    LOCATOR,
    MAGIC,
    NO_KEY,
    DirectoryIndex,
    build_index,
)
from arvfuse.model.locators import BLOCK_BYTES, zero_locator
from arvfuse.model.ranges import HOLE
from arvfuse.model.sealed import HEADER, KEY_BYTES, seal
from arvfuse.model.streams import batches, parse_line, read_files

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "0cc175b9c0f1b6a831c399e269772661+1"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
ZEROS = zero_locator(BLOCK_BYTES)
LINE = f". {A} {Z} {B} 0:4:b 4:7:e 0:0:f 2:1:f 0:2:f 3:0:g".encode()


def contents(index: DirectoryIndex) -> dict[bytes, object]:
    """Names with sizes and segments, or None for directories."""
    return {
        index.name(at): None if index.is_dir(at) else (index.spec(at).size, index.spec(at).raw_segments())
        for at in range(len(index))
    }


def test_entries_are_found_where_they_lie() -> None:
    index = DirectoryIndex(build_index(LINE, (b"a", b"d", b"z")))
    assert repr(index) == f"<DirectoryIndex 7 entries, {index.memory_bytes} bytes>"
    assert contents(index) == {
        b"a": None, b"b": (4, [(4, A, 0)]), b"d": None, b"e": (7, [(6, A, 4), (1, B, 0)]),
        b"f": (3, [(1, A, 2), (2, A, 0)]), b"g": (0, []), b"z": None,
    }  # fmt: skip
    assert [index.find(name) for name in (b"a", b"g", b"z", b"", b"c", b"zz")] == [0, 5, 6, -1, -1, -1]
    assert list(index.walk()) == [(name, value is None) for name, value in contents(index).items()]
    assert list(index.walk(5)) == [(b"g", False), (b"z", True)]
    assert list(index.walk(7)) == []
    index.verify()


def test_an_empty_directory() -> None:
    assert (len(EMPTY), list(EMPTY.walk()), EMPTY.find(b"a"), EMPTY.key) == (0, [], -1, NO_KEY)
    assert bytes(KEY_BYTES) == NO_KEY
    index = DirectoryIndex(build_index(f"./a {Z} 0:0:\\056".encode(), ()))
    assert len(index) == 0


def test_a_line_out_of_order_is_put_in_order() -> None:
    line = f". {A} 0:1:c 1:1:a 2:1:b 3:1:a 4:1:\\056x".encode()
    index = DirectoryIndex(build_index(line, iter((b"bb", b"d"))))
    assert [name for name, _ in index.walk()] == [b".x", b"a", b"b", b"bb", b"c", b"d"]
    assert index.spec(1).segments() == [(1, A, 1), (1, A, 3)]


def test_known_zeros_are_holes() -> None:
    index = DirectoryIndex(build_index(f". {ZEROS} {A} 0:100:hole 67108860:6:half".encode(), ()))
    assert index.spec(index.find(b"hole")).segments() == [(100, HOLE, 0)]
    assert index.spec(index.find(b"half")).segments() == [(4, HOLE, 0), (2, A, 0)]


def test_many_entries() -> None:
    count = 3000
    line = (f". {A} {B}" + "".join(f" {at % 10}:1:{at:06d}" for at in range(count))).encode()
    index = DirectoryIndex(build_index(line, (b"d%03d" % at for at in range(600))))
    assert len(index) == count + 600
    assert [name for name, _ in index.walk(2990)][:11] == [*(b"%06d" % at for at in range(2990, 3000)), b"d000"]
    assert all(index.find(b"%06d" % at) == at for at in range(0, count, 37))
    assert index.spec(2999).segments() == [(1, A, 9)]


@pytest.mark.parametrize(
    "special", ["", "0:0:.", "7:1:b05000", "0:1:b20000 0:1:b20000", "0:99:b20001", "0:1:b2\\040", "0:1:a"]
)
def test_long_lines_with_something_special(special: str) -> None:
    tokens = [f"{at % 10}:1:b{at:05d}" for at in range(20_000)]
    tokens[15_000:15_000] = special.split()
    line = f". {A} {B} {' '.join(tokens)}".encode()
    below = [b"b00007.d", b"b1", b"c"]
    expected = read_files(parse_line(line, 1), 1)
    index = DirectoryIndex(build_index(line, below))
    names = sorted([*expected, *below])
    assert [name for name, _ in index.walk()] == names
    for at in (*range(0, len(names), 501), *map(index.find, (b"b05000", b"b20000", b"b20001", b"b2 ", b"a"))):
        if at >= 0 and not index.is_dir(at):
            spec = expected[names[at]]
            assert (index.spec(at).size, index.spec(at).raw_segments()) == (spec.size, spec.raw_segments())


@pytest.mark.parametrize(
    "last", ["0:99:z", "0000000000000000001:1:z", "1:0000000000000000001:z", "5:1:\\056z", "99:0:z"]
)
def test_what_is_special_may_come_last(last: str) -> None:
    line = f". {A} {B} 0:1:a {last}".encode()
    expected = read_files(parse_line(line, 1), 1)
    assert contents(DirectoryIndex(build_index(line, ()))) == {
        name: (spec.size, spec.raw_segments()) for name, spec in expected.items()
    }


@pytest.mark.parametrize("name", ["a", "b"])
def test_order_is_looked_at_from_batch_to_batch(name: str) -> None:
    tokens = [f"{at % 10}:1:b{at:05d}" for at in range(20_000)]
    first, *_ = batches(f" {' '.join(tokens)}".encode(), 0)
    tokens[len(first)] = f"3:1:{name if name == 'a' else tokens[len(first) - 1].rpartition(':')[2]}"
    line = f". {A} {B} {' '.join(tokens)}".encode()
    expected = read_files(parse_line(line, 1), 1)
    assert list(contents(DirectoryIndex(build_index(line, ())))) == list(expected)


def test_numbers_are_little_endian_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    data = build_index(LINE, ())
    monkeypatch.setattr("sys.byteorder", {"little": "big", "big": "little"}[sys.byteorder])
    swapped = build_index(LINE, ())
    begin = HEADER.size + COUNTS.size
    assert struct.unpack(">Q", swapped[begin + 8 : begin + 16]) == struct.unpack("<Q", data[begin + 8 : begin + 16])


def test_a_line_of_many_blocks() -> None:
    locators = [f"{at:032x}+3" for at in range(5000)]
    line = f". {' '.join(locators)} 0:3:a 4:7:b 14997:3:c".encode()
    index = DirectoryIndex(build_index(line, ()))
    expected = read_files(parse_line(line, 1), 1)
    assert {name: index.spec(at).raw_segments() for at, (name, _) in enumerate(index.walk())} == {
        name: spec.raw_segments() for name, spec in expected.items()
    }


NAMES = st.binary(min_size=1, max_size=4).filter(lambda name: name not in (b".", b"..") and not set(name) & set(b"\n/"))


@given(st.lists(st.tuples(NAMES, st.integers(0, 11), st.integers(0, 11)), max_size=12), st.sets(NAMES, max_size=4))
def test_an_index_is_what_the_line_says(tokens: list[tuple[bytes, int, int]], dirs: set[bytes]) -> None:
    escaped = [b"".join(b"\\%03o" % byte for byte in name) for name, _, _ in tokens]
    words = b"".join(b" %d:%d:%b" % (at, size, name) for (_, at, size), name in zip(tokens, escaped, strict=True))
    line = f". {A} {B}".encode() + (words or b" 0:0:.")
    files = read_files(parse_line(line, 1), 1)
    below = sorted(dirs - files.keys())
    found = contents(DirectoryIndex(build_index(line, below)))
    expected = {name: (spec.size, spec.raw_segments()) for name, spec in files.items()} | dict.fromkeys(below)
    assert found == expected
    assert list(found) == sorted(found)


@pytest.mark.parametrize(
    ("line", "dirs", "said"),
    [
        (f". {A} 0:1:a".encode(), [b"a"], "line 7: 'a' is a file and a directory"),
        (f". {A} 0:1:b 0:1:a".encode(), [b"a"], "line 7: 'a' is a file and a directory"),
        (f". {A} 0:1:.".encode(), [], "line 7: a file named '.'"),
        (f". {A} nonsense".encode(), [], "line 7: "),
        (f". {A[:33]}{1 << 63} 0:1:a".encode(), [], "line 7: 9223372036854775808 bytes of data"),
        (f". {A[:33]}{1 << 62}{f' 0:{1 << 62}:a' * 2}".encode(), [], "line 7: a file of 9223372036854775808 bytes"),
    ],
)
def test_what_cannot_be_indexed(line: bytes, dirs: list[bytes], said: str) -> None:
    with pytest.raises(InvalidManifest, match=said):
        build_index(line, dirs, 7)


def test_the_format_is_the_one_that_is_described() -> None:
    data = build_index(LINE, (b"a",), key=b"k" * KEY_BYTES)
    magic, version, zero, _, length, key = HEADER.unpack_from(data)
    assert (magic, version, zero, length, key) == (MAGIC, FORMAT_VERSION, 0, len(data), b"k" * KEY_BYTES)
    entries, locators, spans, names, texts = COUNTS.unpack_from(data, HEADER.size)
    assert (entries, locators, spans, names, texts) == (5, 3, 5, 5, len(A + Z + B))
    assert len(data) == HEADER.size + COUNTS.size + ENTRY.size * 6 + LOCATOR.size * 4 + 8 * 5 + 5 + len(A + Z + B)
    assert DirectoryIndex(data).key == key


def test_damage_anywhere_is_found() -> None:
    data = build_index(LINE, (b"a",))
    chosen = random.Random(5)
    for at in [*range(len(data)), *(chosen.randrange(len(data)) for _ in range(50))]:
        spoiled = bytearray(data)
        spoiled[at] ^= 1 << chosen.randrange(8)
        if at in range(12, 16):
            continue  # reserved
        with pytest.raises(Damaged):
            DirectoryIndex(bytes(spoiled)).verify()


def test_what_is_cut_off_is_found_at_once() -> None:
    with pytest.raises(Damaged):
        DirectoryIndex(build_index(LINE, ())[:-1])
    for rest in (b"", COUNTS.pack(5, 0, 0, 0, 0)):
        with pytest.raises(Damaged, match="directory index"):
            DirectoryIndex(seal(MAGIC, FORMAT_VERSION, NO_KEY, (rest,)))


def test_another_version_is_damaged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dirindex, "FORMAT_VERSION", FORMAT_VERSION + 1)
    data = build_index(LINE, ())
    monkeypatch.undo()
    with pytest.raises(Damaged, match=f"version {FORMAT_VERSION + 1}"):
        DirectoryIndex(data)
