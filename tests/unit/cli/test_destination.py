"""Where get writes: never outside, never half."""

from __future__ import annotations

import os

import pytest

from arvfuse.cli.destination import Destination, write_file
from arvfuse.errors import EntryExists, InvalidPath, NotADirectory


@pytest.fixture
def make(tmp_path):
    made = []

    def open_destination(name="out", **options):
        made.append(Destination(str(tmp_path / name), **options))
        return made[-1]

    yield open_destination
    for destination in made:
        destination.close()


def test_files_and_directories_are_made_below_it(make, tmp_path):
    destination = make()
    assert destination.write(("a", "b", "file"), [b"foo", b"bar"]) == 6
    destination.make_directory(("empty",))
    destination.make_directory(("empty",))
    assert (tmp_path / "out" / "a" / "b" / "file").read_bytes() == b"foobar"
    assert (tmp_path / "out" / "empty").is_dir()


@pytest.mark.parametrize("names", [("..", "file"), (".", "file"), ("a/b",), ("",), ("..",)])
def test_names_that_lead_out_are_refused(make, tmp_path, names):
    with pytest.raises(InvalidPath, match="leave the destination"):
        make().write(names, [b"foo"])
    assert not (tmp_path / "file").exists()


def test_a_link_in_the_way_is_not_followed(make, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    destination = make()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(NotADirectory, match="in the way"):
        destination.write(("a", "file"), [b"foo"])
    assert os.listdir(tmp_path / "elsewhere") == []


def test_what_is_there_stays_unless_forced(make, tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    make().write(("file",), [b"first"])
    (tmp_path / "out" / "link").symlink_to(tmp_path / "target")
    for name in ("file", "link"):
        with pytest.raises(EntryExists, match="-f overwrites"):
            make().write((name,), [b"second"])
        make(force=True).write((name,), [b"second"])
        assert (tmp_path / "out" / name).read_bytes() == b"second"
    assert (tmp_path / "target").read_bytes() == b"old"
    make().make_directory(("dir",))
    with pytest.raises(EntryExists, match="a directory"):
        make(force=True).write(("dir",), [b"x"])


def test_an_incomplete_file_does_not_stay(make, tmp_path):
    def parts():
        yield b"half"
        raise ValueError("away")

    with pytest.raises(ValueError, match="away"):
        make().write(("file",), parts())
    assert os.listdir(tmp_path / "out") == []


def test_one_file_into_an_open_directory(tmp_path):
    parent = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    assert write_file(parent, "file", [b"foo"], force=False, shown="file") == 3
    os.close(parent)
    assert (tmp_path / "file").read_bytes() == b"foo"
