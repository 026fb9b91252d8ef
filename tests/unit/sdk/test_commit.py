"""The committer: what a log says becomes blocks and a record, also when the one who wrote it is dead."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import CommitConflict, NoSuchRecord, StoreUnavailable
from arvfuse.model import records
from arvfuse.model.collections import CollectionRecord, MountId, Save
from arvfuse.model.manifests import Manifest
from arvfuse.model.normalizing import pdh
from arvfuse.sdk.checkpoints import ask
from arvfuse.sdk.commit import RECORD_KINDS, SAVE_TRIES, Committer, Saving
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.moved import Moved
from arvfuse.sdk.nodes import FileNode
from arvfuse.sdk.outcome import Outcome
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool
from tests.support.sessions import MOUNT, Contents, Session, contents, put_file, recover, saved_contents
from tests.support.stepper import Stepper
from tests.support.stores import noise

BIG = noise(SMALL_BYTES + 100)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def catalog(clock: FakeClock) -> MemoryCatalog:
    return MemoryCatalog(clock=clock)


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore())


@pytest.fixture
def session(tmp_path: Path, store: Faulty, catalog: MemoryCatalog, clock: FakeClock) -> Iterator[Session]:
    with Session(tmp_path / "m", store=store, catalog=catalog, clock=clock, pool=InlinePool()) as session:
        yield session


def committer(session: Session, catalog: Any = None, pool: Any = None) -> Committer:
    """A second committer on the same directory, as a restarted backend has."""
    return Committer(
        directory=session.directory, mount=MOUNT, store=session.store, catalog=catalog or session.catalog,
        clock=session.clock, pool=pool or InlinePool(),
    )  # fmt: skip


def saved(session: Session, record: CollectionRecord) -> Contents:
    return saved_contents(session.catalog, session.store, record.uuid)


def commit_untaken(session: Session, *trees: LiveTree, by: Committer | None = None) -> list[Outcome]:
    """A commit of which the live side never hears."""
    chosen, seq = session.workspace.commit_point(trees or session.workspace.trees)
    return (by or session.committer).commit([tree.no for tree in chosen], seq)


def elsewhere(session: Session, record: CollectionRecord, tmp_path: Path, name: bytes, data: bytes) -> None:
    """Somebody else saves a file to the record."""
    with Session(
        tmp_path / "elsewhere",
        store=session.store,
        catalog=session.catalog,
        clock=session.clock,
        pool=InlinePool(),
        mount=MountId("m2"),
    ) as other:
        tree = other.open(session.catalog.get(record.uuid))
        put_file(tree, name, data)
        other.committed()


def test_a_commit_is_a_version_that_says_what_it_covers(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"small", b"0123456789")
    put_file(tree, b"big", BIG)
    (outcome,) = session.committed()
    now = catalog.get(record.uuid)
    assert (outcome.tree, outcome.uuid, outcome.version, outcome.pdh) == (tree.no, record.uuid, 2, now.pdh)
    assert (outcome.text, outcome.ours_pdh, outcome.effects) == (catalog.manifest(now.pdh), now.pdh, ())
    applied = catalog.applied(MOUNT)[record.uuid]
    assert (applied.seq, applied.ours_pdh) == (outcome.seq, now.pdh)
    assert saved(session, record) == {(b"small",): b"0123456789", (b"big",): BIG}
    assert (tree.dirty, tree.version, tree.pdh) == (False, 2, now.pdh)


def test_blocks_are_behind_a_barrier_before_the_record_is_saved(
    tmp_path: Path, store: Faulty, catalog: MemoryCatalog, clock: FakeClock
) -> None:
    seen: list[tuple[int, bool]] = []

    class Watching(MemoryCatalog):
        def save(self, save: Save) -> CollectionRecord:
            moved = os.listdir(tmp_path / "m" / "moved")
            seen.append((store.calls("barrier"), moved == [f"{save.applied.seq}-{tree.no}"] if save.applied else False))
            return super().save(save)

    watching = Watching(clock=clock, of=catalog)
    with Session(tmp_path / "m", store=store, catalog=watching, clock=clock, pool=InlinePool()) as session:
        tree = session.open(catalog.create(name="c"))
        put_file(tree, b"f", b"x")
        session.committed()
        assert seen == [(1, True)]  # the table of where bytes went is there by then too
        assert os.listdir(tmp_path / "m" / "moved") == []


def test_sealed_blocks_are_stored_when_they_are_read_of(session: Session, store: Faulty) -> None:
    steps = Stepper()
    told: list[int] = []
    feeding = Committer(
        directory=session.directory, mount=MOUNT, store=store, catalog=session.catalog, clock=session.clock,
        pool=steps, on_stored=told.append,
    )  # fmt: skip
    tree = session.open(session.catalog.create(name="c"))
    file = put_file(tree, b"f", BIG)
    tree.shareable(file)
    feeding.feed(session.workspace.log.seq)
    feeding.feed(session.workspace.log.seq)
    assert (len(steps.pending), told) == (1, [])
    steps.run_until_idle()
    assert (store.calls("adopt"), told, feeding.failed_puts()) == (1, [1], {})
    feeding.close()


def test_idle_time_is_used_up_to_the_next_commit_point(session: Session) -> None:
    tree = session.open(session.catalog.create(name="c"))
    put_file(tree, b"before", b"x")
    _, point = session.workspace.commit_point([tree])
    put_file(tree, b"behind", b"x")
    session.committer.feed(session.workspace.log.seq)
    session.committer.apply_ahead()
    assert set(session.committer.replica.trees[tree.no].table(session.committer.replica.trees[tree.no].root)) == {
        b"before"
    }
    (outcome,) = session.committer.commit([tree.no], point)
    assert b"behind" not in outcome.text
    session.workspace.take([outcome])
    assert tree.dirty


def test_a_block_whose_put_failed_is_put_again(session: Session, store: Faulty, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", BIG)
    store.rescript("adopt: FAIL*2")  # when it is sealed, and when the commit wants it
    (outcome,) = session.commit()
    assert isinstance(outcome.cause, StoreUnavailable)
    assert (outcome.version, outcome.moved, catalog.get(record.uuid).version, tree.dirty) == (0, None, 1, True)
    session.committed()
    assert saved(session, record) == {(b"f",): BIG}
    assert session.committer.failed_puts() == {}


def test_blocks_that_were_dropped_are_forgotten(session: Session) -> None:
    tree = session.open(session.catalog.create(name="c"))
    for number in range(3):
        tree.shareable(put_file(tree, b"f%d" % number, BIG))
    session.committer.feed(session.workspace.log.seq)
    blocks = [block.no for block in session.workspace.shared.blocks.all()]
    session.committer.forget_block(blocks[0])
    session.committer.forget_block(99)
    session.committer.forget_blocks_but({blocks[1]})
    assert repr(session.committer._puts) == f"<Puts [{blocks[1]}]>"
    session.committed()  # the others are stored by what the files say of them


def test_a_record_that_moved_is_merged_and_the_merge_is_taken(
    session: Session, catalog: MemoryCatalog, tmp_path: Path
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"ours", b"ours")
    elsewhere(session, record, tmp_path, b"theirs", b"theirs")
    (outcome,) = session.committed()
    both: Contents = {(b"ours",): b"ours", (b"theirs",): b"theirs"}
    assert (saved(session, record), contents(tree)) == (both, both)
    assert outcome.ours_pdh != outcome.pdh == catalog.get(record.uuid).pdh
    assert b"theirs" not in catalog.manifest(outcome.ours_pdh)  # what a recovery starts from
    put_file(tree, b"ours", b"more")
    session.committed()
    assert saved(session, record) == {**both, (b"ours",): b"more"}


def test_a_save_that_is_not_to_merge_is_a_conflict(session: Session, catalog: MemoryCatalog, tmp_path: Path) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", b"ours")
    elsewhere(session, record, tmp_path, b"f", b"theirs")
    _, seq = session.workspace.commit_point([tree])
    (outcome,) = session.committer.commit([tree.no], seq, merge=False)
    assert isinstance(outcome.cause, CommitConflict)
    assert saved(session, record) == {(b"f",): b"theirs"}
    session.workspace.take([outcome])
    session.committed()
    assert {b"ours", b"theirs"} == set(saved(session, record).values())


def test_saving_is_what_is_asked_for() -> None:
    assert Saving() == (True, True, False)
    assert {"record", "session"} == RECORD_KINDS
    assert SAVE_TRIES >= 10


def test_the_version_before_is_kept_when_it_is_asked_for(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", b"x")
    _, seq = session.workspace.commit_point([tree])
    session.workspace.take(session.committer.commit([tree.no], seq, keep_previous=True))
    assert [version.version for version in catalog.versions(record.uuid)] == [2, 1]


def test_a_record_in_the_trash_gets_its_content_kept_under_another(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"f", b"precious")
    catalog.trash(record.uuid)
    (outcome,) = session.commit()
    (kept,) = catalog.collections()
    assert kept.name == "c (kept by mount m1)"
    assert saved(session, kept) == {(b"f",): b"precious"}
    assert (outcome.quarantined or "").startswith(f"collection {record.uuid} is gone; its content was kept as")
    with pytest.raises(StoreUnavailable, match="is gone"):
        tree.flush(file, 0)
    assert (tree.writable, bytes(tree.read(file, 0, 10))) == (False, b"precious")
    assert session.workspace.dirty() == []


def test_a_save_that_failed_is_told_to_every_changed_file_once(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c", manifest=b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:clean 0:0:cut\n")
    tree = session.open(record)
    changed = [put_file(tree, b"small", b"x"), put_file(tree, b"big", BIG), put_file(tree, b"empty", b"")]
    clean = tree.lookup(tree.root, b"clean")
    assert isinstance(clean, FileNode)
    faulty = FaultyCatalog(catalog)
    faulty.script["save"] = ["FAIL", "FAIL"]
    by = committer(session, catalog=faulty)
    for _ in range(2):  # the bytes are stored by then, and the second failure is no news
        (outcome,) = commit_untaken(session, by=by)
        session.workspace.take([outcome])
        assert isinstance(outcome.cause, StoreUnavailable)
    assert tree.flush(clean, 0) == 0
    for file in changed:
        with pytest.raises(StoreUnavailable, match="scripted fault of save"):
            tree.flush(file, 0)
        assert tree.flush(file, file.error_mark) == 1
    assert [outcome.error for outcome in commit_untaken(session, by=by)] == [None]
    assert saved(session, record).keys() == {(b"small",), (b"big",), (b"empty",), (b"clean",), (b"cut",)}
    by.close()


def test_trees_that_a_move_joined_are_saved_together_or_not_at_all(session: Session, catalog: MemoryCatalog) -> None:
    one, two = catalog.create(name="one"), catalog.create(name="two")
    source, target = session.open(one), session.open(two)
    put_file(source, b"f", b"moved")
    session.committed()
    source.rename(source.root, b"f", target.root, b"g")
    _, seq = session.workspace.commit_point([source])
    faulty = FaultyCatalog(catalog)
    by = committer(session, catalog=faulty)
    faulty.script["save_many"] = ["FAIL"]
    outcomes = by.commit([source.no, target.no], seq)
    assert [outcome.error is None for outcome in outcomes] == [False, False]
    assert [saved(session, record) for record in (one, two)] == [{(b"f",): b"moved"}, {}]
    assert all(outcome.error is None for outcome in by.commit([source.no, target.no], seq))
    assert [saved(session, record) for record in (one, two)] == [{}, {(b"g",): b"moved"}]
    assert faulty.calls["save_many"] == 2
    assert "save" not in faulty.calls
    by.close()


# what holds no record


def test_an_output_is_kept_as_a_checkpoint_until_a_record_is_made_of_it(
    session: Session, catalog: MemoryCatalog
) -> None:
    tree = session.workspace.open_tree(None, Manifest(b""), kind="output")
    put_file(tree, b"f", b"result")
    (outcome,) = session.committed()
    assert (outcome.uuid, outcome.version, catalog.collections()) == (None, 0, [])
    assert [path.name for path in session.directory.glob("checkpoint-*")] == [f"checkpoint-{tree.no}-{outcome.seq}"]
    put_file(tree, b"g", b"more")
    (second,) = session.committed()
    assert [path.read_bytes() for path in session.directory.glob("checkpoint-*")] == [second.text]


def test_a_tree_may_start_from_a_text_that_no_record_has(session: Session) -> None:
    locator = session.store.put(b"0123456789")
    text = f". {locator} 0:10:old\n".encode()
    tree = session.workspace.open_tree(None, Manifest(text), kind="session")
    tree._base_pdh = pdh(text)
    session.committer.provide(tree.no, text)
    put_file(tree, b"new", b"x")
    (outcome,) = session.committed()
    assert [name for name, _ in tree.entries(tree.root)] == [b"new", b"old"]
    assert set(Manifest(outcome.text).listing(()).files) == {b"new", b"old"}


def test_a_session_that_got_a_record_is_saved_to_it(session: Session, catalog: MemoryCatalog) -> None:
    tree = session.workspace.open_tree(None, Manifest(b""), kind="session")
    put_file(tree, b"f", b"first")
    (outcome,) = session.committed()
    record = catalog.create(name="c", manifest=outcome.text)
    session.committer.bind(tree.no, record)
    session.committer.bind(99, record)
    put_file(tree, b"f", b"second")
    (outcome,) = session.committed()
    assert (outcome.uuid, outcome.version) == (record.uuid, 2)
    assert saved(session, record) == {(b"f",): b"second"}


def test_a_flush_without_a_save_leaves_the_record_alone(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.workspace.open_tree(record, Manifest(b""), kind="session")
    put_file(tree, b"f", b"x")
    _, seq = session.workspace.commit_point([tree])
    (outcome,) = session.committer.commit([tree.no], seq, save=False, merge=False)
    assert (outcome.error, catalog.get(record.uuid)) == (None, record)
    assert session.store.contains(outcome.text.split()[1].decode())
    session.workspace.take([outcome])
    put_file(tree, b"g", b"y")
    session.committed()
    assert saved(session, record) == {(b"f",): b"x", (b"g",): b"y"}


# recovery


def test_a_recovery_commits_what_a_log_holds_and_a_second_one_changes_nothing(
    session: Session, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"committed", b"1")
    session.committed()
    put_file(tree, b"small", b"2")
    put_file(tree, b"big", BIG)  # never sealed: its writer died
    session.close()
    (outcome,) = recover(session.directory, store=session.store, catalog=catalog)
    expected: Contents = {(b"committed",): b"1", (b"small",): b"2", (b"big",): BIG}
    assert (outcome.error, saved(session, record)) == (None, expected)
    now = catalog.get(record.uuid)
    assert recover(session.directory, store=session.store, catalog=catalog) == []
    assert catalog.get(record.uuid) == now


def test_a_death_between_the_save_and_its_news_loses_and_doubles_nothing(
    session: Session, catalog: MemoryCatalog, tmp_path: Path
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", b"first")
    commit_untaken(session)
    session.workspace.log.flush(put_file(tree, b"g", b"second").changed_seq)
    session.close()
    elsewhere(session, record, tmp_path, b"f", b"newer, of somebody else")
    (outcome,) = recover(session.directory, store=session.store, catalog=catalog)
    assert outcome.error is None
    assert saved(session, record) == {(b"f",): b"newer, of somebody else", (b"g",): b"second"}


def test_a_merge_that_was_never_taken_is_not_merged_again_by_a_recovery(
    session: Session, catalog: MemoryCatalog, tmp_path: Path
) -> None:
    record = catalog.create(name="c", manifest=b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:f\n")
    tree = session.open(record)
    put_file(tree, b"f", b"ours")
    elsewhere(session, record, tmp_path, b"f", b"theirs")
    commit_untaken(session)
    merged = saved(session, record)
    assert set(merged.values()) == {b"ours", b"theirs"}
    put_file(tree, b"g", b"later")
    session.close()
    (outcome,) = recover(session.directory, store=session.store, catalog=catalog)
    assert (outcome.error, saved(session, record)) == (None, {**merged, (b"g",): b"later"})


def test_a_restarted_committer_tells_again_where_bytes_went(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"f", b"0123456789")
    (told,) = commit_untaken(session)
    assert told.moved is not None
    second = committer(session)
    (again,) = second.commit([tree.no], told.seq)
    assert (again.error, again.moved, again.pdh) == (None, told.moved, told.pdh)
    assert len(Moved.read(session.directory / "moved" / told.moved)) == 1
    assert catalog.get(record.uuid).version == 2
    session.workspace.take([again])
    assert [type(ref) for _, ref, _ in file.parts()] == [str]
    assert (bytes(tree.read(file, 0, 10)), tree.dirty) == (b"0123456789", False)
    second.close()


def test_a_recovery_commits_moves_between_trees_as_one(session: Session, catalog: MemoryCatalog) -> None:
    one, two = catalog.create(name="one"), catalog.create(name="two")
    source, target = session.open(one), session.open(two)
    put_file(source, b"f", b"moved")
    source.rename(source.root, b"f", target.root, b"g")
    session.close()
    outcomes = recover(session.directory, store=session.store, catalog=catalog)
    assert [outcome.error for outcome in outcomes] == [None, None]
    assert [saved(session, record) for record in (one, two)] == [{}, {(b"g",): b"moved"}]
    assert recover(session.directory, store=session.store, catalog=catalog) == []


def test_what_an_unlinked_file_had_is_not_recovered(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"gone", BIG)
    tree.opened(file, write=True)
    tree.unlink(tree.root, b"gone")
    put_file(tree, b"kept", b"kept")
    session.close()
    recover(session.directory, store=session.store, catalog=catalog)
    assert saved(session, record) == {(b"kept",): b"kept"}
    assert list(session.store._store.blocks()) == [
        Manifest(catalog.manifest(catalog.get(record.uuid).pdh)).listing(()).files[b"kept"].segments()[0][1]
    ]  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "asked", "kept"), [("output", False, 1), ("tmp", False, 0), ("session", True, 1), ("session", False, 0)]
)
def test_what_was_never_saved_is_kept_apart_by_a_recovery_if_somebody_wants_it(
    session: Session, catalog: MemoryCatalog, kind: str, asked: bool, kept: int
) -> None:
    tree = session.workspace.open_tree(None, Manifest(b""), kind=kind)
    put_file(tree, b"f", b"result")
    session.committed()
    put_file(tree, b"g", b"more")
    if asked:
        ask(session.directory, tree.no)
    session.close()
    outcomes = recover(session.directory, store=session.store, catalog=catalog)
    assert [outcome.error for outcome in outcomes] == [None] * kept
    found = [saved(session, record) for record in catalog.collections()]
    assert found == [{(b"f",): b"result", (b"g",): b"more"}] * kept


def test_a_recovery_without_a_base_text_is_an_error_and_can_be_repeated(
    session: Session, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    put_file(tree, b"f", b"x")
    session.close()
    catalog.trash(record.uuid)
    (outcome,) = recover(session.directory, store=session.store, catalog=catalog)
    assert outcome.quarantined
    (kept,) = catalog.collections()
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid)
    assert saved(session, kept) == {(b"f",): b"x"}


def test_a_log_of_somebody_who_wrote_nothing_is_recovered_to_nothing(session: Session, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    session.open(record)
    session.close()
    assert recover(session.directory, store=session.store, catalog=catalog) == []
    assert catalog.get(record.uuid) == record
    assert records.Boundary() == ()


def test_a_tree_whose_log_is_gone_is_not_said_to_be_committed(session: Session, catalog: MemoryCatalog) -> None:
    outcomes = session.committer.commit([4711], 1)
    assert [outcome.tree for outcome in outcomes] == [4711]
    assert outcomes[0].error is not None
    assert "gone" in outcomes[0].error
