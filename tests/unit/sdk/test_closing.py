"""Trees that are closed: only those of which nothing is lost, and whoever still has one looks again."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.errors import StaleNode
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.closing import TREE_BYTES, retire
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session, contents, put_file, recovered, saved_contents

FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n"


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path / "m", store=MemoryStore(), catalog=make_catalog(), pool=InlinePool()) as session:
        yield session


def test_who_has_a_closed_tree_looks_again(session: Session) -> None:
    session.store.put(b"foo")
    tree = session.open(session.catalog.create(name="c", manifest=FOO))
    file = tree.lookup(tree.root, b"foo")
    assert isinstance(file, FileNode)
    assert retire(tree)
    assert (tree.retired, retire(tree)) == (True, False)
    for use in (
        lambda: tree.lookup(tree.root, b"foo"),
        lambda: tree.entries(tree.root),
        lambda: tree.read(file, 0, 3),
        lambda: tree.opened(file, write=False),
        lambda: tree.create(tree.root, b"new"),
        lambda: tree.rename(tree.root, b"foo", tree.root, b"bar"),
    ):
        with pytest.raises(StaleNode):
            use()
    assert TREE_BYTES > 0


@pytest.mark.parametrize(
    "use",
    [
        lambda tree, file: tree.create(tree.root, b"new"),
        lambda tree, file: tree.write(file, 0, b"x"),
        lambda tree, file: tree.opened(file, write=False),
        lambda tree, file: tree.set_attrs(file, mode=0o600),
        lambda tree, file: tree.close_gate(),
    ],
    ids=["changed", "written", "open", "mode", "commit point"],
)
def test_a_tree_that_is_needed_stays(use: Callable[[LiveTree, FileNode], object], session: Session) -> None:
    tree = session.workspace.open_tree(session.catalog.create(name="c", manifest=FOO), Manifest(FOO))
    file = tree.lookup(tree.root, b"foo")
    assert isinstance(file, FileNode)
    use(tree, file)
    assert not retire(tree)
    assert tree.lookup(tree.root, b"foo") is file


def test_a_record_that_was_closed_and_opened_again_is_recovered(session: Session) -> None:
    record = session.catalog.create(name="c")
    first = session.open(record)
    put_file(first, b"first", b"1")
    session.committed()
    assert retire(first)
    session.workspace.close_tree(first)
    second = session.open(session.catalog.get(record.uuid))
    assert contents(second) == {(b"first",): b"1"}
    put_file(second, b"second", b"2")
    session.committed()
    put_file(second, b"third", b"3")
    session.close()
    recovered(session.directory, store=session.store, catalog=session.catalog)
    assert saved_contents(session.catalog, session.store, record.uuid) == {
        (b"first",): b"1", (b"second",): b"2", (b"third",): b"3",
    }  # fmt: skip
