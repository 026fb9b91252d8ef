from __future__ import annotations

import json

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.model.apirecords import COLLECTION_KIND, format_time, parse_time, records_json
from arvfuse.model.collections import EMPTY_PDH, CollectionRecord, Version

MOMENT = 1_772_435_728_123_456_000
UUID = "zzzzz-4zz18-000000000000001"


def record(**more):
    fields = {
        "uuid": UUID,
        "owner": "zzzzz-tpzed-000000000000001",
        "name": "köln",
        "version": Version(3),
        "pdh": EMPTY_PDH,
    }
    return CollectionRecord(**{**fields, **more})


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (MOMENT, "2026-03-02T07:15:28.123456000Z"),
        (0, "1970-01-01T00:00:00.000000000Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (253_402_300_799_999_999_999, "9999-12-31T23:59:59.999999999Z"),
        (-62_135_596_800_000_000_000, "0001-01-01T00:00:00.000000000Z"),
    ],
)
def test_times_have_nine_digits_and_come_back_exactly(time_ns, text):
    assert format_time(time_ns) == text
    assert parse_time(text) == time_ns


@pytest.mark.parametrize(
    ("text", "time_ns"),
    [
        ("2026-03-02T07:15:28Z", MOMENT // 10**9 * 10**9),
        ("2026-03-02T07:15:28", MOMENT // 10**9 * 10**9),
        ("2026-03-02T08:15:28.123456+01:00", MOMENT),
        ("2026-03-02T07:15:28.1234560009Z", MOMENT),
        ("2026-03-02T07:15:28,123456Z", MOMENT),
        ("1970-01-02", 86_400 * 10**9),
    ],
)
def test_other_forms_of_times_are_read(text, time_ns):
    assert parse_time(text) == time_ns


@pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-03-02T07:15:28.Z"])
def test_what_is_no_time_is_refused(text):
    with pytest.raises(ArgumentError, match="not a time"):
        parse_time(text)


def test_times_beyond_the_calendar_are_refused():
    with pytest.raises(ArgumentError):
        format_time(10**30)
    with pytest.raises(ArgumentError):
        format_time(253_402_300_800_000_000_000)


def test_a_record_has_the_fields_of_the_api():
    given = record(
        properties={"a": 1},
        created_at_ns=0,
        modified_at_ns=MOMENT,
        storage_classes=("hot", "cold"),
        replication=2,
    )
    assert records_json(given, b". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\n") == {
        "kind": COLLECTION_KIND,
        "etag": f"{UUID}-3",
        "uuid": UUID,
        "current_version_uuid": UUID,
        "owner_uuid": "zzzzz-tpzed-000000000000001",
        "name": "köln",
        "description": None,
        "portable_data_hash": EMPTY_PDH,
        "manifest_text": ". d41d8cd98f00b204e9800998ecf8427e+0 0:0:a\n",
        "version": 3,
        "preserve_version": False,
        "properties": {"a": 1},
        "storage_classes_desired": ["hot", "cold"],
        "storage_classes_confirmed": [],
        "storage_classes_confirmed_at": None,
        "replication_desired": 2,
        "replication_confirmed": None,
        "replication_confirmed_at": None,
        "created_at": "1970-01-01T00:00:00.000000000Z",
        "modified_at": "2026-03-02T07:15:28.123456000Z",
        "trash_at": None,
        "delete_at": None,
        "is_trashed": False,
    }
    assert COLLECTION_KIND == "arvados#collection"


def test_a_record_in_the_trash_says_since_when():
    answer = records_json(record(trash_at_ns=MOMENT, is_trashed=True))
    assert (answer["trash_at"], answer["is_trashed"]) == ("2026-03-02T07:15:28.123456000Z", True)
    assert "manifest_text" not in answer


@pytest.mark.parametrize("text", ["./ä", "./ä".encode(), memoryview("./ä".encode())])
def test_texts_of_all_kinds_are_json(text):
    answer = records_json(record(), text)
    assert answer["manifest_text"] == "./ä"
    assert json.loads(json.dumps(answer)) == answer


def test_bytes_that_are_not_text_survive():
    answer = json.loads(json.dumps(records_json(record(), b"./\xff")))
    assert answer["manifest_text"].encode("utf-8", "surrogateescape") == b"./\xff"
