"""A tree as a dictionary, and random changes that mean the same to it and to a live tree."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import NamedTuple

from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode
from tests.support.sessions import Contents, Path_, node_at
from tests.support.stores import noise

DIRECTORIES: list[Path_] = [(), (b"one",), (b"one", b"two"), (b"\xfe not text",)]
NAMES = [b"a", b"b", b"c with space", b"\xffd", b"e:1"]
SMALL = (1, 100, 4096, 70_000)
BIG = (1, 4096, 300_000, 1_500_000, 3_000_000)


class Change(NamedTuple):
    """One change: *verb* is write, truncate, create, mkdir, rename, unlink, rmdir."""

    verb: str
    path: Path_
    to: Path_ = ()
    offset: int = 0
    size: int = 0
    seed: int = 0

    @property
    def data(self) -> bytes:
        """What a write writes."""
        return noise(self.size, self.seed)


def changes(seed: int, sizes: tuple[int, ...] = SMALL) -> Iterator[Change]:
    """Changes that succeed one after the other on a tree that is empty at first; the same ones for a seed."""
    chance = random.Random(seed)
    model: Contents = {}
    while True:
        change = _draw(chance, model, sizes)
        if change is not None:
            apply_to_model(model, change)
            yield change


def apply_to_model(model: Contents, change: Change) -> None:
    """The change in the dictionary."""
    old = model.get(change.path)
    match change.verb:
        case "create":
            model.setdefault(change.path, b"")
        case "mkdir":
            model[change.path] = None
        case "write":
            assert old is not None
            end = change.offset + change.size
            grown = old.ljust(end, b"\0")
            model[change.path] = grown[: change.offset] + change.data + grown[end:]
        case "truncate":
            assert old is not None
            model[change.path] = old[: change.size].ljust(change.size, b"\0")
        case "unlink" | "rmdir":
            del model[change.path]
        case "rename":
            for path in [path for path in model if path[: len(change.path)] == change.path]:
                model[change.to + path[len(change.path) :]] = model.pop(path)
        case verb:
            raise AssertionError(verb)


def apply_to_tree(tree: LiveTree, change: Change) -> None:
    """The same change in a live tree."""
    parent = node_at(tree, change.path[:-1])
    assert isinstance(parent, DirNode)
    name = change.path[-1]
    match change.verb:
        case "create":
            tree.create(parent, name)
        case "mkdir":
            tree.mkdir(parent, name)
        case "write" | "truncate":
            file = tree.lookup(parent, name)
            assert isinstance(file, FileNode)
            if change.verb == "write":
                tree.write(file, change.offset, change.data)
            else:
                tree.truncate(file, change.size)
        case "unlink":
            tree.unlink(parent, name)
        case "rmdir":
            tree.rmdir(parent, name)
        case "rename":
            target = node_at(tree, change.to[:-1])
            assert isinstance(target, DirNode)
            tree.rename(parent, name, target, change.to[-1])


def _draw(chance: random.Random, model: Contents, sizes: tuple[int, ...]) -> Change | None:
    """A change that succeeds on *model*, or None if the dice gave one that does not."""
    verb = chance.choice(["write"] * 6 + ["create", "create", "rename", "truncate", "unlink", "mkdir", "rmdir"])
    parent = chance.choice([path for path in DIRECTORIES if not path or model.get(path, b"") is None])
    path = (*parent, chance.choice(NAMES))
    files = sorted(path for path, data in model.items() if data is not None)
    if verb == "create":
        return Change("create", path)
    if verb == "mkdir":
        made = chance.choice(DIRECTORIES[1:])
        ready = made not in model and (len(made) == 1 or model.get(made[:-1], b"") is None)
        return Change("mkdir", made) if ready else None
    if verb == "rmdir":
        empty = [each for each, data in sorted(model.items()) if data is None and not _below(model, each)]
        return Change("rmdir", chance.choice(empty)) if empty else None
    if not files:
        return None
    file = chance.choice(files)
    content = model[file] or b""
    if verb == "write":
        offset = chance.choice([0, len(content), chance.randrange(len(content) + 1), len(content) + 10])
        return Change("write", file, offset=offset, size=chance.choice(sizes), seed=chance.randrange(1 << 30))
    if verb == "truncate":
        size = chance.choice([0, len(content) // 2, len(content) + 5000])
        return Change("truncate", file, size=size)
    if verb == "unlink":
        return Change("unlink", file)
    return Change("rename", file, to=path) if path != file else None


def _below(model: Contents, directory: Path_) -> bool:
    return any(path[:-1] == directory for path in model)
