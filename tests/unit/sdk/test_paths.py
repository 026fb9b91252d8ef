"""Paths and names of library users."""

from __future__ import annotations

import pytest

from arvfuse.errors import ArgumentError, NotADirectory
from arvfuse.sdk.paths import PDH_RULE, UUID_RULE, decode, encode, free_conflict_path, from_stream, join, split


def test_any_bytes_are_a_name_and_back() -> None:
    assert decode(b"caf\xc3\xa9\xff") == "café\udcff"
    assert encode("café\udcff") == b"caf\xc3\xa9\xff"


@pytest.mark.parametrize(
    ("path", "names", "slash"),
    [("a", (b"a",), False), ("a/b", (b"a", b"b"), False), ("a/b/", (b"a", b"b"), True), ("..", (b"..",), False)],
)
def test_split(path: str, names: tuple[bytes, ...], slash: bool) -> None:
    assert split(path) == (names, slash)


def test_what_is_no_path() -> None:
    for path in ("/x", "a//b", "/", "//", "a//"):
        with pytest.raises(NotADirectory):
            split(path)
    for path in ("", ".", "a/.", "./a"):
        with pytest.raises(ArgumentError):
            split(path)


def test_texts_of_paths() -> None:
    assert join((b"a", b"b")) == "a/b"
    assert from_stream(()) == "."
    assert from_stream((b"a", b"b c")) == "./a/b c"


def test_conflict_names_take_the_next_free_second() -> None:
    taken = {"d/f~20200101-000000~conflict~", "d/f~20200101-000001~conflict~"}
    at = 1_577_836_800 * 10**9
    assert free_conflict_path("d/f", at, lambda path: path in taken) == "d/f~20200101-000002~conflict~"
    assert free_conflict_path("f", at, lambda path: False) == "f~20200101-000000~conflict~"


def test_identities() -> None:
    assert PDH_RULE.fullmatch("427dabf5040c60799074d952f1340064+53+Axyz")
    assert not PDH_RULE.fullmatch(". 427dabf5040c60799074d952f1340064+53 0:0:x\n")
    assert UUID_RULE.fullmatch("zzzzz-4zz18-0123456789abcde")
    assert not UUID_RULE.fullmatch("zzzzz-j7d0g-0123456789abcde")
