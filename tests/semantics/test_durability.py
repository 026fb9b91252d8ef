"""Promises D1 to D6: what is written is not lost. Words in doc/semantics.md."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.catalogs.sqlite import SqliteCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import StoreUnavailable
from arvfuse.model.collections import CollectionRecord, MountId, Save
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.localdir import LocalDir
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.killable import LOG, killed
from tests.support.powercut import PowerCut
from tests.support.sessions import Contents, Session, locators, put_file, recovered, saved_contents
from tests.support.stores import StillClock, local, noise
from tests.support.treemodel import BIG, Change, apply_to_model, apply_to_tree, changes

LARGE = noise(SMALL_BYTES + 5000)
CONFLICT = re.compile(rb"~\d{8}-\d{6}~conflict~$")


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=SystemClock())


@pytest.mark.parametrize("seed", range(6))
def test_d1_a_killed_process_loses_nothing_that_it_promised(seed: int, tmp_path: Path) -> None:
    """D1: changes to names and content whose calls returned survive SIGKILL; recovery restores a prefix."""
    with closing(SqliteCatalog(tmp_path, clock=SystemClock())) as before:
        uuid = before.create(name="c").uuid
    promised, begun = killed(tmp_path, uuid, seed)
    with closing(local(tmp_path)) as store, closing(SqliteCatalog(tmp_path, clock=SystemClock())) as after:
        recovered(tmp_path / LOG, store=store, catalog=after)
        found = saved_contents(after, store, uuid)
        assert_prefix(found, promised, begun)
        recovered(tmp_path / LOG, store=store, catalog=after)
        assert saved_contents(after, store, uuid) == found, "recovering twice is recovering once"


def assert_prefix(found: Contents, promised: Contents, begun: Change) -> None:
    """*found* is *promised*, with none, all, or in the one file of a write some bytes, of *begun*."""
    if found == promised:
        return
    applied = dict(promised)
    apply_to_model(applied, begun)
    if begun.verb == "write":
        old, new, is_ = promised[begun.path] or b"", applied[begun.path] or b"", found[begun.path] or b""
        assert len(old) <= len(is_) <= len(new)
        reach = old.ljust(len(new), b"\0")
        assert all(mixed in (reach[at], new[at]) for at, mixed in enumerate(is_))
        found, applied = {**found, begun.path: b""}, {**applied, begun.path: b""}
    assert found == applied


@pytest.mark.parametrize("seed", range(4))
def test_d2_a_power_cut_loses_nothing_that_was_synced(seed: int, tmp_path: Path, catalog: MemoryCatalog) -> None:
    """D2: after fsync returned, only what the disk was told to keep is left, and recovery finds all of it."""
    record = catalog.create(name="c")
    top, left = tmp_path / "before", tmp_path / "after"
    with PowerCut(top) as disk:
        store = durable_store(top)
        session = Session(top / LOG, store=store, catalog=catalog)
        tree = session.open(record)
        model: Contents = {}
        for number, change in enumerate(changes(seed, BIG)):
            apply_to_tree(tree, change)
            apply_to_model(model, change)
            if number % 20 == 19:
                session.committed()
            if number == 50:
                break
        tree.fsync(None)
        disk.after(left)
        session.close()
        store.close()
    after = durable_store(left)
    recovered(left / LOG, store=after, catalog=catalog)
    assert saved_contents(catalog, after, record.uuid) == model


def test_d2_fsync_of_one_file_does_not_wait_for_others(tmp_path: Path, catalog: MemoryCatalog) -> None:
    """D2: fsync of a file makes that file safe; small data of others that were written before come along."""
    record = catalog.create(name="c")
    top, left = tmp_path / "before", tmp_path / "after"
    with PowerCut(top) as disk:
        store = durable_store(top)
        session = Session(top / LOG, store=store, catalog=catalog)
        tree = session.open(record)
        put_file(tree, b"small", b"small")
        file = put_file(tree, b"large", LARGE)
        tree.write(file, 10, b"again")
        tree.fsync(file)
        put_file(tree, b"later", b"not synced")
        disk.after(left)
        session.close()
        store.close()
    after = durable_store(left)
    recovered(left / LOG, store=after, catalog=catalog)
    found = saved_contents(catalog, after, record.uuid)
    assert found[b"large",] == LARGE[:10] + b"again" + LARGE[15:]
    assert found[b"small",] == b"small"
    assert b"later" not in found


def durable_store(directory: Path) -> LocalDir:
    """A local store whose flushes a PowerCut sees."""
    local(directory).close()
    return LocalDir(directory, clock=StillClock(), flush_file=lambda fd: os.fdatasync(fd))


class Handle:
    """An open handle, as far as failures are concerned."""

    def __init__(self, session: Session, name: bytes) -> None:
        self.tree = session.workspace.trees[0]
        found = self.tree.lookup(self.tree.root, name)
        assert not found.is_dir
        self.file = found
        self.seen = self.file.error_mark
        self.tree.opened(self.file, write=True)

    def flush(self) -> None:
        """What close(2) and fsync(2) ask first."""
        try:
            self.tree.flush(self.file, self.seen)
        finally:
            self.seen = self.file.error_mark


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["log", "block"])
@pytest.mark.parametrize("verb", ["adopt", "barrier"])
def test_d4_a_background_failure_reaches_every_open_handle_once(
    verb: str, data: bytes, tmp_path: Path, catalog: MemoryCatalog
) -> None:
    """D4: each handle open at the time gets the error by its next flush, once; a later one does not."""
    store = Faulty(MemoryStore())
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(catalog.create(name="c"))
        put_file(tree, b"a", data)
        put_file(tree, b"untouched", b"").changed_seq = 0
        one, other, untouched = (Handle(session, name) for name in (b"a", b"a", b"untouched"))
        store.rescript(f"{verb}: FAIL*")
        assert [outcome.error is None for outcome in session.commit()] == [False]
        late = Handle(session, b"a")
        for handle in (one, other):
            with pytest.raises(StoreUnavailable, match="scripted"):
                handle.flush()
            handle.flush()
        late.flush()
        untouched.flush()
        store.rescript("")
        session.committed()
        late.flush()
        assert bytes(tree.read(one.file, 0, len(data))) == data


class CheckedSaves(MemoryCatalog):
    """Looks at every save: are the blocks that it names in *store*, and *safe*?"""

    def __init__(self, store: MemoryStore | LocalDir, disk: PowerCut | None = None) -> None:
        super().__init__(clock=SystemClock())
        self.blocks = store
        self.disk = disk
        self.looked_at = 0

    def save(self, save: Save) -> CollectionRecord:
        for locator in locators(save.manifest):
            assert self.blocks.contains(locator), "a save names a block that the store does not hold"
            if self.disk is not None and not locator.endswith("+0"):
                assert isinstance(self.blocks, LocalDir)
                assert self.disk.holds(self.blocks.path(locator)), "a power cut would take a block that is saved"
            self.looked_at += 1
        return super().save(save)


@pytest.mark.parametrize("verb", ["put", "adopt", "barrier", "contains"])
@pytest.mark.parametrize("fault", ["FAIL", "PARTIAL", "AFTER", "NOSPACE"])
def test_d5_a_record_never_names_a_block_that_is_not_stored(verb: str, fault: str, tmp_path: Path) -> None:
    """D5: whatever fails when, what is saved names stored blocks only."""
    inner = MemoryStore()
    catalog = CheckedSaves(inner)
    store = Faulty(inner, f"{verb}: {fault} ok {fault} ok ok {fault}")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        record = catalog.create(name="c")
        tree = session.open(record)
        model: Contents = {}
        for number, change in enumerate(changes(3, BIG)):
            apply_to_tree(tree, change)
            apply_to_model(model, change)
            if number % 10 == 9:
                session.commit()
            if number == 60:
                break
        store.rescript("")
        session.committed()
        assert saved_contents(catalog, store, record.uuid) == model
    assert catalog.looked_at


def test_d5_a_saved_block_survives_a_power_cut(tmp_path: Path) -> None:
    """D5: at the moment of a save every block that it names is on the disk, with its name."""
    with PowerCut(tmp_path) as disk:
        store = durable_store(tmp_path)
        catalog = CheckedSaves(store, disk)
        with Session(tmp_path / LOG, store=store, catalog=catalog) as session:
            tree = session.open(catalog.create(name="c"))
            for number, change in enumerate(changes(5, BIG)):
                apply_to_tree(tree, change)
                if number % 10 == 9:
                    session.committed()
                if number == 50:
                    break
        store.close()
    assert catalog.looked_at


class Writers:
    """Two mounts of one collection, whose catalog and clock tests own."""

    def __init__(self, directory: Path) -> None:
        self.clock = FakeClock()
        self.store, self.catalog = MemoryStore(), MemoryCatalog(clock=self.clock)
        self.record = self.catalog.create(name="c")
        self.sessions = [
            Session(directory / name, store=self.store, catalog=self.catalog, clock=self.clock, mount=MountId(name))
            for name in ("m1", "m2")
        ]
        first = self.sessions[0]
        put_file(first.open(self.record), b"a", b"base")
        first.committed()
        self.record = self.catalog.get(self.record.uuid)
        self.trees = [first.workspace.trees[0], self.sessions[1].open(self.record)]
        self.tick()

    def tick(self) -> None:
        self.clock.advance(5)

    def saved(self) -> Contents:
        return saved_contents(self.catalog, self.store, self.record.uuid)

    def close(self) -> None:
        for session in self.sessions:
            session.close()


@pytest.fixture
def writers(tmp_path: Path) -> Iterator[Writers]:
    writers = Writers(tmp_path)
    yield writers
    writers.close()


def overwrite(writers: Writers, which: int, data: bytes) -> None:
    tree = writers.trees[which]
    put_file(tree, b"a", data)
    writers.tick()


def conflicts(found: Contents) -> list[bytes]:
    return sorted(path[-1] for path in found if CONFLICT.search(path[-1]))


@pytest.mark.parametrize("later", [0, 1], ids=["the first saver changed last", "the second saver changed last"])
def test_d6_the_newer_change_keeps_the_name(writers: Writers, later: int) -> None:
    """D6: both sides changed one file: the newer change keeps the name, the other stays under a conflict name."""
    overwrite(writers, 1 - later, b"older")
    if later == 0:
        overwrite(writers, 0, b"newer")
        writers.sessions[0].committed()
    else:
        writers.sessions[0].committed()
        overwrite(writers, 1, b"newer")
    writers.sessions[1].committed()
    found = writers.saved()
    (name,) = conflicts(found)
    assert found == {(b"a",): b"newer", (name,): b"older"}
    assert CONFLICT.sub(b"", name) == b"a"


def test_d6_a_change_survives_a_deletion_under_its_own_name(writers: Writers) -> None:
    """D6: deleted on one side, changed on the other: the change stays, whoever saves first."""
    writers.trees[0].unlink(writers.trees[0].root, b"a")
    overwrite(writers, 1, b"changed")
    for session in writers.sessions:
        session.committed()
    assert writers.saved() == {(b"a",): b"changed"}


def test_d6_two_conflicts_within_a_second_have_two_names(writers: Writers) -> None:
    """D6: the second takes the next free second, and the suffix stays last."""
    for content in (b"one", b"two"):
        for which in (0, 1):
            put_file(writers.trees[which], b"a", content + b" by %d" % which)
            writers.sessions[which].committed()
        writers.sessions[0].committed()
    found = writers.saved()
    names = conflicts(found)
    assert len(names) == len(found) - 1 >= 2
    assert {content for content in found.values() if content} >= {b"two by 0", b"two by 1"}


def test_d6_who_has_the_loser_of_a_conflict_open_goes_on_writing_to_what_is_kept(writers: Writers) -> None:
    """D6: bytes that a handle writes after the merge are in the conflict file."""
    theirs, ours = writers.sessions
    tree = writers.trees[1]
    overwrite(writers, 1, b"older")
    file = tree.create(tree.root, b"a")
    tree.opened(file, write=True)
    overwrite(writers, 0, b"newer")
    theirs.committed()
    ours.committed()
    tree.write(file, 5, b", and more")
    tree.closed(file, write=True)
    ours.committed()
    found = writers.saved()
    (name,) = conflicts(found)
    assert found == {(b"a",): b"newer", (name,): b"older, and more"}


def test_d6_changes_of_different_files_meet_without_conflict(writers: Writers) -> None:
    """D6: a save whose base moved merges."""
    put_file(writers.trees[0], b"b", b"b")
    put_file(writers.trees[1], b"c", b"c")
    for session in writers.sessions:
        session.committed()
    assert writers.saved() == {(b"a",): b"base", (b"b",): b"b", (b"c",): b"c"}
