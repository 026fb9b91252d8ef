"""Promises B1 to B3: what is bounded. Words in doc/semantics.md."""

from __future__ import annotations

import gc
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import ReadOnly, StoreUnavailable
from arvfuse.model.collections import CollectionRecord, Save
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from arvfuse.sync import LockOrderError, Rank, RankedLock
from tests.support.clock import FakeClock
from tests.support.sessions import Session, put_file
from tests.support.stepper import Stepper
from tests.support.stores import local, noise
from tests.support.treemodel import BIG, apply_to_tree, changes

T = TypeVar("T")
CHUNK = noise(128 << 10)
SPOOL_BYTES = 4 << 20
WRITTEN_BYTES = 5 << 20  # fills the spool once
STREAM_BYTES = 64 << 20
STREAM_PEAK_BYTES = 16 << 20
NODE_BYTES = 700


class Slow:
    """A workspace whose store does nothing until a test says so, and whose time stands still."""

    def __init__(self, directory: Path) -> None:
        self.clock, self.steps = FakeClock(), Stepper()
        catalog = MemoryCatalog(clock=self.clock)
        self.session = Session(
            directory, store=MemoryStore(), catalog=catalog, clock=self.clock, pool=self.steps, spool_bytes=SPOOL_BYTES,
            stall_bound_s=300,
        )  # fmt: skip
        self.tree = self.session.open(catalog.create(name="c"))
        self.file = self.tree.create(self.tree.root, b"f")
        self.failures: list[Exception] = []
        self.written = 0
        self.writer = threading.Thread(target=self._write, name="writer")

    def _write(self) -> None:
        try:
            while self.written < WRITTEN_BYTES:
                self.tree.write(self.file, self.written, CHUNK)
                self.written += len(CHUNK)
        except StoreUnavailable as error:
            self.failures.append(error)


@pytest.fixture
def slow(tmp_path: Path) -> Iterator[Slow]:
    slow = Slow(tmp_path)
    yield slow
    slow.writer.join()
    slow.session.close()


def test_b1_a_writer_ahead_of_the_store_is_slowed_and_not_failed(slow: Slow) -> None:
    """B1: its reply is held at --spool-bytes; each thing that the store gets done lets it go on."""
    account = slow.session.workspace.shared.spool
    slow.writer.start()
    slow.clock.wait_for_sleepers()
    assert SPOOL_BYTES < account.level <= SPOOL_BYTES + len(CHUNK)
    slow.clock.advance(299)
    _, seq = slow.session.workspace.commit_point([slow.tree])
    slow.session.committer.feed(seq)
    assert slow.steps.run_until_idle() > 0
    slow.writer.join()
    assert slow.failures == []
    assert slow.written == WRITTEN_BYTES


