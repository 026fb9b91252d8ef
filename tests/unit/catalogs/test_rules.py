from __future__ import annotations

import pytest

from arvfuse.catalogs import rules
from arvfuse.catalogs.rules import (
    DAY_NS,
    DEFAULT_CLASSES,
    HAS_CONTENTS,
    HOUR_NS,
    IDLE_NS,
    NAME_CHARACTERS,
    SECOND_NS,
    Kept,
    as_of,
    change_of,
    check_expected,
    check_free,
    check_name,
    checked_classes,
    checked_properties,
    checked_trash_time,
    keeps,
    next_record,
    not_kept,
    saved_record,
    thinned,
    trashed_project,
    unique_name,
)
from arvfuse.errors import ArgumentError, CommitConflict, NameNotText, NameTaken, NoSuchRecord, NotPermitted
from arvfuse.model.collections import EMPTY_PDH, PDH, CollectionRecord, ProjectRecord, Save, Version

PDH1 = PDH("0" * 32 + "+1")


def record(**more) -> CollectionRecord:
    return CollectionRecord(**{"uuid": "u", "owner": "o", "name": "n", "version": Version(4), "pdh": EMPTY_PDH, **more})


def project(**more) -> ProjectRecord:
    return ProjectRecord(**{"uuid": "g", "owner": "o", "name": "p", **more})


def test_the_numbers_are_those_of_the_design():
    assert IDLE_NS == 10 * SECOND_NS
    assert DAY_NS == 24 * HOUR_NS == 24 * 3600 * 10**9
    assert (NAME_CHARACTERS, DEFAULT_CLASSES) == (255, ("default",))
    assert "contents" in HAS_CONTENTS


@pytest.mark.parametrize("name", ["a", "...", " ", "ä" * 255, "\n"])
def test_good_names(name):
    assert check_name(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "/", "a/b", "\0", "a" * 256])
def test_bad_names(name):
    with pytest.raises(ArgumentError):
        check_name(name)


def test_an_empty_name_where_it_may_be():
    assert check_name("", may_be_empty=True) == ""


def test_a_name_that_is_not_text_is_shown_readably():
    with pytest.raises(NameNotText) as caught:
        check_name("a\udcff")
    str(caught.value).encode()


def test_unique_names_fit():
    assert unique_name("a", "zzzzz-4zz18-123456789012345") == "a (123456789012345)"
    assert len(unique_name("x" * 300, "zzzzz-4zz18-123456789012345")) == NAME_CHARACTERS


def test_properties_are_copied_as_json():
    given = {"a": (1, 2), 3: None}
    assert checked_properties(given) == {"a": [1, 2], "3": None}
    assert checked_properties(None) == {}
    with pytest.raises(ArgumentError):
        checked_properties({"a": object()})


def test_storage_classes_and_trash_times():
    assert checked_classes(None) == checked_classes([]) == DEFAULT_CLASSES
    assert checked_classes(["a", "b"]) == ("a", "b")
    assert checked_trash_time(None) is None
    assert checked_trash_time(5) == 5
    with pytest.raises(ArgumentError):
        checked_trash_time(1 << 63)


def test_a_record_is_in_the_trash_from_its_time_on():
    assert not as_of(record(trash_at_ns=5), 4).is_trashed
    assert as_of(record(trash_at_ns=5), 5).is_trashed
    assert not as_of(record(), 5).is_trashed


def test_expected_versions():
    check_expected(record(), Version(4))
    check_expected(record(), None)
    with pytest.raises(CommitConflict, match="version 4"):
        check_expected(record(), Version(3))


def test_a_name_is_free_for_its_holder():
    check_free(None, record())
    check_free(record(), record(version=Version(9)))
    with pytest.raises(NameTaken):
        check_free(record(uuid="other"), record())


def test_the_error_for_a_version_names_it():
    error = not_kept("u", Version(7))
    assert isinstance(error, NoSuchRecord)
    assert "version 7" in str(error)


def test_projects_go_but_homes_stay():
    assert trashed_project(project(), Version(1), 9) == project(version=Version(2), modified_at_ns=9)
    with pytest.raises(CommitConflict):
        trashed_project(project(), Version(2), 9)
    with pytest.raises(NotPermitted):
        trashed_project(project(kind="user"), None, 9)


def test_next_record_changes_what_is_given():
    assert next_record(record(), 9) is None
    assert next_record(record(), 9, name="n", properties={}) is None
    assert next_record(record(), 9, name="m") == record(name="m", version=Version(5), modified_at_ns=9)
    assert next_record(record(), 9, trash_at_ns=10) == record(trash_at_ns=10, version=Version(5), modified_at_ns=9)
    trashed = record(trash_at_ns=9, is_trashed=True, version=Version(5), modified_at_ns=9)
    assert next_record(record(), 9, trash_at_ns=3) == trashed


def test_saved_record_needs_the_version():
    save = Save(uuid="u", expect=Version(4), pdh=PDH1, manifest=b"x")
    assert saved_record(record(), save, 9) == record(pdh=PDH1, version=Version(5), modified_at_ns=9)
    assert saved_record(record(pdh=PDH1), save, 9) is None
    with pytest.raises(CommitConflict):
        saved_record(record(version=Version(5)), save, 9)


def test_what_is_kept():
    assert not keeps(record(modified_at_ns=0), IDLE_NS - 1)
    assert keeps(record(modified_at_ns=0), IDLE_NS)
    assert keeps(record(modified_at_ns=0), 0, asked=True)
    assert keeps(record(modified_at_ns=0), 0, label="x")


def kept_every(step_ns: int, count: int) -> list[Kept]:
    return [Kept(Version(number), number * step_ns) for number in range(count, 0, -1)]


def test_the_last_hour_stays_whole():
    kept = kept_every(SECOND_NS, 3599)
    assert thinned(kept, 3600 * SECOND_NS) == []


def test_a_day_is_thinned_to_hours_and_the_rest_to_days():
    step_ns = HOUR_NS // 6
    kept = kept_every(step_ns, 6 * 24 * 5)  # five days, every ten minutes
    now_ns = 5 * DAY_NS
    dropped = set(thinned(kept, now_ns))
    stay = [entry.made_at_ns for entry in kept if entry.version not in dropped]
    hours = [at for at in stay if HOUR_NS <= now_ns - at < DAY_NS]
    days = [at for at in stay if now_ns - at >= DAY_NS]
    assert len([at for at in stay if now_ns - at < HOUR_NS]) == 6
    assert len(hours) == len({at // HOUR_NS for at in hours}) == 24
    assert len(days) == len({at // DAY_NS for at in days}) == 5
    # The newest of each is what stays.
    assert all((at + step_ns) % HOUR_NS == 0 for at in hours[1:])


def test_thinning_again_drops_nothing():
    kept = kept_every(HOUR_NS // 3, 500)
    dropped = set(thinned(kept, 7 * DAY_NS))
    assert thinned([entry for entry in kept if entry.version not in dropped], 7 * DAY_NS) == []


def test_changes_of_records():
    change = change_of(record(), "w", "create")
    assert (change.kind, change.event, change.version, change.pdh) == ("collection", "create", 4, EMPTY_PDH)
    assert (change.owner, change.old_owner, change.writer) == ("o", "o", "w")
    assert change_of(record(is_trashed=True), "w").event == "trash"
    assert change_of(record(), "w", old_owner="before").old_owner == "before"
    change = change_of(project(), "w", "trash")
    assert (change.kind, change.event, change.pdh) == ("project", "trash", None)
    assert rules.change_of(project(), "w").event == "update"
