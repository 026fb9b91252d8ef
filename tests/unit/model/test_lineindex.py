"""Where lines are, from a file: what a scan finds, without the scan."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import Damaged, NoSuchEntry
from arvfuse.model.lineindex import COUNTS, FORMAT_VERSION, LINE, MAGIC, check_of, decode_lines, encode_lines
from arvfuse.model.manifests import Manifest
from arvfuse.model.sealed import HEADER, KEY_BYTES, seal

A = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {A} 0:1:f\n./a {A} 0:2:x\n./a/b/c {A} 0:10:deep\n./a-b {A} 0:3:z\n./z\\040z {A} 0:4:w\n".encode()
KEY = bytes(range(KEY_BYTES))
FILE = encode_lines(Manifest(TEXT).lines, TEXT, KEY)


def test_lines_are_where_a_scan_finds_them() -> None:
    scanned, lines = Manifest(TEXT).lines, decode_lines(FILE, KEY, TEXT, verify=True)
    assert list(lines.paths) == list(scanned.paths) == [(), (b"a",), (b"a", b"b", b"c"), (b"a-b",), (b"z z",)]
    assert list(lines.starts) == list(scanned.starts)
    assert (lines.paths[1:3], lines.starts[-1:]) == (scanned.paths[1:3], [len(TEXT)])
    for wrong in (-1, 5):
        with pytest.raises(IndexError):
            lines.paths[wrong]
    for wrong in (-1, 6):
        with pytest.raises(IndexError):
            lines.starts[wrong]


def test_a_manifest_is_opened_by_them() -> None:
    plain, opened = Manifest(TEXT), Manifest(TEXT, "there", decode_lines(FILE, KEY, TEXT, verify=False))
    assert opened.is_normalized
    for path in ((), (b"a",), (b"a", b"b"), (b"a", b"b", b"c"), (b"a-b",), (b"z z",)):
        assert opened.has_directory(path)
        assert list(opened.listing(path).dirs) == list(plain.listing(path).dirs)
        assert list(opened.index(path).walk()) == list(plain.index(path).walk())
        assert (opened.line(path), opened.subtree(path)) == (plain.line(path), plain.subtree(path))
        assert not opened.is_big(path)
    assert opened.totals() == plain.totals()
    with pytest.raises(NoSuchEntry):
        opened.listing((b"b",))


PATHS = st.lists(
    st.binary(min_size=1, max_size=3).filter(lambda n: b"/" not in n and n != b"."), min_size=1, max_size=3
)


@given(st.lists(PATHS.map(tuple), max_size=8))
def test_any_names(paths: list[tuple[bytes, ...]]) -> None:
    lines = []
    for path in sorted(set(paths)):
        name = b"/".join(b"".join(b"\\%03o" % byte for byte in each) for each in path)
        lines.append(b"./%b %b 0:1:f\n" % (name, A.encode()))
    plain = Manifest(b"".join(lines))
    text = plain.normal_text
    assert Manifest(text).is_normalized
    found = decode_lines(encode_lines(plain.lines, text, KEY), KEY, text, verify=True)
    assert (list(found.paths), list(found.starts)) == (list(plain.lines.paths), list(plain.lines.starts))


def test_what_does_not_fit_is_damaged() -> None:
    with pytest.raises(Damaged, match="another text"):
        decode_lines(FILE, bytes(KEY_BYTES), TEXT, verify=False)
    with pytest.raises(Damaged, match="bytes of text"):
        decode_lines(FILE, KEY, TEXT[:-1], verify=False)
    other = TEXT.replace(b"deep", b"DEEP")
    decode_lines(FILE, KEY, other, verify=False)
    assert check_of(other) != check_of(TEXT)
    with pytest.raises(Damaged, match="its text is another"):
        decode_lines(FILE, KEY, other, verify=True)
    with pytest.raises(Damaged, match="check"):
        decode_lines(FILE[:-1] + b"?", KEY, TEXT, verify=True)
    for rest in (b"", COUNTS.pack(len(TEXT), 0, 7, 0)):
        with pytest.raises(Damaged, match="line index"):
            decode_lines(seal(MAGIC, FORMAT_VERSION, KEY, (rest,)), KEY, TEXT, verify=False)


def test_the_format_is_the_one_that_is_described() -> None:
    text_bytes, check, count, path_bytes = COUNTS.unpack_from(FILE, HEADER.size)
    assert (text_bytes, check, count, path_bytes) == (len(TEXT), check_of(TEXT), 5, len(b"aa/b/ca-bz z"))
    assert len(FILE) == HEADER.size + COUNTS.size + LINE.size * 6 + path_bytes
