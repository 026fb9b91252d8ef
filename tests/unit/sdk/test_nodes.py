"""Nodes: what is loaded when, and where a node stands."""

from __future__ import annotations

from itertools import count

import pytest

from arvfuse.errors import NoSuchEntry
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import SegmentMap
from arvfuse.sdk.nodes import DirNode, FileNode, Path
from arvfuse.sdk.tree import Tree

BLOCK = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {BLOCK} 0:4:a 4:6:b\n./d {BLOCK} 0:0:empty 2:3:c\n./d/e {BLOCK} 0:10:x\n".encode()


@pytest.fixture
def tree() -> Tree:
    numbers = count(1)
    return Tree(Manifest(TEXT), number=lambda: next(numbers), mtime_ns=7)


def test_a_directory_is_read_when_somebody_looks_into_it(tree: Tree) -> None:
    numbers = count(100)
    assert (tree.root.entries, repr(tree.root)) == (None, "<DirNode 1 b'' unread>")
    entries = tree.root.load(lambda: next(numbers))
    assert list(entries) == [b"d", b"a", b"b"]
    assert tree.root.load(lambda: 0) is entries
    below = entries[b"d"]
    assert isinstance(below, DirNode)
    assert (below.entries, below.parent, below.name, below.mtime_ns) == (None, tree.root, b"d", 7)
    assert {node.no for node in entries.values()} == {100, 101, 102}
    assert repr(tree.root) == "<DirNode 1 b'' 3 entries>"


def test_a_directory_whose_text_is_not_there_is_an_error(tree: Tree) -> None:
    lost = DirNode(9, tree, (Manifest(TEXT), (b"nowhere",)))
    with pytest.raises(NoSuchEntry):
        lost.load(lambda: 0)
    assert lost.entries is None


def test_a_node_knows_its_path(tree: Tree) -> None:
    below = tree.find((b"d", b"e"))
    assert isinstance(below, DirNode)
    where: Path = below.path
    assert (where, tree.root.path) == ((b"d", b"e"), ())


def test_loaded_gives_what_is_in_memory(tree: Tree) -> None:
    assert list(tree.root.loaded()) == [tree.root]
    tree.find((b"d", b"e"))
    assert {node.name for node in tree.root.loaded()} == {b"", b"a", b"b", b"d", b"c", b"empty", b"e"}


def test_a_new_directory_is_changed_and_an_unread_one_is_not(tree: Tree) -> None:
    new = DirNode(9, tree)
    assert (new.files_changed, new.below_changed, new.entries) == (True, True, {})
    assert (tree.root.files_changed, tree.root.below_changed) == (False, False)


def test_a_clean_file_has_no_segment_map(tree: Tree) -> None:
    file = tree.find((b"b",))
    assert isinstance(file, FileNode)
    assert (file.size, file.base_size, file.parts()) == (6, 6, [(6, BLOCK, 4)])
    assert file.pristine
    assert file.segments == SegmentMap([(6, BLOCK, 4)])
    assert not file.pristine
    assert (file.size, file.parts(), file.spec) == (6, [(6, BLOCK, 4)], None)


def test_the_segments_of_a_file_can_be_replaced(tree: Tree) -> None:
    file = tree.find((b"b",))
    assert isinstance(file, FileNode)
    file.segments = SegmentMap([(3, BLOCK, 0)])
    assert (file.size, file.base_size, file.pristine, repr(file)) == (3, 6, False, f"<FileNode {file.no} b'b' size=3>")


def test_a_new_file_is_empty(tree: Tree) -> None:
    file = FileNode(9, tree)
    assert (file.size, file.parts(), list(file.segments), file.mode) == (0, [], [], -1)
