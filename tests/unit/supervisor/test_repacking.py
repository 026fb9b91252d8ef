"""Which files of a mount are repacked when. Stepped; the backend's part is done by the link of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import StoreUnavailable
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.repacking import is_fragmented, repack
from arvfuse.stores.memory import MemoryStore
from arvfuse.supervisor.repacking import IDLE_S, Repacker, unsettled
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session, put_file


class Scene:
    """A collection, and a repacker whose requests are answered when the test says so."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.session = Session(directory, store=self.store, catalog=make_catalog(), clock=self.clock, pool=InlinePool())
        self.record = self.session.catalog.create(name="c")
        self.tree = self.session.open(self.record)
        self.asked: list[tuple[list[Any], Future[Any]]] = []
        self.repacker = Repacker(self, self.clock, lambda act: act())

    def request(self, op: str, **args: Any) -> Future[Any]:
        assert op == "repack"
        self.asked.append((args["files"], Future()))
        return self.asked[-1][1]

    def answer(self) -> None:
        files, future = self.asked.pop()
        future.set_result({"files": [list(map(list, parts)) for parts in repack(self.store, Path("unused"), files)]})

    def commit(self) -> None:
        files = unsettled([self.tree])
        self.session.committed()
        self.repacker.note(files)

    def fragmented(self, name: bytes = b"f") -> FileNode:
        """A file that was overwritten here and there."""
        file = put_file(self.tree, name, b"a" * 1000)
        self.commit()
        for offset in (100, 300, 500):
            self.tree.write(file, offset, b"b" * 50)
        self.commit()
        assert len(file.parts()) == 7
        return file

    def step(self, seconds: float) -> int:
        self.clock.advance(seconds)
        self.repacker.step()
        return len(self.asked)

    @property
    def version(self) -> int:
        return int(self.session.catalog.get(self.record.uuid).version)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    monkeypatch.chdir(tmp_path)
    scene = Scene(tmp_path / "m")
    yield scene
    scene.session.close()


def test_a_file_that_was_left_alone_is_repacked_once(scene: Scene) -> None:
    file = scene.fragmented()
    before, mtime_ns, version = bytes(scene.tree.read(file, 0, 2000)), file.mtime_ns, scene.version
    assert (scene.step(IDLE_S - 1), "1 files" in repr(scene.repacker)) == (0, True)
    assert scene.step(6) == 1
    assert scene.step(6) == 1  # one at a time
    scene.answer()
    assert scene.tree.dirty
    scene.commit()
    assert (len(file.parts()), bytes(scene.tree.read(file, 0, 2000)), file.mtime_ns) == (1, before, mtime_ns)
    assert scene.version == version + 1
    for _ in range(3):
        assert scene.step(IDLE_S) == 0
    assert not scene.tree.dirty


def test_a_file_that_is_written_again_waits_again(scene: Scene) -> None:
    file = scene.fragmented()
    scene.clock.advance(IDLE_S - 1)
    scene.tree.write(file, 700, b"c")
    assert scene.step(6) == 0
    scene.commit()
    assert scene.step(IDLE_S - 1) == 0
    assert scene.step(6) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda tree, file: tree.write(file, 0, b"changed"),
        lambda tree, file: tree.unlink(tree.root, b"f"),
        lambda tree, file: tree.truncate(file, 5),
    ],
)
def test_a_file_that_changes_meanwhile_stays_as_it_is(change: Callable[..., object], scene: Scene) -> None:
    file = scene.fragmented()
    assert scene.step(IDLE_S + 1) == 1
    scene.tree.opened(file, write=True)
    change(scene.tree, file)
    content = bytes(scene.tree.read(file, 0, 2000))
    scene.answer()
    assert bytes(scene.tree.read(file, 0, 2000)) == content
    scene.commit()
    assert bytes(scene.tree.read(file, 0, 2000)) == content


def test_a_failure_is_told_and_the_file_is_left(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.fragmented()
    scene.step(IDLE_S + 1)
    scene.asked.pop()[1].set_exception(StoreUnavailable("away"))
    assert "1 files are not repacked: away" in caplog.text
    assert scene.step(IDLE_S) == 0


def test_a_round_has_a_limit(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("arvfuse.supervisor.repacking._ROUND_BYTES", 1500)
    scene.fragmented(b"f")
    scene.fragmented(b"g")
    assert scene.step(IDLE_S + 1) == 1
    assert len(scene.asked[0][0]) == 1
    scene.answer()
    assert scene.step(6) == 1


def test_a_file_of_many_segments_is_looked_at_when_it_is_due(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """A commit's end looks at few segments: requests wait for whoever computes in their process."""
    monkeypatch.setattr("arvfuse.supervisor.repacking._AT_ONCE", 6)
    looked_at: list[int] = []

    def look(parts: list[Any]) -> bool:
        looked_at.append(len(parts))
        return is_fragmented(parts)

    monkeypatch.setattr("arvfuse.supervisor.repacking.is_fragmented", look)
    cut_up = scene.fragmented(b"cut up")
    looked_at.clear()
    holes = scene.tree.create(scene.tree.root, b"holes")
    for number in range(7):
        scene.tree.write(holes, number * 4000, b"%d" % number)
    scene.commit()
    assert len(holes.parts()) == 13
    assert looked_at == []
    assert scene.step(IDLE_S + 1) == 1
    assert sorted(looked_at) == [7, 13]
    assert len(scene.asked[0][0]) == 1  # between holes there is nothing to join
    scene.answer()
    assert len(cut_up.parts()) == 1
    assert scene.step(IDLE_S + 1) == 0
    assert "0 files" in repr(scene.repacker)


def test_a_file_that_is_written_while_others_are_looked_at_is_left_out(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("arvfuse.supervisor.repacking._AT_ONCE", 6)
    one, two = scene.fragmented(b"one"), scene.fragmented(b"two")

    def look(parts: list[Any]) -> bool:
        scene.tree.write(one, 0, b"by another thread")
        return is_fragmented(parts)

    with monkeypatch.context() as patch:
        patch.setattr("arvfuse.supervisor.repacking.is_fragmented", look)
        assert scene.step(IDLE_S + 1) == 1
    assert len(scene.asked[0][0]) == 1
    scene.answer()
    assert (len(two.parts()), len(one.parts()) > 1) == (1, True)
    scene.commit()
    assert scene.step(IDLE_S + 1) == 1
    scene.answer()
    assert len(one.parts()) == 1