def test_b1_no_progress_for_the_stall_bound_is_an_error(slow: Slow) -> None:
    """B1: the writer gets EIO then, and what was accepted stays readable and is kept."""
    slow.writer.start()
    slow.clock.wait_for_sleepers()
    slow.clock.advance(301)
    slow.writer.join()
    assert [type(error) for error in slow.failures] == [StoreUnavailable]
    accepted = slow.file.size
    assert accepted == slow.written + len(CHUNK)
    assert bytes(slow.tree.read(slow.file, 0, accepted)) == CHUNK * (accepted // len(CHUNK))


def peak_of(work: Callable[[], object]) -> int:
    """The most bytes that Python held at a time because of *work*."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_b1_data_on_their_way_are_not_in_memory(tmp_path: Path) -> None:
    """B1: a stream of 64 MiB, one commit, and reading it back need a bounded, small part of that."""
    catalog = MemoryCatalog(clock=SystemClock())
    with Session(tmp_path / "m1", store=local(tmp_path), catalog=catalog) as session:
        tree = session.open(catalog.create(name="c"))

        def stream() -> None:
            file = tree.create(tree.root, b"f")
            for offset in range(0, STREAM_BYTES, len(CHUNK)):
                tree.write(file, offset, CHUNK)
            session.committed()
            for offset in range(0, STREAM_BYTES, len(CHUNK)):
                assert bytes(tree.read(file, offset, len(CHUNK))) == CHUNK

        assert peak_of(stream) < STREAM_PEAK_BYTES
        session.store.close()


def test_b1_a_node_costs_what_is_published(tmp_path: Path) -> None:
    """B1: the number in doc/semantics.md, for a file that was listed."""
    count = 10_000
    files = b" ".join(b"%d:1:file%05d" % (number, number) for number in range(count))
    text = b". 0cc175b9c0f1b6a831c399e269772661+%d " % count + files + b"\n"
    catalog = MemoryCatalog(clock=SystemClock())
    with Session(tmp_path, store=MemoryStore(), catalog=catalog) as session:
        tree = session.workspace.open_tree(None, Manifest(text))
        used = peak_of(lambda: tree.entries(tree.root))
        assert used / count < NODE_BYTES
    page = (Path(__file__).parents[2] / "doc/semantics.md").read_text()
    assert f"{NODE_BYTES} bytes" in page


class Lockless(MemoryStore):
    """A store that is remote: nobody may wait for it with a lock in hand."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def _remote(self, call: Callable[[], T]) -> T:
        with RankedLock(Rank.FILE, -10):  # LockOrderError if the thread holds any lock at all
            self.calls += 1
            return call()

    def put(self, data: bytes | memoryview) -> str:
        return self._remote(lambda: super(Lockless, self).put(data))

    def adopt(self, path: Path, digest: str, size: int, checks: bytes) -> str:
        return self._remote(lambda: super(Lockless, self).adopt(path, digest, size, checks))

    def fetch_range(self, locator: str, start: int, length: int) -> bytes | memoryview:
        return self._remote(lambda: super(Lockless, self).fetch_range(locator, start, length))

    def barrier(self) -> None:
        self._remote(super().barrier)


class LocklessCatalog(MemoryCatalog):
    """The same for saves."""

    def save(self, save: Save) -> CollectionRecord:
        with RankedLock(Rank.FILE, -10):
            return super().save(save)


def test_b2_nobody_waits_for_the_store_or_the_catalog_with_a_lock_in_hand(tmp_path: Path) -> None:
    """B2: every call of a store or a save, from reads, writes and commits, is made with no lock held."""
    store, catalog = Lockless(), LocklessCatalog(clock=SystemClock())
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(catalog.create(name="c"))
        for number, change in enumerate(changes(11, BIG)):
            apply_to_tree(tree, change)
            if number % 10 == 9:
                session.committed()
                for _, node in tree.entries(tree.root):
                    if isinstance(node, FileNode):
                        tree.read(node, 0, node.size)
            if number == 80:
                break
    assert store.calls > 20


def test_b2_the_check_would_notice(tmp_path: Path) -> None:
    """B2: the test's own control: a store called under a tree's lock is seen."""
    store, catalog = Lockless(), LocklessCatalog(clock=SystemClock())
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(catalog.create(name="c"))
        with pytest.raises(LockOrderError), tree.lock:
            store.put(b"data")


MUTATORS: list[Callable[[LiveTree], object]] = [
    lambda tree: tree.create(tree.root, b"new"),
    lambda tree: tree.mkdir(tree.root, b"new"),
    lambda tree: tree.unlink(tree.root, b"f"),
    lambda tree: tree.rmdir(tree.root, b"d"),
    lambda tree: tree.remove_tree(tree.root, b"d"),
    lambda tree: tree.rename(tree.root, b"f", tree.root, b"g"),
    lambda tree: tree.write(existing(tree), 0, b"x"),
    lambda tree: tree.append(existing(tree), b"x"),
    lambda tree: tree.truncate(existing(tree), 0),
    lambda tree: tree.truncate(existing(tree), 1),
    lambda tree: tree.set_attrs(existing(tree), mode=0o600),
    lambda tree: tree.set_content(existing(tree), ()),
]


def existing(tree: LiveTree) -> FileNode:
    file = tree.lookup(tree.root, b"f")
    assert isinstance(file, FileNode)
    return file


def test_b3_a_read_only_tree_changes_nothing(tmp_path: Path) -> None:
    """B3: every change is refused with EROFS, and neither log nor spool nor store nor catalog get a byte."""
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    with Session(tmp_path / "m1", store=store, catalog=catalog) as session:
        tree = session.open(catalog.create(name="c"))
        put_file(tree, b"f", b"f")
        tree.mkdir(tree.root, b"d")
        session.committed()
    with Session(tmp_path / "m2", store=store, catalog=catalog) as reading:
        record = catalog.get(tree.uuid or "")
        tree = reading.open(record, writable=False)
        for change in MUTATORS:
            with pytest.raises(ReadOnly):
                change(tree)
        file = existing(tree)
        tree.opened(file, write=False)
        assert bytes(tree.read(file, 0, 10)) == b"f"
        tree.closed(file, write=False)
        assert not tree.dirty
        assert catalog.get(record.uuid) == record
        assert [path for path in (tmp_path / "m2").rglob("*") if path.is_file()] == []
