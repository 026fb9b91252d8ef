"""A live tree and the replay of its log are the same tree, at every record, after every commit, and after a death."""

from __future__ import annotations

import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import ArvfuseError, StaleNode
from arvfuse.model.manifests import Manifest
from arvfuse.sdk.entries import NeedsIndex
from arvfuse.sdk.host import Host
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.taking import read_here
from arvfuse.sdk.trimming import settle_on, trim
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import BigManifest, dump, make_catalog, make_committer, make_host, table_of
from tests.support.profiles import searching

NAMES = st.sampled_from([b"a", b"b", b"c", b"\xff:x"])
NODES = st.integers(0, 40)  # index into the nodes that ever were, modulo their number
SIZES = st.sampled_from([0, 1, 3, 100, 70_000, (1 << 20) - 3, (1 << 20) + 5])
OPERATIONS = st.one_of(
    st.tuples(st.just("create"), NODES, NAMES),
    st.tuples(st.just("create"), NODES, NAMES),
    st.tuples(st.just("mkdir"), NODES, NAMES),
    st.tuples(st.just("unlink"), NODES, NAMES),
    st.tuples(st.just("rmdir"), NODES, NAMES),
    st.tuples(st.just("remove"), NODES, NAMES),
    st.tuples(st.just("rename"), NODES, NAMES, NODES, NAMES),
    st.tuples(st.just("write"), NODES, SIZES, st.sampled_from([1, 10, 5000, 1_100_000])),
    st.tuples(st.just("write"), NODES, st.integers(0, 20), st.integers(1, 20)),
    st.tuples(st.just("truncate"), NODES, SIZES),
    st.tuples(st.just("copy"), NODES, NODES),
    st.tuples(st.just("open"), NODES),
    st.tuples(st.just("close"), NODES),
    st.tuples(st.just("look"), NODES, NAMES),
    st.tuples(st.just("trim"), st.integers(1, 3)),
    st.tuples(st.just("commit")),
)
SEEDS = st.sampled_from(
    ["", ". 781e5e245d69b566979b86e28d23f2c7+10 0:4:a 4:6:c\n./b 781e5e245d69b566979b86e28d23f2c7+10 2:5:a\n"]
)


