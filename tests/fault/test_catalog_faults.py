"""The catalog fails before a save, or after it with a lost answer, or the record moves: nothing is lost or doubled."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import NoSuchRecord
from arvfuse.model.collections import CollectionRecord, MountId
from arvfuse.sdk.live import LiveTree
from arvfuse.stores.memory import MemoryStore
from tests.support.catalogs import FaultyCatalog
from tests.support.sessions import Contents, Session, contents, put_file, recover, recovered, saved_contents
from tests.support.treemodel import BIG, apply_to_model, apply_to_tree, changes


class Place:
    """A session on a catalog that can fail, and what is in it beside the faults."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.store = MemoryStore()
        self.sound = MemoryCatalog(clock=SystemClock())
        self.faulty = FaultyCatalog(self.sound)
        self.record = self.sound.create(name="c")
        self.session = self.begin(directory)
        self.tree = self.session.open(self.record)

    def begin(self, directory: Path, mount: str = "m1") -> Session:
        return Session(directory, store=self.store, catalog=self.faulty, mount=MountId(mount))  # type: ignore[arg-type]

    def saved(self, record: CollectionRecord | None = None) -> Contents:
        return saved_contents(self.sound, self.store, (record or self.record).uuid)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(tmp_path / "m1")
    yield place
    place.session.close()


@pytest.mark.parametrize("verb", ["get", "save", "manifest", "keep_manifest", "applied"])
@pytest.mark.parametrize("fault", ["FAIL", "AFTER"])
def test_any_call_may_fail_and_the_next_commit_makes_good(place: Place, verb: str, fault: str) -> None:
    model: Contents = {}
    for number, change in enumerate(islice(changes(21, BIG), 60)):
        apply_to_tree(place.tree, change)
        apply_to_model(model, change)
        if number % 10 == 9:
            place.faulty.script = {verb: [fault]}
            place.session.commit()
            place.faulty.script = {}
        if number % 20 == 19:
            place.session.committed()
            assert place.saved() == model
    assert contents(place.tree) == model


def overwrite(tree: LiveTree, data: bytes) -> None:
    put_file(tree, b"a", data)


def test_a_save_whose_answer_was_lost_is_no_conflict_with_ourselves(place: Place) -> None:
    overwrite(place.tree, b"one")
    place.faulty.script = {"save": ["AFTER"]}
    assert place.session.commit()[0].error is not None
    overwrite(place.tree, b"two")
    place.session.committed()
    assert place.saved() == {(b"a",): b"two"}
    assert contents(place.tree) == {(b"a",): b"two"}


def test_a_lost_answer_and_somebody_elses_save_are_told_apart(place: Place, tmp_path: Path) -> None:
    overwrite(place.tree, b"one")
    place.faulty.script = {"save": ["AFTER"]}
    place.session.commit()
    with place.begin(tmp_path / "m2", "m2") as other:
        theirs = other.open(place.sound.get(place.record.uuid))
        put_file(theirs, b"b", b"theirs")
        other.committed()
    overwrite(place.tree, b"two")
    place.session.committed()
    assert place.saved() == {(b"a",): b"two", (b"b",): b"theirs"}
    assert contents(place.tree) == place.saved()


def test_a_lost_answer_of_a_merging_save_loses_nothing(place: Place, tmp_path: Path) -> None:
    overwrite(place.tree, b"one")
    with place.begin(tmp_path / "m2", "m2") as other:
        put_file(other.open(place.record), b"b", b"theirs")
        other.committed()
    place.faulty.script = {"save": ["AFTER"]}
    assert place.session.commit()[0].error is not None
    overwrite(place.tree, b"two")
    place.session.committed()
    assert place.saved() == {(b"a",): b"two", (b"b",): b"theirs"}
    assert contents(place.tree) == place.saved()


def test_a_lost_answer_and_then_our_death(place: Place) -> None:
    overwrite(place.tree, b"one")
    place.faulty.script = {"save": ["AFTER"]}
    place.session.commit()
    overwrite(place.tree, b"two")
    place.session.workspace.log.flush(place.session.workspace.log.seq)
    recovered(place.directory, store=place.store, catalog=place.sound)
    assert place.saved() == {(b"a",): b"two"}


