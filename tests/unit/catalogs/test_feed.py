from __future__ import annotations

import contextlib
import os
import sqlite3

import pytest

from arvfuse.catalogs import feed, rows
from arvfuse.catalogs.feed import BATCH, LOOK_EVERY_S, ChangeSource, PollingFeed, SqliteChanges
from arvfuse.catalogs.sqlite import FILE_NAME, SqliteCatalog
from arvfuse.clock import SystemClock
from arvfuse.errors import Damaged, StoreUnavailable
from tests.support.clock import FakeClock


class Script:
    """A ChangeSource that gives what it was told."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.closed = False

    def poll(self):
        if self.closed:
            raise StoreUnavailable("closed")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def close(self):
        self.closed = True


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def catalog(tmp_path, clock):
    made = SqliteCatalog(tmp_path, clock=clock, kept_events=10)
    yield made
    made.close()


def test_it_looks_four_times_a_second():
    assert LOOK_EVERY_S == 0.25


def test_an_outage_is_told_and_over_at_the_next_wait(clock):
    source: ChangeSource = Script(StoreUnavailable("gone"), ["change"])
    polling = PollingFeed(source, clock)
    with pytest.raises(StoreUnavailable, match="gone"):
        polling.wait(0)
    assert polling.wait(0) == ["change"]


def test_an_outage_because_of_close_is_none(clock):
    source = Script()
    polling = PollingFeed(source, clock)

    def closed_meanwhile():
        polling.close()
        raise StoreUnavailable("closed")

    source.poll = closed_meanwhile
    assert polling.wait(5) == []
    assert source.closed


def test_events_come_in_batches(catalog, tmp_path, clock):
    assert BATCH == 10_000
    source = SqliteChanges(tmp_path / FILE_NAME, clock, read_only=False, batch=2)
    names = [catalog.create(name=str(number)).uuid for number in range(5)]
    got = [[change.uuid for change in source.poll()] for _ in range(4)]
    source.close()
    assert got == [names[:2], names[2:4], names[4:], []]


def test_a_feed_left_behind_hands_out_every_record_once(catalog):
    polling = catalog.feed()
    gone = catalog.create(name="gone")
    kept = catalog.create(name="kept")
    project = catalog.create_project(name="p")
    catalog.trash(gone.uuid)
    for number in range(30):
        kept = catalog.update(kept.uuid, name=f"kept{number}")
    changes = {change.uuid: change for change in polling.wait(0)}
    assert changes.keys() == {catalog.home().uuid, project.uuid, gone.uuid, kept.uuid}
    assert changes[gone.uuid].event == "trash"
    assert (changes[kept.uuid].event, changes[kept.uuid].version) == ("update", kept.version)
    assert polling.wait(0) == []
    catalog.create(name="more")
    assert len(polling.wait(0)) == 1
    polling.close()


def test_a_look_without_news_reads_no_events(catalog, tmp_path, clock, monkeypatch):
    source = SqliteChanges(tmp_path / FILE_NAME, clock, read_only=False)
    catalog.create(name="a")
    assert len(source.poll()) == 1
    monkeypatch.setattr(feed.rows, "events_after", lambda *_: pytest.fail("read although nothing was committed"))
    assert source.poll() == []
    assert source.poll() == []
    source.close()


def test_a_failed_look_misses_nothing(catalog, tmp_path, clock):
    source = SqliteChanges(tmp_path / FILE_NAME, clock, read_only=False)
    catalog.create(name="a")
    with contextlib.closing(sqlite3.connect(tmp_path / FILE_NAME)) as db:
        db.execute("ALTER TABLE events RENAME TO elsewhere")
        with pytest.raises(Damaged):
            source.poll()
        db.execute("ALTER TABLE elsewhere RENAME TO events")
    assert len(source.poll()) == 1
    source.close()
    with pytest.raises(StoreUnavailable):
        source.poll()


def test_files_that_nobody_wrote_to_are_not_read(catalog, tmp_path, clock, monkeypatch):
    path = tmp_path / FILE_NAME
    catalog.create(name="before")
    old = 1_000_000_000
    for file in (path, tmp_path / f"{FILE_NAME}-wal"):
        os.utime(file, ns=(old, old))
    changes = SqliteChanges(path, clock, read_only=False)
    try:
        assert changes.poll() == []
        asked = []
        monkeypatch.setattr(rows, "events_after", lambda *args: asked.append(args) or [])
        assert changes.poll() == []
        assert asked == []
        monkeypatch.undo()
        for name in ("one", "two"):  # perhaps within the same tick of the clock
            made = catalog.create(name=name)
            assert [change.uuid for change in changes.poll()] == [made.uuid]
    finally:
        changes.close()


class Watch:
    """Says when to look."""

    def __init__(self, *answers):
        self.answers = list(answers)
        self.waited = []
        self.woken = False

    def wait(self, timeout_s):
        self.waited.append(timeout_s)
        return self.answers.pop(0)

    def wake(self):
        self.woken = True


def test_where_the_system_tells_of_writes_nothing_is_looked_at_before():
    watch = Watch(False, True)
    polling = PollingFeed(Script([], [], [], ["change"]), SystemClock(), watch)
    assert polling.wait(60) == ["change"]  # not in the first look after the write: that may be too early
    assert watch.waited == [15, 15]
    polling.close()
    assert watch.woken
