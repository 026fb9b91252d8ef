"""The binary form of log records: every type comes back as it was, and nothing else is taken for one."""

from __future__ import annotations

import contextlib
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import Damaged, SchemaMismatch
from arvfuse.model import records
from arvfuse.model.records import (
    CODES,
    FILE_HEADER,
    FORMAT_VERSION,
    HEADER,
    INLINE_BODY_BYTES,
    MAGIC,
    ORPHAN,
    TYPES,
    Adopt,
    Attrs,
    Base,
    Boundary,
    Carried,
    Create,
    Forget,
    Merged,
    Mkdir,
    Move,
    Placed,
    Record,
    Remove,
    Rename,
    Seal,
    Segments,
    Truncate,
    WriteBlock,
    WriteInline,
    address_of,
    check_file_header,
    decode,
    encode,
    encode_carried,
    encode_inline,
    file_header,
    frame,
    parse,
    split_address,
)
from tests.support.profiles import searching

BIG = (1 << 64) - 1
LOCATOR = "acbd18db4cc2f85cedef654fccc4a4d8+3"
BODIES = [
    Base("record", "zzzzz-4zz18-000000000000000", 7, "d41d8cd98f00b204e9800998ecf8427e+0", 41, "näme", "zzzzz-tpzed-1"),
    Base("output", None, 0, "", 0, "", None),
    Adopt(5, 1, b"name"),
    Adopt(BIG, BIG, b"\xff\xfe not text"),
    Create(6, 1, b"file", 0o640),
    Mkdir(7, 1, b"x" * 255),
    Remove(1, b"gone"),
    Rename(1, b"old", 2, b"new name"),
    Rename(1, b"", 2, b""),
    Move(3, 1, b"there", 9, 2, b"here"),
    WriteBlock(5, 1 << 40, 1 << 26, 12, 4096),
    Truncate(5, 16 << 40),
    Segments(5, ((3, LOCATOR, 0), (10, 0, address_of(2, 99)), (1 << 30, -1, 0), (4096, 17, 8192))),
    Segments(5, ()),
    Seal(5, 12, ((0, 4096), (8192, 1))),
    Seal(5, 12, ()),
    Attrs(5, -1, 0o755),
    Attrs(5, 1_700_000_000_123_456_789, -1),
    Merged(8, "d41d8cd98f00b204e9800998ecf8427e+0", ({"put": ["a", [[3, LOCATOR, 0]]]}, {"delete": ["b"]})),
    Merged(8, "", ()),
    Boundary(),
    Forget(5),
]


def framed(body: Any, *, seq: int = 1, wall_ns: int = 2, tree: int = 3, flags: int = 0) -> bytes:
    """One record as it stands in a file."""
    return b"".join(frame(seq, wall_ns, tree, flags, CODES[type(body)], encode(body)))


def inline(node: int, offset: int, data: bytes, *, seq: int = 1) -> bytes:
    """A record with data in it, as it stands in a file."""
    return b"".join(frame(seq, 2, 3, 0, CODES[WriteInline], encode_inline(node, offset), data))


def read(data: bytes, base: int = 0) -> list[Record]:
    """All that parse() finds."""
    return list(parse(memoryview(data), base))


@pytest.mark.parametrize("body", BODIES, ids=lambda body: type(body).__name__)
def test_a_record_comes_back_as_it_was(body: Any) -> None:
    base = address_of(4, FILE_HEADER.size)
    data = framed(body, seq=BIG, wall_ns=-5, tree=BIG - 1, flags=ORPHAN)
    assert read(data, base) == [Record(BIG, -5, BIG - 1, ORPHAN, body, base + len(data))]


def test_every_type_was_tried() -> None:
    assert {type(body) for body in BODIES} | {WriteInline, Carried} == set(TYPES) == set(CODES)
    assert sorted(CODES.values()) == list(range(1, len(TYPES) + 1))
    assert all(TYPES[code - 1] is kind for kind, code in CODES.items())


