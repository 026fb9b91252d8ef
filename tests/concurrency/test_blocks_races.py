"""Races of buffer blocks: each interleaving is chosen by the test; one test at the end runs free.

The ancestor stores a block twice or never when two committers meet on it, loses a block that a writer adds while all
are committed, and takes bytes after a block was sealed. Here a commit point first holds new writes back and waits for
those in flight (the gate), so a write is wholly before it or wholly in a new block.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.model.blockstate import State
from arvfuse.model.collections import MountId
from arvfuse.model.records import Seal, WriteBlock
from arvfuse.sdk import blocks
from arvfuse.sdk.blocks import BufferBlock
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import LogReader
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Contents, Session, contents, put_file, recovered, saved_contents
from tests.support.stepper import Stepper
from tests.support.stores import noise
from tests.support.treemodel import BIG, apply_to_model, apply_to_tree, changes

LARGE = noise(SMALL_BYTES + 5000)
PATIENCE_S = 30.0


class Stepped:
    """A session whose puts run when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.steps = Stepper()
        self.store, self.catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
        self.session = Session(directory, store=self.store, catalog=self.catalog, pool=self.steps)
        self.record = self.catalog.create(name="c")
        self.tree = self.session.open(self.record)

    def block(self) -> BufferBlock:
        (block,) = self.session.workspace.shared.blocks.all()
        return block

    def point(self) -> int:
        return self.session.workspace.commit_point([self.tree])[1]

    def in_thread(self, work: Callable[[], object], name: str) -> threading.Thread:
        thread = threading.Thread(target=work, name=name)
        thread.start()
        return thread

    def commit(self, seq: int) -> None:
        """Commit as of *seq*, with the puts run by this thread meanwhile."""
        committing = self.in_thread(
            lambda: self.session.workspace.take(self.session.committer.commit([self.tree.no], seq)), "commit"
        )
        while committing.is_alive():
            self.steps.run_until_idle()
            committing.join(0.001)

    def saved(self) -> Contents:
        return saved_contents(self.catalog, self.store, self.record.uuid)


@pytest.fixture
def stepped(tmp_path: Path) -> Iterator[Stepped]:
    stepped = Stepped(tmp_path)
    yield stepped
    stepped.session.close()


