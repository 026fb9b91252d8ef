"""Blocks and log files go when nothing refers to them any more, and not before: copies keep what they share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.sdk.commit import Committer
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import log_numbers
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.workspace import MIN_LOG_FILE_BYTES
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import MOUNT, Session, put_file, recover, saved_contents
from tests.support.stores import noise

BIG = noise(SMALL_BYTES + 100)
SMALL = noise(SMALL_BYTES - 100)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(
        tmp_path / "m", store=MemoryStore(), catalog=make_catalog(), pool=InlinePool(), spool_bytes=16 << 20
    ) as session:
        yield session


def copy(source: FileNode, target: LiveTree, name: bytes) -> FileNode:
    made = target.create(target.root, name)
    tree = source.tree
    assert isinstance(tree, LiveTree)
    with tree.shared.sharing:
        target.set_content(made, tree.shareable(source))
    return made


def spool(session: Session) -> list[str]:
    return os.listdir(session.directory / "spool")


def fill_the_log(tree: LiveTree) -> None:
    """So much that the log goes on in another file."""
    for number in range(MIN_LOG_FILE_BYTES // len(SMALL) + 1):
        put_file(tree, b"filler%d" % number, SMALL)


def test_a_copy_after_the_commit_point_keeps_the_block_until_it_is_covered(session: Session) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"f", BIG)
    chosen, seq = session.workspace.commit_point([tree])
    made = copy(file, tree, b"copy")
    session.workspace.take(session.committer.commit([each.no for each in chosen], seq))
    assert spool(session) == ["1"]
    assert [type(ref) for _, ref, _ in file.parts()] == [str]
    assert (bytes(tree.read(made, 0, len(BIG))), tree.dirty) == (BIG, True)
    session.committed()
    assert (spool(session), session.workspace.shared.spool.level) == ([], 0)
    assert bytes(tree.read(made, 0, len(BIG))) == BIG


def test_a_copy_in_a_tree_that_is_not_committed_is_recovered(session: Session) -> None:
    one, two = session.catalog.create(name="one"), session.catalog.create(name="two")
    source, target = session.open(one), session.open(two)
    for name, data in ((b"big", BIG), (b"small", b"0123456789")):
        copy(put_file(source, name, data), target, name)
    fill_the_log(source)
    session.committed(source)
    assert spool(session) == ["1"]
    assert log_numbers(session.directory)[0] == 1
    session.close()
    (outcome,) = recover(session.directory, store=session.store, catalog=session.catalog)
    assert outcome.error is None
    found = saved_contents(session.catalog, session.store, two.uuid)
    assert found == {(b"big",): BIG, (b"small",): b"0123456789"}


def test_log_files_go_when_the_last_reference_does(session: Session) -> None:
    tree = session.open(session.catalog.create(name="c"))
    file = put_file(tree, b"f", b"0123456789")
    fill_the_log(tree)
    chosen, seq = session.workspace.commit_point([tree])
    made = copy(file, tree, b"copy")
    session.workspace.take(session.committer.commit([each.no for each in chosen], seq))
    assert log_numbers(session.directory)[0] == 1
    assert bytes(tree.read(made, 0, 10)) == b"0123456789"
    session.committed()
    assert log_numbers(session.directory) == [session.workspace.log.file_number]
    assert bytes(tree.read(made, 0, 10)) == b"0123456789"


def test_an_open_file_without_a_name_reads_on_when_all_is_dropped(session: Session) -> None:
    tree = session.open(session.catalog.create(name="c"))
    files = [put_file(tree, b"big", BIG), put_file(tree, b"small", b"0123456789")]
    for file in files:
        tree.opened(file, write=False)
        tree.unlink(tree.root, file.name)
    fill_the_log(tree)
    session.committed()
    assert (spool(session), log_numbers(session.directory)) == ([], [session.workspace.log.file_number])
    assert [bytes(tree.read(file, 0, len(BIG))) for file in files] == [BIG, b"0123456789"]


def test_what_a_failed_commit_stored_stays_until_a_record_covers_it(session: Session) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", BIG)
    chosen, seq = session.workspace.commit_point([tree])
    faulty = FaultyCatalog(session.catalog)
    faulty.script["save"] = ["FAIL"]
    by = Committer(
        directory=session.directory, mount=MOUNT, store=session.store, catalog=faulty, clock=session.clock,
        pool=InlinePool(),
    )  # fmt: skip
    (failed,) = by.commit([each.no for each in chosen], seq)
    session.workspace.take([failed])
    by.close()
    assert failed.error is not None
    assert spool(session) == ["1"]  # the log names it, and a recovery would look for it
    session.close()
    (outcome,) = recover(session.directory, store=session.store, catalog=session.catalog)
    assert outcome.error is None
    assert saved_contents(session.catalog, session.store, record.uuid) == {(b"f",): BIG}
