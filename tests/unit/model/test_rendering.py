"""Writing lines."""

from __future__ import annotations

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.model.locators import zero_locator
from arvfuse.model.ranges import HOLE, LOG
from arvfuse.model.rendering import PLACEHOLDER_TOKENS, move_lines, render_line, render_placeholder, stream_name

A = "781e5e245d69b566979b86e28d23f2c7+10"
B = "a925576942e94b2ef57a066101b48876+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"


def test_stream_names() -> None:
    assert stream_name(()) == b"."
    assert stream_name((b"a b", b"c")) == b"./a\\040b/c"


def test_files_by_name_and_blocks_as_first_used() -> None:
    line = render_line((b"d",), [(b"z", [(5, A, 5)]), (b"a", [(10, B + "+Zx", 0), (3, A, 0)]), (b"e", [])], "")
    assert line == f"./d {B}+Zx {A} 0:13:a 0:0:e 15:5:z\n".encode()


def test_spans_are_joined_only_when_they_continue() -> None:
    line = render_line((), [(b"f", [(5, A, 0), (5, A, 5), (0, B, 3), (4, A, 0), (6, B, 2)])], "")
    assert line == f". {A} {B} 0:10:f 0:4:f 12:6:f\n".encode()


def test_a_hole_repeats_the_zero_block() -> None:
    zero = zero_locator(4)
    assert (
        render_line((), [(b"f", [(10, HOLE, 0), (1, A, 0)])], zero)
        == f". {zero} {A} 0:4:f 0:4:f 0:2:f 4:1:f\n".encode()
    )
    assert render_line((), [(b"f", [(10, A, 0), (3, HOLE, 0)])], zero) == f". {A} {zero} 0:13:f\n".encode()


def test_what_is_not_stored_cannot_be_written() -> None:
    for ref in (LOG, 7):
        with pytest.raises(ArgumentError):
            render_line((), [(b"f", [(1, ref, 0)])], zero_locator(1))
    with pytest.raises(ArgumentError):
        render_line((), [(b"f", [(1, HOLE, 0)])], "")
    with pytest.raises(ArgumentError):
        render_line((), [], "")


def test_placeholders() -> None:
    assert render_placeholder((b"a", b"b c")) == f"./a/b\\040c {Z} 0:0:\\056\n".encode()
    assert render_placeholder((b"a",)).endswith(PLACEHOLDER_TOKENS)
    assert render_placeholder(()) == b""


def test_moving_a_subtree() -> None:
    lines = f"./a {A} 0:1:x\n./a/b {A} 0:1:y\n".encode()
    moved = f"./n\\040n/m {A} 0:1:x\n./n\\040n/m/b {A} 0:1:y\n".encode()
    assert move_lines(memoryview(lines), (b"a",), (b"n n", b"m")) == moved
    assert move_lines(moved, (b"n n", b"m"), (b"a",)) == lines
    assert move_lines(lines, (b"a",), ()) == f". {A} 0:1:x\n./b {A} 0:1:y\n".encode()
    assert move_lines(f". {A} 0:1:x\n./b {A} 0:1:y\n".encode(), (), (b"a",)) == lines
    assert move_lines(render_placeholder((b"a",)), (b"a",), (b"b",)) == render_placeholder((b"b",))
    assert move_lines(render_placeholder((b"a",)), (b"a",), ()) == b""
    assert move_lines(b"", (b"a",), (b"b",)) == b""


def test_a_line_of_another_directory_is_not_moved() -> None:
    with pytest.raises(ArgumentError):
        move_lines(f"./a-b {A} 0:1:x\n".encode(), (b"a",), (b"c",))
