"""What a changed tree says to the log: its base, and the numbers it uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import ReadOnly, StaleNode
from arvfuse.model import records
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import LogReader
from arvfuse.sdk.logged import Holding, LoggedTree
from arvfuse.sdk.nodes import DirNode
from tests.support.hosts import make_catalog, make_host

TEXT = b"./d/e d41d8cd98f00b204e9800998ecf8427e+0 0:0:x 0:0:y\n"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = make_host(tmp_path, catalog=make_catalog())
    yield host
    host.close()


def opened(host: Host, **options: Any) -> LiveTree:
    assert host.catalog is not None
    record = host.catalog.create(name="n", manifest=TEXT, ensure_unique_name=True)
    return host.workspace.open_tree(record, Manifest(TEXT), **options)


def logged(host: Host) -> list[Any]:
    host.workspace.log.flush(host.workspace.log.seq)
    reader = LogReader(host.directory)
    found = [record.body for record in reader.read()]
    reader.close()
    return found


def at(tree: LiveTree, *path: bytes) -> Any:
    return tree.find(path)


def test_a_clean_tree_says_nothing(host: Host) -> None:
    tree = opened(host)
    assert isinstance(tree, LoggedTree)
    assert at(tree, b"d", b"e", b"x").size == 0
    assert (tree.dirty, logged(host), tree.first_change) == (False, [], 0.0)
    assert repr(tree) == f"<LiveTree {tree.no} {tree.uuid} v1 seq=0 asof=0>"


def test_the_first_change_says_on_what_it_builds_and_what_numbers_mean(host: Host) -> None:
    tree = opened(host)
    e, d = at(tree, b"d", b"e"), at(tree, b"d")
    tree.unlink(e, b"x")
    tree.unlink(e, b"y")
    record = tree.record
    assert logged(host)[:-1] == [
        records.Base("record", record.uuid, 1, record.pdh, 0, record.name, record.owner),
        records.Adopt(d.no, tree.no, b"d"), records.Adopt(e.no, d.no, b"e"), records.Remove(e.no, b"x"),
    ]  # fmt: skip
    assert logged(host)[-1] == records.Remove(e.no, b"y")
    assert (tree.dirty, tree.changed_seq, tree.first_change) == (True, 5, 1000.0)


def test_after_a_commit_numbers_are_bound_again(host: Host) -> None:
    tree = opened(host)
    e = at(tree, b"d", b"e")
    tree.unlink(e, b"x")
    host.commit([tree])
    assert not tree.dirty
    before = len(logged(host))
    tree.unlink(e, b"y")
    kinds = [type(body).__name__ for body in logged(host)[before:]]
    assert kinds == ["Base", "Adopt", "Adopt", "Remove"]
    assert logged(host)[before].asof == tree.asof == tree.boundary


def test_refusals(host: Host) -> None:
    reader = opened(host, writable=False)
    with pytest.raises(ReadOnly):
        reader.create(reader.root, b"new")
    tree = opened(host)
    d, e = at(tree, b"d"), at(tree, b"d", b"e")
    x = at(tree, b"d", b"e", b"x")
    tree.remove_tree(tree.root, b"d")
    for directory in (d, e):
        with pytest.raises(StaleNode):
            tree.check_attached(directory)
        for change in (tree.create, tree.mkdir):
            with pytest.raises(StaleNode):
                change(directory, b"new")
    with pytest.raises(StaleNode):
        tree.unlink(e, b"x")
    with pytest.raises(StaleNode):
        tree.write(x, 0, b"x")


def test_a_node_is_held_by_the_tree_it_is_in(host: Host) -> None:
    one, other = opened(host), opened(host)
    d = at(one, b"d")
    assert isinstance(d, DirNode)
    with one.held(d) as holder:
        assert (holder, one.lock.locked_by_me(), other.lock.locked_by_me()) == (one, True, False)
    one.rename(one.root, b"d", other.root, b"moved")
    with Holding[LoggedTree](d) as holder:
        assert (holder, one.lock.locked_by_me(), other.lock.locked_by_me()) == (other, False, True)
