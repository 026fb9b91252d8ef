"""The primitives of trees, and their text."""

from __future__ import annotations

import pytest

from arvfuse.errors import DirectoryNotEmpty, EntryExists, InvalidPath, IsADirectory, NoSuchEntry, NotADirectory
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE
from arvfuse.sdk.entries import NeedsIndex
from arvfuse.sdk.nodes import NODE_BYTES, DirNode, FileNode
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree, index_weight

A = "781e5e245d69b566979b86e28d23f2c7+10"
Z = "d41d8cd98f00b204e9800998ecf8427e+0"
TEXT = f". {A} 0:10:f\n./a {A} 1:1:x\n./a/b {A} 2:1:y\n./c {Z} 0:0:\\056\n"


def made(text: str = TEXT) -> Tree:
    return Tree(Manifest(text.encode()) if text else None, reserve=Numbers(1).take)


def directory(tree: Tree, *path: bytes) -> DirNode:
    node = tree.find(path)
    assert isinstance(node, DirNode)
    return node


def file(tree: Tree, *path: bytes) -> FileNode:
    node = tree.find(path)
    assert isinstance(node, FileNode)
    return node


def test_looking() -> None:
    tree = made()
    assert (tree.no, tree.new_number()) == (1, 2)
    assert tree.find(()) is tree.root
    assert tree.find((b"a", b"missing")) is None
    assert tree.child(tree.root, b"f") is tree.table(tree.root)[b"f"]
    with pytest.raises(NoSuchEntry):
        tree.child(tree.root, b"missing")
    with pytest.raises(NotADirectory):
        tree.find((b"f", b"x"))


def test_a_big_directory_is_fetched_first_where_others_can_make_its_index() -> None:
    text = f"./a/b {A} 0:1:f\n./d {A}{' 0:1:name' * 10_000}\n".encode()
    tree, elsewhere = (Tree(Manifest(text, origin), reserve=Numbers(1).take) for origin in ("", "elsewhere"))
    assert len(tree.table(directory(tree, b"d"))) == 1
    there = directory(elsewhere, b"d")
    with pytest.raises(NeedsIndex) as needed:
        elsewhere.find((b"d", b"name"))
    assert needed.value.directory is there
    assert not elsewhere.is_empty(there)
    assert not elsewhere.is_empty(directory(elsewhere, b"a"))
    assert there.entries is None
    elsewhere.provide(there, tree.table(directory(tree, b"d")).index)
    assert elsewhere.find((b"d", b"name")) is not None


def test_indexes_are_counted_in_nodes() -> None:
    tree = made()
    index = tree.table(directory(tree, b"a")).index
    assert index_weight(index) == 1 + index.memory_bytes // NODE_BYTES
    assert index_weight(index) <= tree.loaded


def test_names_come_and_go() -> None:
    tree = made()
    node = FileNode(99, tree)
    tree.attach(directory(tree, b"c"), b"new", node, 7)
    assert (node.parent, node.name, node.parent.mtime_ns) == (directory(tree, b"c"), b"new", 7)
    with pytest.raises(EntryExists):
        tree.attach(directory(tree, b"c"), b"new", FileNode(98, tree), 8)
    assert tree.detach(directory(tree, b"c"), b"new", 9) is node
    assert node.parent is None
    assert [each.path for each in tree.changed_directories()] == [(b"c",)]
    with pytest.raises(NoSuchEntry):
        tree.detach(tree.root, b"new", 9)


def test_what_may_replace_what() -> None:
    tree = made()
    root, a, c, f = tree.root, directory(tree, b"a"), directory(tree, b"c"), file(tree, b"f")
    check = tree.check_rename
    assert check(f, root, b"new", replace=True) is None
    assert check(f, root, b"f", replace=False) is None
    assert check(a, root, b"c", replace=True) is c
    assert check(file(tree, b"a", b"x"), root, b"f", replace=True) is f
    for node, name, replace, error in (
        (f, b"a", True, IsADirectory), (a, b"f", True, NotADirectory), (c, b"a", True, DirectoryNotEmpty),
        (f, b"a", False, EntryExists),
    ):  # fmt: skip
        with pytest.raises(error):
            check(node, root, name, replace=replace)
    for target in (a, directory(tree, b"a", b"b")):
        with pytest.raises(InvalidPath):
            check(a, target, b"x", replace=True)


