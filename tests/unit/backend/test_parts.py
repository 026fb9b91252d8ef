"""Opening a store: made when asked for, refused in one line otherwise."""

from __future__ import annotations

import pytest

from arvfuse.backend.parts import Parts, open_blocks, open_parts
from arvfuse.errors import ArvfuseError, NoSuchEntry
from tests.support.clock import FakeClock


def test_a_store_is_made_once_and_opened_again(tmp_path):
    parts = open_parts(tmp_path / "store", clock=FakeClock(), create=True)
    assert isinstance(parts, Parts)
    record = parts.catalog.create(name="one")
    locator = parts.store.put(b"foo")
    parts.close()
    again = open_parts(tmp_path / "store", clock=FakeClock(), read_only=True)
    assert again.catalog.get(record.uuid) == record
    assert again.writer != parts.writer
    again.close()
    blocks = open_blocks(tmp_path / "store", clock=FakeClock(), read_only=True)
    assert bytes(blocks.fetch_range(locator, 0, 3)) == b"foo"
    blocks.close()


def test_no_store_there_says_what_to_do(tmp_path):
    with pytest.raises(NoSuchEntry, match=r"no store here; .* or choose another --store"):
        open_blocks(tmp_path / "store", clock=FakeClock(), read_only=True)


def test_a_damaged_catalog_leaves_nothing_open(tmp_path):
    open_parts(tmp_path, clock=FakeClock(), create=True).close()
    (tmp_path / "catalog.sqlite3").write_bytes(b"this is no database" * 100)
    with pytest.raises(ArvfuseError, match=r"catalog\.sqlite3"):
        open_parts(tmp_path, clock=FakeClock())
