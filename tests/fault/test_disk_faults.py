"""The disk below log, spool and tables refuses, threads die: what was accepted is kept, and what was not says so."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import ArvfuseError, LogFailed, NoSpace, StoreUnavailable
from arvfuse.sdk.blocks import BufferBlock
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.log import log_path
from arvfuse.sdk.putpool import PutPool
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Session, contents, put_file, recovered, saved_contents
from tests.support.smalldisk import files_end_at
from tests.support.stepper import Stepper
from tests.support.stores import noise

LARGE = noise(SMALL_BYTES + 5000)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=SystemClock())


def test_a_log_that_cannot_be_written_refuses_changes_and_keeps_those_before(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"before", b"before")
        with files_end_at(log_path(tmp_path, 1).stat().st_size + 10), pytest.raises(LogFailed):
            tree.create(tree.root, b"refused")
        for change in (lambda: tree.mkdir(tree.root, b"too"), lambda: tree.unlink(tree.root, b"before")):
            with pytest.raises(LogFailed):
                change()
        file = tree.lookup(tree.root, b"before")
        assert not file.is_dir
        assert bytes(tree.read(file, 0, 10)) == b"before"
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"before",): b"before"}


def test_a_full_spool_disk_refuses_the_write_and_nothing_else(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        file = put_file(tree, b"a", LARGE)
        with files_end_at(len(LARGE) + 10), pytest.raises((NoSpace, StoreUnavailable)):
            tree.write(file, len(LARGE), LARGE)
        assert bytes(tree.read(file, 0, len(LARGE))) == LARGE
        session.committed()
        assert contents(tree)[b"a",] == LARGE
        tree.append(file, b"again there is room")
        session.committed()
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): LARGE + b"again there is room"}


def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """The spool's disk is full; that of the log is not, which has a reserve."""

    def pwrite(self: BufferBlock, data: memoryview, offset: int) -> None:
        raise NoSpace(str(self.path.parent), "no room in the spool")

    monkeypatch.setattr(BufferBlock, "pwrite", pwrite)


def test_d4_pages_that_a_kernel_has_taken_go_to_the_log_when_the_spool_has_no_room(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = catalog.create(name="c")
    more, over = noise(SMALL_BYTES), noise(700)
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        file = put_file(tree, b"a", LARGE)
        with monkeypatch.context() as full:
            no_room(full)
            with pytest.raises(NoSpace):  # its writer can be told
                tree.accept(file, len(LARGE), more)
            assert tree.accept(file, len(LARGE), more, taken=True) == len(more)
            assert tree.accept(file, 1000, over, taken=True) == len(over)
            assert tree.accept(file, 1200, over, taken=True) == len(over)
            expected = bytearray(LARGE + more)
            expected[1000:1700] = over
            expected[1200:1900] = over
            assert bytes(tree.read(file, 0, 1 << 23)) == expected
        tree.accept(file, 5, b"room again", taken=True)
        expected[5:15] = b"room again"
        assert bytes(tree.read(file, 0, 1 << 23)) == expected
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): bytes(expected)}


def test_a_commit_that_finds_no_room_is_an_outcome_and_can_be_repeated(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", b"small" * 100)
        chosen, seq = session.workspace.commit_point([tree])
        with files_end_at(100):
            outcomes = session.committer.commit([each.no for each in chosen], seq)
        assert isinstance(outcomes[0].cause, NoSpace)
        session.workspace.take(outcomes)
        session.committed()
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): b"small" * 100}


def test_a_place_for_tables_that_is_gone_is_an_outcome(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", b"data")
        (tmp_path / "moved").rmdir()
        (tmp_path / "moved").write_text("in the way")
        assert isinstance(session.commit()[0].cause, StoreUnavailable)
        (tmp_path / "moved").unlink()
        session.committed()
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): b"data"}


def test_a_spool_file_that_cannot_be_read_is_an_outcome_and_kept(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", LARGE)
        (spooled,) = (tmp_path / "spool").iterdir()
        hidden = spooled.rename(tmp_path / "hidden")
        cause = session.commit()[0].cause
        assert isinstance(cause, ArvfuseError)
        hidden.rename(spooled)
        session.committed()
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): LARGE}


class DyingPool(PutPool):
    """Put threads of which the next ones to work die."""

    def __init__(self, deaths: int) -> None:
        super().__init__(1)
        self.deaths = deaths

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        if self.deaths:
            self.deaths -= 1
            return super().submit(self._die)
        return super().submit(fn, *args)

    def _die(self) -> None:
        raise RuntimeError("a bug in a put thread")


@pytest.mark.parametrize("data", [b"small", LARGE], ids=["log", "block"])
def test_a_put_thread_that_dies_loses_nothing(
    data: bytes, tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog, pool=DyingPool(deaths=2)) as session:
        tree = session.open(record)
        file = put_file(tree, b"a", data)
        with pytest.raises(RuntimeError):  # a bug ends the process that commits; its successor has the log
            session.commit()
        assert bytes(tree.read(file, 0, len(data))) == data
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): data}


def test_puts_that_were_cancelled_with_their_pool_are_repeated(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    steps = Stepper()
    with Session(tmp_path, store=store, catalog=catalog, pool=steps) as session:
        tree = session.open(record)
        put_file(tree, b"a", LARGE)
        _, seq = session.workspace.commit_point([tree])
        session.committer.feed(seq)
        assert len(steps.pending) == 1
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): LARGE}


def test_a_log_cut_anywhere_in_its_last_record_is_the_log_before(
    tmp_path: Path, store: MemoryStore, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path / "m", store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", b"kept")
        before = log_path(tmp_path / "m", 1).stat().st_size
        put_file(tree, b"b", b"cut off")
    whole = log_path(tmp_path / "m", 1).read_bytes()
    found = set()
    for end in range(before, len(whole), 7):
        log_path(tmp_path / "m", 1).write_bytes(whole[:end])
        fresh = MemoryCatalog(clock=SystemClock(), of=catalog)
        recovered(tmp_path / "m", store=store, catalog=fresh)
        saved = saved_contents(fresh, store, record.uuid)
        assert saved[b"a",] == b"kept"
        found.add(saved.get((b"b",)))
    assert found == {None, b""}