def test_moving_within_and_across() -> None:
    tree, other = made(), made()
    f = file(tree, b"f")
    assert tree.move_entry(tree.root, b"f", tree.root, b"f", 5) is None
    replaced = file(tree, b"a", b"x")
    assert tree.move_entry(tree.root, b"f", directory(tree, b"a"), b"x", 5) is replaced
    assert (replaced.parent, f.parent, f.name) == (None, directory(tree, b"a"), b"x")
    moved = directory(tree, b"a")
    directory(tree, b"a", b"b")
    assert tree.move_entry(tree.root, b"a", other.root, b"moved", 6) is None
    assert {node.tree for node in moved.loaded()} == {other}
    assert tree.render()[0].decode() == f"./c {Z} 0:0:\\056\n"
    assert other.render()[0].decode() == (
        f". {A} 0:10:f\n./a {A} 1:1:x\n./a/b {A} 2:1:y\n./c {Z} 0:0:\\056\n./moved {A} 0:10:x\n./moved/b {A} 2:1:y\n"
    )


def test_content() -> None:
    tree = made()
    f = file(tree, b"f")
    tree.put_segment(f, 8, 4, A, 0, 11)
    tree.cut(f, 11, 12)
    assert (f.parts(), f.mtime_ns, f.version) == ([(8, A, 0), (3, A, 0)], 12, 2)
    tree.set_segments(f, [(2, HOLE, 0)], 13)
    tree.changed(f, 14)
    assert (f.size, f.mtime_ns, f.version) == (2, 14, 4)
    assert list(tree.changed_directories()) == [tree.root]
    assert list(tree.files()) == [f]


def test_only_what_changed_is_rendered_again() -> None:
    tree = made()
    assert tree.render() == (TEXT.encode(), set())
    assert [node.no for node in tree.root.loaded()] == [1]
    y = file(tree, b"a", b"b", b"y")
    tree.cut(y, 3, 1)
    tree.detach(tree.root, b"c", 1)
    text, zeros = tree.render()
    assert zeros == {"c4103f122d27677c9db144cae1394a66+2"}
    assert text.decode() == (
        f". {A} 0:10:f\n./a {A} 1:1:x\n./a/b {A} c4103f122d27677c9db144cae1394a66+2 2:1:y 10:2:y\n"
    )
    assert tree.render(lambda each: [])[0].decode() == f". {A} 0:10:f\n./a {A} 1:1:x\n./a/b {Z} 0:0:y\n"


def test_placeholders_come_and_go() -> None:
    tree = made("")
    assert tree.render()[0] == b""
    for name in (b"d", b"e"):
        tree.attach(tree.root, name, DirNode(50, tree), 0)
    tree.attach(directory(tree, b"e"), b"in", DirNode(51, tree), 0)
    assert tree.render()[0].decode() == f"./d {Z} 0:0:\\056\n./e/in {Z} 0:0:\\056\n"
    tree = made()
    tree.attach(directory(tree, b"c"), b"in", DirNode(52, tree), 0)
    tree.detach(directory(tree, b"a", b"b"), b"y", 0)
    assert tree.render()[0].decode() == f". {A} 0:10:f\n./a {A} 1:1:x\n./a/b {Z} 0:0:\\056\n./c/in {Z} 0:0:\\056\n"


def test_all_zeros_of_a_line_share_a_block() -> None:
    tree = made("")
    for name, size in ((b"big", 3000), (b"small", 5)):
        node = FileNode(7, tree)
        tree.attach(tree.root, name, node, 0)
        tree.set_segments(node, [(size, HOLE, 0)], 0)
    assert tree.render()[0] == b". 620f0b67a91f7f74151bc5be745b7110+4096 0:3000:big 0:5:small\n"
