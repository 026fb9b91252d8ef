"""What every catalog promises of its change feed."""

from __future__ import annotations

import threading
from typing import Any

from tests.support.catalogs import catalog_feed, save_of
from tests.support.clock import FakeClock


def test_a_feed_tells_every_change_and_who_made_it(catalog, reopen):
    other = reopen()
    catalog.create(name="before")
    with catalog_feed(catalog) as feed:
        assert feed.wait(0) == []
        project = other.create_project(name="p")
        record = catalog.create(name="a")
        saved = other.save(save_of(record, 1))
        moved = other.update(record.uuid, owner=project.uuid)
        other.trash(record.uuid)
        other.trash(project.uuid)
        changes = feed.wait(0)
        assert feed.wait(0) == []
    assert [(change.kind, change.event, change.version) for change in changes] == [
        ("project", "create", 1),
        ("collection", "create", 1),
        ("collection", "update", 2),
        ("collection", "update", 3),
        ("collection", "trash", 4),
        ("project", "trash", 2),
    ]
    assert [change.writer for change in changes] == [other.writer, catalog.writer, *[other.writer] * 4]
    assert [change.uuid for change in changes] == [project.uuid, *[record.uuid] * 4, project.uuid]
    assert changes[2].pdh == saved.pdh
    assert changes[0].pdh is None
    assert (changes[3].owner, changes[3].old_owner) == (moved.owner, record.owner)
    assert changes[4].old_owner == changes[4].owner == project.uuid


def test_two_feeds_are_independent(catalog):
    with catalog_feed(catalog) as one:
        catalog.create(name="a")
        with catalog_feed(catalog) as two:
            catalog.create(name="b")
            assert len(one.wait(0)) == 2
            assert len(two.wait(0)) == 1


class waiting:
    """A thread in feed.wait(60); its result is in ``got`` after the block."""

    def __init__(self, feed: Any, clock: FakeClock) -> None:
        self.got: list[Any] = []
        self.clock = clock
        self.thread = threading.Thread(target=lambda: self.got.append(feed.wait(60)), name="feed-waiter")

    def __enter__(self) -> waiting:
        self.thread.start()
        self.clock.wait_for_sleepers()
        return self

    def __exit__(self, *exc: object) -> None:
        self.thread.join()


def test_a_waiter_hears_within_a_quarter_of_a_second(catalog, reopen, clock):
    other = reopen()
    with catalog_feed(catalog) as feed, waiting(feed, clock) as waiter:
        other.create(name="a")
        clock.advance(0.25)
    assert [change.event for change in waiter.got[0]] == ["create"]


def test_a_wait_ends_at_its_timeout(catalog, clock):
    with catalog_feed(catalog) as feed, waiting(feed, clock) as waiter:
        clock.advance(60)
    assert waiter.got == [[]]


def test_close_wakes_the_waiter_without_time_passing(catalog, clock):
    feed = catalog.feed()
    with waiting(feed, clock) as waiter:
        feed.close()
    assert waiter.got == [[]]
    assert feed.wait(60) == []
    feed.close()
