"""One line."""

from __future__ import annotations

import re

import pytest

from arvfuse.errors import InvalidManifest
from arvfuse.model.ranges import HOLE
from arvfuse.model.streams import (
    LOCATOR_RULE,
    Data,
    FileSpec,
    Parts,
    Stream,
    batches,
    clipped,
    coalesced,
    explain,
    parse_head,
    parse_line,
    parse_stream_name,
    read_files,
    read_tokens,
    refuse_sized_placeholder,
    shown,
)

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "a925576942e94b2ef57a066101b48876+10+Z"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
ZERO4 = "f1d3ff8443297732862df21dc4e57262+4"
ZERO8 = "7dea362b3fac8e00956a4952a3d4f474+8"


def test_a_line_in_parts() -> None:
    parts = parse_line(f"./a\\040b/c {A} {B}  0:3:x 03:17:y\\072z ".encode(), 7)
    assert isinstance(parts, Parts)
    assert parts.path == (b"a b", b"c")
    assert parts.stream.size == 20
    assert parts.tokens == [(b"0", b"3", b"x"), (b"03", b"17", b"y\\072z")]
    files = read_files(parts, 7)
    assert {name: spec.size for name, spec in files.items()} == {b"x": 3, b"y:z": 17}
    assert files[b"y:z"].segments() == [(7, A, 3), (10, B, 0)]


def test_tokens_one_by_one() -> None:
    line = f"./a {A} {B} 0:3:x 15:17:y\\072z 0:0:. 1:1:x".encode()
    path, stream, start = parse_head(line, 7)
    assert (path, stream.size, stream.locators) == ((b"a",), 20, [A, B])
    (tokens,) = batches(line, start)
    assert list(read_tokens(tokens, stream, 7)) == [(b"x", 0, 3), (b"y:z", 15, 5), (b"x", 1, 1)]
    with pytest.raises(InvalidManifest, match="line 7"):
        list(read_tokens([(b"0", b"1", b".")], stream, 7))
    long = b"." + b"".join(b" %d:1:%d" % (at, at) for at in range(50_000)) + b" "
    found = list(batches(long, 1))
    assert len(found) > 4
    assert [name for each in found for _, _, name in each] == [b"%d" % at for at in range(50_000)]


def test_a_stream_is_cut_at_its_blocks() -> None:
    data: Data = Stream([A])
    assert list(data.cut(1, 2)) == [(2, A, 1)]
    stream = Stream([A, Z, B, Z, A])
    assert stream.size == 30
    assert list(stream.cut(0, 30)) == [(10, A, 0), (10, B, 0), (10, A, 0)]
    assert list(stream.cut(9, 2)) == [(1, A, 9), (1, B, 0)]
    assert list(stream.cut(10, 10)) == [(10, B, 0)]
    assert list(stream.cut(29, 1)) == [(1, A, 9)]
    assert list(stream.cut(30, 0)) == []
    assert Stream([]).size == 0


def test_tokens_of_one_file_are_joined() -> None:
    stream = Stream([A, B])
    spec = FileSpec(stream, 0, 5)
    spec.extend(stream, 5, 5)
    spec.extend(stream, 3, 0)
    spec.extend(stream, 2, 4)
    assert spec.size == 14
    assert spec.segments() == spec.raw_segments() == [(10, A, 0), (4, A, 2)]


def test_known_zero_blocks_are_holes() -> None:
    stream = Stream([A, ZERO4 + "+Z", ZERO8])
    spec = FileSpec(stream, 8, 14)
    assert spec.segments() == [(2, A, 8), (12, HOLE, 0)]
    assert spec.raw_segments() == [(2, A, 8), (4, ZERO4 + "+Z", 0), (8, ZERO8, 0)]


def test_files_come_sorted_and_without_the_placeholder() -> None:
    files = read_files(parse_line(f". {A} 0:1:b 0:0:. 1:1:a 2:1:b 0:0:\\056".encode(), 1), 1)
    assert list(files) == [b"a", b"b"]
    assert files[b"b"].segments() == [(1, A, 0), (1, A, 2)]


def test_coalesced() -> None:
    parts = [(0, A, 0), (1, A, 0), (2, A, 1), (2, A, 4), (3, HOLE, 0), (4, HOLE, 0), (0, B, 0), (1, B, 6)]
    assert coalesced(iter(parts)) == [(3, A, 0), (2, A, 4), (7, HOLE, 0), (1, B, 6)]


@pytest.mark.parametrize(
    ("text", "path"),
    [(b".", ()), (b"./a/b", (b"a", b"b")), (b"a", (b"a",)), (b"./..", (b"..",)), (b"./a\\057b", (b"a", b"b"))],
)
def test_stream_names(text: bytes, path: tuple[bytes, ...]) -> None:
    assert parse_stream_name(text, 1) == path


@pytest.mark.parametrize("text", [b"./", b"/", b"/a", b"./a/", b"./a//b", b"././a", b"./a/."])
def test_bad_stream_names(text: bytes) -> None:
    with pytest.raises(InvalidManifest, match="line 3: bad stream name"):
        parse_stream_name(text, 3)


def test_tokens_are_clipped_to_the_data() -> None:
    assert clipped(b"3", b"4", 10, 1) == (3, 4)
    assert clipped(b"8", b"4", 10, 1) == (8, 2)
    assert clipped(b"11", b"4", 10, 1) == (11, 0)
    with pytest.raises(InvalidManifest, match="line 2: "):
        clipped(b"1" * 5000, b"0", 10, 2)


def test_a_dot_with_data_is_refused() -> None:
    refuse_sized_placeholder(b"00", 1)
    with pytest.raises(InvalidManifest, match="line 9: "):
        refuse_sized_placeholder(b"03", 9)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("", "blank line"),
        ("  ", "blank line"),
        (f" . {A} 0:0:f", "it begins with a space"),
        (".", "no block locator after the stream name, but ''"),
        (". x", "no block locator after the stream name, but 'x'"),
        (f". {A}", "no file token"),
        (f". {A} 0:0:f 0:", "neither a block locator nor a file token: '0:'"),
        (f". {A}\t0:0:f", "a tab, carriage return or other control character between or in names"),
    ],
)
def test_explanations(line: str, reason: str) -> None:
    assert explain(line.encode()) == reason
    with pytest.raises(InvalidManifest, match="line 5: "):
        parse_line(line.encode(), 5)


def test_a_tab_within_an_otherwise_good_line() -> None:
    with pytest.raises(InvalidManifest, match="line 5: a tab"):
        parse_line(f". {A} 0:0:a\tb".encode(), 5)


def test_shown_is_short_and_printable() -> None:
    assert shown("é\n".encode()) == "'\\xe9\\n'"
    assert len(shown(b"x" * 1000)) == 102


def test_the_locator_rule() -> None:
    rule = re.compile(LOCATOR_RULE)
    assert rule.fullmatch(B.encode())
    assert not rule.fullmatch(b"x" + A.encode())
