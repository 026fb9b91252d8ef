"""Writing manifests: the line of one directory, placeholders, lines moved to another directory.

Pure; any thread may call it. What is written is in normal form as far as one line goes (`normalizing` orders lines).
"""

from __future__ import annotations

from collections.abc import Iterable
from operator import itemgetter
from typing import Final

from arvfuse.errors import ArgumentError
from arvfuse.model.escapes import escape
from arvfuse.model.locators import EMPTY_BLOCK
from arvfuse.model.ranges import HOLE, Part

PLACEHOLDER_TOKENS: Final = f" {EMPTY_BLOCK} 0:0:\\056\n".encode()

_name_of: Final = itemgetter(0)


def stream_name(path: tuple[bytes, ...]) -> bytes:
    """The first word of the line of directory *path*."""
    return b"./" + b"/".join(map(escape, path)) if path else b"."


def render_line(path: tuple[bytes, ...], files: Iterable[tuple[bytes, Iterable[Part]]], zero: str) -> bytes:
    """The line of directory *path* with *files* (name, segments), in any order.

    Each distinct locator is listed once, where it is first used. Holes are read from block *zero*, again and again
    where they are longer than it. A ref that is neither a locator nor a hole is an ArgumentError: it is not stored.
    Without files there is no line: use `render_placeholder`, if the directory has no subdirectories either.
    """
    starts: dict[str, int] = {}  # locator -> where it begins in the line's data
    total = 0
    tokens: list[bytes] = []
    zero_bytes = _size_of(zero) if zero else 0
    for name, segments in sorted(files, key=_name_of):
        suffix = escape(name)
        first = last = 0  # the span being built
        for length, ref, offset in segments:
            if not length:
                continue
            if isinstance(ref, int):
                if ref != HOLE or zero_bytes <= 0:
                    raise ArgumentError(f"cannot be written into a manifest: ref {ref}, zero block {zero!r}")
                ref, offset, step = zero, 0, zero_bytes
            else:
                step = length
            start = starts.get(ref)
            if start is None:
                start = starts[ref] = total
                total += _size_of(ref)
            begin = start + offset
            while length > 0:
                if begin != last or first == last:
                    if first != last:
                        tokens.append(b"%d:%d:%b" % (first, last - first, suffix))
                    first = last = begin
                taken = min(step, length)
                last += taken
                length -= taken
        tokens.append(b"%d:%d:%b" % (first, last - first, suffix))
    if not tokens:
        raise ArgumentError("a line needs a file")
    blocks = " ".join(starts) or EMPTY_BLOCK
    return b"%b %b %b\n" % (stream_name(path), blocks.encode("ascii"), b" ".join(tokens))


def render_placeholder(path: tuple[bytes, ...]) -> bytes:
    """The line that keeps directory *path*, which has no entries; nothing for the root."""
    return stream_name(path) + PLACEHOLDER_TOKENS if path else b""


def move_lines(lines: bytes | memoryview, old: tuple[bytes, ...], new: tuple[bytes, ...]) -> bytes:
    """The *lines* of directory *old* and all below it (`Manifest.subtree`), as those of directory *new*.

    Order is kept, so the result is in normal form if the lines were. ArgumentError if a line is not below *old*.
    """
    text = bytes(lines)
    before, after = stream_name(old), stream_name(new)
    moved: list[bytes] = []
    start = 0
    while start < len(text):
        end = text.find(b"\n", start) + 1 or len(text)
        rest = start + len(before)
        if text[start:rest] != before or text[rest : rest + 1] not in (b" ", b"/"):
            raise ArgumentError("a line that is not below the directory that is moved")
        if new or text[rest:end] != PLACEHOLDER_TOKENS:  # an empty root needs no placeholder
            moved += (after, text[rest:end])
        start = end
    return b"".join(moved)


def _size_of(locator: str) -> int:
    end = locator.find("+", 33)
    return int(locator[33:] if end < 0 else locator[33:end])
