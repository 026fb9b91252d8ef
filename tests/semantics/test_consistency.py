"""Promises C1 to C4: what a reader sees. Words in doc/semantics.md."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.clock import SystemClock
from arvfuse.drivers.errnos import reply_for
from arvfuse.errors import ArvfuseError, BlockMissing, Damaged, NoSuchEntry, StoreUnavailable
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, contents, put_file, saved_contents
from tests.support.stores import local, noise

LARGE = noise(SMALL_BYTES + 5000)
ROUNDS = 300
FEED_S = 8.0  # the feed asks every 15 s whatever it sees: what comes only then is late


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore())


@pytest.fixture
def session(tmp_path: Path, store: Faulty) -> Iterator[Session]:
    with Session(tmp_path, store=store, catalog=MemoryCatalog(clock=SystemClock())) as session:
        yield session


@pytest.fixture
def tree(session: Session) -> LiveTree:
    return session.open(session.catalog.create(name="c"))


@pytest.mark.parametrize("size", [8, SMALL_BYTES + 8], ids=["log", "block"])
def test_c1_a_read_sees_every_write_that_returned_before_it_began(session: Session, tree: LiveTree, size: int) -> None:
    """C1: one writer counts up in a file, a reader never finds less than what had returned; commits go on meanwhile."""
    file = put_file(tree, b"counter", bytes(size))
    written = [0]
    failures: list[str] = []

    def count() -> None:
        for number in range(1, ROUNDS + 1):
            tree.write(file, size - 8, number.to_bytes(8, "big"))
            written[0] = number

    def look() -> None:
        while written[0] < ROUNDS:
            before = written[0]
            found = int.from_bytes(tree.read(file, size - 8, 8), "big")
            if found < before:
                failures.append(f"{before} had returned, {found} was read")

    threads = [threading.Thread(target=count, name="count"), threading.Thread(target=look, name="look")]
    for thread in threads:
        thread.start()
    while threads[0].is_alive():
        session.committed()
    for thread in threads:
        thread.join()
    assert failures == []
    assert written == [ROUNDS]


def test_c1_the_namespace_is_that_of_posix(tree: LiveTree) -> None:
    """C1: a rename replaces in one step: under its name there is always one of the two files."""
    put_file(tree, b"name", b"0")
    missing: list[Exception] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            try:
                tree.lookup(tree.root, b"name")
            except ArvfuseError as error:
                missing.append(error)

    reader = threading.Thread(target=look, name="look")
    reader.start()
    for number in range(ROUNDS):
        put_file(tree, b"new", b"%d" % number)
        tree.rename(tree.root, b"new", tree.root, b"name")
    done.set()
    reader.join()
    assert missing == []
    assert contents(tree) == {(b"name",): b"%d" % (ROUNDS - 1)}


def test_c2_the_feed_tells_another_process_of_a_commit(tmp_path: Path) -> None:
    """C2: what one mount commits comes to the other's catalog feed, with the version and PDH to look for."""
    with (
        closing(local(tmp_path)) as store,
        closing(SqliteCatalog(tmp_path, clock=SystemClock())) as ours,
        closing(SqliteCatalog(tmp_path, clock=SystemClock())) as theirs,
        closing(theirs.feed()) as feed,
    ):
        record = ours.create(name="c")
        with Session(tmp_path / "m1", store=store, catalog=ours) as session:
            tree = session.open(record)
            put_file(tree, b"a", b"news")
            (outcome,) = session.committed()
        seen: list[tuple[str, int, str | None]] = []
        while not seen or seen[-1][1] < outcome.version:
            changes = feed.wait(FEED_S)
            assert changes, "the feed told nothing"
            seen += [(change.uuid, change.version, change.pdh) for change in changes]
            assert {change.writer for change in changes} == {ours.writer}
        assert seen[-1] == (record.uuid, outcome.version, outcome.pdh)
        assert saved_contents(theirs, store, record.uuid) == {(b"a",): b"news"}


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["log", "block"])
@pytest.mark.parametrize("committed", [False, True], ids=["dirty", "committed"])
def test_c3_an_unlinked_file_stays_readable_and_writable(
    session: Session, tree: LiveTree, data: bytes, committed: bool
) -> None:
    """C3: unlinked or renamed over while open; commits come and go."""
    for name in (b"unlinked", b"replaced"):
        put_file(tree, name, data)
    put_file(tree, b"other", b"other")
    if committed:
        session.committed()
    files = [open_file(tree, name) for name in (b"unlinked", b"replaced")]
    tree.unlink(tree.root, b"unlinked")
    tree.rename(tree.root, b"other", tree.root, b"replaced")
    for file in files:
        assert bytes(tree.read(file, 0, len(data))) == data
        tree.write(file, 2, b"!!")
        session.committed()
        tree.write(file, file.size, b"more")
        assert bytes(tree.read(file, 0, file.size)) == data[:2] + b"!!" + data[4:] + b"more"
        tree.truncate(file, 3)
        session.committed()
        assert bytes(tree.read(file, 0, 100)) == data[:2] + b"!"
        tree.closed(file, write=True)
    session.committed()
    assert contents(tree) == {(b"replaced",): b"other"}


