"""Which listings the kernel may keep."""

from __future__ import annotations

import itertools

from arvfuse.fusedir import listings as module
from arvfuse.fusedir.listings import MOST_LISTINGS, PLACES, READ_ALL, Keeping, Listings, Reading, salt_of

NEW, KEPT = Keeping(fills=True, holds=False), Keeping(fills=True, holds=True)


def opened(listings: Listings, version: int, now_s: float = 0.0) -> tuple[Keeping, Reading]:
    """A handle of directory 1 that fills."""
    keeping, reading = listings.open(1, version, now_s)
    assert reading is not None
    assert (reading.number, reading.version) == (1, version)
    return keeping, reading


def read(listings: Listings, number: int, version: int, now_s: float = 0.0) -> Keeping:
    """Opened, read to the end, closed."""
    keeping, reading = listings.open(number, version, now_s)
    if reading is not None:
        if not keeping.holds:
            listings.told(reading, now_s)
        listings.release(reading)
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
    keeping, reading = opened(listings, 5)
    assert keeping == NEW
    listings.release(reading)
    listings.release(reading)
    assert repr(listings) == "<Listings 0 kept, 0 being read>"
    assert opened(listings, 5)[0] == NEW
    keeping, second = opened(listings, 5)
    assert keeping == NEW, "two readers of one version may both fill in"
    listings.told(second, 0.0)
    assert opened(listings, 5)[0] == KEPT


def test_versions_never_mix():
    listings = Listings(60.0)
    _, old = opened(listings, 5)
    assert listings.open(1, 6, 0.0) == (READ_ALL, None)
    listings.told(old, 0.0)  # on its way while the other opened it: the next one compares
    listings.release(old)
    assert read(listings, 1, 6) == NEW
    assert read(listings, 1, 6) == KEPT


def test_who_begins_again_with_another_version_proves_nothing():
    listings = Listings(60.0)
    _, first = opened(listings, 5)
    _, second = opened(listings, 5)
    listings.told(first, 0.0)
    listings.read_again(second, 5)
    assert not second.mixed
    listings.read_again(second, 6)
    assert listings.open(1, 6, 0.0) == (READ_ALL, None)
    listings.told(second, 0.0)
    listings.told(first, 0.0)
    listings.release(first)
    listings.told(second, 0.0)
    assert read(listings, 1, 6) == NEW, "alone by then, but what it began may be there still"
    listings.release(second)
    assert read(listings, 1, 6) == KEPT


def test_a_handle_that_was_released_meanwhile_changes_nothing():
    listings = Listings(60.0)
    _, first = opened(listings, 5)
    _, second = opened(listings, 5)
    listings.release(first)
    listings.read_again(first, 6)
    listings.told(first, 0.0)
    listings.release(first)
    assert opened(listings, 5)[0] == NEW
    listings.release(second)
    assert repr(listings) == "<Listings 0 kept, 1 being read>"


def test_places_differ_from_version_to_version_and_fit_into_31_bits():
    assert PLACES >= 10_000_000
    salts = [salt_of(version) for version in range(1, 200)]
    assert all(one != next_one for one, next_one in itertools.pairwise(salts))
    assert max(salts) + PLACES <= 1 << 31
    assert all(salt % PLACES == 0 for salt in salts)


def test_so_many_and_no_more(monkeypatch):
    assert MOST_LISTINGS >= 10_000
    monkeypatch.setattr(module, "MOST_LISTINGS", 2)
    listings = Listings(60.0)
    for number in (1, 2, 3):
        read(listings, number, 5)
    assert [read(listings, number, 5).holds for number in (3, 2, 1)] == [True, True, False]
