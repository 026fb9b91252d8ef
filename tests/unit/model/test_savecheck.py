"""What a server would refuse; the vectors have more."""

from __future__ import annotations

import pytest

from arvfuse.errors import InvalidManifest
from arvfuse.model.savecheck import check_for_save

A = "781e5e245d69b566979b86e28d23f2c7+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"


@pytest.mark.parametrize(
    "text",
    [
        "",
        f". {A} 0:10:f 10:0:g\n",
        f". {A}+Z+Kx {A} 0:20:f\n",
        f"./a\\040b {A} 0:1:d/e 0:1:a:b 0:1:... 0:1:..x\n",
        f". {Z} 0:0:.\n",
        f"./a {Z} 0:0:\\056\n",
        f". {Z} 0:0:a/b/\\056\n",
        f"./b {A} 0:1:z 0:1:a\n./a {A} 0:1:é\\351\n",
    ],
)
def test_good(text: str) -> None:
    check_for_save(text.encode())
    check_for_save(memoryview(text.encode()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f". {A} 0:1:f", "last line does not end"),
        (f". {A} 0:1:f\n.  {A} 0:1:g\n", "line 2: repeated or trailing spaces"),
        (f". {A} 0:1:f \n", "line 1: repeated or trailing spaces"),
        (f". {A} 0:1:a\\400\n", "line 1: not an escape of one byte"),
        (f". {A} 0:1:a\\\\b\n", "line 1: not an escape of one byte"),
        (f". {A} 0:1:a\x01b\n", "line 1: a control character"),
        (f". {A}\n", "line 1: no file token"),
        ("\n", "line 1: blank line"),
        (f"a {A} 0:1:f\n", "line 1: bad stream name"),
        (f"./a/../b {A} 0:1:f\n", "line 1: bad stream name"),
        (f"./a/ {A} 0:1:f\n", "line 1: bad stream name"),
        (f"./ {A} 0:1:f\n", "line 1: bad stream name"),
        (f". {A} 0:1:..\n", "line 1: bad file name"),
        (f". {A} 0:1:.\n", "line 1: bad file name"),
        (f". {A} 1:0:.\n", "line 1: bad file name"),
        (f". {A} 0:0:../.\n", "line 1: bad file name"),
        (f". {A} 0:0:/.\n", "line 1: bad file name"),
        (f". {A} 0:1:a/./b\n", "line 1: bad file name"),
        (f". {A} 0:1:/a\n", "line 1: bad file name"),
        (f". {A} 0:1:a/\n", "line 1: bad file name"),
        (f". {A} 1:10:f\n", "line 1: '1:10:f' reaches past the 10 bytes"),
        (f". {A} {'1' * 5000}:0:f\n", "line 1: .*too many digits"),
        (f". {A} 0:1:a\n./a/b {A} 0:1:f\n", "line 2: 'a' is a file and a directory"),
        (f". {A} 0:1:a 0:0:a/.\n", "line 1: 'a' is a file and a directory"),
    ],
)
def test_bad(text: str, message: str) -> None:
    with pytest.raises(InvalidManifest, match=message):
        check_for_save(text.encode())


def test_not_utf8() -> None:
    with pytest.raises(InvalidManifest, match="line 1: not UTF-8"):
        check_for_save(f". {A} 0:1:".encode() + b"\xff\n")
