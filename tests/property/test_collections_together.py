"""Four collections of one mount whose files are copied and moved between them while commits fail and backends die.

Whatever the order, every file reads as its writer left it, and in the end every collection is saved so: by the mount's
last commits, or by the recovery of a mount that died. Small sizes, so that blocks, log files and tails are many.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from arvfuse.errors import StoreUnavailable
from arvfuse.model.blockstate import State
from arvfuse.sdk.copying import copy_range
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import FileNode
from tests.support.housekeepers import House
from tests.support.sessions import saved_contents
from tests.support.smallsizes import small_sizes

STEPS = 60
LENGTHS = (20, 300, 900, 3000, 6000)


class World:
    """A mount, and what its files should be."""

    def __init__(self, place: Path, seed: int) -> None:
        self.choose = random.Random(seed)
        self.house = House(place)
        self.trees: list[LiveTree] = [self.house.new(name) for name in "abcd"]
        self.contents: list[dict[bytes, bytes]] = [{} for _ in self.trees]
        self.open: list[FileNode] = []
        self.fails = False
        for verb in ("save", "save_many"):
            setattr(self.house.catalog, verb, self._failing_once(getattr(self.house.catalog, verb)))

    def _failing_once(self, save: Callable[..., Any]) -> Callable[..., Any]:
        def saving(*args: Any, **options: Any) -> Any:
            if self.fails:
                self.fails = False
                raise StoreUnavailable("away")
            return save(*args, **options)

        return saving

    def step(self) -> None:
        """Something that a program, a clock or a fault does."""
        number = self.choose.randrange(4)
        tree, names = self.trees[number], self.contents[number]
        what = self.choose.choice(
            [self.write, self.write, self.write, self.copy, self.copy, self.move, self.move, self.unlink, self.cut,
             self.commit, self.commit, self.time, self.fault, self.backend, self.close]
        )  # fmt: skip
        what(tree, names)

    def write(self, tree: LiveTree, names: dict[bytes, bytes]) -> None:
        known = self.choose.random() < 0.5 and sorted(names)
        name = self.choose.choice(known or [b"f%d" % number for number in range(6)])
        file = self.file(tree, name) if name in names else tree.create(tree.root, name)
        before = names.get(name, b"")
        offset = self.choose.randrange(len(before) + 1) if self.choose.random() < 0.7 else len(before)
        data = self.choose.randbytes(self.choose.choice(LENGTHS))
        tree.opened(file, write=True)
        tree.write(file, offset, data)
        names[name] = before[:offset] + data + before[offset + len(data) :]
        if self.choose.random() < 0.8:
            tree.closed(file, write=True)
        else:
            self.open.append(file)

    def copy(self, tree: LiveTree, names: dict[bytes, bytes]) -> None:
        number, target = self.choose.randrange(4), b"c%d" % self.choose.randrange(4)
        into, there = self.trees[number], self.contents[number]
        name = self.choose.choice(sorted(names) or [b""])
        if not names.get(name) or (into is tree and name == target):
            return
        file = self.file(into, target) if target in there else into.create(into.root, target)
        done = copy_range(self.file(tree, name), 0, file, 0, len(names[name]))
        there[target] = names[name][:done] + there.get(target, b"")[done:]

    def move(self, tree: LiveTree, names: dict[bytes, bytes]) -> None:
        number, target = self.choose.randrange(4), b"m%d" % self.choose.randrange(4)
        if names:
            name = self.choose.choice(sorted(names))
            if (self.trees[number], target) != (tree, name):
                tree.rename(tree.root, name, self.trees[number].root, target)
                self.contents[number][target] = names.pop(name)

    def unlink(self, tree: LiveTree, names: dict[bytes, bytes]) -> None:
        if names:
            name = self.choose.choice(sorted(names))
            tree.unlink(tree.root, name)
            del names[name]

    def cut(self, tree: LiveTree, names: dict[bytes, bytes]) -> None:
        if names:
            name = self.choose.choice(sorted(names))
            size = self.choose.randrange(len(names[name]) + 1)
            tree.truncate(self.file(tree, name), size)
            names[name] = names[name][:size]

    def commit(self, tree: LiveTree, _names: object) -> None:
        self.house.keeper.commit([tree])
        self.house.step()
        self.stored(0.8)
        self.house.step()

    def time(self, _tree: object, _names: object) -> None:
        self.stored(0.8)
        self.house.step(2 * self.choose.random())

    def fault(self, _tree: object, _names: object) -> None:
        """The catalog fails once, or the backend answers later."""
        if self.choose.random() < 0.5:
            self.fails = True
        else:
            self.house.backend.hold = True

    def backend(self, _tree: object, _names: object) -> None:
        """It answers at last, or another takes its place, which knows nothing but the log."""
        if self.house.backend.hold:
            self.answer()
        else:
            self.house.backend.committer = self.house.new_committer()

    def close(self, _tree: object, _names: object) -> None:
        if self.open:
            file = self.open.pop(self.choose.randrange(len(self.open)))
            owner(file).closed(file, write=True)

    def answer(self) -> None:
        self.house.backend.hold = False
        self.house.backend.release()
        self.house.step()

    def stored(self, how_many: float) -> None:
        """The backend tells of blocks, or of most of them."""
        for block in self.house.workspace.shared.blocks.all():
            if block.state is State.PENDING and self.choose.random() < how_many:
                self.house.backend.events.append({"event": "stored", "block": block.no})

    def file(self, tree: LiveTree, name: bytes) -> FileNode:
        file = tree.find((name,))
        assert isinstance(file, FileNode)
        return file

    def check_read(self) -> None:
        for tree, names in zip(self.trees, self.contents, strict=True):
            for name, content in names.items():
                assert bytes(tree.read(self.file(tree, name), 0, 1 << 20)) == content

    def check_saved(self) -> None:
        for tree, names in zip(self.trees, self.contents, strict=True):
            saved = saved_contents(self.house.catalog, self.house.backend.store, str(tree.uuid))
            assert saved == {(name,): content for name, content in names.items()}

    def end(self) -> None:
        """All is closed and committed."""
        for file in self.open:
            owner(file).closed(file, write=True)
        for _ in range(6):
            self.house.step(100)
            self.stored(1)
            self.house.step()
        for tree in self.trees:
            done = self.house.keeper.commit([tree])
            self.house.step()
            self.stored(1)
            self.house.step()
            self.house.step()
            done.result(0)

    def die(self) -> None:
        """Whatever was acknowledged is in the log; another process recovers it."""
        self.house.keeper.close()
        outcomes = self.house.new_committer().recover()
        assert [outcome.error for outcome in outcomes if outcome.error] == []


def owner(file: FileNode) -> LiveTree:
    assert isinstance(file.tree, LiveTree)
    return file.tree


@pytest.mark.parametrize("end", [World.end, World.die])
@given(seed=st.integers(0, 1 << 32))
def test_no_file_is_lost_between_collections(end: Callable[[World], None], seed: int) -> None:
    with small_sizes(), tempfile.TemporaryDirectory() as place:
        world = World(Path(place), seed)
        try:
            for _ in range(STEPS):
                world.step()
                world.check_read()
            if world.house.backend.hold:
                world.answer()
            world.fails = False
            end(world)
            world.check_saved()
        finally:
            with suppress(AssertionError):
                world.house.close()