def test_c3_moving_a_directory_invalidates_no_handle_below_it(session: Session, tree: LiveTree) -> None:
    """C3: also when it goes to another collection of the mount."""
    other = session.open(session.catalog.create(name="other"))
    directory = tree.mkdir(tree.root, b"dir")
    below = tree.mkdir(directory, b"below")
    put_file(tree, b"f", LARGE, below)
    file = tree.lookup(below, b"f")
    assert isinstance(file, FileNode)
    tree.opened(file, write=True)
    tree.rename(tree.root, b"dir", tree.root, b"moved")
    tree.write(file, 0, b"once")
    tree.rename(tree.root, b"moved", other.root, b"far")
    tree.write(file, 4, b"twice")
    session.committed()
    other.write(file, 9, b"thrice")
    session.committed()
    expected = b"oncetwicethrice" + LARGE[15:]
    assert bytes(tree.read(file, 0, file.size)) == expected
    assert contents(other) == {(b"far",): None, (b"far", b"below"): None, (b"far", b"below", b"f"): expected}
    assert contents(tree) == {}


def open_file(tree: LiveTree, name: bytes) -> FileNode:
    """The file, with a handle for writing."""
    file = tree.lookup(tree.root, name)
    assert isinstance(file, FileNode)
    tree.opened(file, write=True)
    return file


@pytest.mark.parametrize(
    ("fault", "kind"), [("FAIL", StoreUnavailable), ("PARTIAL", StoreUnavailable), ("MISSING", BlockMissing),
                        ("DAMAGED", Damaged)],
)  # fmt: skip
def test_c4_an_outage_is_eio_and_never_a_missing_name(
    session: Session, tree: LiveTree, store: Faulty, fault: str, kind: type[ArvfuseError]
) -> None:
    """C4: reading fails with EIO while the store is away; names, and what is not stored yet, are there as ever."""
    put_file(tree, b"stored", LARGE)
    session.committed()
    reopened = session.open(session.catalog.get(tree.uuid or ""))
    fresh = put_file(reopened, b"fresh", b"fresh")
    store.rescript(f"fetch_range: {fault}*")
    file = reopened.lookup(reopened.root, b"stored")
    assert isinstance(file, FileNode)
    assert file.size == len(LARGE)
    with pytest.raises(kind) as caught:
        reopened.read(file, 0, 100)
    assert not isinstance(caught.value, NoSuchEntry)
    assert reply_for(caught.value)[0] == errno.EIO
    assert bytes(reopened.read(fresh, 0, 10)) == b"fresh"
    assert [name for name, _ in reopened.entries(reopened.root)] == [b"fresh", b"stored"]
    store.rescript("")
    assert bytes(reopened.read(file, 0, len(LARGE))) == LARGE
