"""What only the catalog in memory has; its promises are in tests/conformance/test_catalog.py."""

from __future__ import annotations

from arvfuse.catalogs.memory import AnyRecord, MemoryCatalog
from arvfuse.model.collections import CollectionRecord, ProjectRecord
from tests.support.clock import FakeClock


def test_catalogs_of_one_content_see_each_other_and_others_do_not():
    clock = FakeClock()
    first = MemoryCatalog(clock=clock, writer="one")
    second = MemoryCatalog(clock=clock, of=first)
    stranger = MemoryCatalog(clock=clock)
    record: AnyRecord = first.create(name="a")
    assert AnyRecord == CollectionRecord | ProjectRecord
    assert second.find(record.owner, "a") == record
    assert stranger.collections() == []
    assert first.writer == "one"
    assert second.writer not in ("one", stranger.writer)
    assert repr(second) == f"MemoryCatalog(writer={second.writer!r}, records=1)"


def test_close_keeps_the_content_for_others():
    first = MemoryCatalog(clock=FakeClock())
    second = MemoryCatalog(clock=FakeClock(), of=first)
    first.create(name="a")
    first.close()
    assert len(second.collections()) == 1
