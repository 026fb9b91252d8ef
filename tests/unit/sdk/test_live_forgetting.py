"""A file that lost its name and that no handle holds is gone for the committer too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, put_file, saved_contents

BIG = bytes(range(256)) * (SMALL_BYTES // 256) + b"more"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = SystemClock()
    with Session(tmp_path, store=MemoryStore(), catalog=MemoryCatalog(clock=clock), clock=clock) as session:
        yield session


def unlink(tree: LiveTree) -> None:
    tree.unlink(tree.root, b"gone")


def replace(tree: LiveTree) -> None:
    put_file(tree, b"other", b"other")
    tree.rename(tree.root, b"other", tree.root, b"gone")


def remove_above(tree: LiveTree) -> None:
    directory = tree.mkdir(tree.root, b"dir")
    tree.rename(tree.root, b"gone", directory, b"inside")
    tree.remove_tree(tree.root, b"dir")


@pytest.mark.parametrize("lose", [unlink, replace, remove_above])
def test_a_commit_does_not_look_for_the_dropped_blocks_of_a_removed_file(
    session: Session, lose: Callable[[LiveTree], None]
) -> None:
    record = session.catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"gone", BIG)
    put_file(tree, b"kept", b"kept")
    lose(tree)
    session.committed()
    saved = saved_contents(session.catalog, session.store, record.uuid)
    assert saved == {(b"kept",): b"kept"} | ({(b"gone",): b"other"} if lose is replace else {})


@pytest.mark.parametrize("lose", [unlink, replace, remove_above])
def test_what_a_handle_holds_stays_until_it_is_closed(session: Session, lose: Callable[[LiveTree], None]) -> None:
    tree = session.open(session.catalog.create(name="c"))
    file = put_file(tree, b"gone", BIG)
    tree.opened(file, write=True)
    lose(tree)
    session.committed()
    tree.write(file, 0, b"still")
    session.committed()
    assert bytes(tree.read(file, 0, len(BIG))) == b"still" + BIG[5:]
    tree.closed(file, write=True)
    put_file(tree, b"later", b"later")
    session.committed()
    replica = session.committer.replica.trees[tree.no]
    assert replica.orphans == {}