def test_a_lost_answer_of_a_move_between_collections(place: Place) -> None:
    other = place.session.open(place.sound.create(name="other"))
    overwrite(place.tree, b"one")
    place.session.committed()
    place.tree.rename(place.tree.root, b"a", other.root, b"a")
    place.faulty.script = {"save_many": ["AFTER"]}
    assert all(outcome.error for outcome in place.session.commit())
    put_file(other, b"a", b"two")
    place.session.committed()
    assert place.saved() == {}
    assert other.record is not None
    assert place.saved(other.record) == {(b"a",): b"two"}


def test_a_record_that_keeps_moving_is_saved_in_the_end(place: Place) -> None:
    overwrite(place.tree, b"mine")
    place.faulty.script = {"save": ["CONFLICT"] * 10}
    place.session.committed()
    assert place.saved() == {(b"a",): b"mine"}
    assert place.faulty.calls["save"] == 11


def test_a_record_that_never_stops_moving_is_an_error_and_kept(place: Place) -> None:
    overwrite(place.tree, b"mine")
    place.faulty.script = {"save": ["CONFLICT"] * 1000}
    assert "moving" in (place.session.commit()[0].error or "")
    place.faulty.script = {}
    place.session.committed()
    assert place.saved() == {(b"a",): b"mine"}


def test_a_record_that_is_gone_gets_its_changes_kept_beside(place: Place) -> None:
    overwrite(place.tree, b"mine")
    place.sound.trash(place.record.uuid)
    (outcome,) = place.session.commit()
    assert outcome.quarantined is not None
    with pytest.raises(NoSuchRecord):
        place.sound.get(place.record.uuid)
    (kept,) = place.sound.collections()
    assert place.saved(kept) == {(b"a",): b"mine"}
    assert kept.uuid in outcome.quarantined


@pytest.mark.parametrize("died", [False, True])
def test_what_was_accepted_before_anybody_knew_is_kept_beside_too(place: Place, died: bool) -> None:
    """Between the commit point and the answer that the record is gone."""
    overwrite(place.tree, b"mine")
    chosen, seq = place.session.workspace.commit_point([place.tree])
    place.sound.trash(place.record.uuid)
    put_file(place.tree, b"b", b"late")
    (outcome,) = place.session.committer.commit([each.no for each in chosen], seq)
    place.session.workspace.take([outcome])
    assert outcome.quarantined is not None
    assert not place.tree.writable
    if not died:
        place.session.committed()
        (kept,) = place.sound.collections()
        assert place.saved(kept) == {(b"a",): b"mine", (b"b",): b"late"}
    place.session.close()
    recover(place.session.directory, store=place.session.store, catalog=place.sound)
    contents = [place.saved(kept) for kept in place.sound.collections()]
    assert {(b"a",): b"mine", (b"b",): b"late"} in contents
    assert len(contents) == 1 + died


def test_a_record_that_is_gone_leaves_nothing_beside_if_nothing_would_be_lost(place: Place) -> None:
    """What is written to a removed file after its collection is gone, or a collection whose last file was removed."""
    overwrite(place.tree, b"mine")
    file = put_file(place.tree, b"b", b"1")
    place.tree.opened(file, write=True)
    place.tree.unlink(place.tree.root, b"b")
    place.session.committed()
    place.sound.trash(place.record.uuid)
    place.tree.write(file, 1, b"2" * 10)
    assert place.tree.dirty
    place.session.committed()
    assert not place.tree.dirty
    assert bytes(place.tree.read(file, 0, 20)) == b"1" + b"2" * 10
    place.tree.unlink(place.tree.root, b"a")
    place.session.workspace.close()
    recovered(place.directory, store=place.store, catalog=place.sound)
    assert place.sound.collections() == []


def test_an_outage_of_the_catalog_at_the_recovery_can_be_repeated(place: Place) -> None:
    overwrite(place.tree, b"mine")
    place.session.workspace.close()
    for verb in ("save", "get"):
        place.faulty.script = {verb: ["FAIL", "FAIL"]}  # a look ahead beside the upload fails in silence
        with place.begin(place.directory) as again:
            assert again.committer.recover()[0].error is not None
    recovered(place.directory, store=place.store, catalog=place.sound)
    assert place.saved() == {(b"a",): b"mine"}
