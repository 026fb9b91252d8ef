"""The content of files: what goes to the log, what to blocks, and when a block is sealed."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import FileTooBig, InvalidPath, ReadOnly
from arvfuse.model import records
from arvfuse.model.blockstate import State
from arvfuse.model.locators import BLOCK_BYTES
from arvfuse.model.ranges import HOLE, LOG, Ref
from arvfuse.sdk.content import INLINE_PARTS, MAX_FILE_BYTES, SMALL_BYTES, ContentTree
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import LogReader
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session, put_file
from tests.support.stores import noise

MIB = 1 << 20
BIG = noise(SMALL_BYTES + 100)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def session(tmp_path: Path, clock: FakeClock) -> Iterator[Session]:
    with Session(
        tmp_path / "m", store=MemoryStore(), catalog=make_catalog(clock), clock=clock, pool=InlinePool()
    ) as session:
        yield session


@pytest.fixture
def tree(session: Session) -> LiveTree:
    tree = session.open(session.catalog.create(name="c"))
    assert isinstance(tree, ContentTree)
    return tree


@pytest.fixture
def file(tree: LiveTree) -> FileNode:
    return tree.create(tree.root, b"f")


def refs(file: FileNode) -> list[Ref]:
    return [ref for _, ref, _ in file.parts()]


def content(file: FileNode) -> bytes:
    tree = file.tree
    assert isinstance(tree, LiveTree)
    return bytes(tree.read(file, 0, file.size))


def logged(session: Session) -> list[records.Body]:
    session.workspace.log.flush(session.workspace.log.seq)
    reader = LogReader(session.directory)
    found = [record.body for record in reader.read()]
    reader.close()
    return found


def test_small_data_go_to_the_log(session: Session, tree: LiveTree, file: FileNode) -> None:
    assert tree.write(file, 0, b"0123456789") == 10
    assert tree.write(file, 10, memoryview(bytearray(b"abc"))) == 3
    assert (refs(file), content(file), file.buffers) == ([LOG, LOG], b"0123456789abc", {})
    assert os.listdir(session.directory / "spool") == []
    written = [body for body in logged(session) if isinstance(body, records.WriteInline)]
    assert [(body.node, body.offset, body.length) for body in written] == [(file.no, 0, 10), (file.no, 10, 3)]
    assert session.workspace.shared.spool.level == 13


def test_a_file_of_a_mebibyte_is_small_and_a_byte_more_is_not(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, BIG[:SMALL_BYTES])
    assert refs(file) == [LOG]
    tree.write(file, SMALL_BYTES, b"x")
    (block,) = file.buffers.values()
    assert (refs(file), block.size) == ([block.no], SMALL_BYTES + 1)  # what was inline came along
    assert content(file) == BIG[:SMALL_BYTES] + b"x"
    assert (SMALL_BYTES, file.inline_parts) == (MIB, 0)


def test_a_small_write_far_out_is_for_a_block(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 5 * MIB, b"x")
    (block,) = file.buffers.values()
    assert refs(file) == [HOLE, block.no]
    assert content(file) == bytes(5 * MIB) + b"x"


def test_very_many_small_writes_are_for_a_block(tree: LiveTree, file: FileNode) -> None:
    for number in range(INLINE_PARTS):
        tree.write(file, number, b"%d" % (number % 10))
    assert set(refs(file)) == {LOG}
    tree.write(file, INLINE_PARTS, b"x")
    (block,) = file.buffers.values()
    assert refs(file) == [block.no]
    assert content(file) == b"".join(b"%d" % (number % 10) for number in range(INLINE_PARTS)) + b"x"


def test_a_commit_starts_the_count_of_small_writes_anew(session: Session, tree: LiveTree, file: FileNode) -> None:
    for number in range(3 * INLINE_PARTS):
        if number % INLINE_PARTS == 0:
            session.committed()
        tree.write(file, number, b"x")
    assert (file.buffers, content(file)) == ({}, b"x" * 3 * INLINE_PARTS)


def test_bytes_that_are_written_again_go_to_a_block_at_the_second_time(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"0123456789")
    tree.write(file, 8, b"xyz")
    (block,) = file.buffers.values()
    assert (refs(file), content(file)) == ([block.no], b"01234567xyz")


def test_committed_bytes_that_are_written_again_are_new_small_data(
    session: Session, tree: LiveTree, file: FileNode
) -> None:
    tree.write(file, 0, b"0123456789")
    session.committed()
    tree.write(file, 3, b"xyz")
    (before, middle, after) = refs(file)
    assert (before, middle) == (after, LOG)
    assert content(file) == b"012xyz6789"


def test_a_rewrite_in_place_makes_no_record_and_no_more_bytes(
    session: Session, tree: LiveTree, file: FileNode, clock: FakeClock
) -> None:
    tree.write(file, 0, BIG)
    before = (session.workspace.log.seq, session.workspace.shared.spool.level, tree.changed_seq)
    path = session.directory / "spool" / str(file.buffers[0].no)
    size = path.stat().st_size
    for number in range(500):
        clock.advance(1)
        tree.write(file, 4096, b"%04096d" % number)
    assert (session.workspace.log.seq, session.workspace.shared.spool.level, tree.changed_seq) == before
    assert path.stat().st_size == size
    assert content(file) == BIG[:4096] + b"%04096d" % 499 + BIG[8192:]
    assert (file.mtime_ns, tree.last_change) == (clock.time_ns(), clock.monotonic())


def test_a_committed_block_is_never_written_again(session: Session, tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, BIG)
    old = file.buffers[0].no
    session.committed()
    assert isinstance(refs(file)[0], str)
    tree.write(file, 10, b"xyz")
    assert file.buffers[0].no != old
    session.committed()
    assert content(file) == BIG[:10] + b"xyz" + BIG[13:]


def test_a_write_may_end_in_another_piece(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, BLOCK_BYTES - 3, b"0123456789")
    first, second = file.buffers[0], file.buffers[1]
    assert [(s.start, s.length, s.ref, s.offset) for s in tree.cover(file, 0, 1 << 40)] == [
        (0, BLOCK_BYTES - 3, HOLE, 0), (BLOCK_BYTES - 3, 3, first.no, BLOCK_BYTES - 3), (BLOCK_BYTES, 7, second.no, 0),
    ]  # fmt: skip
    assert bytes(tree.read(file, BLOCK_BYTES - 4, 100)) == b"\x000123456789"
    assert [segment.start for segment in tree.cover(file, 0, 1 << 40, limit=2)] == [0, BLOCK_BYTES - 3]


def test_a_full_piece_is_sealed_while_writing_goes_on(session: Session, tree: LiveTree, file: FileNode) -> None:
    data = noise(4 * MIB)
    for at in range(0, BLOCK_BYTES, len(data)):
        tree.write(file, at, data)
    block = session.workspace.shared.blocks.get(1)
    assert block is not None
    assert (block.state, file.buffers, session.workspace.shared.sealed_seq) == (State.PENDING, {}, block.seal_seq)
    (seal,) = [body for body in logged(session) if isinstance(body, records.Seal)]
    assert seal == records.Seal(file.no, 1, ((0, BLOCK_BYTES),))
    tree.write(file, BLOCK_BYTES, b"more")
    session.committer.feed(session.workspace.log.seq)  # no commit: stored while the file is being written
    assert block.state is State.COMMITTED
    assert session.workspace.shared.spool.level == 4
    assert bytes(tree.read(file, BLOCK_BYTES - 2, 6)) == data[-2:] + b"more"


def test_a_piece_that_is_full_but_has_a_hole_in_it_waits(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, BLOCK_BYTES - 1, b"x")
    assert file.buffers[0].size == BLOCK_BYTES
    assert file.buffers[0].state is State.WRITABLE


def test_only_live_ranges_are_named_by_the_seal(session: Session, tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, BIG)
    tree.write(file, 2 * MIB, b"0123456789")
    tree.truncate(file, 2 * MIB + 4)
    session.committed()
    (seal,) = [body for body in logged(session) if isinstance(body, records.Seal)]
    assert seal.ranges == ((0, len(BIG)), (2 * MIB, 4))
    assert content(file) == BIG + bytes(2 * MIB - len(BIG)) + b"0123"


def test_reads_end_where_the_file_does(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"0123456789")
    found = [bytes(tree.read(file, offset, size)) for offset, size in ((8, 10), (10, 1), (99, 1), (3, 0), (0, 10))]
    assert found == [b"89", b"", b"", b"", b"0123456789"]
    assert tree.read(file, -1, 5) == b""


def test_append_goes_behind_the_end(tree: LiveTree, file: FileNode) -> None:
    assert tree.append(file, b"01234") == 5
    assert tree.append(file, bytearray(b"567")) == 8
    assert tree.append(file, b"") == 8
    assert content(file) == b"01234567"


def test_appenders_never_overwrite_each_other(tree: LiveTree, file: FileNode) -> None:
    def work(mark: bytes) -> None:
        for _ in range(100):
            tree.append(file, mark * 100)

    threads = [threading.Thread(target=work, args=(mark,), name=f"append{mark!r}") for mark in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = content(file)
    assert len(data) == 30_000
    assert {data[at : at + 100] for at in range(0, len(data), 100)} == {b"a" * 100, b"b" * 100, b"c" * 100}


def test_truncate_cuts_and_grows_by_holes(session: Session, tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"0123456789")
    tree.truncate(file, 4)
    tree.truncate(file, 8)
    assert (content(file), refs(file)) == (b"0123" + bytes(4), [LOG, HOLE])
    seq = session.workspace.log.seq
    tree.truncate(file, 8)
    assert session.workspace.log.seq == seq  # nothing changed but the time
    tree.truncate(file, 0)
    assert (file.size, refs(file), file.inline_parts) == (0, [], 0)


def test_a_block_goes_with_the_bytes_that_were_in_it(session: Session, tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, BIG)
    tree.truncate(file, 0)
    assert (file.buffers, session.workspace.shared.spool.level) == ({}, 0)
    assert os.listdir(session.directory / "spool") == []
    tree.write(file, 0, b"small again")
    assert refs(file) == [LOG]


def test_what_is_no_offset_or_too_far_is_refused(tree: LiveTree, file: FileNode) -> None:
    with pytest.raises(InvalidPath):
        tree.write(file, -1, b"x")
    with pytest.raises(InvalidPath):
        tree.truncate(file, -1)
    with pytest.raises(FileTooBig):
        tree.write(file, MAX_FILE_BYTES, b"x")
    with pytest.raises(FileTooBig):
        tree.truncate(file, MAX_FILE_BYTES + 1)
    tree.truncate(file, MAX_FILE_BYTES)
    with pytest.raises(FileTooBig):
        tree.append(file, b"x")
    assert (file.size, tree.write(file, 0, b"")) == (MAX_FILE_BYTES, 0)


def test_a_tree_that_is_not_writable_refuses_before_anything_happens(
    session: Session, tree: LiveTree, file: FileNode
) -> None:
    tree.write(file, 0, b"kept")
    tree.writable = False
    seq = session.workspace.log.seq
    for attempt in (
        lambda: tree.write(file, 0, b"x"),
        lambda: tree.write(file, 0, BIG),
        lambda: tree.append(file, b"x"),
        lambda: tree.truncate(file, 0),
        lambda: tree.set_attrs(file, mode=0o600),
        lambda: tree.set_content(file, ()),
    ):
        with pytest.raises(ReadOnly):
            attempt()
    assert (content(file), session.workspace.log.seq) == (b"kept", seq)


def test_attributes_hold_as_long_as_the_node(session: Session, tree: LiveTree, file: FileNode) -> None:
    tree.set_attrs(file, mtime_ns=5)
    tree.set_attrs(tree.root, mode=0o700)
    assert (file.mtime_ns, file.mode, tree.root.mode) == (5, -1, 0o700)
    session.committed()
    assert (file.mtime_ns, tree.root.mode) == (5, 0o700)


def test_a_copy_shares_what_is_sealed_and_is_a_file_of_its_own(
    session: Session, tree: LiveTree, file: FileNode
) -> None:
    tree.write(file, 0, BIG)
    copy = tree.create(tree.root, b"copy")
    with tree.shared.sharing:
        parts = tree.shareable(file)
        tree.set_content(copy, parts)
    assert file.buffers == {}
    assert refs(copy) == refs(file) == [1]
    tree.write(copy, 0, b"xyz")
    tree.write(file, 5, b"abc")
    session.committed()
    assert content(copy) == b"xyz" + BIG[3:]
    assert content(file) == BIG[:5] + b"abc" + BIG[8:]


def test_a_closed_gate_holds_block_writes_back_but_not_small_ones(
    tree: LiveTree, file: FileNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = put_file(tree, b"other", b"")
    held, wait = threading.Event(), tree.settled.wait

    def told() -> bool:
        held.set()
        return wait()

    monkeypatch.setattr(tree.settled, "wait", told)
    tree.close_gate()
    tree.write(other, 0, b"small")
    writer = threading.Thread(target=tree.write, args=(file, 0, BIG), name="held-writer")
    writer.start()
    held.wait()
    assert (file.size, content(other)) == (0, b"small")
    tree.open_gate()
    writer.join()
    assert content(file) == BIG


def test_a_read_goes_on_when_a_commit_moves_the_bytes(
    session: Session, tree: LiveTree, file: FileNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree.write(file, 0, BIG)
    fetch = session.workspace.shared.fetch
    found: list[Ref] = []

    def commit_first(ref: Ref, offset: int, length: int) -> bytes | memoryview:
        found.append(ref)
        if len(found) == 1:
            session.committed()
        return fetch(ref, offset, length)

    monkeypatch.setattr(session.workspace.shared, "fetch", commit_first)
    assert content(file) == BIG
    assert (found[0], type(found[1])) == (1, str)
