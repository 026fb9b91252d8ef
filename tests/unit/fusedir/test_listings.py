"""Which listings the kernel may keep."""

from __future__ import annotations

from arvfuse.fusedir import listings as module
from arvfuse.fusedir.listings import MOST_LISTINGS, READ_ALL, Keeping, Listings

NEW, KEPT = Keeping(fills=True, holds=False), Keeping(fills=True, holds=True)


def read(listings: Listings, number: int, version: int, now_s: float = 0.0) -> Keeping:
    """Opened, read to the end, closed."""
    keeping = listings.open(number, version, now_s)
    if keeping.fills:
        if not keeping.holds:
            listings.told(number, version, now_s)
        listings.release(number, version)
    return keeping


def test_what_was_read_to_its_end_is_kept_until_it_changes_or_is_old():
    listings = Listings(60.0)
    assert read(listings, 1, 5) == NEW
    assert read(listings, 1, 5, 59.0) == KEPT
    assert read(listings, 2, 5) == NEW, "another directory"
    assert read(listings, 1, 5, 60.0) == NEW, "the attributes are to be told again"
    assert read(listings, 1, 5, 61.0) == KEPT
    assert read(listings, 1, 6, 62.0) == NEW
    assert read(listings, 1, 5, 63.0) == NEW, "an older version is another one too"
    assert repr(listings) == "<Listings 2 kept, 0 being read>"


def test_what_was_not_read_to_its_end_is_not_kept():
    listings = Listings(60.0)
    assert listings.open(1, 5, 0.0) == NEW
    listings.release(1, 5)
    assert listings.open(1, 5, 0.0) == NEW
    assert listings.open(1, 5, 0.0) == NEW, "two readers of one version may both fill in"
    listings.told(1, 5, 0.0)
    assert listings.open(1, 5, 0.0) == KEPT


def test_versions_never_mix():
    listings = Listings(60.0)
    assert listings.open(1, 5, 0.0) == NEW
    assert listings.open(1, 6, 0.0) == READ_ALL
    listings.told(1, 5, 0.0)  # on its way while the other opened it: the next one compares
    listings.release(1, 5)
    assert read(listings, 1, 6) == NEW
    assert read(listings, 1, 6) == KEPT


def test_who_begins_again_with_another_version_spoils_it_for_all_that_are_open():
    listings = Listings(60.0)
    assert listings.open(1, 5, 0.0) == NEW
    assert listings.open(1, 5, 0.0) == NEW
    listings.told(1, 5, 0.0)
    listings.read_again(1, 5, 6)
    assert listings.open(1, 6, 0.0) == READ_ALL
    listings.told(1, 6, 0.0)
    listings.told(1, 5, 0.0)
    listings.release(1, 5)
    assert listings.open(1, 6, 0.0) == NEW
    listings.told(1, 6, 0.0)
    listings.release(1, 6)
    listings.release(1, 6)
    assert listings.open(1, 6, 0.0) == KEPT


def test_so_many_and_no_more(monkeypatch):
    assert MOST_LISTINGS >= 10_000
    monkeypatch.setattr(module, "MOST_LISTINGS", 2)
    listings = Listings(60.0)
    for number in (1, 2, 3):
        read(listings, number, 5)
    assert [read(listings, number, 5).holds for number in (3, 2, 1)] == [True, True, False]