@pytest.mark.parametrize("data", [b"x", b"some data", bytes(100_000)])
def test_an_inline_write_says_where_its_data_stand(data: bytes) -> None:
    before = framed(Boundary())
    base = address_of(9, FILE_HEADER.size)
    whole = before + inline(5, 77, data)
    body = read(whole, base)[1].body
    assert isinstance(body, WriteInline)
    assert body[:3] == (5, 77, len(data))
    number, position = split_address(body.address)
    assert number == 9
    assert position == FILE_HEADER.size + len(before) + HEADER.size + INLINE_BODY_BYTES
    start = body.address - base
    assert whole[start : start + body.length] == data


def test_an_inline_write_has_no_body_without_its_data() -> None:
    with pytest.raises(TypeError):
        encode(WriteInline(1, 2, 3, 4))


def test_records_stand_one_behind_the_other() -> None:
    data = b"".join(framed(body, seq=number) for number, body in enumerate(BODIES))
    found = read(data)
    assert [record.body for record in found] == BODIES
    assert [record.seq for record in found] == list(range(len(BODIES)))
    assert found[-1].end == len(data)


@pytest.mark.parametrize("kept", [0, 1, HEADER.size - 1, HEADER.size, HEADER.size + 5])
def test_a_cut_off_record_is_the_end(kept: int) -> None:
    whole = framed(Create(1, 2, b"whole", 0))
    cut = framed(Create(3, 2, b"cut off", 0))[:kept]
    assert [record.body for record in read(whole + cut)] == [Create(1, 2, b"whole", 0)]


def test_a_flipped_bit_is_never_taken_for_a_record() -> None:
    data = framed(Rename(1, b"from", 2, b"to"), flags=ORPHAN)
    for position in range(4, len(data)):
        for bit in range(8):
            spoilt = bytearray(data)
            spoilt[position] ^= 1 << bit
            with pytest.raises(Damaged):
                read(bytes(spoilt))


def test_a_flipped_bit_of_inline_data_is_seen() -> None:
    data = bytearray(inline(1, 0, b"precious"))
    data[-1] ^= 1
    with pytest.raises(Damaged, match="check sum"):
        read(bytes(data))


def test_a_flipped_length_gives_nothing_wrong() -> None:
    """The length says where the check's range ends, so a wrong one is damage, or an end where none is."""
    data = framed(Rename(1, b"from", 2, b"to"))
    for bit in range(32):
        spoilt = bytearray(data)
        spoilt[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(Damaged):
            assert read(bytes(spoilt)) == []


def test_an_impossible_length_is_damage() -> None:
    with pytest.raises(Damaged, match="impossible length"):
        read(bytes(HEADER.size))


@pytest.mark.parametrize("code", [0, len(TYPES) + 1, 255])
def test_an_unknown_type_is_damage(code: int) -> None:
    with pytest.raises(Damaged, match="unknown type"):
        decode(code, memoryview(b""), 0)
    with pytest.raises(Damaged, match="unknown type"):
        read(b"".join(frame(1, 2, 3, 0, code, b"")))


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind is not Boundary], ids=lambda kind: kind.__name__)
def test_a_body_that_its_type_cannot_have_is_damage(kind: type[Any]) -> None:
    with pytest.raises(Damaged, match="no body"):
        decode(CODES[kind], memoryview(b"\x07"), 0)


def test_a_body_of_other_values_is_damage() -> None:
    with pytest.raises(Damaged, match="no body"):
        decode(CODES[Base], memoryview(b"[1,2]"), 0)


def test_addresses_are_file_and_position() -> None:
    assert split_address(address_of(7, 123)) == (7, 123)
    assert address_of(1, 0) - 1 == address_of(0, (1 << 32) - 1)


