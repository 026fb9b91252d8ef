"""Listings that the kernel keeps (CACHE_DIR): they are read once, and never shown when they are not true any more."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.programs import Program, eventually

pytestmark = pytest.mark.mounted
RW = ("--driver=kernel", "--read-write", "--commit-quiet=0.05", "--refresh-time=300")
STEPS = 400


@pytest.fixture
def program(tmp_path: Path) -> Program:
    return Program(tmp_path)


@pytest.fixture
def collection(program: Program) -> Iterator[Path]:
    with program.mounted(*RW) as top:
        (top / "home" / "c").mkdir()
        yield top / "home" / "c"


@pytest.fixture
def both(program: Program) -> Iterator[tuple[Path, Path]]:
    with program.mounted_twice(*RW) as places:
        yield places


@contextmanager
def opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def answered(program: Program, top: Path) -> int:
    """Requests of the mount so far."""
    return int(program.status(top)["engine"]["driver"]["requests"])


def test_a_listing_that_is_kept_costs_two_requests(program: Program, collection: Path) -> None:
    """OPENDIR and RELEASEDIR; without it the names are asked for too, which takes two more."""
    for number in range(50):
        (collection / f"f{number}").touch()
    top = collection.parent.parent
    program.run("wait", top, check=0)
    assert len(os.listdir(collection)) == len(os.listdir(collection)) == 50
    before = answered(program, top)
    between = answered(program, top)
    for _ in range(100):
        assert len(os.listdir(collection)) == 50
    assert answered(program, top) - between - (between - before) == 200


def test_it_is_what_is_there_whatever_is_done_here(program: Program, collection: Path) -> None:
    """Local changes, of which the kernel knows, and commits, which give names other numbers, in any order."""
    chooser = random.Random(5)
    expected: dict[str, set[str]] = {".": set(), "d": set()}
    (collection / "d").mkdir()
    for step in range(STEPS):
        where, name = chooser.choice([".", "d"]), f"n{chooser.randrange(12)}"
        other = "d" if where == "." else "."
        path = collection / where / name
        match chooser.randrange(6):
            case 0 | 1:
                path.write_bytes(b"%d" % step)
                expected[where].add(name)
            case 2:
                path.unlink(missing_ok=True)
                expected[where].discard(name)
            case 3 if name in expected[where]:
                path.rename(collection / other / name)
                expected[where].discard(name)
                expected[other].add(name)
            case 4:
                with opened(collection / where) as descriptor:
                    assert set(os.listdir(descriptor)) - {"d"} == expected[where]
                    path.touch()
                    expected[where].add(name)
                    assert set(os.listdir(descriptor)) - {"d"} == expected[where], "rewinddir"
            case 5 if step % 4 == 0:
                program.run("wait", collection, check=0)
        for directory, names in expected.items():
            found = list(os.scandir(collection / directory))
            assert {entry.name for entry in found} - {"d"} == names
            assert len(found) == len({entry.inode() for entry in found})
            assert all(entry.inode() == entry.stat().st_ino for entry in found)


def test_what_changes_elsewhere_is_seen_though_no_name_was_looked_up(both: tuple[Path, Path]) -> None:
    here, there = both
    (there / "first").touch()
    eventually(lambda: os.listdir(here) == ["first"])
    with opened(here) as descriptor:
        assert os.listdir(here) == os.listdir(here) == os.listdir(descriptor) == ["first"]
        (there / "new").touch()
        eventually(lambda: sorted(os.listdir(descriptor)) == ["first", "new"])
        eventually(lambda: sorted(os.listdir(here)) == ["first", "new"])
        assert len(os.listdir(here)) == 2
        (there / "new").unlink()
        (there / "first").rename(there / "second")
        eventually(lambda: os.listdir(here) == ["second"])
        eventually(lambda: os.listdir(descriptor) == ["second"])


def test_a_directory_has_one_listing_by_every_path(program: Program, collection: Path) -> None:
    top = collection.parent.parent
    program.run("wait", top, check=0)
    record = json.loads((collection / ".arvados#collection").read_text())
    again = top / "by_id" / record["uuid"]
    assert os.listdir(again) == os.listdir(again) == os.listdir(collection) == os.listdir(collection) == []
    (collection / "f").touch()
    eventually(lambda: os.listdir(again) == ["f"])
    (again / "g").touch()
    eventually(lambda: sorted(os.listdir(collection)) == ["f", "g"])
    (collection / "f").unlink()
    eventually(lambda: os.listdir(again) == ["g"])
