"""Names and records of the protocol as bytes. Layouts and numbers are compared with the C header in tests/wire."""

from __future__ import annotations

import errno
import struct

import pytest

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.wire import Fattr, Fopen, Init, Notify, Op


def test_what_is_spoken() -> None:
    assert (wire.MAJOR, wire.OLDEST_MINOR, wire.ROOT) == (7, 31, 1)
    assert wire.OLDEST_MINOR < wire.MINOR
    assert wire.MAX_PAGES * wire.PAGE_BYTES == wire.MAX_WRITE_BYTES == 1 << 20
    assert wire.MAX_WRITE_BYTES + wire.IN_HEADER.size + wire.WRITE_IN.size <= wire.BUFFER_BYTES
    assert wire.READ_AHEAD_BYTES % wire.MAX_WRITE_BYTES == 0
    assert wire.CONGESTION_THRESHOLD < wire.MAX_BACKGROUND
    assert (wire.WRITE_CACHE, wire.WRITE_KILL_SUIDGID, wire.OPEN_KILL_SUIDGID) == (1, 4, 1)
    assert (wire.FSYNC_FDATASYNC, wire.EXPIRE_ONLY) == (1, 1)
    assert (Op.INIT, Notify.INVAL_ENTRY, Fattr.SIZE, Fopen.KEEP_CACHE, Init.WRITEBACK_CACHE) == (26, 3, 8, 2, 1 << 16)


def test_combined_layouts_are_the_sum_of_their_parts() -> None:
    assert wire.ENTRY_OUT.size == wire.ENTRY_HEAD.size + wire.ATTR.size == len(wire.EMPTY_ENTRY)
    assert wire.ATTR_OUT.size == 16 + wire.ATTR.size
    requests = {
        wire.IN_HEADER: 40, wire.INIT_IN: 16, wire.INIT_IN_FLAGS2: 48, wire.FORGET_IN: 8, wire.BATCH_FORGET_IN: 8,
        wire.FORGET_ONE: 16, wire.SETATTR_IN: 88, wire.MKNOD_IN: 16, wire.MKDIR_IN: 8,
        wire.RENAME_IN: 8, wire.RENAME2_IN: 16, wire.OPEN_IN: 8, wire.CREATE_IN: 16,
        wire.READ_IN: 40, wire.WRITE_IN: 40, wire.RELEASE_IN: 24, wire.FLUSH_IN: 24, wire.FSYNC_IN: 16,
        wire.ACCESS_IN: 8, wire.INTERRUPT_IN: 8, wire.FALLOCATE_IN: 32, wire.LSEEK_IN: 24,
        wire.COPY_FILE_RANGE_IN: 56,
    }  # fmt: skip
    replies = {
        wire.OUT_HEADER: 16, wire.INIT_OUT: 64, wire.ATTR: 88, wire.OPEN_OUT: 16, wire.WRITE_OUT: 8,
        wire.STATFS_OUT: 80, wire.LSEEK_OUT: 8, wire.DIRENT: 24, wire.INVAL_INODE_OUT: 24,
        wire.INVAL_ENTRY_OUT: 16,
    }  # fmt: skip
    assert {layout.format: layout.size for layout in (requests | replies)} == {
        layout.format: size for layout, size in (requests | replies).items()
    }


@pytest.mark.parametrize("length", range(1, 20))
def test_a_listed_name_is_padded_to_eight_bytes(length: int) -> None:
    name = b"n" * length
    record = wire.dirent(7, 3, name, length % 2 == 0)
    assert len(record) % 8 == 0
    assert 0 <= len(record) - wire.DIRENT.size - length < 8
    assert wire.DIRENT.unpack_from(record) == (7, 3, length, 4 if length % 2 == 0 else 8)
    assert record[wire.DIRENT.size :].rstrip(b"\0") == name


def test_names_end_with_a_nul() -> None:
    assert wire.split_name(b"headname\0", 4) == b"name"
    assert wire.split_name(memoryview(b"\xff \n\0"), 0) == b"\xff \n"
    assert wire.split_two_names(b"12345678one\0two\0", 8) == (b"one", b"two")


@pytest.mark.parametrize("body", [b"", b"\0", b"name", b"na\0me\0", b"name\0\0"])
def test_what_is_no_name_is_refused(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.split_name(body, 0)
    with pytest.raises(wire.Malformed):
        wire.split_name(b"1234" + body, 9)


@pytest.mark.parametrize(
    "body", [b"", b"one\0", b"one\0two", b"\0two\0", b"one\0\0", b"one\0two\0three\0", b"one\0two\0x"]
)
def test_what_is_not_two_names_is_refused(body: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.split_two_names(body, 0)


def test_what_has_no_reply_and_what_it_is_called() -> None:
    assert {Op.FORGET, Op.BATCH_FORGET, Op.INTERRUPT, Op.NOTIFY_REPLY} == wire.UNANSWERED
    assert (wire.op_name(1), wire.op_name(4711)) == ("lookup", "4711")
    assert issubclass(wire.Malformed, Exception)


def test_replies_say_their_length_and_errors_are_negative() -> None:
    assert wire.message(9, b"body") == struct.pack("=IiQ", 20, 0, 9) + b"body"
    assert wire.refusal(9, errno.ENOENT) == struct.pack("=IiQ", 16, -errno.ENOENT, 9)
