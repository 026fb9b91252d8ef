"""Handles of files: bound to the node, told once of what went wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import NoSuchOffset, NotPermitted, ReadOnly, StoreUnavailable
from arvfuse.fusefile import FileHandle, GeneratedFile, GeneratedHandle, live_tree
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.live import LiveTree
from tests.support.engines import FakeEngine


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[FakeEngine]:
    made = FakeEngine(tmp_path)
    yield made
    made.close()


@pytest.fixture
def live(engine: FakeEngine) -> LiveTree:
    return engine.workspace.open_tree(None, Manifest(b""))


def test_a_handle_follows_its_file_to_another_collection(engine: FakeEngine, live: LiveTree) -> None:
    other = engine.workspace.open_tree(None, Manifest(b""))
    file = live.create(live.root, b"f")
    handle = FileHandle(file, readable=True, writable=True)
    assert handle.write(0, b"one") == 3
    live.rename(live.root, b"f", other.root, b"g")
    assert live_tree(file) is other
    assert handle.write(3, b"two") == 3
    assert b"".join(handle.read(0, 100)) == b"onetwo"
    other.unlink(other.root, b"g")
    assert handle.write(6, b"!") == 1
    handle.flush()
    handle.fsync()
    assert b"".join(handle.read(0, 100)) == b"onetwo!"
    assert "writable" in repr(handle)
    handle.release()
    assert file.handles == 0


def test_a_handle_for_reading_does_not_write(live: LiveTree) -> None:
    handle = FileHandle(live.create(live.root, b"f"), readable=True, writable=False)
    with pytest.raises(ReadOnly):
        handle.write(0, b"x")
    with pytest.raises(ReadOnly):
        handle.allocate(0, 10, keep_size=False)
    handle.release()


def test_a_handle_for_writing_may_be_read(live: LiveTree) -> None:
    """A kernel with a write-back cache completes a page before it writes a part of it."""
    handle = FileHandle(live.create(live.root, b"f"), readable=False, writable=True)
    handle.write(0, b"x")
    assert b"".join(handle.read(0, 10)) == b"x"
    handle.release()


def test_room_is_made_and_data_are_found(live: LiveTree) -> None:
    handle = FileHandle(live.create(live.root, b"f"), readable=True, writable=True)
    handle.write(0, b"data")
    handle.allocate(0, 100, keep_size=True)
    assert handle.node.size == 4
    handle.allocate(50, 50, keep_size=False)
    assert handle.node.size == 100
    handle.allocate(0, 10, keep_size=False)
    assert handle.node.size == 100
    assert (handle.seek(1, data=True), handle.seek(1, data=False), handle.seek(60, data=False)) == (1, 4, 60)
    with pytest.raises(NoSuchOffset):
        handle.seek(4, data=True)
    handle.release()


def test_bytes_that_were_lost_are_told_to_every_handle(live: LiveTree) -> None:
    file = live.create(live.root, b"f")
    writer, reader = FileHandle(file, readable=True, writable=True), FileHandle(file, readable=True, writable=False)
    writer.failed(StoreUnavailable("lost"))
    later = FileHandle(file, readable=True, writable=False)
    for handle in (writer, reader):
        with pytest.raises(StoreUnavailable, match="lost"):
            handle.flush()
        handle.flush()
    later.flush()
    for handle in (writer, reader, later):
        handle.release()


def test_a_background_failure_is_told_once_to_each_handle_open_then(live: LiveTree) -> None:
    file = live.create(live.root, b"f")
    first, second = (FileHandle(file, readable=True, writable=True) for _ in range(2))
    file.error, file.error_mark = StoreUnavailable("lost"), 1
    late = FileHandle(file, readable=True, writable=True)
    with pytest.raises(StoreUnavailable):
        first.flush()
    first.flush()
    with pytest.raises(StoreUnavailable):
        second.fsync()
    second.fsync()
    late.flush()
    file.error_mark = 2
    for handle in (first, second, late):
        with pytest.raises(StoreUnavailable):
            handle.flush()
        handle.release()


def test_a_generated_file_has_fixed_content() -> None:
    file = GeneratedFile(7, b"content", 5)
    attr = file.attr()
    assert (attr.mode, attr.size, attr.mtime_ns, attr.timeout_s) == (0o444, 7, 5, 0.0)
    handle = GeneratedHandle(file)
    assert file.uses == 1
    assert b"".join(handle.read(3, 100)) == b"tent"
    assert b"".join(handle.read(100, 5)) == b""
    handle.flush()
    handle.fsync()
    with pytest.raises(NotPermitted):
        handle.write(0, b"x")
    with pytest.raises(NotPermitted):
        handle.allocate(0, 1, keep_size=True)
    assert (handle.seek(3, data=True), handle.seek(3, data=False)) == (3, 7)
    with pytest.raises(NoSuchOffset):
        handle.seek(7, data=True)
    handle.failed(StoreUnavailable("x"))
    handle.flush()
    handle.release()
    assert file.uses == 0
