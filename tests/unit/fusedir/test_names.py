"""Names of records as entries, and names that stand for records."""

from __future__ import annotations

import pytest

from arvfuse.errors import ArvfuseError, InvalidPath, NameNotText, NameTooLong
from arvfuse.fusedir.names import (
    NAME_MAX_BYTES,
    PORTABLE_HASH,
    RECORD_FILE,
    UUID,
    check_new_name,
    identity,
    may_differ,
    record_name,
    shown_name,
)

HASH = b"d41d8cd98f00b204e9800998ecf8427e+0"
COLLECTION = b"zzzzz-4zz18-0123456789abcde"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("plain", b"plain"), ("", None), (".", b"_"), ("..", b"__"), ("...", b"..."), ("a/b/c", b"a_b_c"),
        ("a\0b", b"a_b"), ("\u00fc x:\\\n", "\u00fc x:\\\n".encode()),
    ],
)  # fmt: skip
def test_record_names_are_made_fit_for_entries(name: str, shown: bytes | None) -> None:
    assert shown_name(name) == shown


def test_only_names_with_an_underscore_may_stand_for_others() -> None:
    assert may_differ(b"a_b")
    assert not may_differ(b"ab")


@pytest.mark.parametrize("name", [HASH, COLLECTION, b"zzzzz-j7d0g-0123456789abcde", b"zzzzz-tpzed-0123456789abcde"])
def test_exact_identities(name: bytes) -> None:
    assert identity(name) == name.decode()


@pytest.mark.parametrize(
    "name",
    [
        COLLECTION + b".txt", b"x" + COLLECTION, COLLECTION.upper(), COLLECTION + b"\n", HASH + b"+Abc", HASH[:-2],
        HASH.upper(), b"zzzzz-o0j2j-0123456789abcde", b"README", b"", b"\xff",
    ],
)  # fmt: skip
def test_anything_else_is_none(name: bytes) -> None:
    assert identity(name) is None
    assert not PORTABLE_HASH.fullmatch(name)
    assert not UUID.fullmatch(name)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        (b"a" * (NAME_MAX_BYTES + 1), NameTooLong), (b"", InvalidPath), (b".", InvalidPath), (b"..", InvalidPath),
        (b"a/b", InvalidPath), (b"a\0", InvalidPath),
    ],
)  # fmt: skip
def test_names_that_nothing_may_have(name: bytes, kind: type[ArvfuseError]) -> None:
    with pytest.raises(kind):
        check_new_name(name)
    with pytest.raises(kind):
        record_name(name)


def test_entries_are_bytes_and_records_are_text() -> None:
    assert check_new_name(b"\xff" * NAME_MAX_BYTES) == b"\xff" * NAME_MAX_BYTES
    assert record_name("\u00fc".encode()) == "\u00fc"
    assert check_new_name(RECORD_FILE) == b".arvados#collection"
    with pytest.raises(NameNotText):
        record_name(b"\xff")
