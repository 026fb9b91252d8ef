"""One method per operation: what POSIX wants of each, on a collection as the root and on a store."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import (
    ArvfuseError,
    DirectoryNotEmpty,
    EntryExists,
    InvalidPath,
    IsADirectory,
    NameTooLong,
    NoSuchEntry,
    NotADirectory,
    NotPermitted,
    NotSupported,
    ReadOnly,
    StaleNode,
)
from arvfuse.model.manifests import Manifest
from arvfuse.operations import RENAME_NOREPLACE, Operations
from tests.support.engines import FakeEngine, Mounted, now

TEXT = b". 5d41402abc4b2a76b9719d911017c592+5 0:5:f\n./d 5d41402abc4b2a76b9719d911017c592+5 0:5:g\n"
LONG = b"n" * 256


def open_root(engine: FakeEngine) -> Any:
    engine.store.put(b"hello")
    return engine.workspace.open_tree(None, Manifest(TEXT))


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=open_root)
    yield made
    made.close()


@pytest.fixture
def read_only(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path, root=open_root, read_only=True)
    yield made
    made.close()


def test_a_tree_can_be_the_root(mounted: Mounted) -> None:
    ops = mounted.ops
    assert mounted.names(1) == [b"d", b"f"]
    assert ops.getattr(1).is_dir
    entry = now(ops.lookup(1, b"f"))
    assert (entry.attr.size, entry.attr.mode, entry.attr.links) == (5, 0o777, 1)
    assert mounted.read_file(entry.attr.no) == b"hello"
    assert (ops.uid, ops.gid) == (os.getuid(), os.getgid())
    assert repr(ops) == "<Operations read-write <Inodes 2 nodes> files=0 dirs=0>"
    assert now(ops.lookup(1, b".")).attr.no == now(ops.lookup(1, b"..")).attr.no == 1
    ops.forget([(1, 2)])


def test_a_uuid_or_hash_can_be_the_root(tmp_path: Path) -> None:
    def collection(engine: FakeEngine) -> str:
        engine.store.put(b"hello")
        return engine.new_collection("c", TEXT).uuid

    mounted = Mounted(tmp_path, root=collection)
    assert mounted.names(1) == [b"d", b"f"]
    assert now(mounted.ops.lookup(1, b".arvados#collection")).attr.size > 0
    mounted.close()


def test_a_file_is_made_written_and_read(mounted: Mounted) -> None:
    ops = mounted.ops
    mounted.engine.clock.advance(5)
    created = now(ops.create(1, b"new", stat.S_IFREG | 0o640, os.O_RDWR | os.O_CREAT))
    number, handle = created.entry.attr.no, created.opened.handle
    assert created.entry.attr.mode == 0o640
    before = ops.getattr(number).mtime_ns
    mounted.engine.clock.advance(5)
    assert ops.write(handle, 3, b"abc") == 3
    assert ops.getattr(number).mtime_ns > before, "a write moves the time"
    assert ops.getattr(number).size == 6
    assert b"".join(ops.read(handle, 0, 100)) == b"\0\0\0abc"
    ops.flush(handle)
    ops.fsync(handle)
    ops.release(handle)
    for use in (ops.flush, ops.fsync, ops.release, lambda h: ops.read(h, 0, 1)):
        with pytest.raises(StaleNode):
            use(handle)


def test_exclusive_creation_and_mknod(mounted: Mounted) -> None:
    ops = mounted.ops
    with pytest.raises(EntryExists):
        now(ops.create(1, b"f", 0o644, os.O_RDWR | os.O_EXCL))
    with pytest.raises(EntryExists):
        now(ops.mknod(1, b"f", stat.S_IFREG))
    assert not now(ops.mknod(1, b"node", stat.S_IFREG | 0o600)).attr.is_dir
    for kind in (stat.S_IFIFO, stat.S_IFCHR, stat.S_IFSOCK, stat.S_IFBLK):
        with pytest.raises(NotSupported):
            now(ops.mknod(1, b"other", kind))
    again = now(ops.create(1, b"f", 0o644, os.O_RDWR | os.O_TRUNC))
    assert ops.getattr(again.entry.attr.no).size == 0
    ops.release(again.opened.handle)


def test_open_truncates_and_refuses_directories(mounted: Mounted) -> None:
    ops = mounted.ops
    file = mounted.walk(b"f")
    ops.release(ops.open(file, os.O_WRONLY | os.O_TRUNC).handle)
    assert ops.getattr(file).size == 0
    with pytest.raises(IsADirectory):
        ops.open(mounted.walk(b"d"), os.O_RDONLY)
    with pytest.raises(NotADirectory):
        ops.opendir(file)
    with pytest.raises(NotADirectory):
        now(ops.lookup(file, b"x"))


def test_open_for_writing_without_a_write_changes_nothing(mounted: Mounted) -> None:
    file = mounted.walk(b"f")
    before = mounted.ops.getattr(file)
    handle = mounted.ops.open(file, os.O_RDWR).handle
    mounted.ops.flush(handle)
    mounted.ops.release(handle)
    assert mounted.ops.getattr(file) == before
    assert not mounted.engine.workspace.dirty()


def test_attributes_are_set_and_hold(mounted: Mounted) -> None:
    ops = mounted.ops
    file, directory = mounted.walk(b"f"), mounted.walk(b"d")
    assert now(ops.setattr(file, size=2)).size == 2
    assert now(ops.setattr(file, size=1000)).blocks == 2
    attr = now(ops.setattr(file, mode=stat.S_IFREG | 0o751, mtime_ns=7, atime_ns=8))
    assert (attr.mode, attr.mtime_ns, attr.atime_ns) == (0o751, 7, 8)
    assert ops.getattr(file) == attr
    assert now(ops.setattr(directory, mode=0o700)).mode == 0o700
    assert now(ops.setattr(1, mtime_ns=9)).mtime_ns == 9
    assert now(ops.setattr(file)) == attr, "owners are accepted and not kept"
    with pytest.raises(IsADirectory):
        now(ops.setattr(directory, size=0))
    handle = ops.open(file, os.O_RDONLY).handle
    with pytest.raises(InvalidPath):
        now(ops.setattr(file, size=0, handle=handle))
    ops.release(handle)
    ops.forget([(file, 1)])
    assert now(ops.lookup(1, b"f")).attr.atime_ns == 7, "an access time lives as long as the kernel knows the node"


def test_directories_and_removal(mounted: Mounted) -> None:
    ops = mounted.ops
    made = now(ops.mkdir(1, b"new", 0o755)).attr
    assert made.is_dir
    for call, kind in (
        (lambda: ops.mkdir(1, b"new", 0), EntryExists),
        (lambda: ops.rmdir(1, b"d"), DirectoryNotEmpty),
        (lambda: ops.rmdir(1, b"f"), NotADirectory),
        (lambda: ops.unlink(1, b"d"), IsADirectory),
        (lambda: ops.unlink(1, b"none"), NoSuchEntry),
    ):
        with pytest.raises(kind):
            now(call())
    now(ops.rmdir(1, b"new"))
    now(ops.unlink(1, b"f"))
    assert mounted.names(1) == [b"d"]


def test_names_are_checked(mounted: Mounted) -> None:
    ops = mounted.ops
    for call in (
        lambda: ops.create(1, LONG, 0, 2),
        lambda: ops.mkdir(1, LONG, 0),
        lambda: ops.mknod(1, LONG, 0),
        lambda: ops.rename(1, b"f", 1, LONG),
        lambda: ops.lookup(1, LONG),
    ):
        with pytest.raises(NameTooLong):
            now(call())
    fits = b"\xff" * 255
    mounted.write_file(1, fits, b"x")
    assert fits in mounted.names(1)
    assert mounted.read_file(mounted.walk(fits)) == b"x"


def test_rename_replaces_for_good(mounted: Mounted) -> None:
    ops = mounted.ops
    old, new = mounted.walk(b"f"), mounted.write_file(1, b"tmp", b"new content")
    now(ops.rename(1, b"tmp", 1, b"f"))
    assert mounted.walk(b"f") == new
    assert mounted.read_file(mounted.walk(b"f")) == b"new content"
    assert mounted.read_file(old) == b"hello", "whoever was on the way to it gets it"
    ops.forget([(old, ops.host.inodes.count(old))])
    with pytest.raises(StaleNode):
        ops.getattr(old)
    with pytest.raises(StaleNode):
        ops.open(old, os.O_RDONLY)
    assert mounted.names(1) == [b"d", b"f"]


def test_rename_flags_and_refusals(mounted: Mounted) -> None:
    ops = mounted.ops
    directory = mounted.walk(b"d")
    now(ops.mkdir(1, b"e", 0))
    cases: list[tuple[Callable[[], Any], type[ArvfuseError]]] = [
        (lambda: ops.rename(1, b"f", directory, b"g", RENAME_NOREPLACE), EntryExists),
        (lambda: ops.rename(1, b"f", directory, b"g", 2), InvalidPath),
        (lambda: ops.rename(1, b"f", 1, b"d"), IsADirectory),
        (lambda: ops.rename(1, b"e", 1, b"f"), NotADirectory),
        (lambda: ops.rename(1, b"e", 1, b"d"), DirectoryNotEmpty),
        (lambda: ops.rename(1, b"d", directory, b"x"), InvalidPath),
        (lambda: ops.rename(1, b"none", 1, b"x"), NoSuchEntry),
    ]
    for call, kind in cases:
        with pytest.raises(kind):
            now(call())
    now(ops.rename(1, b"f", directory, b"h", RENAME_NOREPLACE))
    now(ops.rename(1, b"d", 1, b"e"))
    assert mounted.names(1) == [b"e"]
    assert mounted.names(directory) == [b"g", b"h"]


def test_c3_an_open_file_survives_unlink_replacement_and_moves(mounted: Mounted) -> None:
    ops = mounted.ops
    number = mounted.write_file(mounted.walk(b"d"), b"x", b"content")
    handle = ops.open(number, os.O_RDWR).handle
    now(ops.rename(1, b"d", 1, b"moved"))
    assert b"".join(ops.read(handle, 0, 10)) == b"content"
    directory = mounted.walk(b"moved")
    mounted.write_file(directory, b"y", b"other")
    now(ops.rename(directory, b"y", directory, b"x"))
    assert ops.write(handle, 7, b"!") == 1
    assert b"".join(ops.read(handle, 0, 10)) == b"content!"
    assert ops.getattr(number).size == 8, "fstat of an open file that has no name"
    now(ops.unlink(directory, b"x"))
    assert now(ops.setattr(number, size=3, handle=handle)).size == 3
    ops.fsync(handle)
    ops.release(handle)
    ops.forget([(number, ops.host.inodes.count(number))])
    with pytest.raises(StaleNode):
        ops.getattr(number)


def test_forgotten_nodes_are_unknown_until_looked_up(mounted: Mounted) -> None:
    file = mounted.walk(b"f")
    mounted.walk(b"f")
    mounted.ops.forget([(file, 2)])
    with pytest.raises(StaleNode):
        mounted.ops.getattr(file)
    assert mounted.walk(b"f") == file


@pytest.mark.parametrize("given_up", ["entry", "created", "opened", "directory", "nothing"])
def test_an_answer_that_was_not_delivered_is_undone(mounted: Mounted, given_up: str) -> None:
    ops = mounted.ops
    answers: dict[str, Callable[[], Any]] = {
        "entry": lambda: ops.lookup(1, b"f"),
        "created": lambda: ops.create(1, b"new", 0o644, os.O_RDWR),
        "opened": lambda: ops.open(mounted.walk(b"f"), os.O_RDONLY),
        "directory": lambda: ops.opendir(1),
        "nothing": lambda: ops.unlink(1, b"f"),
    }
    ops.undo(now(answers[given_up]()))
    assert "files=0 dirs=0" in repr(ops)
    assert len(ops.host.inodes) == (2 if given_up == "opened" else 1)


def test_b3_a_read_only_mount_refuses_every_change(read_only: Mounted) -> None:
    ops = read_only.ops
    file, directory = read_only.walk(b"f"), read_only.walk(b"d")
    handle = ops.open(file, os.O_RDONLY).handle
    assert ops.read_only
    for change in (
        lambda: ops.create(1, b"x", 0o644, os.O_RDWR),
        lambda: ops.mknod(1, b"x", stat.S_IFREG),
        lambda: ops.mkdir(1, b"x", 0o755),
        lambda: ops.unlink(1, b"f"),
        lambda: ops.rmdir(1, b"d"),
        lambda: ops.rename(1, b"f", directory, b"x"),
        lambda: ops.setattr(file, size=0),
        lambda: ops.setattr(file, size=0, handle=handle),
        lambda: ops.setattr(file, mode=0),
        lambda: ops.setattr(directory, mtime_ns=0),
        lambda: ops.open(file, os.O_RDWR),
        lambda: ops.open(file, os.O_WRONLY),
        lambda: ops.open(file, os.O_RDONLY | os.O_TRUNC),
        lambda: ops.write(handle, 0, b"x"),
        lambda: ops.access(file, os.W_OK),
    ):
        with pytest.raises(ReadOnly):
            now(change())
    assert ops.access(file, os.R_OK | os.X_OK)
    assert ops.getattr(file).mode == ops.getattr(directory).mode == 0o555
    ops.release(handle)
    assert not read_only.engine.workspace.dirty()


def test_generated_files_are_not_written(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.engine.new_collection("c")
    number = mounted.walk(b"home", b"c", b".arvados#collection")
    opened = mounted.ops.open(number, os.O_RDONLY)
    assert opened.direct
    mounted.ops.release(opened.handle)
    for change in (lambda: mounted.ops.open(number, os.O_RDWR), lambda: mounted.ops.setattr(number, size=0)):
        with pytest.raises(NotPermitted):
            now(change())
    mounted.close()


def test_fsync_of_a_directory_and_of_one_that_is_no_tree(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.engine.new_collection("c")
    for path in ((), (b"home",), (b"home", b"c")):
        handle = now(mounted.ops.opendir(mounted.walk(*path)))
        assert now(mounted.ops.fsyncdir(handle)) is None
        mounted.ops.releasedir(handle)
    with pytest.raises(StaleNode):
        mounted.ops.releasedir(handle)
    mounted.close()


def test_statfs_is_the_stores(mounted: Mounted) -> None:
    space = now(mounted.ops.statfs())
    assert (space.total_bytes, space.free_bytes, space.name_max) == (1 << 40, 1 << 39, 255)


def test_b2_an_answer_from_the_backend_is_a_pending(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    home = mounted.walk(b"home")
    mounted.engine.link.hold = True
    waiting: Any = mounted.ops.mkdir(home, b"c", 0o755)
    assert not waiting.done()
    assert isinstance(mounted.ops, Operations)
    assert mounted.names(1) == [b"by_id", b"home"], "others go on"
    mounted.engine.link.answer_next()
    assert waiting.result().attr.is_dir
    mounted.close()


def test_a_merge_tells_the_kernel_of_names(mounted: Mounted) -> None:
    directory = mounted.ops.host.inodes.find(mounted.walk(b"d"))
    mounted.ops.name_changed(directory, b"g")  # type: ignore[arg-type]
    assert mounted.told() == [(mounted.walk(b"d"), b"g")]
