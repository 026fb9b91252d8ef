"""Live trees: names, handles, commit points."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import (
    DirectoryNotEmpty,
    EntryExists,
    InvalidPath,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
    StoreUnavailable,
)
from arvfuse.model.blockstate import State
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import EARLY_SEAL_BYTES, LiveTree, Renamed
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore())


@pytest.fixture
def host(tmp_path: Path, store: Faulty) -> Iterator[Host]:
    host = make_host(tmp_path, store)
    yield host
    host.close()


@pytest.fixture
def tree(host: Host) -> LiveTree:
    return host.open_tree(None, None)


def test_a_name_is_found_and_opened_in_one_step(tree: LiveTree) -> None:
    file, directory = tree.create(tree.root, b"f"), tree.mkdir(tree.root, b"d")
    assert (tree.open_named(tree.root, b"f"), file.handles) == ((file, False), 0), "nothing could be lost of it"
    tree.write(file, 0, b"data")
    assert (tree.open_named(tree.root, b"f"), file.handles) == ((file, True), 1)
    assert (tree.open_named(tree.root, b"d"), tree.open_named(directory, b"f")) == (None, None)
    tree.closed(file, write=False)


def test_names(tree: LiveTree) -> None:
    root = tree.root
    file, directory = tree.create(root, b"f", mode=0o600), tree.mkdir(root, b"d")
    assert (tree.lookup(root, b"f"), tree.create(root, b"f"), file.mode) == (file, file, 0o600)
    assert tree.entries(root) == [(b"d", directory), (b"f", file)]
    for call, error in (
        (lambda: tree.lookup(root, b"x"), NoSuchEntry), (lambda: tree.create(root, b"f", exclusive=True), EntryExists),
        (lambda: tree.create(root, b"d"), IsADirectory), (lambda: tree.mkdir(root, b"f"), EntryExists),
        (lambda: tree.unlink(root, b"d"), IsADirectory), (lambda: tree.rmdir(root, b"f"), NotADirectory),
        (lambda: tree.unlink(root, b"x"), NoSuchEntry),
    ):  # fmt: skip
        with pytest.raises(error):
            call()
    tree.create(directory, b"inside")
    with pytest.raises(DirectoryNotEmpty):
        tree.rmdir(root, b"d")
    assert (tree.unlink(root, b"f"), tree.remove_tree(root, b"d"), tree.entries(root)) == (file, directory, [])
    assert tree.rmdir(root, tree.mkdir(root, b"e").name).parent is None


def test_rename_within(tree: LiveTree) -> None:
    root = tree.root
    file, other, directory = tree.create(root, b"f"), tree.create(root, b"o"), tree.mkdir(root, b"d")
    assert tree.rename(root, b"f", directory, b"g") == Renamed(file, None)
    assert tree.rename(directory, b"g", root, b"o") == Renamed(file, other)
    assert tree.rename(root, b"o", root, b"o") == Renamed(file, None)
    with pytest.raises(EntryExists):
        tree.rename(root, b"o", root, b"d", replace=False)
    with pytest.raises(InvalidPath):
        tree.rename(root, b"d", directory, b"itself")
    assert tree.entries(root) == [(b"d", directory), (b"o", file)]


def test_rename_into_another_tree(host: Host, tree: LiveTree) -> None:
    other = host.open_tree(None, None)
    directory = tree.mkdir(tree.root, b"d")
    file = tree.create(directory, b"f")
    tree.write(file, 0, b"x" * (SMALL_BYTES + 5))
    assert tree.rename(tree.root, b"d", other.root, b"there").node is directory
    tree.write(file, 0, b"y")
    assert (file.tree, bytes(other.read(file, 0, 3)), tree.entries(tree.root)) == (other, b"yxx", [])
    assert (other.unsettled, tree.unsettled) == ({file.no: file}, {})
    assert tree.shared.tied({tree.no}) == {tree.no, other.no}
    outcomes = {outcome.tree: outcome for outcome in host.commit([tree, other])}
    assert (outcomes[tree.no].text, outcomes[other.no].text[:8]) == (b"", b"./there ")


def test_an_unlinked_file_lives_as_long_as_its_handles(host: Host, tree: LiveTree) -> None:
    file = tree.create(tree.root, b"f")
    tree.opened(file, write=True)
    tree.write(file, 0, b"x" * (SMALL_BYTES + 5))
    tree.unlink(tree.root, b"f")
    tree.create(tree.root, b"f")
    tree.write(file, 1, b"y")
    host.commit([tree])
    tree.write(file, 2, b"z")
    assert bytes(tree.read(file, 0, 4)) == b"xyzx"
    host.commit([tree])
    assert bytes(tree.read(file, 0, 4)) == b"xyzx"
    tree.closed(file, write=True)
    host.commit([tree])
    assert (tree.shared.blocks.all(), tree.unsettled) == ([], {})


def test_a_big_tail_is_sealed_when_its_writer_closes(tree: LiveTree) -> None:
    for size, state in ((EARLY_SEAL_BYTES - 1, State.WRITABLE), (EARLY_SEAL_BYTES, State.PENDING)):
        file = tree.create(tree.root, b"f%d" % size)
        tree.opened(file, write=True)
        tree.opened(file, write=True)
        tree.write(file, 0, b"x" * size)
        tree.closed(file, write=True)
        assert tree.shared.blocks.all()[-1].state is State.WRITABLE
        tree.closed(file, write=True)
        assert tree.shared.blocks.all()[-1].state is state


def test_a_failure_is_delivered_once_per_handle(host: Host, tree: LiveTree, store: Faulty) -> None:
    bystander = tree.create(tree.root, b"g")
    host.commit([tree])
    file = tree.create(tree.root, b"f")
    tree.opened(file, write=True)
    marks = [file.error_mark, file.error_mark]
    tree.write(file, 0, b"abc")
    store.rescript("adopt: FAIL FAIL")
    for _ in range(2):
        with pytest.raises(StoreUnavailable):
            host.commit([tree])
    for handle in (0, 1):
        with pytest.raises(StoreUnavailable):
            tree.flush(file, marks[handle])
        marks[handle] = file.error_mark
        assert tree.flush(file, marks[handle]) == file.error_mark
    assert tree.flush(bystander, 0) == bystander.error_mark == 0
    host.commit([tree])
    assert tree.flush(file, marks[0]) == marks[0]


def test_fsync_flushes_what_names_the_bytes(tree: LiveTree) -> None:
    file = tree.create(tree.root, b"f")
    tree.write(file, 0, b"x" * (SMALL_BYTES + 5))
    tree.fsync(file)
    tree.fsync(None)
    assert tree.shared.log.flushed_seq == tree.shared.log.seq


def test_a_commit_point_seals_and_ends_the_epoch(tree: LiveTree) -> None:
    file = tree.create(tree.root, b"f")
    tree.write(file, 0, b"x" * (SMALL_BYTES + 5))
    stamp = tree.stamp
    tree.close_gate()
    with tree.lock:
        seq = tree.boundary_locked()
    tree.open_gate()
    [block] = tree.shared.blocks.all()
    assert (block.state, tree.boundary, tree.stamp > stamp, tree.last_change) == (State.PENDING, seq, True, 0.0)
    assert block.seal_seq < seq == tree.shared.log.seq
