"""What the kernel's protocol asks for beside the calls of programs."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path

import pytest

from arvfuse.errors import IsADirectory, NoSuchOffset, ReadOnly, StaleNode, StoreUnavailable
from arvfuse.fresh.node import Entry
from arvfuse.fusedir.trees import CollectionDir, TreeDir
from arvfuse.model.manifests import Manifest
from arvfuse.operations import Operations
from tests.support.engines import Mounted, now

TEXT = b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n./d 5d41402abc4b2a76b9719d911017c592+5 0:5:g\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=lambda engine: engine.workspace.open_tree(None, Manifest(TEXT)))
    made.engine.store.put(b"hello")
    assert isinstance(made.ops, Operations)
    yield made
    made.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, read_only=True, root=lambda engine: engine.new_collection("c", TEXT).uuid)
    made.engine.store.put(b"hello")
    yield made
    made.close()


def test_a_file_is_read_without_being_opened(read_only: Mounted) -> None:
    ops, file = read_only.ops, read_only.walk(b"f")
    assert b"".join(ops.read_node(file, 1, 3)) == b"ell"
    assert b"".join(ops.read_node(file, 5, 3)) == b""
    record = read_only.walk(b".arvados#collection")
    assert b"".join(ops.read_node(record, 0, 1 << 16)).endswith(b"}\n")
    with pytest.raises(IsADirectory):
        ops.read_node(read_only.walk(b"d"), 0, 1)
    with pytest.raises(StaleNode):
        ops.read_node(4711, 0, 1)


def test_a_directory_is_listed_without_being_opened(read_only: Mounted) -> None:
    ops = read_only.ops
    for _ in range(2):
        listed = list(now(ops.readdir(0, 0, 1)))
        assert [each.name for each in listed] == [b".", b"..", b"d", b"f"]
    assert [each.name for each in now(ops.readdir(0, 3, 1))] == [b"f"]
    here, above, directory, file = ops.listed_entries(0, listed, 1)
    assert here is above is None, "no references to what is open anyway"
    assert directory is not None
    assert file is not None
    assert (directory.attr.is_dir, ops.knows(directory.attr.no)) == (True, True)
    assert (file.attr.size, ops.knows(file.attr.no)) == (5, True)
    assert file == now(ops.lookup(1, b"f"))
    with pytest.raises(StaleNode):
        now(ops.readdir(0, 0, 4711))


def test_a_listing_that_fails_has_told_of_nothing(mounted: Mounted, monkeypatch: pytest.MonkeyPatch) -> None:
    ops = mounted.ops
    file = mounted.walk(b"f")
    before = ops.host.inodes.count(file)
    listing = now(ops.opendir(1))
    listed = list(now(ops.readdir(listing, 0)))

    def fail(_directory: object, _name: bytes) -> None:
        raise StoreUnavailable("away")

    monkeypatch.setattr(TreeDir, "lookup", fail)
    monkeypatch.setattr(CollectionDir, "lookup", fail)
    with pytest.raises(StoreUnavailable):
        ops.listed_entries(listing, listed)
    assert ops.host.inodes.count(file) == before
    ops.releasedir(listing)


def test_snapshots_for_those_who_do_not_open_are_bounded(tmp_path: Path) -> None:
    text = b"".join(b"./d%03d 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n" % number for number in range(200))
    mounted = Mounted(tmp_path, read_only=True, root=lambda engine: engine.new_collection("c", text).uuid)
    for number in range(200):
        directory = mounted.walk(b"d%03d" % number)
        assert [each.name for each in now(mounted.ops.readdir(0, 2, directory))] == [b"f"]
    assert [each.name for each in now(mounted.ops.readdir(0, 2, mounted.walk(b"d000")))] == [b"f"]
    mounted.close()


def test_pages_that_are_lost_are_told(mounted: Mounted) -> None:
    ops, file = mounted.ops, mounted.walk(b"f")
    one, other = (ops.open(file, os.O_RDWR).handle for _ in range(2))
    ops.lost(one, StoreUnavailable("lost"))
    assert mounted.notices.wait_idle(30)
    assert mounted.kernel.inodes == [(file, False)]
    for handle in (one, other):
        with pytest.raises(StoreUnavailable):
            ops.flush(handle)
        ops.release(handle)


def test_a_kernel_that_lost_pages_begins_anew_with_the_file(mounted: Mounted) -> None:
    """It believes no size but its own while it knows a file: under another generation it knows nothing."""
    ops, file = mounted.ops, mounted.walk(b"f")
    one, other = (ops.open(file, os.O_RDWR).handle for _ in range(2))
    ops.lost(one, StoreUnavailable("lost"))
    ops.release(one)
    assert now(ops.lookup(1, b"f")).generation == 0, "what has it open goes on"
    assert mounted.told() == []
    ops.release(other)
    assert mounted.told() == [(1, b"f")]
    for use in (lambda: ops.open(file, os.O_RDONLY), lambda: ops.getattr(file)):
        with pytest.raises(StaleNode):  # what is opened now would fail when the kernel hears of the generation
            use()
    assert now(ops.lookup(1, b"f")).generation == 1
    handle = ops.open(file, os.O_RDWR).handle
    ops.lost(handle, StoreUnavailable("lost"))
    ops.release(handle)
    listing = now(ops.opendir(1))
    names = [each for each in now(ops.readdir(listing, 0)) if each.name == b"f"]
    assert [entry.generation for entry in ops.listed_entries(listing, names) if entry is not None] == [2]
    assert ops.getattr(file).size == 5
    ops.forget([(file, ops.host.inodes.count(file))])
    assert now(ops.lookup(1, b"f")).generation == 0


def test_room_and_holes(mounted: Mounted, read_only: Mounted) -> None:
    ops, file = mounted.ops, mounted.walk(b"f")
    handle = ops.open(file, os.O_RDWR).handle
    ops.allocate(handle, 0, 50, keep_size=True)
    assert ops.getattr(file).size == 5
    ops.allocate(handle, 0, 50, keep_size=False)
    assert ops.getattr(file).size == 50
    assert (ops.seek(handle, 0, data=False), ops.seek(handle, 7, data=False)) == (5, 7)
    with pytest.raises(NoSuchOffset):
        ops.seek(handle, 5, data=True)
    ops.release(handle)
    reading = read_only.ops.open(read_only.walk(b"f"), os.O_RDONLY).handle
    with pytest.raises(ReadOnly):
        read_only.ops.allocate(reading, 0, 50, keep_size=False)
    read_only.ops.release(reading)


def test_whether_anybody_writes_a_file(mounted: Mounted) -> None:
    ops, file = mounted.ops, mounted.walk(b"f")
    reading = ops.open(file, os.O_RDONLY).handle
    assert not ops.is_written(reading)
    writing = ops.open(file, os.O_WRONLY).handle
    assert ops.is_written(reading)
    ops.release(writing)
    assert not ops.is_written(reading)
    ops.release(reading)


def test_missing_names_are_kept_where_all_changes_are_told(mounted: Mounted, tmp_path: Path) -> None:
    assert mounted.ops.missing_keep_s(1) == mounted.ops.missing_keep_s(mounted.walk(b"d")) == 60
    store = Mounted(tmp_path / "store")
    assert store.ops.missing_keep_s(1) == 0
    assert store.ops.missing_keep_s(store.walk(b"home")) == 0
    store.close()


def test_set_user_id_is_dropped(mounted: Mounted) -> None:
    ops, file = mounted.ops, mounted.walk(b"f")
    for before, after in ((0o6755, 0o755), (0o4644, 0o644), (0o2644, 0o2644), (0o2655, 0o655), (0o777, 0o777)):
        ops.setattr(file, mode=before)
        ops.drop_privileges(file)
        assert stat.S_IMODE(ops.getattr(file).mode) == after, oct(before)
    ops.drop_privileges(mounted.walk(b"d"))
    with pytest.raises(StaleNode):
        ops.drop_privileges(4711)


def test_a_writer_is_held_back_while_the_spool_is_full(mounted: Mounted) -> None:
    ops, file = mounted.ops, mounted.walk(b"f")
    spool = mounted.engine.workspace.shared.spool
    spool.charge(spool.limit + 1)
    handle = ops.open(file, os.O_RDWR).handle
    held = ops.write(handle, 0, b"HELLO")
    assert isinstance(held, Future)
    assert b"".join(ops.read(handle, 0, 9)) == b"HELLO", "accepted at once"
    assert not held.done()
    spool.credit(spool.limit)
    assert held.result(0) == 5
    ops.release(handle)
    spool.credit(1)


def test_what_takes_a_look_into_a_table_is_found_at_once(mounted: Mounted) -> None:
    top = 1
    number = mounted.write_file(top, b"there", b"x")
    found = mounted.ops.find(top, b"there")
    assert isinstance(found, Entry)
    assert found == mounted.ops.lookup(top, b"there")
    assert mounted.ops.host.inodes.count(number) == 3
    assert mounted.ops.find(top, b"missing") == mounted.ops.missing_keep_s(top) > 0
    directory = mounted.walk(b"d")
    for name in (b"d", b".", b".arvados#collection", b"x" * 300):
        assert mounted.ops.find(top, name) is None  # ask lookup()
    assert mounted.ops.find(directory, b"missing") == mounted.ops.missing_keep_s(directory)
    mounted.ops.forget([(number, 2)])