class PausedWrites:
    """Writes to spool files stop before their first byte until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached = threading.Semaphore(0)
        self.let_go = threading.Semaphore(0)
        real = BufferBlock.pwrite

        def paused(block: BufferBlock, data: memoryview, offset: int) -> None:
            self.reached.release()
            assert self.let_go.acquire(timeout=PATIENCE_S)
            real(block, data, offset)

        monkeypatch.setattr(blocks.BufferBlock, "pwrite", paused)

    def wait_for_one(self) -> None:
        assert self.reached.acquire(timeout=PATIENCE_S)


def records_of(directory: Path) -> list[object]:
    """The bodies of all records of a log."""
    reader = LogReader(directory)
    found = [record.body for record in reader.read()]
    reader.close()
    return found


def test_two_commit_points_meet_on_one_block(stepped: Stepped) -> None:
    """The second seals nothing anew: the block is stored once and both commits have it."""
    put_file(stepped.tree, b"a", LARGE)
    first = stepped.point()
    second = stepped.point()
    assert stepped.block().state is State.PENDING
    stepped.session.committer.feed(second)
    assert len(stepped.steps.pending) == 1
    stepped.commit(first)
    assert stepped.saved() == {(b"a",): LARGE}
    stepped.commit(second)
    assert stepped.saved() == {(b"a",): LARGE}
    assert sum(isinstance(body, Seal) for body in records_of(stepped.session.directory)) == 1


@pytest.mark.parametrize("late", ["the living", "the recovery"])
def test_two_committers_on_one_block_store_the_same_bytes(stepped: Stepped, late: str) -> None:
    """A restarted backend or a recovery finds a block whose put has begun: whoever is later finds it stored."""
    put_file(stepped.tree, b"a", LARGE)
    seq = stepped.point()
    stepped.session.committer.feed(seq)
    again = Stepper()
    other = Committer(
        directory=stepped.session.directory, mount=MountId("m1"), store=stepped.store, catalog=stepped.catalog,
        clock=SystemClock(), pool=again,
    )  # fmt: skip
    other.feed(seq)
    for steps in (again, stepped.steps) if late == "the living" else (stepped.steps, again):
        assert steps.run_until_idle() == 1
    (first,) = other.commit([stepped.tree.no], seq)
    stepped.commit(seq)
    other.close()
    assert first.error is None
    assert stepped.saved() == {(b"a",): LARGE}
    assert bytes(stepped.tree.read(stepped.tree.create(stepped.tree.root, b"a"), 0, len(LARGE))) == LARGE


@pytest.mark.parametrize("new", [False, True], ids=["same file", "new file"])
def test_a_writer_that_adds_a_block_while_all_are_committed_is_in_the_next_commit(stepped: Stepped, new: bool) -> None:
    file = put_file(stepped.tree, b"a", LARGE)
    seq = stepped.point()
    if new:
        put_file(stepped.tree, b"b", LARGE)
    else:
        stepped.tree.write(file, 0, b"later")
    assert [block.state for block in stepped.session.workspace.shared.blocks.all()] == [State.PENDING, State.WRITABLE]
    stepped.commit(seq)
    assert stepped.saved() == {(b"a",): LARGE}
    (later,) = stepped.session.workspace.shared.blocks.all()
    assert later.state is State.WRITABLE
    expected = {(b"a",): LARGE, (b"b",): LARGE} if new else {(b"a",): b"later" + LARGE[5:]}
    assert contents(stepped.tree) == expected
    stepped.commit(stepped.point())
    assert stepped.saved() == expected
    assert stepped.session.workspace.shared.blocks.all() == []


def test_a_write_in_flight_is_published_before_the_commit_point(
    stepped: Stepped, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its pwrite never lands after the SEAL, and its record stands before it."""
    file = put_file(stepped.tree, b"a", LARGE)
    block = stepped.block()
    paused = PausedWrites(monkeypatch)
    writer = stepped.in_thread(lambda: stepped.tree.write(file, len(LARGE), b"in flight"), "writer")
    paused.wait_for_one()
    seqs: list[int] = []
    pointer = stepped.in_thread(lambda: seqs.append(stepped.point()), "commit-point")
    wait_for_gate(stepped.tree)
    assert block.state is State.WRITABLE
    assert not seqs
    paused.let_go.release()
    writer.join()
    pointer.join()
    assert block.state is State.PENDING
    stepped.commit(seqs[0])
    assert stepped.saved() == {(b"a",): LARGE + b"in flight"}
    kinds = [type(body) for body in records_of(stepped.session.directory)]
    assert kinds.index(Seal) > max(at for at, kind in enumerate(kinds) if kind is WriteBlock)


