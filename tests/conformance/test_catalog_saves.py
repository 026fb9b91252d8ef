"""What every catalog promises of saves, versions and texts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from arvfuse.catalogs.manifestfiles import pdh_of_stripped
from arvfuse.errors import (
    ArgumentError,
    CommitConflict,
    NoSuchRecord,
)
from arvfuse.model.collections import EMPTY_PDH, MountId, Save, Version
from tests.support.catalogs import applied_of, catalog_feed, save_of, text_of


def test_save_is_a_compare_and_swap(catalog, reopen, clock):
    first = catalog.create(name="a")
    clock.advance(1)
    second = catalog.save(save_of(first, 2))
    assert (second.version, second.pdh) == (2, pdh_of_stripped(text_of(2)))
    assert second.modified_at_ns == clock.time_ns()
    assert second.created_at_ns == first.created_at_ns
    with pytest.raises(CommitConflict):
        reopen().save(save_of(first, 3))
    assert catalog.get(first.uuid) == second
    assert catalog.manifest(second.pdh) == text_of(2)


def test_a_save_that_changes_nothing_makes_no_version_but_is_applied(catalog):
    record = catalog.create(name="a", manifest=text_of(1), applied=applied_of(3))
    assert catalog.applied(MountId("m1")) == {record.uuid: applied_of(3)}
    with catalog_feed(catalog) as feed:
        assert catalog.save(save_of(record, 1, applied=applied_of(7))) == record
        assert feed.wait(0) == []
    assert catalog.applied(MountId("m1")) == {record.uuid: applied_of(7)}


def test_a_save_changes_attributes_too(catalog):
    record = catalog.create(name="a", manifest=text_of(1))
    saved = catalog.save(save_of(record, 1, properties={"k": "v"}, storage_classes=("cold",), trash_at_ns=2**62))
    assert (saved.version, saved.properties, saved.storage_classes) == (2, {"k": "v"}, ("cold",))
    assert saved.trash_at_ns == 2**62
    assert catalog.get(record.uuid) == saved
    for time_ns in (-1, 2**63):
        with pytest.raises(ArgumentError):
            catalog.update(record.uuid, trash_at_ns=time_ns)
        with pytest.raises(ArgumentError):
            catalog.create(name="b", trash_at_ns=time_ns)


def test_a_text_that_is_not_of_its_hash_is_refused(catalog):
    record = catalog.create(name="a")
    with pytest.raises(ArgumentError):
        catalog.save(Save(uuid=record.uuid, expect=record.version, pdh=EMPTY_PDH, manifest=text_of(1)))
    with pytest.raises(ArgumentError):
        catalog.keep_manifest(EMPTY_PDH, text_of(1))
    assert catalog.get(record.uuid) == record


def test_save_many_is_all_or_none(catalog):
    one, two = catalog.create(name="1"), catalog.create(name="2")
    moved = catalog.save(save_of(two, 1))
    with pytest.raises(CommitConflict):
        catalog.save_many([save_of(one, 2, applied=applied_of(1)), save_of(two, 2)])
    assert catalog.get(one.uuid) == one
    assert catalog.applied(MountId("m1")) == {}
    saved = catalog.save_many([save_of(one, 2, applied=applied_of(1)), save_of(moved, 2, applied=applied_of(1))])
    assert [record.version for record in saved] == [2, 3]
    assert catalog.applied(MountId("m1")).keys() == {one.uuid, two.uuid}
    assert catalog.save_many([]) == []


def test_applied_is_per_mount_and_outlives_the_trash(catalog, reopen):
    record = catalog.create(name="a")
    catalog.save(save_of(record, 1, applied=applied_of(5)))
    catalog.create(name="b", applied=applied_of(6, "m2"))
    catalog.trash(record.uuid)
    assert reopen().applied(MountId("m1")) == {record.uuid: applied_of(5)}
    catalog.forget_applied(MountId("m1"))
    assert catalog.applied(MountId("m1")) == {}
    assert len(catalog.applied(MountId("m2"))) == 1


def test_autosaves_replace_and_idle_ones_are_kept(catalog, clock):
    record = catalog.create(name="a")
    for number in range(1, 4):
        clock.advance(1)
        record = catalog.save(save_of(record, number))
    assert [kept.version for kept in catalog.versions(record.uuid)] == [4]
    clock.advance(10)
    newest = catalog.save(save_of(record, 4))
    assert catalog.versions(record.uuid) == [newest, record]
    asked = catalog.save(save_of(newest, 5, keep_previous=True))
    assert catalog.versions(record.uuid) == [asked, newest, record]
    assert catalog.get(record.uuid, version=record.version) == record
    assert catalog.get(record.uuid, version=asked.version) == asked
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid, version=Version(2))
    catalog.trash(record.uuid)
    assert len(catalog.versions(record.uuid)) == 3
    with pytest.raises(NoSuchRecord):
        catalog.get(record.uuid, version=record.version)


def test_find_by_pdh_knows_kept_versions(catalog, clock):
    record = catalog.create(name="a", manifest=text_of(1))
    catalog.save(save_of(record, 2, keep_previous=True))
    assert catalog.find_by_pdh(record.pdh) == record
    assert catalog.find_by_pdh(pdh_of_stripped(text_of(2))).version == 2
    assert catalog.find_by_pdh(pdh_of_stripped(text_of(3))) is None
    catalog.trash(record.uuid)
    assert catalog.find_by_pdh(record.pdh) is None


def test_kept_versions_are_thinned_but_labelled_ones_stay(catalog, clock):
    record = catalog.create(name="a")
    for number in range(12):  # one per ten minutes: versions 1..12 are kept
        clock.advance(600)
        record = catalog.save(save_of(record, number))
        if record.version == 3:
            catalog.label_version(record.uuid, Version(2), "first light")
    clock.advance(3600)
    record = catalog.save(save_of(record, 100))
    kept = [version.version for version in catalog.versions(record.uuid)]
    # 2020-01-01 00:00 and ten minutes each: 7..12 are of 01:00, 1..6 of 00:00, 13 was made at 02:00.
    assert kept == [14, 13, 12, 6, 2]
    clock.advance(2 * 24 * 3600)
    record = catalog.save(save_of(record, 101))
    assert [version.version for version in catalog.versions(record.uuid)] == [15, 14, 2]
    assert catalog.labels(record.uuid) == {2: "first light"}
    assert record.version == 15


def test_a_labelled_version_is_kept_when_it_is_replaced(catalog):
    record = catalog.create(name="a")
    catalog.label_version(record.uuid, record.version, "zero")
    saved = catalog.save(save_of(record, 1))
    saved = catalog.save(save_of(saved, 2))
    assert catalog.versions(record.uuid) == [saved, record]
    catalog.label_version(record.uuid, record.version, None)
    assert catalog.labels(record.uuid) == {}


def test_keep_manifest_needs_no_record(catalog):
    pdh = pdh_of_stripped(text_of(9))
    catalog.keep_manifest(pdh, text_of(9))
    assert catalog.manifest(pdh) == text_of(9)
    path = catalog.manifest_path(pdh)
    assert path is None or path.read_bytes() == text_of(9)
    assert catalog.manifest_path(pdh_of_stripped(text_of(10))) is None


def test_of_many_threads_exactly_one_wins_each_version(catalog, reopen):
    record = catalog.create(name="a")
    won: list[int] = []

    def contender(me: Any, number: int) -> None:
        for _ in range(5):
            while True:
                current = me.get(record.uuid)
                try:
                    won.append(me.save(save_of(current, number * 1000 + current.version)).version)
                    break
                except CommitConflict:
                    continue

    threads = [
        threading.Thread(
            target=contender, args=(reopen() if number % 2 else catalog, number), name=f"contender{number}"
        )
        for number in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(won) == list(range(2, 22))
    assert catalog.get(record.uuid).version == 21