def test_a_file_begins_with_what_it_is() -> None:
    boot = bytes(range(16))
    header = file_header(3, boot)
    assert header[:8] == MAGIC
    assert len(header) == FILE_HEADER.size
    assert check_file_header(header + b"more", 3) == boot


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (file_header(3, bytes(16))[:-1], "shorter"),
        (b"notalog!" + file_header(3, bytes(16))[8:], "not a log file"),
        (file_header(4, bytes(16)), "not this one"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(spoilt: bytes, words: str) -> None:
    with pytest.raises(Damaged, match=words):
        check_file_header(spoilt, 3)


def test_a_newer_format_is_refused_with_what_to_do() -> None:
    newer = FILE_HEADER.pack(MAGIC, FORMAT_VERSION + 1, 3, bytes(16))
    with pytest.raises(SchemaMismatch, match="use a newer arvfuse"):
        check_file_header(newer, 3)


def test_the_check_does_not_cover_the_length_itself() -> None:
    """So the bytes of a record can be checked as soon as its length is there."""
    data = framed(Boundary())
    length, check = struct.unpack_from("<II", data)
    assert length == len(data) == HEADER.size
    assert check == records.xxhash.xxh3_64_intdigest(data[8:]) & 0xFFFFFFFF


NUMBERS = st.integers(0, BIG)
NAMES = st.binary(max_size=255)
LENGTHS = st.integers(0, BIG)
REFS = st.one_of(st.integers(-1, (1 << 63) - 1), st.text(st.characters(codec="ascii"), max_size=80))
ANY_BODY = st.one_of(
    st.builds(
        Base, st.sampled_from(["record", "output", "tmp"]), st.none() | st.text(), NUMBERS, st.text(), NUMBERS,
        st.text(), st.none() | st.text(),
    ),
    st.builds(Adopt, NUMBERS, NUMBERS, NAMES),
    st.builds(Create, NUMBERS, NUMBERS, NAMES, st.integers(0, 0xFFFFFFFF)),
    st.builds(Mkdir, NUMBERS, NUMBERS, NAMES),
    st.builds(Remove, NUMBERS, NAMES),
    st.builds(Rename, NUMBERS, NAMES, NUMBERS, NAMES),
    st.builds(Move, NUMBERS, NUMBERS, NAMES, NUMBERS, NUMBERS, NAMES),
    st.builds(WriteBlock, NUMBERS, NUMBERS, NUMBERS, NUMBERS, NUMBERS),
    st.builds(Truncate, NUMBERS, NUMBERS),
    st.builds(Segments, NUMBERS, st.lists(st.tuples(LENGTHS, REFS, NUMBERS), max_size=8).map(tuple)),
    st.builds(Seal, NUMBERS, NUMBERS, st.lists(st.tuples(NUMBERS, NUMBERS), max_size=8).map(tuple)),
    st.builds(Attrs, NUMBERS, st.integers(-(1 << 63), (1 << 63) - 1), st.integers(-(1 << 31), (1 << 31) - 1)),
    st.builds(Merged, NUMBERS, st.text(), st.lists(st.dictionaries(st.text(), NUMBERS), max_size=3).map(tuple)),
    st.just(Boundary()),
    st.builds(Forget, NUMBERS),
)  # fmt: skip


@searching(full=5000)
@given(st.lists(ANY_BODY, max_size=10), st.data())
def test_any_log_is_read_up_to_any_cut(bodies: list[Any], data: st.DataObject) -> None:
    framed_bodies = [framed(body, seq=number) for number, body in enumerate(bodies)]
    whole = b"".join(framed_bodies)
    cut = data.draw(st.integers(0, len(whole)))
    ends = [sum(map(len, framed_bodies[: number + 1])) for number in range(len(bodies))]
    found = read(whole[:cut])
    assert [record.body for record in found] == bodies[: sum(end <= cut for end in ends)]
    assert [record.end for record in found] == ends[: len(found)]


def test_carried_records_are_what_they_were_and_know_where_they_are() -> None:
    base = address_of(3, 100)
    first = framed(Create(5, 1, b"name", 0), seq=7)
    second = inline(5, 0, b"0123456789", seq=8)
    (one, two) = list(parse(memoryview(first + second), base))
    body = encode_carried([(one.end, first), (two.end, second)])
    now = address_of(9, 500)
    (record,) = parse(memoryview(b"".join(frame(20, 0, 0, 0, CODES[Carried], body))), now)
    assert isinstance(record.body, Carried)
    placed = record.body.records
    assert [each.record for each in placed] == [one, two]
    assert [each.end - each.start for each in placed] == [len(first), len(second)]
    assert placed[1] == Placed(two, record.end - len(second), record.end)
    assert placed[0].end == placed[1].start - 8


def test_flags_are_bits_of_a_byte() -> None:
    assert (records.ORPHAN, records.REWRITTEN) == (1, 2)
