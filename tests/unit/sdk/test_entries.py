"""The names of a directory: an index under the nodes that exist, against a dictionary."""

from __future__ import annotations

import pytest

from arvfuse.model.manifests import Manifest
from arvfuse.sdk.entries import Entries, ListedName, NeedsIndex, Snapshot
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree

A = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {A} 0:1:a 1:2:b 3:3:c\n./d {A} 0:1:x\n".encode()


def opened(mtime_ns: int = 5) -> tuple[Tree, Entries]:
    tree = Tree(Manifest(TEXT), reserve=Numbers(100).take, mtime_ns=mtime_ns)
    return tree, tree.table(tree.root)


def listed(snapshot: Snapshot, start: int = 0) -> list[tuple[bytes, int, bool]]:
    return [entry for _, *entry in map(tuple, snapshot.walk(start))]


def test_nodes_are_made_when_somebody_asks() -> None:
    tree, entries = opened()
    assert (len(entries), list(entries), entries.nodes) == (4, [b"a", b"b", b"c", b"d"], {})
    assert b"b" in entries
    assert b"x" not in entries
    assert 5 not in entries
    assert entries.nodes == {}
    b = entries[b"b"]
    assert isinstance(b, FileNode)
    assert (b.no, b.size, b.mtime_ns, b.parent, entries.get(b"b")) == (102, 2, 5, tree.root, b)
    assert isinstance(entries[b"d"], DirNode)
    assert list(entries.nodes) == [b"b", b"d"]
    assert entries.get(b"x") is None
    with pytest.raises(KeyError):
        entries[b"x"]
    assert [name for name, _ in entries.items()] == [b"a", b"b", b"c", b"d"]
    assert repr(entries) == "<Entries 4, 4 as nodes, 0 their own>"
    entries.check_invariants()


def test_what_changes_stands_for_itself() -> None:
    tree, entries = opened()
    b = entries[b"b"]
    entries.remove(b"a")
    entries.remove(b"b")
    entries.add(b"a", moved := FileNode(7, tree))
    entries.add(b"new", new := FileNode(8, tree))
    for name, node in ((b"a", moved), (b"new", new)):
        node.parent, node.name = tree.root, name
    assert (list(entries), len(entries), entries.own) == ([b"a", b"c", b"d", b"new"], 4, 2)
    assert entries.get(b"a") is moved
    assert b.no == 102
    entries.check_invariants()
    entries.remove(b"new")
    entries.remove(b"a")
    assert (list(entries), entries.own) == ([b"c", b"d"], 0)
    entries.check_invariants()


def test_a_changed_node_is_not_the_indexs_any_more() -> None:
    _, entries = opened()
    a, b = entries[b"a"], entries[b"b"]
    entries.detach(b"b")
    entries.detach(b"b")
    assert (entries.own, len(entries), entries.is_own(b"b"), entries.is_own(b"a")) == (1, 4, True, False)
    entries.forget(b"a")
    again = entries[b"a"]
    assert again is not a
    assert (again.no, entries[b"b"]) == (a.no, b)
    entries.check_invariants()


def test_a_new_index_takes_over_what_it_says() -> None:
    tree, entries = opened()
    b = entries[b"b"]
    entries.remove(b"a")
    entries.add(b"new", FileNode(7, tree))
    entries.nodes[b"new"].parent, entries.nodes[b"new"].name = tree.root, b"new"
    text = f". {A} 1:2:b 3:3:c 0:4:new\n./d {A} 0:1:x\n".encode()
    before = listed(entries.snapshot())
    entries.rebase(Manifest(text).index(()), first=200, mtime_ns=8)
    entries.check_invariants()
    assert (list(entries), entries[b"b"], entries.own) == ([b"b", b"c", b"d", b"new"], b, 2)
    entries.give_back(b"new")
    entries.check_invariants()
    assert (entries.own, entries.changed_ns(b"new"), entries[b"new"].no) == (1, 8, 203)
    assert [name for name, _, _ in before] == [b"b", b"c", b"d", b"new"]


def test_a_walk_merges_and_makes_nothing() -> None:
    tree, entries = opened()
    for name in (b"aa", b"z"):
        entries.add(name, FileNode(9, tree))
    c = entries[b"c"]
    entries.remove(b"b")
    walked = list(entries.walk())
    assert [(name, at) for name, _, at in walked] == [(b"a", 0), (b"aa", -1), (b"c", 2), (b"d", 3), (b"z", -1)]
    assert [node for name, node, _ in walked if name in (b"a", b"c", b"d")] == [None, c, None]
    assert sorted(entries.nodes) == [b"aa", b"c", b"z"]


def test_when_something_changed() -> None:
    _, entries = opened(mtime_ns=6)
    entries[b"a"].mtime_ns = 9
    assert [entries.changed_ns(name) for name in (b"a", b"b", b"x")] == [9, 6, 0]
    assert list(entries.nodes) == [b"a"]


def test_a_snapshot_gives_the_numbers_that_nodes_will_have() -> None:
    tree, entries = opened()
    entries.remove(b"c")
    entries.add(b"c", FileNode(7, tree))
    entries.add(b"bb", DirNode(8, tree))
    snapshot = entries.snapshot()
    assert isinstance(snapshot, Snapshot)
    expected = [[b"a", 101, False], [b"b", 102, False], [b"d", 104, True], [b"bb", 8, True], [b"c", 7, False]]
    assert (listed(snapshot), len(snapshot)) == (expected, 5)
    assert {name: entries[name].no for name in entries} == {name: number for name, number, _ in expected}
    for at in range(len(entries.index) + 2):
        rest = [behind for behind, *_ in snapshot.walk() if behind > at]
        assert [behind for behind, *_ in snapshot.walk(at)] == rest
    entries.remove(b"a")
    entries.add(b"late", FileNode(11, tree))
    assert listed(snapshot) == expected
    assert [name for name, _, _ in listed(entries.snapshot())] == [b"b", b"d", b"bb", b"c", b"late"]


def test_a_tree_without_numbers() -> None:
    tree = Tree(Manifest(TEXT), reserve=lambda count: 0)
    assert [node.no for _, node in tree.table(tree.root).items()] == [0] * 4


def test_what_is_to_be_fetched_says_which() -> None:
    directory = DirNode(3, Tree(None, reserve=Numbers().take))
    needed = NeedsIndex(directory)
    assert needed.directory is directory
    assert str(needed) == "<DirNode 3 b'' 0 entries>"


def test_a_number_that_was_listed_tells_where_a_name_stands_and_a_wrong_one_misleads_nobody() -> None:
    _, entries = opened()
    numbers = {name: number for name, number, _ in listed(entries.snapshot())}

    def get(name: bytes, number: int) -> FileNode | DirNode | None:
        said: ListedName = (name, number, False, 0)
        (node,) = entries.listed([said])
        return node

    found = get(b"b", numbers[b"b"])
    assert found is not None
    assert (found.name, found.no) == (b"b", numbers[b"b"])
    for wrong in (1, numbers[b"a"], numbers[b"c"], 10_000):
        again = get(b"d", wrong)
        assert again is not None
        assert again.no == numbers[b"d"]
        entries.forget(b"d")
    entries.remove(b"a")
    assert get(b"a", numbers[b"a"]) is None
    assert get(b"x", numbers[b"a"]) is None
    entries.check_invariants()