class Run:
    """Two trees of one workspace, and the operations on them."""

    def __init__(self, directory: Path, text: str) -> None:
        self.store = MemoryStore()
        self.store.put(b"0123456789")
        self.catalog = make_catalog()
        self.host: Host = make_host(directory, self.store, self.catalog)
        self.trees: list[LiveTree] = []
        for name in ("one", "two"):
            record = self.catalog.create(name=name, manifest=text.encode())
            kind = Manifest if name == "one" else BigManifest
            self.trees.append(self.host.workspace.open_tree(record, kind(text.encode(), "somewhere")))
        self.files: list[FileNode] = []
        self.dirs: list[DirNode] = [tree.root for tree in self.trees]
        self.open: list[FileNode] = []
        self.count = 0
        for tree in self.trees:
            for _, node in table_of(tree.root).items():
                self.note(node)

    def note(self, node: Any) -> None:
        (self.files if isinstance(node, FileNode) else self.dirs).append(node)

    def data(self, length: int) -> bytes:
        self.count += 1
        return (b"%d." % self.count * length)[:length]

    def do(self, operation: tuple[Any, ...]) -> None:
        kind, *args = operation
        with suppress(ArvfuseError):  # a name that is taken, a directory that is gone: part of life
            while True:
                try:
                    getattr(self, kind)(*args)
                except NeedsIndex as needed:
                    read_here(needed.directory)
                else:
                    return

    def directory(self, index: int) -> DirNode:
        return self.dirs[index % len(self.dirs)]

    def file(self, index: int) -> FileNode:
        return self.files[index % len(self.files)]

    def create(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        self.note(above.tree.create(above, name))

    def mkdir(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        self.note(above.tree.mkdir(above, name))

    def unlink(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        above.tree.unlink(above, name)

    def rmdir(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        above.tree.rmdir(above, name)

    def remove(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        above.tree.remove_tree(above, name)

    def rename(self, index: int, name: bytes, target: int, new_name: bytes) -> None:
        above = self.directory(index)
        above.tree.rename(above, name, self.directory(target), new_name)

    def write(self, index: int, offset: int, length: int) -> None:
        if self.files and self.usable(file := self.file(index)):
            file.tree.write(file, offset, self.data(length))

    def truncate(self, index: int, size: int) -> None:
        if self.files and self.usable(file := self.file(index)):
            file.tree.truncate(file, size)

    def copy(self, source: int, target: int) -> None:
        if self.files:
            one, other = self.file(source), self.file(target)
            if self.usable(one) and self.usable(other) and one is not other:
                with self.host.workspace.shared.sharing:
                    other.tree.set_content(other, one.tree.shareable(one))

    def usable(self, file: FileNode) -> bool:
        """A file that has a name or a handle: nobody can write to another."""
        node: Any = file
        while node.parent is not None:
            node = node.parent
        return file in self.open or node in [tree.root for tree in self.trees]

    def open_file(self, file: FileNode) -> None:
        if self.usable(file):
            file.tree.opened(file, write=True)
            self.open.append(file)

    def look(self, index: int, name: bytes) -> None:
        above = self.directory(index)
        self.note(above.tree.lookup(above, name))

    def trim(self, every: int) -> None:
        """As a mount that is short of memory does; the kernel knows some of the nodes."""
        for tree in self.trees:
            assert tree.uuid is not None
            record = self.catalog.get(tree.uuid)
            if record.pdh == tree.pdh:
                settle_on(tree, BigManifest(self.catalog.manifest(record.pdh), "somewhere"))
            trim(tree, lambda number: number % every == 0, lambda source: source[0].index(source[1]))
            for directory in [node for node in tree.root.loaded() if isinstance(node, DirNode)]:
                if directory.entries is not None:
                    directory.entries.check_invariants()

    def commit(self) -> None:
        self.host.commit(self.trees)

    def live(self) -> list[Any]:
        return [dump(self.host.workspace.shared.fetch, tree.root) for tree in self.trees]


def _open(run: Run, index: int) -> None:
    if run.files:
        with suppress(StaleNode):  # a node that was trimmed
            run.open_file(run.file(index))


def _close(run: Run, index: int) -> None:
    if run.open:
        file = run.open.pop(index % len(run.open))
        file.tree.closed(file, write=True)


def step(run: Run, operation: tuple[Any, ...]) -> None:
    if operation[0] == "open":
        _open(run, operation[1])
    elif operation[0] == "close":
        _close(run, operation[1])
    else:
        run.do(operation)


@searching(full=1000, quick=60)
@given(SEEDS, st.lists(OPERATIONS, max_size=30))
def test_replay_equals_the_tree_at_every_prefix(text: str, operations: list[tuple[Any, ...]]) -> None:
    """A second reader follows the log record by record, as a backend that was restarted at the beginning would."""
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), text)
        follower = make_committer(Path(name), run.store, run.catalog)
        for operation in operations:
            if operation[0] == "commit":
                continue  # a follower that did not commit itself lacks what a commit moved; see the next test
            step(run, operation)
            run.host.workspace.log.flush(run.host.workspace.log.seq)
            follower.feed(1 << 60)
            while follower._due:
                follower.replica.apply(follower._due.popleft())
            replayed = [follower.replica.trees.get(tree.no) for tree in run.trees]
            for tree, copy, content in zip(run.trees, replayed, run.live(), strict=True):
                if copy is None:
                    assert not tree.dirty
                else:
                    assert dump(follower._fetch, copy.root) == content
        follower.close()
        run.host.close()


@searching(full=1000, quick=60)
@given(SEEDS, st.lists(OPERATIONS, max_size=40))
def test_commits_and_recovery_keep_the_tree(text: str, operations: list[tuple[Any, ...]]) -> None:
    """What is saved at random points is what the tree was; what a death leaves in the directory alone is the rest."""
    with tempfile.TemporaryDirectory() as name:
        run = Run(Path(name), text)
        for operation in operations:
            before = run.live() if operation[0] == "commit" else None
            step(run, operation)
            if before is not None:
                assert run.live() == before
                assert saved(run) == before
        content = run.live()
        run.host.workspace.log.flush(run.host.workspace.log.seq)
        heir = make_committer(Path(name), run.store, run.catalog)
        outcomes = heir.recover()
        assert not [outcome for outcome in outcomes if outcome.error]
        assert saved(run) == content
        heir.close()
        run.host.close()


def saved(run: Run) -> list[Any]:
    """The content of both records, read from the store alone."""
    found = []
    for tree in run.trees:
        assert tree.uuid is not None
        text = run.catalog.manifest(run.catalog.get(tree.uuid).pdh)
        found.append(
            dump(
                run.store.fetch_range,
                LiveTree(run.host.workspace.shared, Manifest(text), None, kind="tmp", writable=False).root,
            )
        )
    return found
