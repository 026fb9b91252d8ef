"""Nodes of a tree."""

from __future__ import annotations

from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE, SegmentMap
from arvfuse.sdk.nodes import NODE_BYTES, TRIMMED, DirNode, FileNode, Path
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree

A = "781e5e245d69b566979b86e28d23f2c7+10"
TEXT = f". {A} 0:10:b 0:3:a 5:2:a\n./d {A} 1:1:x\n./d/e d41d8cd98f00b204e9800998ecf8427e+0 0:0:\\056\n".encode()


def test_a_directory_is_read_when_somebody_looks() -> None:
    tree = Tree(Manifest(TEXT), reserve=Numbers(1).take, mtime_ns=5)
    root = tree.root
    assert (root.no, root.entries, repr(root)) == (1, None, "<DirNode 1 b'' unread>")
    entries = tree.table(root)
    assert (list(entries), repr(root)) == ([b"a", b"b", b"d"], "<DirNode 1 b'' 3 entries>")
    assert [node.no for node in root.loaded()] == [1]
    assert [(node.no, node.name, node.parent, node.mtime_ns, node.tree) for node in map(entries.get, entries)] == [
        (2, b"a", root, 5, tree), (3, b"b", root, 5, tree), (4, b"d", root, 5, tree),
    ]  # fmt: skip
    assert tree.table(root) is entries
    assert [node.no for node in root.loaded()] == [1, 4, 3, 2]
    assert tree.loaded * NODE_BYTES > 3 * NODE_BYTES
    inner = entries[b"d"]
    assert isinstance(inner, DirNode)
    below = tree.table(inner)[b"e"]
    assert isinstance(below, DirNode)
    path: Path = (b"d", b"e")
    assert (below.path, root.path, below.is_dir, len(tree.table(below))) == (path, (), True, 0)
    made = root.make(entries, b"a", 0)
    assert isinstance(made, FileNode)
    assert (made.no, made.size) == (2, 5)
    assert (root.files_changed, root.below_changed) == (False, False)


def test_no_epoch_has_the_stamp_of_a_forgotten_node() -> None:
    assert TRIMMED < FileNode(1, Tree(None, reserve=Numbers(2).take)).stamp < 0


def test_a_clean_file_has_no_map() -> None:
    tree = Tree(Manifest(TEXT), reserve=Numbers(1).take)
    file = tree.table(tree.root)[b"a"]
    assert isinstance(file, FileNode)
    assert (file.size, file.pristine, file.is_dir, file.base_size) == (5, True, False, 5)
    assert file.parts() == [(3, A, 0), (2, A, 5)]
    assert file.pristine
    assert file.segments == SegmentMap([(3, A, 0), (2, A, 5)])
    assert (file.pristine, file.size, file.parts()) == (False, 5, [(3, A, 0), (2, A, 5)])
    file.segments = SegmentMap([(7, HOLE, 0)])
    assert (file.size, repr(file)) == (7, "<FileNode 2 b'a' size=7>")


def test_a_new_node_is_empty_and_changed() -> None:
    tree = Tree(None, reserve=Numbers(1).take)
    file, directory = FileNode(5, tree, mode=0o600), DirNode(6, tree)
    assert (file.size, file.parts(), file.mode, file.parent, file.copied_seq) == (0, [], 0o600, None, 0)
    assert directory.entries is not None
    assert (len(directory.entries), directory.files_changed, directory.below_changed) == (0, True, True)
