"""What a driver of the kernel's protocol needs of files beside reading and writing."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from arvfuse.errors import FileTooBig, InvalidPath, NoSuchOffset, StoreUnavailable
from arvfuse.sdk.content import MAX_FILE_BYTES, SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.workspace import Workspace
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.engines import MOUNT
from tests.support.stores import noise

LIMIT = 4 << 20


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(
        tmp_path, mount=MOUNT, store=MemoryStore(), clock=FakeClock(), spool_bytes=LIMIT, stall_bound_s=5
    )  # fmt: skip
    yield made
    made.close()


@pytest.fixture
def tree(workspace: Workspace) -> LiveTree:
    return workspace.open_tree(None, None)


@pytest.fixture
def file(tree: LiveTree) -> FileNode:
    return tree.create(tree.root, b"f")


def clock_of(workspace: Workspace) -> FakeClock:
    clock = workspace.shared.clock
    assert isinstance(clock, FakeClock)
    return clock


def test_accept_waits_for_no_room(workspace: Workspace, tree: LiveTree, file: FileNode) -> None:
    data = noise(1 << 20)
    for number in range(8):
        assert tree.accept(file, number << 20, memoryview(data)) == len(data)
    assert workspace.shared.spool.full
    assert tree.accept(file, 0, b"") == 0
    with ThreadPoolExecutor(1) as pool:  # as write() does
        writing = pool.submit(tree.write, file, 8 << 20, data)
        clock_of(workspace).wait_for_sleepers()
        assert not writing.done()
        clock_of(workspace).advance(5)
        with pytest.raises(StoreUnavailable):
            writing.result(30)
    assert file.size == 9 << 20, "what was accepted is kept"
    with pytest.raises(InvalidPath):
        tree.accept(file, -1, b"x")
    with pytest.raises(FileTooBig):
        tree.accept(file, MAX_FILE_BYTES, b"x")


def test_a_workspace_says_when_there_is_room(workspace: Workspace, tree: LiveTree, file: FileNode) -> None:
    assert workspace.room() is None
    tree.accept(file, 0, noise(LIMIT + 1))
    one, other = workspace.room(), workspace.room()
    assert one is not None
    assert other is not None
    workspace.tick()
    assert not one.done()
    tree.truncate(file, 0)
    assert (one.result(0), workspace.room()) == (None, None)
    tree.accept(file, 0, noise(LIMIT + 1))
    stalled = workspace.room()
    assert stalled is not None
    clock_of(workspace).advance(5)
    workspace.tick()
    with pytest.raises(StoreUnavailable, match="what was written is kept"):
        stalled.result(0)
    again = workspace.room()
    assert again is not None
    clock_of(workspace).advance(5)
    workspace.shared.fail_stalled()
    assert again.done()


def test_a_read_comes_in_pieces(tree: LiveTree, file: FileNode) -> None:
    tree.accept(file, 0, b"one")
    tree.accept(file, 5, b"two")
    assert [bytes(part) for part in tree.read_parts(file, 1, 100)] == [b"ne", b"\0\0", b"two"]
    assert tree.read_parts(file, 8, 5) == []
    assert bytes(tree.read(file, 1, 100)) == b"ne\0\0two"


def test_data_and_holes_are_found(tree: LiveTree, file: FileNode) -> None:
    tree.accept(file, 10, b"data")
    tree.extend(file, 20)
    tree.extend(file, 5)
    assert file.size == 20
    found = {(offset, data): tree.seek(file, offset, data=data) for offset in (0, 10, 12) for data in (True, False)}
    assert found == {(0, True): 10, (0, False): 0, (10, True): 10, (10, False): 14, (12, True): 12, (12, False): 14}
    assert tree.seek(file, 14, data=False) == 14
    for offset, data in ((14, True), (20, False), (20, True), (-1, True)):
        with pytest.raises(NoSuchOffset):
            tree.seek(file, offset, data=data)
    full = tree.create(tree.root, b"full")
    tree.accept(full, 0, b"x" * (SMALL_BYTES + 1))
    assert (tree.seek(full, 3, data=True), tree.seek(full, 3, data=False)) == (3, SMALL_BYTES + 1)


def test_a_failure_is_for_whoever_has_the_file_open(tree: LiveTree, file: FileNode) -> None:
    mark = file.error_mark
    tree.failed(file, StoreUnavailable("lost"))
    with pytest.raises(StoreUnavailable, match="lost"):
        tree.flush(file, mark)
    assert tree.flush(file, file.error_mark) == file.error_mark
