"""What a clean tree took in needs no commit: it is the version that others saved, and what comes builds on that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.backend.lookups import Lookups
from arvfuse.errors import LogFailed
from arvfuse.model.collections import Save
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import log_numbers
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.taking import take_effects
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import MOUNT, Session, contents, node_at, put_file, recovered, saved_contents
from tests.support.smallsizes import small_sizes


class World:
    """A mount with one open collection, which others save too."""

    def __init__(self, directory: Path) -> None:
        self.session = Session(directory, store=MemoryStore(), catalog=make_catalog(), pool=InlinePool())
        self.catalog, self.store = self.session.catalog, self.session.store
        self.uuid = self.catalog.create(name="c", manifest=self.text(0)).uuid
        self.tree: LiveTree = self.session.open(self.catalog.get(self.uuid))
        self.number = 0

    def text(self, number: int) -> bytes:
        kept, name = self.store.put(b"kept"), b"their%d" % number
        return b". %b 0:4:kept 0:4:%b\n./dir %b 0:2:in\n" % (kept.encode(), name, kept.encode())

    def save_elsewhere(self) -> None:
        self.number += 1
        text, record = self.text(self.number), self.catalog.get(self.uuid)
        self.catalog.save(Save(uuid=self.uuid, expect=record.version, pdh=pdh(text), manifest=text))

    def refreshing(self) -> Outcome:
        answer = Lookups(self.catalog, self.session.directory).answer(
            "refresh", {"tree": self.tree.no, "uuid": self.uuid, "pdh": self.tree.pdh}
        )
        return Outcome.from_json({**answer["outcome"], "seq": self.tree.asof})

    def refresh(self) -> None:
        self.save_elsewhere()
        self.session.workspace.take([self.refreshing()])

    def restart(self) -> None:
        """The backend dies; another one goes on from the log."""
        self.session.committer.close()
        self.session.committer = Committer(
            directory=self.session.directory, mount=MOUNT, store=self.store, catalog=self.catalog,
            clock=FakeClock(), pool=InlinePool(), on_stored=self.session.workspace.stored,
        )  # fmt: skip

    def saved(self) -> object:
        return saved_contents(self.catalog, self.store, self.uuid)

    def their(self, **more: bytes) -> object:
        theirs = {(b"their%d" % self.number,): b"kept", (b"kept",): b"kept", (b"dir",): None, (b"dir", b"in"): b"ke"}
        return theirs | {(name.encode(),): data for name, data in more.items()}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with small_sizes():
        world = World(tmp_path)
        yield world
        world.session.close()


def test_it_is_clean_and_has_the_version(world: World) -> None:
    for _ in range(3):
        world.refresh()
        record = world.catalog.get(world.uuid)
        assert not world.tree.dirty
        assert (world.tree.first_change, world.tree.last_change) == (0, 0)
        assert (world.tree.version, world.tree.pdh) == (record.version, record.pdh)
        assert contents(world.tree) == world.their() == world.saved()


@pytest.mark.parametrize("rounds", [1, 40], ids=["one log file", "log files that went"])
@pytest.mark.parametrize("way", ["commit", "kill", "new backend"])
def test_what_is_changed_then_is_added_to_that(world: World, rounds: int, way: str) -> None:
    """Also if nobody but us has read what we took in: the log files may have gone meanwhile."""
    below = node_at(world.tree, (b"dir",))
    put_file(world.tree, b"first", b"so that the committer knows the tree")
    world.session.committed()
    for _ in range(rounds):
        world.refresh()
    put_file(world.tree, b"ours", b"mine", world.tree.root)
    world.tree.write(node_at(world.tree, (b"kept",)), 0, b"K")  # type: ignore[arg-type] # a file
    world.tree.rename(world.tree.root, b"dir", world.tree.root, b"moved")
    assert node_at(world.tree, (b"moved",)) is below
    assert (log_numbers(world.session.directory)[0] > 1) == (rounds > 1)
    if way == "kill":
        world.session.close()
        recovered(world.session.directory, store=world.store, catalog=world.catalog)
    else:
        if way == "new backend":
            world.restart()
        world.session.committed()
    expected = {
        (b"their%d" % world.number,): b"kept", (b"kept",): b"Kept", (b"ours",): b"mine",
        (b"moved",): None, (b"moved", b"in"): b"ke",
    }  # fmt: skip
    assert world.saved() == expected
    if way != "kill":
        assert contents(world.tree) == expected


def test_what_a_commit_merged_needs_no_second_one(world: World) -> None:
    put_file(world.tree, b"ours", b"mine")
    world.save_elsewhere()
    world.session.committed()
    assert not world.tree.dirty
    assert world.tree.pdh == world.catalog.get(world.uuid).pdh
    assert contents(world.tree) == world.saved() == world.their(ours=b"mine")
    world.refresh()
    put_file(world.tree, b"more", b"of ours")
    world.session.committed()
    assert world.saved() == {(b"their2",): b"kept", (b"kept",): b"kept", (b"dir",): None, (b"dir", b"in"): b"ke",
                             (b"more",): b"of ours"} == contents(world.tree)  # fmt: skip


@pytest.mark.parametrize("what", ["changed since", "open for writing"])
def test_where_something_is_ours_a_commit_is_needed(world: World, what: str) -> None:
    world.save_elsewhere()
    outcome = world.refreshing()
    if what == "changed since":
        put_file(world.tree, b"ours", b"mine")
    else:
        world.tree.opened(node_at(world.tree, (b"kept",)), write=True)  # type: ignore[arg-type] # a file
        effects = (*outcome.effects, ["put", ["kept"], [[2, world.store.put(b"kept"), 0]]])
        outcome = Outcome.from_json(outcome.to_json() | {"effects": effects})
    take_effects(world.tree, outcome)
    assert world.tree.dirty
    assert world.tree.first_change
    world.session.committed()
    assert contents(world.tree) == world.saved()


def test_what_the_log_refused_is_not_built_upon(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    before = world.tree.asof

    def refuse(seq: int) -> None:
        raise LogFailed("full")

    world.save_elsewhere()
    outcome = world.refreshing()
    with monkeypatch.context() as full:
        full.setattr(world.session.workspace.log, "flush", refuse)
        with pytest.raises(LogFailed):
            take_effects(world.tree, outcome)
    assert world.tree.asof == before
    assert not world.tree.dirty
