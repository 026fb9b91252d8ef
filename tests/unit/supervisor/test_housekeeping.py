"""The housekeeper: when it commits, what it does with outcomes and events. Stepped: no thread, a clock of the test."""

from __future__ import annotations

import threading

import pytest

from arvfuse.backend.messages import encode_change, encode_error
from arvfuse.errors import NotCommitted, StoreUnavailable
from arvfuse.model.collections import Change, Save, Version
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.closing import TREE_BYTES
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from arvfuse.supervisor.housekeeping import Backend, Housekeeper, Shown, Timing
from tests.support.housekeepers import FakeShown, House

PATIENCE_S = 20


@pytest.fixture
def house(tmp_path):
    house = House(tmp_path)
    yield house
    house.close()


def test_a_collection_is_committed_when_it_was_quiet_for_a_second(house):
    keeper: Housekeeper = house.keeper
    link: Backend = house.backend
    assert Timing() == Timing(quiet_s=1.0, deadline_s=30.0)
    assert keeper.troubles == []
    assert link.next_event(0) is None
    tree = house.new()
    house.write(tree)
    assert house.step() == 0
    house.step(0.9)
    house.write(tree, b"more")
    assert house.step(0.9) == 0
    assert house.step(0.2) == 1
    house.step()
    assert not tree.dirty
    assert house.version(tree) == 2
    assert house.backend.told == house.workspace.log.flushed_seq


def test_a_collection_that_is_never_quiet_is_committed_at_the_deadline(house):
    tree = house.new()
    for number in range(59):
        house.write(tree, b"file%d" % number)
        assert house.step(0.5) == 0
    house.write(tree, b"last")
    assert house.step(0.6) == 1


def test_only_what_is_quiet_is_committed(house):
    quiet, busy = house.new("quiet"), house.new("busy")
    house.write(quiet)
    house.step(0.9)
    house.write(busy)
    assert house.step(0.2) == 1
    assert house.backend.commits[0]["trees"] == [quiet.no]


def test_an_unasked_commit_waits_as_long_as_the_last_one_took(house):
    tree = house.new()
    house.write(tree)
    house.backend.hold = True
    assert house.step(1.1) == 1
    house.clock.advance(10)  # the commit takes 10 s
    house.write(tree, b"more")
    house.backend.hold = False
    house.backend.release()
    house.step()
    assert house.step(5) == 1
    assert house.step(6) == 2


def test_one_commit_runs_at_a_time_and_asked_ones_do_not_wait_for_quiet(house):
    one, two = house.new("one"), house.new("two")
    house.write(one)
    house.write(two)
    house.backend.hold = True
    first, second = house.keeper.commit([one]), house.keeper.commit([two], keep_previous=True)
    assert house.step() == 1
    assert house.step() == 1
    house.backend.release()
    assert house.step() == 2
    house.backend.release()
    house.step()
    assert first.result(0)[0].uuid == one.uuid
    assert second.result(0)[0].uuid == two.uuid
    assert [commit["keep_previous"] for commit in house.backend.commits] == [False, True]


def test_asking_for_what_is_clean_commits_nothing(house):
    tree = house.new()
    done = house.keeper.commit([tree])
    assert house.step() == 0
    assert done.result(0) == []


def test_nobody_waits_until_something_is_deleted(house, monkeypatch):
    tree, deletes, begun = house.new(), threading.Event(), threading.Semaphore(0)
    blocks = house.workspace.shared.blocks
    unlink = blocks.unlink_left
    monkeypatch.setattr(blocks, "unlink_left", lambda: (begun.release(), deletes.wait(PATIENCE_S), unlink()))
    for name in (b"one", b"two"):
        house.write(tree, name, content=b"x" * (2 << 20))
        house.backend.hold = True
        asked = house.keeper.commit([tree])
        house.step()
        house.stored()
        house.backend.hold = False
        house.backend.release()
        house.step()
        assert asked.done()
    assert begun.acquire(timeout=PATIENCE_S)
    spool = house.workspace.directory / "spool"
    assert len(list(spool.iterdir())) == 2
    deletes.set()
    house.keeper.close()
    assert list(spool.iterdir()) == []


def test_a_failure_is_told_to_who_asked_and_tried_again_later_and_later(house):
    tree = house.new()
    house.write(tree)
    house.backend.down = True
    done = house.keeper.commit([tree])
    assert house.step() == 1
    house.step()
    assert isinstance(done.exception(0), StoreUnavailable)
    assert tree.dirty
    assert house.step(0.5) == 1
    assert house.step(0.6) == 2
    house.step()
    assert house.step(1.5) == 2
    house.backend.down = False
    assert house.step(0.6) == 3
    house.step()
    assert not tree.dirty


def test_a_tree_that_could_not_be_committed_fails_the_request(tmp_path):
    house = House(tmp_path, store=Faulty(MemoryStore(), script="barrier: FAIL"))
    tree = house.new()
    house.write(tree)
    done = house.keeper.commit([tree])
    house.step()
    house.step()
    with pytest.raises(NotCommitted, match=tree.uuid):
        done.result(0)
    house.step(1.1)
    house.step()
    assert not tree.dirty
    house.close()


