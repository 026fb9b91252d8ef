"""Workspaces: trees, commit points, and what happens to log and spool afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.model.blockstate import State
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.workspace import DEFAULT_SPOOL_BYTES, MIN_LOG_FILE_BYTES, Workspace
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import make_host

BIG = b"x" * (SMALL_BYTES + 5)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = make_host(tmp_path)
    yield host
    host.close()


@pytest.fixture
def workspace(host: Host) -> Workspace:
    return host.workspace


def put(tree: LiveTree, name: bytes, data: bytes) -> FileNode:
    file = tree.create(tree.root, name)
    tree.write(file, 0, data)
    return file


def test_trees(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path, mount=MountId("m"), store=MemoryStore(), clock=FakeClock())
    assert (workspace.mount, workspace.directory, workspace.shared.spool.limit) == ("m", tmp_path, DEFAULT_SPOOL_BYTES)
    assert MIN_LOG_FILE_BYTES < 64 << 20
    one = workspace.open_tree(None, Manifest(b""), kind="output")
    other = workspace.open_tree(None, None, kind="tmp", writable=False)
    assert (workspace.trees, workspace.dirty(), one.kind, other.writable) == ([one, other], [], "output", False)
    put(one, b"f", b"x")
    assert workspace.dirty() == [one]
    workspace.close_tree(other)
    assert workspace.trees == [one]
    workspace.close()
    assert (tmp_path / "log" / "00000001").stat().st_size > 0


def test_a_tree_that_is_closed_gives_its_blocks_back(workspace: Workspace) -> None:
    tree = workspace.open_tree(None, None)
    put(tree, b"f", BIG)
    workspace.close_tree(tree)
    assert (workspace.shared.blocks.all(), workspace.shared.spool.level) == ([], 0)


def test_a_commit_point_is_common_to_what_a_move_joined(workspace: Workspace) -> None:
    one, other, third = (workspace.open_tree(None, None) for _ in range(3))
    file = put(one, b"f", BIG)
    one.rename(one.root, b"f", other.root, b"g")
    put(third, b"f", BIG)
    chosen, seq = workspace.commit_point([one])
    assert (chosen, seq, one.boundary < other.boundary) == ([one, other], other.boundary, True)
    states = {block.file.no: block.state for block in workspace.shared.blocks.all()}
    assert states.pop(file.no) is State.PENDING
    assert list(states.values()) == [State.WRITABLE]
    assert workspace.log.flushed_seq >= seq


def test_after_a_commit_nothing_refers_to_log_and_spool(host: Host, workspace: Workspace) -> None:
    tree = workspace.open_tree(None, None, kind="output")
    small, big = put(tree, b"small", b"abc"), put(tree, b"big", BIG)
    host.commit([tree])
    assert all(isinstance(ref, str) for file in (small, big) for _, ref, _ in file.parts())
    assert (tree.dirty, tree.unsettled, workspace.shared.blocks.all()) == (False, {}, [])
    assert list((host.directory / "moved").iterdir()) == []
    assert list((host.directory / "spool").iterdir()) == []


def test_what_a_commit_makes_useless_is_deleted_when_all_was_told(host: Host, workspace: Workspace) -> None:
    tree = workspace.open_tree(None, None, kind="output")
    file = put(tree, b"big", BIG)
    _, seq = workspace.commit_point([tree])
    outcomes = host._committer.commit([tree.no], seq)
    workspace.take_in(outcomes)
    assert (tree.dirty, [ref for _, ref, _ in file.parts() if not isinstance(ref, str)]) == (False, [])
    assert workspace.tidy()
    assert len(list((host.directory / "spool").iterdir())) == 1
    workspace.delete()
    assert list((host.directory / "spool").iterdir()) == []
    assert not workspace.tidy()
    assert bytes(tree.read(file, 0, len(BIG))) == BIG


def test_full_log_files_go_when_all_of_them_is_covered(tmp_path: Path) -> None:
    host = make_host(tmp_path, spool_bytes=32 << 20)
    one, other = host.open_tree(None, None), host.open_tree(None, None)
    data = b"y" * (SMALL_BYTES - 1)
    for number in range(4):
        put(one, b"f%d" % number, data)
    put(other, b"f", b"x")
    for number in range(4, 8):
        put(one, b"f%d" % number, data)
    logs = host.workspace.log.numbers()
    assert len(logs) > 2
    host.commit([one])
    assert host.workspace.log.numbers()[0] > logs[0]
    host.commit([other])
    assert len(host.workspace.log.numbers()) <= 2
    assert bytes(one.read(one.find((b"f0",)), 0, SMALL_BYTES)) == data  # type: ignore[arg-type] # a file
    host.close()


def test_stored_and_failed_move_a_block(workspace: Workspace) -> None:
    tree = workspace.open_tree(None, None)
    put(tree, b"f", BIG)
    [block] = workspace.shared.blocks.all()
    for told in (lambda: workspace.stored(block.no), lambda: workspace.failed(block.no, StoreUnavailable())):
        told()  # not sealed: nothing happens
        assert block.state is State.WRITABLE
    workspace.commit_point([tree])
    workspace.failed(block.no, StoreUnavailable())
    workspace.failed(99, StoreUnavailable())
    assert block.state is State.ERROR
    workspace.commit_point([tree])
    assert block.state is State.PENDING
    workspace.stored(block.no)
    assert block.state is State.COMMITTED


def test_outcomes_that_are_not_good(workspace: Workspace) -> None:
    tree = workspace.open_tree(None, None)
    file = put(tree, b"f", b"abc")
    _, seq = workspace.commit_point([tree])
    for _ in range(2):
        workspace.take([Outcome(tree=tree.no, seq=seq, error="no answer")])
    assert (tree.dirty, file.error_mark, str(file.error)) == (True, 1, "no answer")
    workspace.take([Outcome(tree=77, seq=seq)])
    put(tree, b"g", b"abc")
    _, seq = workspace.commit_point([tree])
    workspace.take([Outcome(tree=tree.no, seq=seq, ours_pdh="p", pdh="p", quarantined="kept elsewhere")])
    assert (tree.writable, tree.asof) == (False, seq)


def test_a_table_that_cannot_be_read_is_a_failure_that_changes_nothing(workspace: Workspace, host: Host) -> None:
    tree = host.open_tree(None, None)
    file = put(tree, b"f", b"abc")
    hidden = host.directory / "hidden"
    chosen, seq = workspace.commit_point([tree])
    outcomes = host._committer.commit([each.no for each in chosen], seq)
    assert outcomes[0].moved is not None
    table = host.directory / "moved" / outcomes[0].moved
    table.rename(hidden)
    with pytest.raises(StoreUnavailable, match="what a commit moved"):
        workspace.take(outcomes)
    assert (tree.dirty, bytes(tree.read(file, 0, 9))) == (True, b"abc")
    hidden.rename(table)
    host.commit([tree])
    assert (tree.dirty, [type(ref) for _, ref, _ in file.parts()]) == (False, [str])


def test_a_spool_file_that_cannot_be_deleted_is_deleted_later(
    host: Host, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    tree = host.open_tree(None, None)
    put(tree, b"f", BIG)
    spool = host.directory / "spool" / "1"
    chosen, seq = workspace.commit_point([tree])
    outcomes = host._committer.commit([each.no for each in chosen], seq)
    spool.unlink()
    spool.mkdir()  # which unlink(2) refuses
    workspace.take(outcomes)
    assert "not deleted" in caplog.text
    assert (tree.dirty, workspace.shared.spool.level) == (False, 0)
    spool.rmdir()
    spool.touch()
    put(tree, b"g", b"abc")
    host.commit([tree])
    assert not spool.exists()


def test_a_log_file_that_cannot_be_deleted_is_deleted_later(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    host = make_host(tmp_path, spool_bytes=16 << 20)
    tree = host.open_tree(None, None)
    for number in range(4):
        put(tree, b"f%d" % number, b"y" * (SMALL_BYTES - 1))
    first = tmp_path / "log" / "00000001"
    chosen, seq = host.workspace.commit_point([tree])
    outcomes = host._committer.commit([each.no for each in chosen], seq)
    first.unlink()
    first.mkdir()
    host.workspace.take(outcomes)
    assert "not deleted" in caplog.text
    assert (tree.dirty, host.workspace.log.numbers()[0]) == (False, 1)
    first.rmdir()
    put(tree, b"g", b"abc")
    host.commit([tree])
    assert host.workspace.log.numbers() == [host.workspace.log.file_number]
    host.close()
