"""Files that share buffer blocks move between collections: a block stays until no record of either needs it.

Each commits a third collection, or fails, at the moment at which a block seemed to be covered by the wrong tree."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.errors import LogFailed, NotCommitted, StoreUnavailable
from arvfuse.sdk.copying import copy_range
from arvfuse.sdk.live import EARLY_SEAL_BYTES, LiveTree
from arvfuse.sdk.nodes import FileNode
from tests.support.housekeepers import House
from tests.support.sessions import saved_contents
from tests.support.smallsizes import small_sizes
from tests.support.stores import noise

DATA = noise(EARLY_SEAL_BYTES + 5000)


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    yield house
    house.close()


def commit(house: House, tree: LiveTree) -> None:
    done = house.keeper.commit([tree])
    house.step()
    house.step()
    done.result(0)


def put(tree: LiveTree, name: bytes) -> FileNode:
    """A file that was written and closed, which seals its block."""
    file = tree.create(tree.root, name)
    tree.opened(file, write=True)
    tree.write(file, 0, DATA)
    tree.closed(file, write=True)
    return file


def text(house: House, tree: LiveTree) -> bytes:
    return bytes(house.catalog.manifest(house.catalog.get(str(tree.uuid)).pdh))


@pytest.mark.parametrize("replaced", [False, True])
def test_a_copy_was_committed_and_its_source_moves(house: House, replaced: bool) -> None:
    a, b, c = (house.new(name) for name in "abc")
    source = put(b, b"source")
    copy_range(source, 0, a.create(a.root, b"copy"), 0, len(DATA))
    house.keeper.commit([a])
    house.step()
    house.stored()
    house.step()
    assert (a.dirty, b.dirty) == (False, True)
    b.rename(b.root, b"source", a.root, b"moved")
    house.write(c)
    commit(house, c)
    if replaced:
        house.backend.committer = house.new_committer()
    commit(house, a)
    assert b":moved" in text(house, a)
    assert text(house, b) == b""


@pytest.mark.parametrize("replaced", [False, True])
def test_a_copy_moves_on_before_it_was_committed(house: House, replaced: bool) -> None:
    a, b, c, d = (house.new(name) for name in "abcd")
    copy = a.create(a.root, b"copy")
    copy_range(put(b, b"source"), 0, copy, 0, len(DATA))
    house.write(d)
    commit(house, d)
    house.stored()
    commit(house, b)
    a.rename(a.root, b"copy", d.root, b"moved")
    house.write(c)
    commit(house, c)
    if replaced:
        house.backend.committer = house.new_committer()
    commit(house, d)
    assert b":moved" in text(house, d)


@pytest.mark.parametrize("replaced", [False, True])
def test_the_commit_after_a_move_fails_once(house: House, replaced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = house.new("a"), house.new("b")
    put(b, b"file")
    house.write(a)
    commit(house, a)
    house.stored()
    b.rename(b.root, b"file", a.root, b"moved")

    def away(*_args: object, **_options: object) -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(house.catalog, "save_many", away)
        with pytest.raises(NotCommitted):
            commit(house, a)
    if replaced:
        house.backend.committer = house.new_committer()
    commit(house, a)
    assert b":moved" in text(house, a)
    house.keeper.close()
    assert list((house.workspace.directory / "spool").glob("*")) == []


def test_nothing_is_dropped_before_the_log_has_what_let_it_go(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its change would be gone after a death, and the copy that the log tells of would want its bytes."""
    a, b = house.new("a"), house.new("b")
    copy = a.create(a.root, b"copy")
    copy_range(put(b, b"source"), 0, copy, 0, len(DATA))
    workspace = house.workspace
    flush, drop, seen = workspace.log.flush, workspace.shared.blocks.drop, list[bool]()

    def dropping(number: int, *, later: bool = False) -> object:
        seen.append(workspace.log.flushed_seq >= a.changed_seq)
        return drop(number, later=later)

    def tidied_meanwhile(seq: int) -> None:
        monkeypatch.setattr(workspace.log, "flush", flush)
        workspace.tidy()
        flush(seq)

    _, seq = workspace.commit_point([b])
    workspace.take_in(house.committer.commit([b.no], seq))
    for block in workspace.shared.blocks.all():
        workspace.stored(block.no)
    monkeypatch.setattr(workspace.shared.blocks, "drop", dropping)
    monkeypatch.setattr(workspace.log, "flush", tidied_meanwhile)
    a.truncate(copy, 0)
    assert seen == [True]


def test_nothing_is_dropped_if_the_log_cannot_take_what_let_it_go(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = house.new()
    put(tree, b"file")
    _, seq = house.workspace.commit_point([tree])
    house.workspace.take_in(house.committer.commit([tree.no], seq))
    for block in house.workspace.shared.blocks.all():
        house.workspace.stored(block.no)

    def full(_seq: int) -> None:
        raise LogFailed("full")

    with monkeypatch.context() as patch:
        patch.setattr(house.workspace.log, "flush", full)
        assert not house.workspace.tidy()
    assert len(house.workspace.shared.blocks.all()) == 1
    assert house.workspace.tidy()
    assert house.workspace.shared.blocks.all() == []


def test_two_copies_are_left_when_the_log_with_the_seal_is_gone_and_the_backend_is_replaced(tmp_path: Path) -> None:
    """A new backend has not read what the block was sealed with, only what each copy uses of it."""
    with small_sizes():
        house = House(tmp_path)
        a, b, c = (house.new(name) for name in "abc")
        source = put(b, b"source")
        for number in range(12):
            house.write(c, b"%d" % number, noise(500))
        first = house.workspace.log.numbers()[0]
        for name, start in ((b"end", 3000), (b"begin", 0)):
            copy_range(source, start, a.create(a.root, name), 0, 1000)  # of one piece
        house.stored()
        commit(house, b)
        commit(house, c)
        assert first not in house.workspace.log.numbers()
        house.backend.committer = house.new_committer()
        commit(house, a)
        saved = saved_contents(house.catalog, house.backend.store, str(a.uuid))
        assert saved == {(b"begin",): DATA[:1000], (b"end",): DATA[3000:4000]}
        house.close()
