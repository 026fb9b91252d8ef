"""Two trees of one workspace against two dictionaries.

Random changes, copies, moves between the trees, handles of files that lost their names, commits of one or both, stores
and catalogs that fail. What is live, what is saved, and what a recovery makes of the log are compared.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.profiles import LONG
from tests.support.sessions import Contents, Path_, Session, contents, node_at, recovered, saved_contents
from tests.support.stores import noise

STEPS = 120
SEEDS = 400 if LONG else 20
SIZES = (5, 5000, 300_000, 1_300_000)
STORE_FAULTS = ("adopt: FAIL*", "adopt: ok FAIL*", "barrier: FAIL", "put: FAIL*", "fetch_range: FAIL*")


class Pair:
    """The workspace, the dictionaries, and changes that keep them equal. A draw that means nothing does nothing."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.chance = random.Random(seed)
        self.directory = directory
        self.inner, self.catalog = MemoryStore(), MemoryCatalog(clock=SystemClock())
        self.store, self.faulty = Faulty(self.inner), FaultyCatalog(self.catalog)
        self.records = [self.catalog.create(name=name) for name in ("one", "two")]
        self.session = Session(directory, store=self.store, catalog=self.faulty)  # type: ignore[arg-type] # by shape
        self.trees = [self.session.open(record) for record in self.records]
        self.models: list[Contents] = [{}, {}]
        self.handles: list[tuple[FileNode, list[bytes]]] = []  # the file, and its content in a box that handles share
        self.step = 0

    def run(self) -> None:
        weighted: list[tuple[Callable[[], None], int]] = [
            (self.create, 2), (self.mkdir, 2), (self.write, 4), (self.truncate, 1), (self.rename, 3), (self.remove, 1),
            (self.copy, 1), (self.open, 2), (self.write_to_handle, 2), (self.close, 1), (self.commit, 2),
            (self.commit_with_faults, 1),
        ]  # fmt: skip
        actions = [action for action, weight in weighted for _ in range(weight)]
        for self.step in range(STEPS):
            self.chance.choice(actions)()
            if self.step % 10 == 9:
                assert [contents(tree) for tree in self.trees] == self.models
        self.session.close()
        recovered(self.directory, store=self.inner, catalog=self.catalog)
        assert [saved_contents(self.catalog, self.inner, record.uuid) for record in self.records] == self.models

    # draws

    def one_tree(self) -> int:
        return self.chance.randrange(2)

    def one_path(self, at: int, *, file: bool | None = None) -> Path_ | None:
        paths = [path for path, data in self.models[at].items() if file is None or (data is not None) == file]
        return self.chance.choice(paths) if paths else None

    def one_parent(self, at: int) -> Path_:
        return self.chance.choice([(), *(path for path, data in self.models[at].items() if data is None)])

    def directory_at(self, at: int, path: Path_) -> DirNode:
        node = node_at(self.trees[at], path)
        assert isinstance(node, DirNode)
        return node

    def file_at(self, at: int, path: Path_) -> FileNode:
        node = node_at(self.trees[at], path)
        assert isinstance(node, FileNode)
        return node

    def set(self, file: FileNode, data: bytes) -> None:
        """The file has that content now, under its name and in its handles."""
        for handled, box in self.handles:
            if handled is file:
                box[0] = data
        for at, model in enumerate(self.models):
            for path, old in model.items():
                if old is not None and file.parent is not None and node_at(self.trees[at], path) is file:
                    model[path] = data

    # changes

    def create(self) -> None:
        at = self.one_tree()
        path = (*self.one_parent(at), b"f%d" % self.chance.randrange(5))
        if path not in self.models[at]:
            self.trees[at].create(self.directory_at(at, path[:-1]), path[-1])
            self.models[at][path] = b""

    def mkdir(self) -> None:
        at = self.one_tree()
        path = (*self.one_parent(at), b"d%d" % self.chance.randrange(3))
        if path not in self.models[at] and len(path) < 5:
            self.trees[at].mkdir(self.directory_at(at, path[:-1]), path[-1])
            self.models[at][path] = None

    def write(self) -> None:
        at = self.one_tree()
        if (path := self.one_path(at, file=True)) is not None:
            self.overwrite(self.file_at(at, path), self.models[at][path] or b"")

    def overwrite(self, file: FileNode, old: bytes) -> None:
        offset = self.chance.choice([0, len(old), self.chance.randrange(len(old) + 1)])
        data = noise(self.chance.choice(SIZES), self.step)
        file.tree.write(file, offset, data)  # type: ignore[attr-defined] # a live tree
        self.set(file, old[:offset] + data + old[offset + len(data) :])

    def truncate(self) -> None:
        at = self.one_tree()
        if (path := self.one_path(at, file=True)) is not None:
            old = self.models[at][path] or b""
            size = self.chance.choice([0, len(old) // 2, len(old) + 100])
            file = self.file_at(at, path)
            self.trees[at].truncate(file, size)
            self.set(file, old[:size].ljust(size, b"\0"))

    def rename(self) -> None:
        at, to = self.one_tree(), self.one_tree()
        source, target = self.models[at], self.models[to]
        if (path := self.one_path(at)) is None:
            return
        is_file = source[path] is not None
        new = (*self.one_parent(to), self.chance.choice([b"f1", b"f2"] if is_file else [b"d1", b"d2"]))
        if at == to and new[: len(path)] == path:
            return
        if new in target and ((target[new] is not None) != is_file or any(below(new, each) for each in target)):
            return
        self.trees[at].rename(self.directory_at(at, path[:-1]), path[-1], self.directory_at(to, new[:-1]), new[-1])
        moved = {each: source.pop(each) for each in list(source) if each == path or below(path, each)}
        target.update({new + each[len(path) :]: data for each, data in moved.items()})

    def remove(self) -> None:
        at = self.one_tree()
        if (path := self.one_path(at)) is not None:
            self.trees[at].remove_tree(self.directory_at(at, path[:-1]), path[-1])
            for each in [each for each in self.models[at] if each == path or below(path, each)]:
                del self.models[at][each]

    def copy(self) -> None:
        at, to = self.one_tree(), self.one_tree()
        new = (b"copy%d" % self.chance.randrange(3),)
        if new in self.models[to] or (path := self.one_path(at, file=True)) is None:
            return
        made = self.trees[to].create(self.trees[to].root, new[0])
        with self.trees[to].shared.sharing:
            self.trees[to].set_content(made, self.trees[at].shareable(self.file_at(at, path)))
        self.models[to][new] = self.models[at][path]

    def open(self) -> None:
        at = self.one_tree()
        if len(self.handles) < 4 and (path := self.one_path(at, file=True)) is not None:
            file = self.file_at(at, path)
            self.trees[at].opened(file, write=True)
            self.handles.append((file, [self.models[at][path] or b""]))

    def write_to_handle(self) -> None:
        if self.handles:
            file, box = self.chance.choice(self.handles)
            self.overwrite(file, box[0])

    def close(self) -> None:
        if self.handles:
            file, box = self.handles.pop(self.chance.randrange(len(self.handles)))
            tree = self.trees[[each.no for each in self.trees].index(file.tree.no)]
            assert bytes(tree.read(file, 0, len(box[0]) + 1)) == box[0]
            tree.closed(file, write=True)

    def commit(self) -> None:
        chosen = self.chance.choice([self.trees, self.trees[:1], self.trees[1:]])
        for outcome in self.session.committed(*chosen):
            self.compare_saved(outcome.tree)

    def commit_with_faults(self) -> None:
        if self.chance.random() < 0.6:
            self.store.rescript(self.chance.choice(STORE_FAULTS))
        else:
            self.faulty.script = {self.chance.choice(["save", "save_many"]): [self.chance.choice(["FAIL", "AFTER"])]}
        for outcome in self.session.commit():
            if outcome.error is None:
                self.compare_saved(outcome.tree)
        self.store.rescript("")
        self.faulty.script = {}

    def compare_saved(self, number: int) -> None:
        at = [tree.no for tree in self.trees].index(number)
        assert saved_contents(self.catalog, self.inner, self.records[at].uuid) == self.models[at]


def below(directory: Path_, path: Path_) -> bool:
    return len(path) > len(directory) and path[: len(directory)] == directory


@pytest.mark.parametrize("seed", range(SEEDS))
def test_two_trees_are_two_dictionaries(seed: int, tmp_path: Path) -> None:
    Pair(tmp_path, seed).run()
