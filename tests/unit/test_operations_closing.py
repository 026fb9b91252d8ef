"""Which trees are in use, and that closed ones are opened again when somebody asks."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.sdk.closing import retire
from arvfuse.sdk.live import LiveTree
from tests.support.engines import Mounted, now

FOO = b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:foo\n./dir acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:bar\n"


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Mounted]:
    made = Mounted(tmp_path)
    made.engine.store.put(b"foo")
    yield made
    made.close()


def forget_all(mounted: Mounted) -> None:
    """The kernel's caches are dropped."""
    inodes = mounted.ops.host.inodes
    mounted.ops.forget([(node.no, inodes.count(node.no)) for node in inodes.known()[1:]])


def close(mounted: Mounted) -> list[LiveTree]:
    """What a housekeeper without any memory closes."""
    closed = []
    for tree in mounted.engine.workspace.trees:
        if tree.no not in mounted.ops.trees_in_use() and retire(tree):
            mounted.engine.workspace.close_tree(tree)
            mounted.ops.tree_closed(tree)
            closed.append(tree)
    return closed


def test_a_visited_collection_is_closed_when_the_kernel_has_forgotten_it(mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    number = mounted.walk(b"by_id", uuid)
    assert mounted.read_file(mounted.walk(b"by_id", uuid, b"dir", b"bar")) == b"foo"
    before = mounted.ops.getattr(number)
    assert close(mounted) == []
    forget_all(mounted)
    (tree,) = close(mounted)
    assert (mounted.engine.workspace.trees, mounted.ops.trees_in_use()) == ([], set())
    assert mounted.walk(b"by_id", uuid) == number
    assert mounted.ops.getattr(number) == before
    assert mounted.names(number) == [b"dir", b"foo"]
    (again,) = mounted.engine.workspace.trees
    assert again is not tree
    assert mounted.read_file(mounted.walk(b"by_id", uuid, b"dir", b"bar")) == b"foo"
    assert mounted.ops.trees_in_use() == {again.no}
    mounted.write_file(number, b"new", b"written to the tree of now")
    assert again.dirty


def test_two_places_of_a_tree_are_opened_again_as_one(mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    for path in ((b"home", b"c"), (b"by_id", uuid)):
        mounted.names(mounted.walk(*path, b"dir"))
    forget_all(mounted)
    assert len(close(mounted)) == 1
    first, second = mounted.walk(b"by_id", uuid, b"dir"), mounted.walk(b"home", b"c", b"dir")
    assert first != second
    assert mounted.walk(b"by_id", uuid, b"dir", b"bar") == mounted.walk(b"home", b"c", b"dir", b"bar")
    assert len(mounted.engine.workspace.trees) == 1


@pytest.mark.parametrize("path", [(b"dir",), (b"dir", b"bar"), (b"foo",)], ids=str)
def test_one_node_that_the_kernel_knows_is_enough(path: tuple[bytes, ...], mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    number = mounted.walk(b"by_id", uuid, *path)
    inodes = mounted.ops.host.inodes
    others = [node.no for node in inodes.known()[1:] if node.no != number]
    mounted.ops.forget([(each, inodes.count(each)) for each in others])
    assert close(mounted) == []


def test_a_directory_at_its_second_place_is_enough(mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    mounted.walk(b"home", b"c", b"dir")
    number = mounted.walk(b"by_id", uuid, b"dir")
    inodes = mounted.ops.host.inodes
    mounted.ops.forget([(node.no, inodes.count(node.no)) for node in inodes.known()[1:] if node.no != number])
    assert close(mounted) == []


def test_an_open_file_without_a_name_keeps_its_tree(mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    top = mounted.walk(b"by_id", uuid)
    opened = now(mounted.ops.open(mounted.walk(b"by_id", uuid, b"foo"), os.O_RDWR))
    mounted.ops.unlink(top, b"foo")
    now(mounted.engine.commit(mounted.engine.workspace.trees))
    forget_all(mounted)
    assert close(mounted) == []
    assert b"".join(mounted.ops.read(opened.handle, 0, 9)) == b"foo"
    mounted.ops.release(opened.handle)
    assert len(close(mounted)) == 1


def test_an_open_directory_keeps_its_tree(mounted: Mounted) -> None:
    uuid = mounted.engine.new_collection("c", FOO).uuid.encode()
    handles = [now(mounted.ops.opendir(mounted.walk(b"by_id", uuid, *path))) for path in ((), (b"dir",))]
    forget_all(mounted)
    for handle in handles:
        assert close(mounted) == []
        mounted.ops.releasedir(handle)
    assert len(close(mounted)) == 1


def test_the_root_of_a_mount_is_always_in_use(tmp_path: Path) -> None:
    made = Mounted(tmp_path, root=lambda engine: engine.new_collection("c", FOO).uuid)
    made.names(1)
    forget_all(made)
    assert close(made) == []
    made.close()
