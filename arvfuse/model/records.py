"""Records of the mount's log: their meaning, and their binary form (doc/formats.md, "Log").

Little-endian. A record is a header, a body of its type, and for inline writes the data. Names are length-prefixed
bytes. The check is the low half of xxh3_64 over everything behind it. Pure: reading and writing files is
``sdk.log``'s business.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NamedTuple

import xxhash

from arvfuse.errors import Damaged, SchemaMismatch
from arvfuse.model.ranges import Ref

FORMAT_VERSION: Final = 1
MAGIC: Final = b"arvfslog"
FILE_HEADER: Final = struct.Struct("<8sII16s")  # magic, format version, file number, boot id
HEADER: Final = struct.Struct("<IIQqQBBH")  # length, check, seq, wall ns, tree, type, flags, reserved
ORPHAN: Final = 1  # flag: the node has no name any more
REWRITTEN: Final = 2  # flag of a Seal: bytes of the block were written in place, which no record told

_CHECKED_FROM: Final = 8
_LEAD: Final = struct.Struct("<II")  # the first two fields of HEADER
_CHECKED: Final = struct.Struct("<QqQBBH")  # the others
_CHECK_MASK: Final = 0xFFFFFFFF
_JOINED_BYTES: Final = 1 << 14  # so much is copied faster than written from two places
_SHIFT: Final = 32


class Base(NamedTuple):
    """The tree's content as of record *asof* is manifest *pdh*; *version* is the record's version then."""

    kind: str
    uuid: str | None
    version: int
    pdh: str
    asof: int
    name: str
    owner: str | None


class Adopt(NamedTuple):
    """*node* is the number of the entry *name* that *parent* has."""

    node: int
    parent: int
    name: bytes


class Create(NamedTuple):
    """A new empty file."""

    node: int
    parent: int
    name: bytes
    mode: int


class Mkdir(NamedTuple):
    """A new empty directory."""

    node: int
    parent: int
    name: bytes


class Remove(NamedTuple):
    """The entry goes, with all below it."""

    parent: int
    name: bytes


class Rename(NamedTuple):
    """The entry moves inside its tree; what stood at the new name goes."""

    parent: int
    name: bytes
    new_parent: int
    new_name: bytes


class Move(NamedTuple):
    """The entry comes from *source_tree* into the record's tree."""

    source_tree: int
    parent: int
    name: bytes
    node: int
    new_parent: int
    new_name: bytes


class WriteInline(NamedTuple):
    """*length* bytes that stand in the log at *address* are the file's from *offset* on."""

    node: int
    offset: int
    length: int
    address: int


class WriteBlock(NamedTuple):
    """*length* bytes of buffer block *block* from *block_offset* are the file's from *offset* on."""

    node: int
    offset: int
    length: int
    block: int
    block_offset: int


class Truncate(NamedTuple):
    """The file has *size* bytes now; growth is a hole."""

    node: int
    size: int


class Segments(NamedTuple):
    """The whole list of (length, ref, offset) of a file."""

    node: int
    segments: tuple[tuple[int, Ref, int], ...]


class Seal(NamedTuple):
    """Block *block* takes no more bytes; its live (offset, length) *ranges* are what is to be stored."""

    node: int
    block: int
    ranges: tuple[tuple[int, int], ...]


class Attrs(NamedTuple):
    """Time of the last change of content and permission bits (-1: unchanged)."""

    node: int
    mtime_ns: int
    mode: int


class Merged(NamedTuple):
    """What another writer's version *version* brought: *effects* in the order in which they apply."""

    version: int
    pdh: str
    effects: tuple[Any, ...]


class Boundary(NamedTuple):
    """A commit point of the tree: no number bound before it is used behind it."""


class Forget(NamedTuple):
    """The last handle of an unlinked file closed."""

    node: int


class Placed(NamedTuple):
    """A record with the log addresses of its first byte, and behind its last, where they stand now."""

    record: Record
    start: int
    end: int


class Carried(NamedTuple):
    """Copies of records whose own file may be gone. Each counts at the place that its number says, and once."""

    records: tuple[Placed, ...]


Body = (
    Base | Adopt | Create | Mkdir | Remove | Rename | Move | WriteInline | WriteBlock | Truncate | Segments | Seal
    | Attrs | Merged | Boundary | Forget | Carried
)  # fmt: skip

TYPES: Final[tuple[type[Any], ...]] = (
    Base, Adopt, Create, Mkdir, Remove, Rename, Move, WriteInline, WriteBlock, Truncate, Segments, Seal, Attrs,
    Merged, Boundary, Forget, Carried,
)  # fmt: skip
CODES: Final[Mapping[type[Any], int]] = {kind: code for code, kind in enumerate(TYPES, start=1)}