def test_a_write_that_comes_after_the_gate_gets_a_new_block(stepped: Stepped, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits for the commit point only, not for the commit, and its bytes are not in the sealed block."""
    file = put_file(stepped.tree, b"a", LARGE)
    other = put_file(stepped.tree, b"b", LARGE)
    paused = PausedWrites(monkeypatch)
    holding = stepped.in_thread(lambda: stepped.tree.write(other, 0, b"holds the gate"), "holder")
    paused.wait_for_one()
    seqs: list[int] = []
    pointer = stepped.in_thread(lambda: seqs.append(stepped.point()), "commit-point")
    wait_for_gate(stepped.tree)
    late = stepped.in_thread(lambda: stepped.tree.write(file, 0, b"late"), "late")
    paused.let_go.release(2)
    for thread in (holding, pointer, late):
        thread.join()
    assert file.segments.cover(0, 4)[0].ref != file.segments.cover(4, 1)[0].ref
    stepped.commit(seqs[0])
    assert stepped.saved() == {(b"a",): LARGE, (b"b",): b"holds the gate" + LARGE[14:]}
    assert contents(stepped.tree)[b"a",] == b"late" + LARGE[4:]
    stepped.commit(stepped.point())
    assert stepped.saved()[b"a",] == b"late" + LARGE[4:]


def wait_for_gate(tree: LiveTree) -> None:
    """Return when a commit point waits for the writes in flight."""
    closed = threading.Event()
    while not closed.is_set():
        with tree.lock:
            if tree._gate:  # no public way to see a thread wait for us
                closed.set()


def test_a_sealed_file_is_read_only_and_its_bytes_are_what_is_stored(stepped: Stepped) -> None:
    put_file(stepped.tree, b"a", LARGE)
    seq = stepped.point()
    block = stepped.block()
    assert block.path.stat().st_mode & 0o777 == 0o444
    assert block.path.read_bytes() == LARGE
    assert block.writers == 0
    assert "PENDING" in repr(block)
    stepped.commit(seq)


@pytest.mark.parametrize("seed", range(3))
def test_writers_movers_and_readers_while_commits_go_on(seed: int, tmp_path: Path) -> None:
    """Four threads on two trees of one workspace, a fifth commits in a loop: content, saved content and what a
    recovery makes of the log all are what the threads did."""
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    records = [catalog.create(name=name) for name in ("one", "two")]
    session = Session(tmp_path, store=store, catalog=catalog)
    trees = [session.open(record) for record in records]
    places = [tree.mkdir(tree.root, b"%d" % number) for number, tree in enumerate(trees)]
    failures: list[BaseException] = []
    expected: list[Contents] = [{}, {}]
    running = threading.Event()
    running.set()

    def work(number: int) -> None:
        """Each thread has names of its own, in both trees; files go back and forth between them."""
        chance = random.Random(seed * 10 + number)
        files: dict[bytes, tuple[int, bytes]] = {}
        for step in range(60):
            name = b"%d-%d" % (number, chance.randrange(4))
            if name not in files:
                files[name] = (at := chance.randrange(2), b"")
                trees[at].create(places[at], name)
            at, data = files[name]
            tree, parent = trees[at], places[at]
            file = tree.lookup(parent, name)
            assert isinstance(file, FileNode)
            match chance.randrange(6):
                case 0:
                    trees[at].rename(parent, name, places[1 - at], name)
                    files[name] = (1 - at, data)
                case 1:
                    size = chance.randrange(len(data) + 1)
                    tree.truncate(file, size)
                    files[name] = (at, data[:size])
                case 2:
                    assert bytes(tree.read(file, 0, len(data) + 1)) == data
                case 3 if step > 40:
                    tree.unlink(parent, name)
                    del files[name]
                case _:
                    offset = chance.randrange(len(data) + 1)
                    more = noise(chance.choice([10, 5000, 400_000, 1_200_000]), step)
                    tree.write(file, offset, more)
                    files[name] = (at, data[:offset] + more + data[offset + len(more) :])
        for name, (at, data) in files.items():
            expected[at][b"%d" % at, name] = data

    def guarded(body: Callable[[], None]) -> None:
        try:
            body()
        except BaseException as error:
            failures.append(error)
            running.clear()

    def commit() -> None:
        while running.is_set():
            session.committed()

    threads = [threading.Thread(target=guarded, args=(lambda n=n: work(n),), name=f"work-{n}") for n in range(4)]
    committing = threading.Thread(target=guarded, args=(commit,), name="commit")
    for thread in (*threads, committing):
        thread.start()
    for thread in threads:
        thread.join()
    running.clear()
    committing.join()
    if failures:
        raise failures[0]
    for at in range(2):
        expected[at][b"%d" % at,] = None
    assert [contents(tree) for tree in trees] == expected
    session.close()
    recovered(tmp_path, store=store, catalog=catalog)
    assert [saved_contents(catalog, store, record.uuid) for record in records] == expected


def test_a_model_of_one_thread_agrees_at_every_commit(tmp_path: Path) -> None:
    """The control of the test above: the same workspace without any race."""
    store, catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        model: Contents = {}
        for change in islice(changes(77, BIG), 60):
            apply_to_tree(tree, change)
            apply_to_model(model, change)
            session.committed()
            assert saved_contents(catalog, store, record.uuid) == contents(tree) == model
