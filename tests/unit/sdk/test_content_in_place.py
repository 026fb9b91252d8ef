"""Writes in place: no record tells of them, so the Seal of their block does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.model import records
from arvfuse.sdk.content import SMALL_BYTES
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.log import LogReader
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock
from tests.support.hosts import InlinePool, make_catalog
from tests.support.sessions import Session
from tests.support.stores import noise

MIB = 1 << 20
BIG = noise(SMALL_BYTES + 5 * MIB)


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = FakeClock()
    with Session(
        tmp_path / "m", store=MemoryStore(), catalog=make_catalog(clock), clock=clock, pool=InlinePool()
    ) as session:
        yield session


def written(session: Session, *writes: tuple[int, int]) -> bool:
    """Write (offset, length) after the first MiBs of a file; whether the Seal of its block says REWRITTEN."""
    tree: LiveTree = session.open(session.catalog.create(name="c"))
    file = tree.create(tree.root, b"f")
    tree.write(file, 0, BIG[: 4 * MIB])
    for offset, length in writes:
        tree.write(file, offset, BIG[:length])
    session.committed()
    reader = LogReader(session.directory)
    seals = [record for record in reader.read() if isinstance(record.body, records.Seal)]
    reader.close()
    (seal,) = seals
    return bool(seal.flags & records.REWRITTEN)


def test_what_is_written_once_is_not_rewritten(session: Session) -> None:
    assert not written(session, (4 * MIB, MIB), (5 * MIB, 10))


@pytest.mark.parametrize("write", [(0, 1), (0, MIB), (4 * MIB - 1, 2), (2 * MIB, MIB)])
def test_what_is_written_in_place_is(session: Session, write: tuple[int, int]) -> None:
    assert written(session, write)