_FIXED: Final[Mapping[type[Any], struct.Struct]] = {
    WriteBlock: struct.Struct("<QQQQQ"),
    Truncate: struct.Struct("<QQ"),
    Attrs: struct.Struct("<Qqi"),
    Boundary: struct.Struct(""),
    Forget: struct.Struct("<Q"),
}
_NAMED: Final[Mapping[type[Any], struct.Struct]] = {  # numbers first, then one name
    Adopt: struct.Struct("<QQH"),
    Create: struct.Struct("<QQHI"),
    Mkdir: struct.Struct("<QQH"),
    Remove: struct.Struct("<QH"),
}
_RENAME: Final = struct.Struct("<QQHH")
_MOVE: Final = struct.Struct("<QQQQHH")
_INLINE: Final = struct.Struct("<QQ")
_COUNTED: Final = struct.Struct("<QQI")
_SEGMENT: Final = struct.Struct("<QqQH")
_RANGE: Final = struct.Struct("<QQ")
_COUNT: Final = struct.Struct("<I")
_ADDRESS: Final = struct.Struct("<Q")
_TEXT_REF: Final = -2  # a segment whose ref is a locator: the text follows

INLINE_BODY_BYTES: Final = _INLINE.size


class Record(NamedTuple):
    """One record as read. *end* is the log address just behind it, where it stood first."""

    seq: int
    wall_ns: int
    tree: int
    flags: int
    body: Body
    end: int


def address_of(file_number: int, position: int) -> int:
    """The log address of a position in a log file."""
    return file_number << _SHIFT | position


def split_address(address: int) -> tuple[int, int]:
    """(file number, position) of a log address."""
    return address >> _SHIFT, address & (1 << _SHIFT) - 1


def file_header(number: int, boot_id: bytes) -> bytes:
    """The first bytes of log file *number*; *boot_id*: 16 bytes."""
    return FILE_HEADER.pack(MAGIC, FORMAT_VERSION, number, boot_id)


def check_file_header(data: bytes | memoryview, number: int) -> bytes:
    """The boot id of a log file; SchemaMismatch if a newer version wrote it, Damaged if it is none of ours."""
    if len(data) < FILE_HEADER.size:
        raise Damaged(f"log file {number}: shorter than its header")
    magic, version, stated, boot_id = FILE_HEADER.unpack_from(data)
    if magic != MAGIC or stated != number:
        raise Damaged(f"log file {number}: not a log file, or not this one")
    if version > FORMAT_VERSION:
        raise SchemaMismatch(f"log file {number}: written in format {version}; use a newer arvfuse to recover it")
    return bytes(boot_id)


def encode_inline(node: int, offset: int) -> bytes:
    """The body of a WriteInline; its data follow."""
    return _INLINE.pack(node, offset)


def encode_carried(copies: Iterable[tuple[int, bytes]]) -> bytes:
    """The body of a Carried: the log address behind each record where it stood first, and its bytes."""
    parts = [_ADDRESS.pack(end) + record for end, record in copies]
    return _COUNT.pack(len(parts)) + b"".join(parts)


def encode(body: Body) -> bytes:
    """The body's bytes (WriteInline, Carried: see encode_inline, encode_carried)."""
    kind = type(body)
    if kind in _FIXED:
        return _FIXED[kind].pack(*body)
    match body:
        case Adopt(node, parent, name) | Mkdir(node, parent, name):
            return _NAMED[kind].pack(node, parent, len(name)) + name
        case Create(node, parent, name, mode):
            return _NAMED[Create].pack(node, parent, len(name), mode) + name
        case Remove(parent, name):
            return _NAMED[Remove].pack(parent, len(name)) + name
        case Rename(parent, name, new_parent, new_name):
            return _RENAME.pack(parent, new_parent, len(name), len(new_name)) + name + new_name
        case Move(source, parent, name, node, new_parent, new_name):
            return _MOVE.pack(source, parent, node, new_parent, len(name), len(new_name)) + name + new_name
        case Segments(node, segments):
            return _COUNTED.pack(node, 0, len(segments)) + b"".join(map(_pack_segment, segments))
        case Seal(node, block, ranges):
            return _COUNTED.pack(node, block, len(ranges)) + b"".join(_RANGE.pack(*r) for r in ranges)
        case Base() | Merged():
            return json.dumps(list(body), separators=(",", ":")).encode()
        case _:
            raise TypeError(f"{kind.__name__} has no body of its own")


def decode(code: int, view: memoryview, end: int) -> Body:
    """The record body of type *code*; *end*: log address behind the record. Damaged if it is none."""
    if not 1 <= code <= len(TYPES):
        raise Damaged(f"log record of unknown type {code}")
    kind: Any = TYPES[code - 1]
    try:
        return _decode(kind, view, end)
    except (struct.error, ValueError, TypeError, LookupError) as exc:  # its check is right, so somebody made it so
        raise Damaged(f"log record of type {kind.__name__} with what is no body of one") from exc


