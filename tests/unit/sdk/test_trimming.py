"""Directories give their memory back when nobody needs them, and what is trimmed is read again as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import StaleNode
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import NODE_BYTES, TRIMMED, DirNode, FileNode
from arvfuse.sdk.trimming import settle_on, trim
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.sessions import Session


def nobody(number: int) -> bool:
    return False


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    with Session(tmp_path, store=MemoryStore(), catalog=MemoryCatalog(clock=FakeClock())) as session:
        yield session


@pytest.fixture
def tree(session: Session) -> LiveTree:
    block = session.store.put(b"0123456789")
    text = "".join(f"./d{number} {block} 0:4:a 4:6:b\n" for number in range(3)).encode()
    record = session.catalog.create(name="c", manifest=text)
    return session.workspace.open_tree(record, Manifest(text))


def directory(tree: LiveTree, name: bytes) -> DirNode:
    node = tree.lookup(tree.root, name)
    assert isinstance(node, DirNode)
    return node


def file(tree: LiveTree, name: bytes) -> FileNode:
    node = tree.lookup(directory(tree, name), b"a")
    assert isinstance(node, FileNode)
    return node


def commit(session: Session, tree: LiveTree) -> Manifest:
    trees, seq = session.workspace.commit_point([tree])
    (outcome,) = session.committer.commit([each.no for each in trees], seq)
    session.workspace.take([outcome])
    return Manifest(session.catalog.manifest(outcome.pdh))  # type: ignore[arg-type] # a PDH as text


def test_what_was_only_read_goes_and_is_read_again(tree: LiveTree) -> None:
    old = file(tree, b"d0")
    assert tree.read(old, 0, 10) == b"0123"
    before = tree.loaded
    assert before >= 2 + 2  # the two nodes, and the indexes that they come from
    assert trim(tree, nobody) == 2
    assert directory(tree, b"d0").entries is None
    assert tree.loaded * NODE_BYTES < before * NODE_BYTES
    new = file(tree, b"d0")
    assert new is not old
    assert tree.read(new, 0, 10) == b"0123"


def test_whoever_held_on_to_a_node_looks_again(tree: LiveTree) -> None:
    ghost = file(tree, b"d0")
    trim(tree, nobody)
    assert ghost.stamp == TRIMMED
    with pytest.raises(StaleNode):
        tree.write(ghost, 0, b"lost?")
    with pytest.raises(StaleNode):
        tree.opened(ghost, write=True)
    assert tree.read(file(tree, b"d0"), 0, 10) == b"0123"


def test_what_the_kernel_knows_or_somebody_has_open_stays(tree: LiveTree) -> None:
    known, opened = file(tree, b"d0"), file(tree, b"d1")
    tree.opened(opened, write=False)
    assert trim(tree, lambda number: number == known.no) == 0
    assert file(tree, b"d0") is known
    assert file(tree, b"d1") is opened


def test_changes_stay_until_a_commit_holds_them(session: Session, tree: LiveTree) -> None:
    changed = file(tree, b"d2")
    tree.write(changed, 0, b"new")
    assert trim(tree, nobody) == 0
    assert not settle_on(tree, Manifest(b""))
    text = commit(session, tree)
    assert trim(tree, nobody) == 0
    assert settle_on(tree, text)
    assert trim(tree, nobody) == 2
    assert tree.read(file(tree, b"d2"), 0, 10) == b"new3"
    tree.write(file(tree, b"d2"), 4, b"er")
    again = commit(session, tree).listing((b"d2",))
    assert again.files[b"a"].size == 6
    assert list(again.files) == [b"a", b"b"]
