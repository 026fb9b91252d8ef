"""One line of a manifest: its parts, the data it addresses, and the files it names.

Pure, and the objects are not changed once they are handed out; any thread may use them. What is malformed raises
InvalidManifest with the line's number. Reading is lenient where the Python client of Arvados is: repeated spaces,
leading zeros, files that reach past the data (cut to what is there).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate
from typing import Final, NamedTuple, Protocol

from arvfuse.errors import InvalidManifest
from arvfuse.model.escapes import unescape
from arvfuse.model.locators import ZERO_BLOCKS, strip_token
from arvfuse.model.ranges import HOLE, Part

LOCATOR_RULE: Final = rb"[0-9a-f]{32}\+[0-9]++(?:\+[A-Z][-A-Za-z0-9@_]*+)*"

# Only single characters are matched possessively: Python before 3.11.5 gets groups wrong.
_HEAD: Final = re.compile(rb"([^ ]++)((?: ++" + LOCATOR_RULE + rb"(?= ))+)")
_TOKENS: Final = re.compile(rb"(?: ++[0-9]++:[0-9]++:[^ ]++)+ *+")
_TOKEN: Final = re.compile(rb" ([0-9]+):([0-9]+):([^ ]+)")
# Bytes that Python's own tokenizer takes for spaces: a text with them was never read as it was meant.
_BATCH_BYTES: Final = 1 << 17
_OTHER_SPACE: Final = re.compile(rb"[\t\r\v\f\x1c-\x1f]")


class Parts(NamedTuple):
    """A line cut into what it says: where, the blocks, and (position, size, escaped name) per token."""

    path: tuple[bytes, ...]
    stream: Stream
    tokens: list[tuple[bytes, bytes, bytes]]


class Stream:
    """The data that a line addresses: its blocks, one after the other."""

    __slots__ = ("_ends", "_locators", "size")

    def __init__(self, locators: list[str]) -> None:
        self._locators: Final = locators
        self._ends: Final = list(accumulate(int(token[33:].partition("+")[0]) for token in locators))
        self.size: Final = self._ends[-1] if locators else 0

    @property
    def locators(self) -> list[str]:
        """The blocks, in order."""
        return self._locators

    def cut(self, position: int, size: int) -> Iterator[Part]:
        """The parts of blocks that make up [position, position + size), which has to lie within the stream."""
        index = bisect_right(self._ends, position)
        while size > 0:
            end = self._ends[index]
            start = self._ends[index - 1] if index else 0
            length = min(end - position, size)
            if length:
                yield length, self._locators[index], position - start
            position += length
            size -= length
            index += 1


class Data(Protocol):
    """What a line addresses, as files are cut from it."""

    def cut(self, position: int, size: int) -> Iterator[Part]:
        """The parts of blocks that make up [position, position + size)."""
        ...


class FileSpec:
    """One file as a line describes it. Tiny: what its tokens say is looked up in the line's blocks when asked."""

    __slots__ = ("_spans", "_stream", "size")

    size: int

    def __init__(self, stream: Data, position: int, size: int) -> None:
        self._stream = stream
        self._spans: int | list[tuple[Data, int, int]] = position
        self.size = size

    def raw_segments(self) -> list[Part]:
        """(length, locator, offset) in order, neighbours that continue each other joined; the sum is *size*."""
        spans = self._spans
        if isinstance(spans, int):
            return coalesced(self._stream.cut(spans, self.size))
        return coalesced(part for stream, position, size in spans for part in stream.cut(position, size))

    def segments(self) -> list[Part]:
        """Like `raw_segments`, but known blocks of zeros are holes: (length, HOLE, 0)."""
        parts = self.raw_segments()
        if any(strip_token(str(ref)) in ZERO_BLOCKS for _, ref, _ in parts):
            return coalesced(
                (length, HOLE, 0) if strip_token(str(ref)) in ZERO_BLOCKS else (length, ref, offset)
                for length, ref, offset in parts
            )
        return parts

    def extend(self, stream: Data, position: int, size: int) -> None:
        """Take in a further token of the same file. Only while the line is read, before the object is handed out."""
        if not size:
            return
        if isinstance(self._spans, int):
            self._spans = [(self._stream, self._spans, self.size)]
        self._spans.append((stream, position, size))
        self.size += size


def coalesced(parts: Iterator[Part]) -> list[Part]:
    """*parts* without empty ones, each joined with its predecessor where it continues that one (holes always do)."""
    joined: list[Part] = []
    for part in parts:
        length, ref, offset = part
        if joined:
            last_length, last_ref, last_offset = joined[-1]
            if ref == last_ref and (ref == HOLE or offset == last_offset + last_length):
                joined[-1] = (last_length + length, ref, last_offset)
                continue
        if length:
            joined.append(part)
    return joined


