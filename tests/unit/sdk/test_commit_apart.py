"""Several collections in one commit: what is wrong with one keeps no other from being saved."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.errors import Damaged, StoreUnavailable
from arvfuse.sdk.blocks import spool_path
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.stores.faulty import Faulty
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool
from tests.support.sessions import Session, put_file, saved_contents
from tests.support.stores import noise

BIG = noise(SMALL_BYTES + 100)


@pytest.fixture
def catalog() -> MemoryCatalog:
    return MemoryCatalog(clock=FakeClock())


@pytest.fixture
def store() -> Faulty:
    return Faulty(MemoryStore())


@pytest.fixture
def session(tmp_path: Path, store: Faulty, catalog: MemoryCatalog) -> Iterator[Session]:
    with Session(tmp_path / "m", store=store, catalog=catalog, clock=FakeClock(), pool=InlinePool()) as session:
        yield session


@pytest.mark.parametrize("damage", ["gone", "short"])
def test_a_damaged_spool_file_keeps_no_other_collection_from_being_saved(
    session: Session, catalog: MemoryCatalog, damage: str
) -> None:
    records = [catalog.create(name=name) for name in ("sound", "damaged", "sound too")]
    trees = [session.open(record) for record in records]
    for tree in trees:
        put_file(tree, b"f", BIG)
    block = next(iter(trees[1].child(trees[1].root, b"f").segments)).ref  # type: ignore[union-attr] # a file
    path = spool_path(session.directory, block)  # type: ignore[arg-type] # of a buffer block
    if damage == "gone":
        path.unlink()
    else:
        os.truncate(path, 1000)
    outcomes = {outcome.tree: outcome for outcome in session.commit()}
    first, second, third = (outcomes[tree.no] for tree in trees)
    assert (first.error, third.error, isinstance(second.cause, Damaged)) == (None, None, True)
    assert str(path) in (second.error or "")
    assert [tree.dirty for tree in trees] == [False, True, False]
    assert saved_contents(catalog, session.store, records[2].uuid) == {(b"f",): BIG}


def test_while_the_store_is_away_nobody_is_tried_alone(session: Session, store: Faulty, catalog: MemoryCatalog) -> None:
    for name in ("one", "two", "three"):
        put_file(session.open(catalog.create(name=name)), b"f", BIG)
    store.rescript("barrier: FAIL*")
    outcomes = session.commit()
    assert all(isinstance(outcome.cause, StoreUnavailable) for outcome in outcomes)
    assert store.calls("barrier") == 1
