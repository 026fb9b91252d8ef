"""Content of files: where bytes go, and that they are there."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import FileTooBig, InvalidPath, NoSpace
from arvfuse.model.blockstate import State
from arvfuse.model.ranges import HOLE, LOG
from arvfuse.sdk.content import INLINE_PARTS, MAX_FILE_BYTES, SMALL_BYTES, ContentTree
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from tests.support.hosts import make_host

PIECE = 64 << 20


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = make_host(tmp_path)
    yield host
    host.close()


@pytest.fixture
def tree(host: Host) -> LiveTree:
    return host.open_tree(None, None)


@pytest.fixture
def file(tree: LiveTree) -> FileNode:
    return tree.create(tree.root, b"f")


def test_small_new_bytes_go_to_the_log(tree: LiveTree, file: FileNode) -> None:
    assert isinstance(tree, ContentTree)
    assert (tree.write(file, 0, b"abc"), tree.write(file, 5, bytearray(b"de")), tree.write(file, 9, b"")) == (3, 2, 0)
    assert [(s.start, s.length, s.ref) for s in file.segments] == [(0, 3, LOG), (3, 2, HOLE), (5, 2, LOG)]
    assert (bytes(tree.read(file, 0, 100)), bytes(tree.read(file, 4, 2))) == (b"abc\0\0de", b"\0d")
    assert (bytes(tree.read(file, 7, 5)), bytes(tree.read(file, 0, 0)), tree.shared.blocks.all()) == (b"", b"", [])
    assert tree.cover(file, 0, 100, 2) == file.segments.cover(0, 100, 2)


@pytest.mark.parametrize("grow", ["a write past 1 MiB", "the same bytes again", "many parts"])
def test_big_or_busy_files_get_blocks(tree: LiveTree, file: FileNode, grow: str) -> None:
    tree.write(file, 0, b"abc")
    expected = b"abc"
    if grow == "a write past 1 MiB":
        tree.write(file, 3, b"x" * SMALL_BYTES)
        expected += b"x" * SMALL_BYTES
    elif grow == "the same bytes again":
        tree.write(file, 1, b"XYZ")
        expected = b"aXYZ"
    else:
        for _ in range(INLINE_PARTS):
            tree.write(file, len(expected), b".")
            expected += b"."
    [block] = tree.shared.blocks.all()
    assert (block.state, file.buffers) == (State.WRITABLE, {0: block})
    assert [s.ref for s in file.segments] == [block.no]
    assert bytes(tree.read(file, 0, 2 * SMALL_BYTES)) == expected


def test_bytes_written_again_go_to_the_same_place_without_a_record(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"a" * (SMALL_BYTES + 1))
    seq, size = tree.shared.log.seq, tree.shared.spool.level
    for number in range(1000):
        tree.write(file, 4096, b"%04d" % number * 1024)
    assert (tree.shared.log.seq, tree.shared.spool.level, len(file.segments)) == (seq, size, 1)
    assert bytes(tree.read(file, 4096, 8)) == b"09990999"


def test_a_full_piece_is_sealed_at_once(tree: LiveTree, file: FileNode) -> None:
    for start in range(0, PIECE + (1 << 20), 8 << 20):
        tree.write(file, start, b"x" * (8 << 20))
    first, second = tree.shared.blocks.all()
    assert (first.state, first.size, second.state, second.piece) == (State.PENDING, PIECE, State.WRITABLE, 1)
    assert tree.shared.sealed_seq == first.seal_seq > 0


def test_a_write_over_the_end_of_a_piece(tree: LiveTree, file: FileNode) -> None:
    tree.truncate(file, PIECE - 3)
    tree.write(file, PIECE - 3, b"abcdef")
    assert [(s.start, s.length, s.offset) for s in file.segments][1:] == [(PIECE - 3, 3, PIECE - 3), (PIECE, 3, 0)]
    assert bytes(tree.read(file, PIECE - 5, 100)) == b"\0\0abcdef"


def test_cuts(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"abc" * SMALL_BYTES)
    tree.truncate(file, 5)
    tree.truncate(file, 7)
    assert bytes(tree.read(file, 0, 100)) == b"abcab\0\0"
    changed = file.changed_seq
    tree.truncate(file, 7)
    assert file.changed_seq == changed
    tree.truncate(file, 0)
    assert (tree.shared.blocks.all(), tree.shared.spool.level, file.size) == ([], 0, 0)


def test_what_makes_no_sense(tree: LiveTree, file: FileNode) -> None:
    for call in (lambda: tree.write(file, -1, b"x"), lambda: tree.truncate(file, -1)):
        with pytest.raises(InvalidPath):
            call()
    tree.write(file, MAX_FILE_BYTES, b"")
    for call in (lambda: tree.write(file, MAX_FILE_BYTES, b"x"), lambda: tree.truncate(file, MAX_FILE_BYTES + 1)):
        with pytest.raises(FileTooBig):
            call()
    tree.truncate(file, MAX_FILE_BYTES)
    with pytest.raises(FileTooBig):
        tree.append(file, b"x")


def test_appenders_never_overwrite_each_other(tree: LiveTree, file: FileNode) -> None:
    threads = [
        threading.Thread(target=lambda mark=mark: [tree.append(file, mark * 100) for _ in range(100)])
        for mark in (b"a", b"b", b"c")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    data = bytes(tree.read(file, 0, 1 << 20))
    parts = {data[at : at + 100] for at in range(0, len(data), 100)}
    assert (len(data), parts) == (30_000, {b"a" * 100, b"b" * 100, b"c" * 100})


def test_attributes_live_beside_the_content(tree: LiveTree, file: FileNode) -> None:
    tree.set_attrs(file, mtime_ns=5)
    tree.set_attrs(file, mode=0o640)
    assert (file.mtime_ns, file.mode) == (5, 0o640)
    tree.write(file, 0, b"x")
    assert file.mtime_ns == tree.shared.clock.time_ns()


def test_a_shared_block_takes_no_more_bytes(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"a" * (SMALL_BYTES + 1))
    copy = tree.create(tree.root, b"copy")
    with tree.shared.sharing:
        tree.set_content(copy, tree.shareable(file))
    [block] = tree.shared.blocks.all()
    assert (block.state, copy.copied_seq, copy.parts()) == (State.PENDING, copy.changed_seq, file.parts())
    tree.write(file, 0, b"b")
    assert bytes(tree.read(copy, 0, 2)) == b"aa"
    assert bytes(tree.read(file, 0, 2)) == b"ba"
    assert len(tree.shared.blocks.all()) == 2


def test_writes_wait_at_the_gate_of_a_commit_point(tree: LiveTree, file: FileNode) -> None:
    tree.write(file, 0, b"a" * (SMALL_BYTES + 1))
    tree.close_gate()
    writer = threading.Thread(target=tree.write, args=(file, 0, b"b"))
    writer.start()
    assert bytes(tree.read(file, 0, 1)) == b"a"
    tree.open_gate()
    writer.join()
    assert bytes(tree.read(file, 0, 1)) == b"b"


def test_a_write_that_has_no_room_changes_nothing(tree: LiveTree, file: FileNode, tmp_path: Path) -> None:
    tree.write(file, 0, b"a" * (SMALL_BYTES + 1))
    [block] = tree.shared.blocks.all()

    def full(data: memoryview, offset: int) -> None:
        raise NoSpace()

    class Full(type(block)):  # type: ignore[misc] # a block whose disk is full
        __slots__ = ()
        pwrite = staticmethod(full)

    block.__class__ = Full
    before = file.parts()
    with pytest.raises(NoSpace):
        tree.write(file, 2 * SMALL_BYTES, b"b")
    assert (file.parts(), block.writers) == (before, 0)