def parse_line(line: bytes, number: int) -> Parts:
    """Take apart *line* (without its line feed), the *number*-th of its text."""
    path, stream, end = parse_head(line, number)
    return Parts(path, stream, _TOKEN.findall(line, end))


def parse_head(line: bytes, number: int) -> tuple[tuple[bytes, ...], Stream, int]:
    """Directory and data of *line*, and where its file tokens begin: for `batches`. All of the line is checked."""
    head = _HEAD.match(line)
    if head is None or _TOKENS.fullmatch(line, head.end()) is None:
        raise InvalidManifest(f"line {number}: {explain(line)}")
    if _OTHER_SPACE.search(line) is not None:
        raise InvalidManifest(f"line {number}: a tab, carriage return or other control character between or in names")
    stream = Stream(head[2].decode("ascii").split())
    return parse_stream_name(head[1], number), stream, head.end()


def batches(line: bytes, start: int) -> Iterator[list[tuple[bytes, bytes, bytes]]]:
    """The (position, size, escaped name) of a line's tokens from *start* on, some thousands at a time."""
    while start < len(line):
        end = line.find(b" ", start + _BATCH_BYTES)
        end = len(line) if end < 0 else end
        yield _TOKEN.findall(line, start, end)
        start = end


def read_tokens(
    tokens: list[tuple[bytes, bytes, bytes]], stream: Stream, number: int
) -> Iterator[tuple[bytes, int, int]]:
    """(name, position, size) of *tokens*, as `read_files` understands them; placeholders are left out."""
    total = stream.size
    for raw_position, raw_size, name in tokens:
        position, size = clipped(raw_position, raw_size, total, number)
        if b"\\" in name:
            name = unescape(name)
        if name == b".":
            refuse_sized_placeholder(raw_size, number)
        else:
            yield name, position, size


def parse_stream_name(text: bytes, number: int) -> tuple[bytes, ...]:
    """The directory that a line is about; a name that does not begin with ``./`` is taken as if it did."""
    name = unescape(text)
    if name == b".":
        return ()
    path = tuple((name[2:] if name.startswith(b"./") else name).split(b"/"))
    if b"" in path or b"." in path:
        raise InvalidManifest(f"line {number}: bad stream name {shown(text)}")
    return path


def read_files(parts: Parts, number: int) -> dict[bytes, FileSpec]:
    """name -> file of a line whose file names have no ``/`` in them, sorted by name; placeholders are left out."""
    stream = parts.stream
    total = stream.size
    files: dict[bytes, FileSpec] = {}
    for raw_position, raw_size, name in parts.tokens:
        position, size = clipped(raw_position, raw_size, total, number)
        if b"\\" in name:
            name = unescape(name)
        if name == b".":
            refuse_sized_placeholder(raw_size, number)
        elif name in files:
            files[name].extend(stream, position, size)
        else:
            files[name] = FileSpec(stream, position, size)
    names = sorted(files)
    return files if names == list(files) else {name: files[name] for name in names}


def clipped(raw_position: bytes, raw_size: bytes, total: int, number: int) -> tuple[int, int]:
    """Position and size of a token, cut to the *total* bytes of its stream."""
    try:
        position, size = int(raw_position), int(raw_size)
    except ValueError:  # more digits than int() takes from text
        raise InvalidManifest(f"line {number}: a position or size with too many digits") from None
    if position + size > total:
        size = max(total - position, 0)
    return position, size


def refuse_sized_placeholder(raw_size: bytes, number: int) -> None:
    """A token named ``.`` stands for "this directory exists"; with data in it, the data would be lost."""
    if raw_size.strip(b"0"):
        raise InvalidManifest(f"line {number}: a file named '.'")


def explain(line: bytes) -> str:
    """What is wrong with a line that does not have the shape of one, for the operator."""
    if not line.strip(b" "):
        return "blank line"
    if line.startswith(b" "):
        return "it begins with a space"
    if _OTHER_SPACE.search(line) is not None:
        return "a tab, carriage return or other control character between or in names"
    words = line.split()
    locator = re.compile(LOCATOR_RULE)
    after = next((i for i, word in enumerate(words) if i and not locator.fullmatch(word)), len(words))
    if after == 1:
        return f"no block locator after the stream name, but {shown(b' '.join(words[1:2]))}"
    if after == len(words):
        return "no file token"
    bad = next((w for w in words[after:] if not re.fullmatch(rb"[0-9]+:[0-9]+:.+", w, re.DOTALL)), b"")
    return f"neither a block locator nor a file token: {shown(bad)}"


def shown(text: bytes) -> str:
    """*text* for a message: printable and not long."""
    return ascii(text[:100].decode("utf-8", "replace"))
