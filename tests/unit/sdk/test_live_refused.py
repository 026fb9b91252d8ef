"""A request that the log could not take has changed nothing: not for who reads next, and not for a recovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from arvfuse.errors import LogFailed
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import log_path
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session, contents, node_at, put_file, recovered, saved_contents
from tests.support.smalldisk import files_end_at
from tests.support.stores import noise

BIG = noise(SMALL_BYTES + 100)


class Scene:
    """Two collections with what each refused request needs."""

    def __init__(self, directory: Path) -> None:
        self.session = Session(directory, store=MemoryStore(), catalog=make_catalog(), pool=InlinePool())
        self.records = [self.session.catalog.create(name=name) for name in ("one", "two")]
        self.one, self.two = map(self.session.open, self.records)
        put_file(self.one, b"committed", b"in the store")
        self.session.committed()
        directory_node = self.one.mkdir(self.one.root, b"dir")
        put_file(self.one, b"inside", b"inside", directory_node)
        put_file(self.one, b"small", b"0123456789")
        put_file(self.one, b"big", BIG)
        put_file(self.two, b"other", b"other")
        for name in (b"filler", b"filler too"):  # so that the log is longer than what is written to the spool
            put_file(self.two, name, bytes(SMALL_BYTES - 10))

    def node(self, *path: bytes) -> FileNode:
        node = node_at(self.one, path)
        assert isinstance(node, FileNode)
        return node

    @property
    def dir(self) -> DirNode:
        node = node_at(self.one, (b"dir",))
        assert isinstance(node, DirNode)
        return node

    def state(self) -> object:
        return [(contents(tree), tree.dirty, tree.last_change) for tree in (self.one, self.two)]

    def unsettled(self) -> set[int]:
        return {*self.one.unsettled, *self.two.unsettled}


REFUSED: dict[str, Callable[[Scene, LiveTree], object]] = {
    "create": lambda s, t: t.create(t.root, b"new"),
    "mkdir": lambda s, t: t.mkdir(t.root, b"new"),
    "unlink": lambda s, t: t.unlink(t.root, b"small"),
    "unlink a big one": lambda s, t: t.unlink(t.root, b"big"),
    "remove a tree": lambda s, t: t.remove_tree(t.root, b"dir"),
    "rename": lambda s, t: t.rename(t.root, b"small", s.dir, b"moved"),
    "replace": lambda s, t: t.rename(t.root, b"small", t.root, b"big"),
    "move": lambda s, t: t.rename(t.root, b"dir", s.two.root, b"dir"),
    "move a file over another": lambda s, t: t.rename(t.root, b"big", s.two.root, b"other"),
    "write": lambda s, t: t.write(s.node(b"small"), 5, b"abcdefghijklmno"),
    "write to what is committed": lambda s, t: t.write(s.node(b"committed"), 3, b"changed"),
    "append": lambda s, t: t.append(s.node(b"small"), b"more"),
    "write more of a big one": lambda s, t: t.write(s.node(b"big"), len(BIG) + 5, b"more"),
    "become big": lambda s, t: t.write(s.node(b"small"), 2, b"x"),
    "cut": lambda s, t: t.truncate(s.node(b"small"), 3),
    "empty": lambda s, t: t.truncate(s.node(b"big"), 0),
    "grow": lambda s, t: t.truncate(s.node(b"small"), 1000),
    "copy": lambda s, t: t.set_content(s.node(b"big"), [(5, -1, 0)]),
}


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    scene = Scene(tmp_path)
    yield scene
    scene.session.close()


@pytest.mark.parametrize("refused", REFUSED.values(), ids=REFUSED)
def test_a_refused_change_is_not_there(refused: Callable[[Scene, LiveTree], object], scene: Scene) -> None:
    before, unsettled = scene.state(), scene.unsettled()
    number = scene.session.workspace.log.file_number
    with files_end_at(log_path(scene.session.directory, number).stat().st_size + 10):
        for _ in range(2):  # the first finds out, the second knows
            try:
                refused(scene, scene.one)
            except LogFailed:
                continue
            raise AssertionError("the disk took it")
    after = scene.state()
    assert after == before
    assert scene.unsettled() >= unsettled  # log and spool files that are needed still are kept
    scene.session.close()
    recovered(scene.session.directory, store=scene.session.store, catalog=scene.session.catalog)
    for record, (content, *_) in zip(scene.records, after, strict=True):  # type: ignore[call-overload] # a list
        assert saved_contents(scene.session.catalog, scene.session.store, record.uuid) == content  # type: ignore[arg-type]


def test_what_a_refused_writer_of_a_block_leaves_holds_no_commit_point_up(scene: Scene) -> None:
    """Nobody waits for a write that has ended."""
    file = scene.node(b"big")
    number = scene.session.workspace.log.file_number
    with files_end_at(log_path(scene.session.directory, number).stat().st_size + 10), pytest.raises(LogFailed):
        scene.one.mkdir(scene.one.root, b"new")
    with pytest.raises(LogFailed):
        scene.one.write(file, len(BIG) + 5, b"more")
    with pytest.raises(LogFailed):
        scene.session.workspace.commit_point([scene.one])


def test_a_handle_can_be_closed_when_the_log_has_failed(scene: Scene) -> None:
    file = scene.node(b"big")
    scene.one.opened(file, write=True)
    scene.one.unlink(scene.one.root, b"big")
    number = scene.session.workspace.log.file_number
    with files_end_at(log_path(scene.session.directory, number).stat().st_size + 10), pytest.raises(LogFailed):
        scene.one.mkdir(scene.one.root, b"new")
    scene.one.closed(file, write=True)
    assert (file.handles, file.writers) == (0, 0)
