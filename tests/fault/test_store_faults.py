"""Every verb of a block store fails before, in the middle of and after its effect, at any call: nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import StoreUnavailable
from arvfuse.model.blockstate import State
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.sessions import Contents, Session, contents, put_file, recovered, saved_contents
from tests.support.stores import noise
from tests.support.treemodel import BIG, apply_to_model, apply_to_tree, changes

LARGE = noise(SMALL_BYTES + 5000)
FAULTS = {
    "put": ["FAIL", "PARTIAL", "AFTER", "NOSPACE"],
    "adopt": ["FAIL", "PARTIAL", "AFTER", "NOSPACE", "COLLISION"],
    "fetch_range": ["FAIL", "PARTIAL", "AFTER", "MISSING", "DAMAGED"],
    "contains": ["FAIL", "AFTER"],
    "barrier": ["FAIL", "PARTIAL", "AFTER", "NOSPACE"],
}
CASES = [(verb, fault) for verb, faults in FAULTS.items() for fault in faults]


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore())


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=SystemClock())


@pytest.fixture
def session(tmp_path: Path, store: Faulty, catalog: MemoryCatalog) -> Iterator[Session]:
    with Session(tmp_path, store=store, catalog=catalog) as session:
        yield session


@pytest.mark.parametrize(("verb", "fault"), CASES)
def test_any_call_may_fail_and_the_next_commit_makes_good(
    verb: str, fault: str, session: Session, store: Faulty, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    model: Contents = {}
    for number, change in enumerate(islice(changes(len(verb) + len(fault), BIG), 60)):
        apply_to_tree(tree, change)
        apply_to_model(model, change)
        if number % 12 == 11:
            good = number // 12 % 3
            store.rescript(f"{verb}: ok*{good} {fault}*" if good else f"{verb}: {fault}*")
            before = saved_contents(catalog, store_of(session), record.uuid)
            failed = [outcome.error for outcome in session.commit() if outcome.error]
            store.rescript("")
            if failed:
                assert saved_contents(catalog, store, record.uuid) == before
            if verb != "fetch_range":
                assert contents(tree) == model
            session.committed()
            assert saved_contents(catalog, store, record.uuid) == model
    assert contents(tree) == model


def store_of(session: Session) -> MemoryStore:
    """The store below the faults."""
    inner = session.store._store  # type: ignore[attr-defined] # Faulty has one; a test that reads beside the script
    assert isinstance(inner, MemoryStore)
    return inner


@pytest.mark.parametrize("fault", FAULTS["adopt"])
@pytest.mark.parametrize("data", [b"small", LARGE], ids=["log", "block"])
def test_a_store_that_is_away_until_we_die_costs_nothing(
    data: bytes, fault: str, tmp_path: Path, store: Faulty, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    with Session(tmp_path, store=store, catalog=catalog) as session:
        tree = session.open(record)
        put_file(tree, b"a", data)
        store.rescript(f"adopt: {fault}*")
        assert [outcome.error is None for outcome in session.commit()] == [False]
        put_file(tree, b"b", b"after")
        session.commit()
    store.rescript("")
    recovered(tmp_path, store=store, catalog=catalog)
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): data, (b"b",): b"after"}


def test_a_block_in_error_is_stored_by_the_next_commit(session: Session, store: Faulty, catalog: MemoryCatalog) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"a", LARGE)
    store.rescript("adopt: FAIL*")
    assert session.commit()[0].error is not None
    (block,) = session.workspace.shared.blocks.all()
    assert block.state is State.ERROR
    assert bytes(tree.read(file, 0, len(LARGE))) == LARGE
    seen = file.error_mark - 1
    with pytest.raises(StoreUnavailable):
        tree.flush(file, seen)
    store.rescript("")
    session.committed()
    assert session.workspace.shared.blocks.all() == []
    assert list((session.directory / "spool").iterdir()) == []
    assert session.workspace.shared.spool.level <= len(LARGE) - SMALL_BYTES
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): LARGE}


def test_reads_fail_while_the_store_is_away_and_writes_do_not(
    session: Session, store: Faulty, catalog: MemoryCatalog
) -> None:
    record = catalog.create(name="c")
    tree = session.open(record)
    file = put_file(tree, b"a", LARGE)
    session.committed()
    store.rescript("fetch_range: FAIL*")
    with pytest.raises(StoreUnavailable):
        tree.read(file, 0, 10)
    tree.write(file, 5, b"new")
    assert bytes(tree.read(file, 5, 3)) == b"new"
    tree.truncate(file, 10)
    store.rescript("")
    session.committed()
    assert saved_contents(catalog, store, record.uuid) == {(b"a",): LARGE[:5] + b"new" + LARGE[8:10]}