def test_a_spool_that_is_half_full_is_committed_at_once(tmp_path):
    house = House(tmp_path, spool_bytes=1 << 20)
    tree = house.new()
    house.write(tree, content=b"x" * (600 << 10))
    assert house.step() == 1
    house.close()


def test_content_of_a_record_that_is_gone_is_a_trouble_of_the_unmount(house):
    tree = house.new()
    house.write(tree)
    house.catalog.trash(tree.uuid)
    house.step(2)
    house.step()
    assert [tree.uuid in trouble for trouble in house.keeper.troubles] == [True]


def change(record, writer="other"):
    return Change(
        uuid=record.uuid,
        kind="collection",
        event="update",
        version=record.version,
        pdh=record.pdh,
        owner=record.owner,
        old_owner=record.owner,
        writer=writer,
    )


def changed_elsewhere(house, tree, text=b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:theirs\n", *, echo=False):
    record = house.catalog.get(tree.uuid)
    saved = house.catalog.save(Save(uuid=tree.uuid, expect=record.version, pdh=pdh(text), manifest=text))
    house.backend.events.append({"event": "changed", "changes": [encode_change(change(saved)) | {"echo": echo}]})
    return saved


def show(house):
    """Let the housekeeper tell a FakeShown, without its thread."""
    shown = FakeShown()
    told: Shown = shown
    house.keeper._shown = told
    return shown


def test_a_clean_tree_takes_what_changed_elsewhere(house):
    shown, tree = show(house), house.new()
    saved = changed_elsewhere(house, tree)
    house.step()
    house.step()
    assert [name for name, _ in tree.entries(tree.root)] == [b"theirs"]
    assert (tree.version, tree.pdh) == (saved.version, saved.pdh)
    assert shown.names == [b"theirs"]
    assert shown.records == [tree.uuid]


def test_one_change_elsewhere_after_the_other_is_taken_at_once(house):
    """What was taken in is the version that the record has: nothing is to be committed before the next is taken in."""
    shown, tree = show(house), house.new()
    texts = [b". acbd18db4cc2f85cedef654fccc4a4d8+3 0:3:theirs%d\n" % number for number in range(3)]
    for text in texts:
        saved = changed_elsewhere(house, tree, text)
        house.step()
        house.step()
        assert not tree.dirty
        assert (tree.version, tree.pdh) == (saved.version, saved.pdh)
    assert [name for name, _ in tree.entries(tree.root)] == [b"theirs2"]
    assert shown.names == [b"theirs0", b"theirs0", b"theirs1", b"theirs1", b"theirs2"]
    assert house.step(60) == 0
    house.write(tree, b"ours")
    assert tree.dirty
    assert house.step(1.1) == 1
    house.step()
    assert b"ours" in house.catalog.manifest(house.catalog.get(tree.uuid).pdh)
    assert b"theirs2" in house.catalog.manifest(house.catalog.get(tree.uuid).pdh)


def test_an_echo_of_our_own_costs_nothing(house):
    shown, tree = show(house), house.new()
    changed_elsewhere(house, tree, echo=True)
    house.step()
    assert shown.records == []
    assert tree.entries(tree.root) == []


def test_a_record_in_the_trash_is_told_and_not_asked_for(house, caplog):
    shown, tree = show(house), house.new()
    gone = change(house.catalog.get(tree.uuid))._replace(event="trash", pdh=None)
    house.catalog.trash(tree.uuid)
    house.backend.events.append({"event": "changed", "changes": [encode_change(gone) | {"echo": False}]})
    house.step()
    house.step()
    assert shown.records == [tree.uuid]
    assert "not refreshed" not in caplog.text


def test_what_changed_on_both_sides_is_merged_by_the_commit(house):
    shown, tree = show(house), house.new()
    house.write(tree, b"ours")
    changed_elsewhere(house, tree)
    assert house.step() == 0
    assert house.step(1.1) == 1
    house.step()
    house.step(2)
    house.step(2)
    assert [name for name, _ in tree.entries(tree.root)] == [b"ours", b"theirs"]
    assert shown.names == [b"theirs"]
    assert b":ours" in house.catalog.manifest(house.catalog.get(tree.uuid).pdh)
    assert not tree.dirty


@pytest.mark.parametrize(
    ("event", "state"),
    [({"event": "stored"}, "COMMITTED"), ({"event": "failed", "error": encode_error(StoreUnavailable("x"))}, "ERROR")],
)
def test_blocks_that_are_stored_or_failed_are_passed_on(house, event, state):
    tree = house.new()
    house.write(tree, content=b"x" * (2 << 20))
    house.backend.hold = True
    house.keeper.commit([tree])
    house.step()
    (block,) = house.workspace.shared.blocks.all()
    assert block.state.name == "PENDING"
    house.backend.events.append({**event, "block": block.no})
    house.step()
    assert block.state.name == state


def test_the_backend_forgets_the_blocks_that_nobody_needs(house):
    tree = house.new()
    for name in (b"one", b"two"):
        house.write(tree, name, content=b"x" * (2 << 20))
    house.backend.hold = True
    house.keeper.commit([tree])
    house.step()
    numbers = house.stored()
    assert house.backend.forgotten == []  # its commit has a use for them
    house.backend.hold = False
    house.backend.release()
    house.step()
    assert house.workspace.shared.blocks.all() == []
    assert house.backend.forgotten == numbers
    house.write(tree, b"three")
    house.keeper.commit([tree])
    house.step()
    house.step()
    assert house.backend.forgotten == numbers


def test_the_backend_forgets_a_block_that_it_could_not_store(house):
    tree = house.new()
    house.write(tree, content=b"x" * (2 << 20))
    house.workspace.commit_point([tree])
    (block,) = house.workspace.shared.blocks.all()
    house.backend.events.append({"event": "failed", "block": block.no, "error": encode_error(StoreUnavailable("x"))})
    tree.unlink(tree.root, b"file")
    house.step(1.1)
    house.step()
    assert house.workspace.shared.blocks.all() == []
    assert house.backend.forgotten == [block.no]


def test_a_read_only_mount_never_commits_unasked(tmp_path):
    house = House(tmp_path, read_write=False)
    tree = house.new()
    house.write(tree)
    assert house.step(1000) == 0
    house.close()


def test_the_thread_ends_when_it_is_closed_and_fails_what_comes_later(house):
    tree = house.new()
    house.write(tree)
    house.keeper.start(FakeShown())
    assert house.keeper.commit([tree]).result(PATIENCE_S)[0].uuid == tree.uuid
    house.keeper.close()
    house.keeper.close()
    with pytest.raises(StoreUnavailable):
        house.keeper.commit([tree]).result(PATIENCE_S)
    assert "failure=None" in repr(house.keeper)
    assert Version(2) == house.version(tree)


def test_nodes_in_memory_keep_within_half_of_what_may_be_used(tmp_path):
    house = House(tmp_path, memory_bytes=2 * (TREE_BYTES + 450 * 8))
    shown = show(house)
    tree = house.new()
    shown.in_use = {tree.no}
    inner = tree.mkdir(tree.root, b"inner")
    for number in range(20):
        tree.write(tree.create(inner, b"%d" % number), 0, b"foo")
    house.step(1.1)  # commits; what is not committed stays
    assert len(inner.entries) == 20
    house.step(6)  # has the text opened
    house.step()
    house.step(6)
    assert inner.entries is None
    assert tree.read(tree.lookup(inner, b"7"), 0, 9) == b"foo"
    house.close()


def test_an_outcome_that_cannot_be_taken_in_is_a_commit_that_failed(house, tmp_path, caplog):
    tree = house.new()
    house.write(tree)
    house.backend.hold = True
    asked = house.keeper.commit([tree])
    house.step()
    house.backend.release()
    (table,) = (tmp_path / "moved").iterdir()
    hidden = table.rename(tmp_path / "hidden")
    house.step()
    with pytest.raises(NotCommitted, match="what a commit moved"):
        asked.result(0)
    assert tree.dirty
    assert "tried again in 1 s" in caplog.text
    hidden.rename(table)
    house.backend.hold = False
    house.step(1.0)
    house.step()
    assert not tree.dirty
    house.write(tree, b"more")
    house.step(2.0)
    house.step()
    assert not tree.dirty


def test_a_fragmented_file_is_repacked_when_it_was_left_alone_in_one_save(house):
    tree = house.new()
    file = tree.create(tree.root, b"file")
    for offset, length in ((0, 200), (100, 10), (50, 10), (25, 10), (75, 10)):
        tree.write(file, offset, b"x" * length)
        house.step(2.0)
        house.step()
    before, version = len(file.parts()), house.version(tree)
    for _ in range(11):
        house.step(5.0)
    assert house.version(tree) == version
    for _ in range(60):
        house.step(5.0)
    assert (before > len(file.parts()), house.version(tree)) == (True, version + 1)


def test_trees_that_nobody_uses_are_closed_the_longest_unused_first(tmp_path):
    house = House(tmp_path, memory_bytes=2 * 3 * 6000)
    shown = show(house)
    trees = [house.new(f"c{number}") for number in range(6)]
    house.write(trees[0])
    house.step(1.1)  # commits the changed one
    shown.in_use = {trees[1].no, trees[2].no}
    house.step(4)
    house.step(2)
    house.step(6)
    assert trees[1] not in shown.closed
    assert trees[2] not in shown.closed
    assert len(house.workspace.trees) == 3
    assert all(tree.retired == (tree in shown.closed) == (tree not in house.workspace.trees) for tree in trees)
    house.close()


def test_trees_with_changes_stay_open(tmp_path):
    house = House(tmp_path, memory_bytes=1000)
    shown = show(house)
    house.backend.down = True
    tree = house.new()
    house.write(tree)
    for _ in range(4):
        house.step(6)
    assert (shown.closed, tree.retired) == ([], False)
    house.close()
