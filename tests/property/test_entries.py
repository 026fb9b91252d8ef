"""The names of a directory with an index under them are a dictionary, whatever is done to them."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arvfuse.model.manifests import Manifest
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.shared import Numbers
from arvfuse.sdk.tree import Tree
from tests.support.profiles import searching

A = "781e5e245d69b566979b86e28d23f2c7+10"
NAMES = st.sampled_from([b"%c" % letter for letter in b"abcdefgh"])
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), NAMES),
    st.tuples(st.just("remove"), NAMES),
    st.tuples(st.just("rename"), NAMES, NAMES),
    st.tuples(st.just("change"), NAMES),
    st.tuples(st.just("look"), NAMES),
    st.tuples(st.just("forget"), NAMES),
    st.tuples(st.just("list")),
)


class Directory:
    """A directory of a tree, and the dictionary that it is: name -> size."""

    def __init__(self, files: set[bytes]) -> None:
        self.expected: dict[bytes, int] = dict.fromkeys(files, 3)
        words = "".join(f" 0:3:{name.decode()}" for name in sorted(files))
        text = f". {A}{words}\n" if files else ""
        self.numbers = Numbers()
        self.tree = Tree(Manifest(text.encode()), reserve=self.numbers.take)
        self.entries = self.tree.table(self.tree.root)
        self.known: dict[bytes, int] = {}  # name -> number that was given out
        self.snapshots: list[tuple[Any, list[Any]]] = []
        self.versions: dict[int, list[Any]] = {}

    def create(self, name: bytes) -> None:
        if name not in self.expected:
            self.tree.attach(self.tree.root, name, FileNode(self.numbers.next(), self.tree), 1)
            self.expected[name] = 0

    def remove(self, name: bytes) -> None:
        if name in self.expected:
            self.tree.detach(self.tree.root, name, 1)
            del self.expected[name]
            self.known.pop(name, None)

    def rename(self, name: bytes, new_name: bytes) -> None:
        if name in self.expected and name != new_name:
            self.tree.move_entry(self.tree.root, name, self.tree.root, new_name, 1)
            self.expected[new_name] = self.expected.pop(name)
            self.known.pop(new_name, None)
            if name in self.known:
                self.known[new_name] = self.known.pop(name)

    def change(self, name: bytes) -> None:
        node = self.entries.get(name)
        if isinstance(node, FileNode):
            self.tree.cut(node, 7, 1)
            self.expected[name] = 7

    def look(self, name: bytes) -> None:
        node = self.entries.get(name)
        assert (node is not None) == (name in self.expected)
        if node is not None:
            assert self.known.setdefault(name, node.no) == node.no

    def forget(self, name: bytes) -> None:
        if name in self.entries.nodes and not self.entries.is_own(name):
            self.entries.forget(name)

    def list(self) -> None:
        snapshot = self.entries.snapshot()
        found = [(name, number) for _, name, number, _ in snapshot.walk()]
        assert sorted(name for name, _ in found) == sorted(self.expected)
        for name, number in found:
            assert self.known.setdefault(name, number) == number
        self.snapshots.append((snapshot, found))
        assert self.versions.setdefault(snapshot.version, found) == found

    def check(self) -> None:
        self.entries.check_invariants()
        assert len(self.entries) == len(self.expected)
        assert bool(self.entries) == bool(self.expected)
        assert list(self.entries) == sorted(self.expected)
        index = self.entries.index
        sizes = {
            name: node.size if isinstance(node, FileNode) else index.spec(at).size
            for name, node, at in self.entries.walk()
        }
        assert sizes == self.expected
        for snapshot, found in self.snapshots:
            assert [(name, number) for _, name, number, _ in snapshot.walk()] == found


@searching(full=5000, quick=200)
@given(st.sets(NAMES), st.lists(OPERATIONS, max_size=30))
def test_a_directory_is_a_dictionary(files: set[bytes], operations: list[tuple[Any, ...]]) -> None:
    directory = Directory(files)
    for kind, *args in operations:
        getattr(directory, kind)(*args)
        directory.check()
    text, _ = directory.tree.render()
    again = Tree(Manifest(text), reserve=Numbers().take)
    assert {name: node.size for name, node in again.table(again.root).items()} == directory.expected  # type: ignore[union-attr] # files