def _decode(kind: Any, view: memoryview, end: int) -> Body:
    if kind is WriteInline:
        node, offset = _INLINE.unpack_from(view)
        length = len(view) - _INLINE.size
        return WriteInline(node, offset, length, end - length)
    if kind in _FIXED:
        return kind(*_FIXED[kind].unpack_from(view))  # type: ignore[no-any-return] # a NamedTuple of TYPES
    if kind is Create:
        node, parent, _, mode = _NAMED[Create].unpack_from(view)
        return Create(node, parent, bytes(view[_NAMED[Create].size :]), mode)
    if kind in _NAMED:
        *numbers, _ = _NAMED[kind].unpack_from(view)
        return kind(*numbers, bytes(view[_NAMED[kind].size :]))  # type: ignore[no-any-return] # a NamedTuple of TYPES
    if kind is Rename:
        parent, new_parent, first, _ = _RENAME.unpack_from(view)
        name, new_name = _two_names(view[_RENAME.size :], first)
        return Rename(parent, name, new_parent, new_name)
    if kind is Move:
        source, parent, node, new_parent, first, _ = _MOVE.unpack_from(view)
        name, new_name = _two_names(view[_MOVE.size :], first)
        return Move(source, parent, name, node, new_parent, new_name)
    if kind is Segments:
        node, _, count = _COUNTED.unpack_from(view)
        return Segments(node, tuple(_unpack_segments(view[_COUNTED.size :], count)))
    if kind is Seal:
        node, block, _ = _COUNTED.unpack_from(view)
        ranges = tuple((offset, length) for offset, length in _RANGE.iter_unpack(view[_COUNTED.size :]))
        return Seal(node, block, ranges)
    if kind is Carried:
        return Carried(tuple(_decode_carried(view, end)))
    fields = json.loads(bytes(view))
    if kind is Merged:
        fields[2] = tuple(fields[2])
    return kind(*fields)  # type: ignore[no-any-return] # Base or Merged


def _decode_carried(view: memoryview, end: int) -> Iterator[Placed]:
    (count,) = _COUNT.unpack_from(view)
    position = _COUNT.size
    for _ in range(count):
        (first_end,) = _ADDRESS.unpack_from(view, position)
        position += _ADDRESS.size
        length, _, seq, wall_ns, tree, code, flags, _ = HEADER.unpack_from(view, position)
        body = decode(code, view[position + HEADER.size : position + length], first_end)
        start = end - len(view) + position
        yield Placed(Record(seq, wall_ns, tree, flags, body, first_end), start, start + length)
        position += length


def frame(
    seq: int, wall_ns: int, tree: int, flags: int, code: int, body: bytes, data: bytes | memoryview = b""
) -> list[bytes | memoryview]:
    """The buffers of one record, in order, to be written one behind the other."""
    length = HEADER.size + len(body) + len(data)
    checked = _CHECKED.pack(seq, wall_ns, tree, code, flags, 0) + body
    if len(data) <= _JOINED_BYTES:
        if len(data):
            checked += data
        return [_LEAD.pack(length, xxhash.xxh3_64_intdigest(checked) & _CHECK_MASK) + checked]
    state = xxhash.xxh3_64(checked)
    state.update(data)
    return [_LEAD.pack(length, state.intdigest() & _CHECK_MASK) + checked, data]


def parse(buffer: memoryview, base: int) -> Iterator[Record]:
    """The whole records in *buffer*, whose first byte has log address *base*. Ends before a cut-off record.

    Damaged if a record that is wholly there has a wrong check."""
    position = 0
    total = len(buffer)
    while total - position >= HEADER.size:
        length, check, seq, wall_ns, tree, code, flags, _ = HEADER.unpack_from(buffer, position)
        if length < HEADER.size:
            raise Damaged(f"log record at {base + position:#x}: impossible length {length}")
        if total - position < length:
            return
        checked = buffer[position + _CHECKED_FROM : position + length]
        if xxhash.xxh3_64_intdigest(checked) & _CHECK_MASK != check:
            raise Damaged(f"log record at {base + position:#x}: wrong check sum")
        end = base + position + length
        body = decode(code, buffer[position + HEADER.size : position + length], end)
        yield Record(seq, wall_ns, tree, flags, body, end)
        position += length


def _two_names(view: memoryview, first: int) -> tuple[bytes, bytes]:
    return bytes(view[:first]), bytes(view[first:])


def _pack_segment(segment: tuple[int, Ref, int]) -> bytes:
    length, ref, offset = segment
    if isinstance(ref, str):
        text = ref.encode()
        return _SEGMENT.pack(length, _TEXT_REF, offset, len(text)) + text
    return _SEGMENT.pack(length, ref, offset, 0)


def _unpack_segments(view: memoryview, count: int) -> Iterable[tuple[int, Ref, int]]:
    position = 0
    found: list[tuple[int, Ref, int]] = []
    for _ in range(count):
        length, ref, offset, text_bytes = _SEGMENT.unpack_from(view, position)
        position += _SEGMENT.size
        if ref == _TEXT_REF:
            found.append((length, bytes(view[position : position + text_bytes]).decode(), offset))
            position += text_bytes
        else:
            found.append((length, ref, offset))
    return found
