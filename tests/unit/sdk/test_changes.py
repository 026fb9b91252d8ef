"""diff and apply: the table of the SDK's contract, with what is changed in it (doc/compatibility.md)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from arvfuse.errors import ArgumentError
from arvfuse.sdk.changes import Change, apply_changes, find_changes
from arvfuse.sdk.collection import Collection
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.sdk.host import Host
from arvfuse.stores.memory import MemoryStore
from tests.support.hosts import make_host

A = "781e5e245d69b566979b86e28d23f2c7+10"
ASIDE = "f~20200101-000000~conflict~"


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    store = MemoryStore()
    store.put(b"0123456789")
    host = make_host(tmp_path, store)
    yield host
    host.close()


def made(host: Host, files: dict[str, int]) -> Collection:
    """A collection in which each file has the first N bytes of a block; a slash at the end makes a directory."""
    c = Collection(host=host)
    for path, size in files.items():
        if path.endswith("/"):
            c.mkdirs(path)
        else:
            c.copy(Collection(f". {A} 0:{size}:x\n", host=host)["x"], path)
    return c


def sizes(directory: Any) -> dict[str, Any]:
    return {name: item.size() if isinstance(item, ArvadosFile) else sizes(item) for name, item in directory.items()}


def shape(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change[0], change[1]) for change in changes]


def test_diff(host: Host) -> None:
    start = made(host, {"a": 1, "b": 2, "d/x": 1, "d/y": 2, "e": 1, "same/deep": 5})
    end = made(host, {"b": 3, "c": 1, "d/x": 1, "d/z": 2, "e/now": 1, "same/deep": 5})
    changes = start.diff(end)
    assert shape(changes) == [
        ("del", "./a"), ("mod", "./b"), ("add", "./c"), ("del", "./d/y"), ("add", "./d/z"), ("mod", "./e"),
    ]  # fmt: skip
    assert (changes[1][2], changes[1][3], changes[0][2]) == (start["b"], end["b"], start["a"])
    assert shape(find_changes(start["d"], end["d"], "over/there")) == [("del", "over/there/y"), ("add", "over/there/z")]
    assert start.diff(start) == []


def test_other_hints_are_tok(host: Host) -> None:
    start = Collection(f". {A} 0:10:f 0:3:g\n", host=host)
    end = Collection(f". {A}+K@abcde 0:10:f\n. {A} 0:3:g\n", host=host)
    changes = start.diff(end)
    assert shape(changes) == [("tok", "./f")]
    start.apply(changes)
    assert start["f"].segments()[0].locator == f"{A}+K@abcde"


@pytest.mark.parametrize(
    ("base", "theirs", "ours", "result"),
    [
        # add
        ({}, {"f": 1}, {}, {"f": 1}),
        ({}, {"f": 1}, {"f": 1}, {"f": 1}),
        ({}, {"f": 1}, {"f": 2}, {"f": 2, ASIDE: 1}),
        ({}, {"f/x": 1}, {"f": 2}, {"f": 2, ASIDE: {"x": 1}}),
        ({"f/y": 2}, {"f/y": 2, "f/x": 1}, {"f": 2}, {"f": 2, ASIDE: {"x": 1}}),
        # mod
        ({"f": 1}, {"f": 2}, {"f": 1}, {"f": 2}),
        ({"f": 1}, {"f": 2}, {"f": 2}, {"f": 2}),
        ({"f": 1}, {"f": 2}, {"f": 3}, {"f": 3, ASIDE: 2}),
        ({"f": 1}, {"f": 2}, {}, {"f": 2}),  # the ancestor: at the conflict name
        ({"d/f": 1}, {"d/f": 2}, {}, {"d": {"f": 2}}),
        ({"f": 1}, {"f/x": 2}, {"f": 1}, {"f": {"x": 2}}),
        ({"f": 1}, {"f/x": 2}, {"f": 3}, {"f": 3, ASIDE: {"x": 2}}),
        # del
        ({"f": 1}, {}, {"f": 1}, {}),
        ({"f": 1}, {}, {"f": 2}, {"f": 2}),
        ({"f": 1}, {}, {}, {}),
        ({"d/f": 1}, {}, {"d/f": 1}, {}),
        ({"d/f": 1}, {}, {"d/f": 1, "d/g": 2}, {"d": {"f": 1, "g": 2}}),
    ],
)
def test_apply(
    host: Host, base: dict[str, int], theirs: dict[str, int], ours: dict[str, int], result: dict[str, Any]
) -> None:
    changes = made(host, base).diff(made(host, theirs))
    target = made(host, ours)
    target.apply(changes)
    assert sizes(target) == result


def test_what_is_no_change(host: Host) -> None:
    with pytest.raises(ArgumentError):
        apply_changes(made(host, {}), [("made", "./up", None)], 0)
