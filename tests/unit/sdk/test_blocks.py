"""Buffer blocks: their spool files, their table, and when a descriptor is closed."""

from __future__ import annotations

import errno
import os
import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from arvfuse.errors import Damaged, NoSpace, StoreUnavailable
from arvfuse.model.blockstate import Event, InvalidTransition, State
from arvfuse.sdk.blocks import (
    IDLE_FILES,
    READ_ONLY_MODE,
    BlockTable,
    BufferBlock,
    DroppedBlock,
    pread_exactly,
    spool_path,
)
from arvfuse.sdk.nodes import FileNode

FILE = cast(FileNode, None)  # a table only carries it


@pytest.fixture
def table(tmp_path: Path) -> Iterator[BlockTable]:
    table = BlockTable(tmp_path)
    yield table
    table.close()


def filled(table: BlockTable, data: bytes = b"0123456789") -> BufferBlock:
    block = table.new(FILE, 0)
    block.pwrite(memoryview(data), 0)
    return block


def test_a_new_block_has_an_empty_writable_file(table: BlockTable, tmp_path: Path) -> None:
    one, two = table.new(FILE, 0), table.new(FILE, 3)
    assert (one.no, two.no, two.piece, two.state) == (1, 2, 3, State.WRITABLE)
    assert one.path == spool_path(tmp_path, 1) == tmp_path / "spool" / "1"
    assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
    assert (table.all(), table.get(2), table.get(3)) == ([one, two], two, None)
    assert repr(one) == "<BufferBlock 1 WRITABLE size=0 writers=0>"


def test_bytes_lie_where_they_were_written(table: BlockTable) -> None:
    block = filled(table)
    block.pwrite(memoryview(b"xy"), 20)
    assert table.read(block.no, 3, 4) == b"3456"
    assert table.read(block.no, 8, 14) == b"89" + bytes(10) + b"xy"


def test_a_finished_block_is_read_only_for_everybody_and_can_still_be_read(table: BlockTable) -> None:
    block = filled(table)
    block.finish()
    assert stat.S_IMODE(block.path.stat().st_mode) == READ_ONLY_MODE == 0o444
    assert table.read(block.no, 0, 3) == b"012"


def test_states_move_by_the_table(table: BlockTable) -> None:
    block = filled(table)
    block.advance(Event.SEAL)
    with pytest.raises(InvalidTransition):
        table.drop(block.no)  # its bytes are on their way
    assert (block.state, table.get(block.no)) == (State.PENDING, block)
    assert block.path.exists()
    block.advance(Event.STORED)
    assert table.drop(block.no) is block
    assert block.state is State.DELETED


def test_a_dropped_block_is_gone_with_its_file(table: BlockTable) -> None:
    block = filled(table)
    assert table.drop(block.no) is block
    assert not block.path.exists()
    assert (table.drop(block.no), table.get(block.no)) == (None, None)
    with pytest.raises(DroppedBlock):
        table.read(block.no, 0, 1)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(block.fd)
    assert table.new(FILE, 0).no == 2  # a number is never given twice


