"""Whole texts: what the vectors do not say."""

from __future__ import annotations

import mmap
from typing import get_args

import pytest

from arvfuse.errors import InvalidManifest
from arvfuse.model.normalizing import (
    Path,
    Text,
    Tree,
    chunks_of,
    find_collision,
    lines_of,
    normalize,
    pdh,
    read_tree,
    strip,
)

A = "781e5e245d69b566979b86e28d23f2c7+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"


def test_strip_touches_locators_only() -> None:
    text = f"./x+1+Ab {A}+K@zzzzz+Z {A}+Aabc@1 {Z} 0:1:{A}+Ab 1:1:a+1+b\n".encode()
    assert strip(text) == f"./x+1+Ab {A} {A} {Z} 0:1:{A}+Ab 1:1:a+1+b\n".encode()
    assert strip(memoryview(text)) == strip(text)
    assert pdh(text) == pdh(strip(text)) == pdh(bytearray(text))
    assert strip(b"") == b""


def test_texts_may_be_mapped() -> None:
    text = f". {A}+Z 0:1:f\n".encode()
    mapped = mmap.mmap(-1, len(text))
    mapped[:] = text
    assert mmap.mmap in get_args(Text)
    assert strip(mapped) == f". {A} 0:1:f\n".encode()
    assert pdh(mapped) == pdh(text)
    assert normalize(mapped) == text


def test_a_tree_holds_directories_with_lines_and_placeholders() -> None:
    root: Path = ()
    tree: Tree = read_tree(f". {A} 0:1:f 0:0:e/\\056 0:1:d/g 1:1:d/g\n./p/q {Z} 0:0:\\056\n".encode())
    assert {path: list(files) for path, files in tree.items()} == {
        root: [b"f"],
        (b"e",): [],
        (b"d",): [b"g"],
        (b"p", b"q"): [],
    }
    assert tree[(b"d",)][b"g"].segments() == [(2, A, 0)]


def test_an_empty_directory_disappears_behind_its_subdirectories() -> None:
    text = f"./a {Z} 0:0:\\056\n./a/b {Z} 0:0:\\056\n./c {Z} 0:0:\\056\n./c-d {A} 0:1:f\n".encode()
    assert normalize(text) == f"./a/b {Z} 0:0:\\056\n./c {Z} 0:0:\\056\n./c-d {A} 0:1:f\n".encode()


def test_collisions() -> None:
    assert find_collision({}) is None
    assert find_collision({(): (b"a",), (b"b", b"c"): ()}) is None
    assert find_collision({(): (b"a",), (b"a", b"c"): ()}) == (b"a",)
    assert find_collision({(b"a",): (b"c",), (b"a", b"c"): ()}) == (b"a", b"c")
    with pytest.raises(InvalidManifest, match="line 2: 'x/y' is a file and a directory"):
        read_tree(f"./x {A} 0:1:y\n./x/y/z {A} 0:1:f\n".encode())


def test_chunks_end_where_lines_end() -> None:
    lines = [b"%07d" % number * 20_000 + b"\n" for number in range(30)]  # 140 KB each
    lines.append(b"x" * 3_000_000 + b"\n")
    lines.append(b"last, without its line feed")
    text = b"".join(lines)
    chunks = list(chunks_of(text))
    assert len(chunks) > 3
    assert b"".join(chunk for _, _, chunk in chunks) == text
    assert all(chunk.endswith(b"\n") for _, _, chunk in chunks[:-1])
    found = list(lines_of(text))
    assert [number for number, _, _ in found] == list(range(1, 33))
    assert [line for _, _, line in found] == [line.removesuffix(b"\n") for line in lines]
    assert all(text[position : position + len(line)] == line for _, position, line in found)
    assert list(lines_of(b"")) == []
    assert list(lines_of(b"\n\n")) == [(1, 0, b""), (2, 1, b"")]
