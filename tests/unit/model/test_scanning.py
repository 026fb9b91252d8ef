"""What is taken for normal structure without being read."""

from __future__ import annotations

from itertools import pairwise

import pytest

from arvfuse.model.scanning import STRICT_BYTES, Index, scan

A = "781e5e245d69b566979b86e28d23f2c7+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
FILES = " ".join(f"0:1:{'name' * 50}{number:05d}" for number in range(5_200))
BIG = f"./0 {A} {FILES}\n"


def test_the_index() -> None:
    text = f". {A} 0:1:f\n./a {Z} 0:0:\\056\n./b/c {A} 0:1:f\n".encode()
    index = scan(text)
    assert isinstance(index, Index)
    assert index.paths == [(), (b"a",), (b"b", b"c")]
    assert [text[start:end].split()[0] for start, end in pairwise(index.starts)] == [
        b".",
        b"./a",
        b"./b/c",
    ]
    assert list(index.starts)[-1] == len(text)
    assert scan(b"") == ([], scan(b"").starts)


NOT_NORMAL = [
    f"./a {A} 0:1:f",
    f"./b {A} 0:1:f\n./a {A} 0:1:f\n",
    f"./a {A} 0:1:f\n./a {A} 0:1:g\n",
    f"./a {A} 0:1:b/c\n",
    f"./a {A} 0:1:b\\057c\n",
    f"./a {A} 0:0:\\056 0:1:f\n",
    f"./a {Z} 0:0:\\056\n./a/b {A} 0:1:f\n",
    f"./a {A}  0:1:f\n",
    f"./a {A} 0:1:f \n",
    f"./a {A} 0:1:x\\9\n",
    f"./a {A} 0:1:x\\\\y\n",
    f"./a:b {A} 0:1:f\n",
    f"./\\141 {A} 0:1:f\n",
    f"a {A} 0:1:f\n",
    f"./a//b {A} 0:1:f\n",
    f"./a {A}\n",
    "./a\n",
    "\n",
    f"./a\t{A} 0:1:f\n",
    f"./a {A} 0:1:f\x0c\n",
]


@pytest.mark.parametrize("text", NOT_NORMAL)
@pytest.mark.parametrize("before", ["", BIG], ids=["strict", "quick"])
def test_doubt_means_no(text: str, before: str) -> None:
    assert (len(before) > STRICT_BYTES) == bool(before)
    assert scan((before + text).encode()) is None


@pytest.mark.parametrize(
    "text",
    [
        f". {Z} 0:0:\\056\n",
        f". {A} 0:1:b\n./b {A} 0:1:f\n",
        f". {A} 0:1:b\\040c\n./b\\040c/d {A} 0:1:f\n",
        f". {A} 0:1:a:b\n",
        f". {A} 0:1:\\141\n",
        f". {A} 0:1:f 0:1\n",
        f". {Z} 0:0:.\n",
    ],
)
def test_small_texts_are_checked_to_the_last_token(text: str) -> None:
    assert scan(text.encode()) is None


def test_names_that_look_odd_but_are_normal() -> None:
    text = f". {A}+Z 0:1:... 0:1:.git 0:1:a\\040b 0:1:\\351 0:1:é 0:1:\x7f\n"
    assert scan(text.encode()) is not None
    assert scan((f". {A} 0:1:f\n" + BIG).encode()) is not None