def test_a_descriptor_stays_open_while_somebody_reads(table: BlockTable, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = filled(table), filled(table, b"abc")
    pread = os.pread

    def drop_meanwhile(fd: int, length: int, offset: int) -> bytes:
        table.drop(one.no)
        os.fstat(one.fd)
        return pread(fd, length, offset)

    with monkeypatch.context() as patch:
        patch.setattr(os, "pread", drop_meanwhile)
        assert table.read(one.no, 0, 10) == b"0123456789"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(one.fd)
    assert table.read(two.no, 0, 3) == b"abc"


def test_a_dropped_block_can_leave_its_file_for_later(table: BlockTable) -> None:
    block = filled(table)
    assert table.drop(block.no, later=True) is block
    assert (table.get(block.no), block.path.exists(), table.left) == (None, True, True)
    table.unlink_left()
    assert (block.path.exists(), table.left) == (False, False)


def test_few_descriptors_serve_many_blocks(table: BlockTable) -> None:
    blocks = [filled(table, b"block %d" % number) for number in range(IDLE_FILES + 3)]
    assert [block.no for block in blocks if block.fd < 0] == [1, 2, 3]
    blocks[0].pwrite(memoryview(b"BL"), 0)  # opened again, and another one closed
    assert [block.no for block in blocks if block.fd < 0] == [2, 3, 4]
    blocks[1].finish()
    assert table.read(1, 0, 7) == b"BLock 0"
    blocks[1].advance(Event.SEAL)
    assert table.read(2, 0, 7) == b"block 1"
    assert [block.no for block in blocks if block.fd < 0] == [3, 4, 5]
    assert table.drop(3) is blocks[2]
    with pytest.raises(DroppedBlock):
        table.read(3, 0, 1)
    spool_path(blocks[3].path.parent.parent, 4).unlink()  # as a drop does, between the look and the opening
    with pytest.raises(DroppedBlock):
        table.read(4, 0, 1)
    with pytest.raises(StoreUnavailable):
        blocks[3].pwrite(memoryview(b"x"), 0)
    fd = table.borrow(blocks[9])
    assert (blocks[9].users, os.pread(fd, 7, 0)) == (1, b"block 9")
    table.give_back(blocks[9])
    assert blocks[9].users == 0


def test_close_leaves_the_files_to_whoever_recovers(table: BlockTable) -> None:
    block = filled(table)
    table.close()
    assert block.path.read_bytes() == b"0123456789"
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(block.fd)


def test_a_number_that_has_a_file_already_is_an_error(table: BlockTable, tmp_path: Path) -> None:
    spool_path(tmp_path, 1).parent.mkdir()
    spool_path(tmp_path, 1).write_bytes(b"of somebody else")
    with pytest.raises(StoreUnavailable, match="File exists"):
        table.new(FILE, 0)
    assert table.all() == []


def test_no_room_and_a_broken_disk_are_two_things(table: BlockTable) -> None:
    block = filled(table)
    full = os.open("/dev/full", os.O_RDWR)
    os.dup2(full, block.fd)
    os.close(full)
    with pytest.raises(NoSpace, match="no room in the spool"):
        block.pwrite(memoryview(b"x"), 0)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, block.fd)
    os.close(null)
    with pytest.raises(StoreUnavailable, match=os.strerror(errno.EBADF)):
        block.pwrite(memoryview(b"x"), 0)


def test_a_file_limit_is_a_broken_disk(table: BlockTable) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        with pytest.raises(StoreUnavailable, match="Too many open files"):
            table.new(FILE, 0)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_pread_exactly_reads_all_or_says_so(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"0123456789")
    fd = os.open(tmp_path / "f", os.O_RDONLY)
    try:
        assert (pread_exactly(fd, 2, 8), pread_exactly(fd, 10, 0)) == (b"23456789", b"")
        with pytest.raises(Damaged):
            pread_exactly(fd, 2, 9)
    finally:
        os.close(fd)


def test_short_reads_and_writes_are_gone_on_with(table: BlockTable, monkeypatch: pytest.MonkeyPatch) -> None:
    pread, pwrite = os.pread, os.pwrite
    monkeypatch.setattr(os, "pread", lambda fd, length, offset: pread(fd, min(length, 3), offset))
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:4], offset))
    assert table.read(filled(table).no, 0, 10) == b"0123456789"


def test_a_block_that_is_sealed_while_it_is_opened_is_read(table: BlockTable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arvfuse.sdk.blocks.IDLE_FILES", 0)
    block = filled(table)
    assert block.fd == -1
    really = os.open

    def sealed(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:  # as for a file of mode 0444, but to root
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return really(path, flags, *mode)

    monkeypatch.setattr(os, "open", sealed)
    assert table.read(block.no, 0, 10) == b"0123456789"
