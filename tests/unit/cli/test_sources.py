"""What put takes, and under which names."""

from __future__ import annotations

import os

import pytest

from arvfuse.cli.sources import Source, sources
from arvfuse.errors import ArgumentError, EntryExists, NoSuchEntry, NotSupported


@pytest.fixture
def tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d" / "sub").mkdir(parents=True)
    (tmp_path / "d" / "empty").mkdir()
    (tmp_path / "d" / "sub" / "file").write_bytes(b"foo")
    (tmp_path / "d" / "a").write_bytes(b"")
    (tmp_path / "single").write_bytes(b"x")
    return tmp_path


def targets(*paths):
    return [source.target for source in sources(paths)]


def test_a_directory_stands_for_itself_and_with_a_slash_for_its_contents(tree):
    assert targets("d") == ["d", "d/a", "d/empty", "d/sub", "d/sub/file"]
    assert targets("d/") == ["a", "empty", "sub", "sub/file"]
    assert targets("d/.") == targets("d/")
    assert targets(f"{tree}/d", "single") == ["d", "d/a", "d/empty", "d/sub", "d/sub/file", "single"]
    assert sources(["single"]) == [Source("single", "single", 1)]
    assert sources(["d"])[0].is_directory


def test_directories_of_one_name_become_one(tree):
    (tree / "other" / "d").mkdir(parents=True)
    (tree / "other" / "d" / "b").write_bytes(b"")
    assert targets("d", "other/") == ["d", "d/a", "d/b", "d/empty", "d/sub", "d/sub/file"]


def test_two_files_of_one_name_are_refused(tree):
    (tree / "other").mkdir()
    (tree / "other" / "single").write_bytes(b"y")
    with pytest.raises(EntryExists, match="put them apart"):
        sources(["single", "other/single"])


def test_links_are_followed_and_circles_refused(tree):
    (tree / "link").symlink_to("d/sub")
    assert targets("link") == ["link", "link/file"]
    (tree / "d" / "circle").symlink_to("..")
    with pytest.raises(NotSupported, match="leads back"):
        sources(["d"])


def test_what_cannot_be_put_is_named(tree):
    os.mkfifo(tree / "pipe")
    (tree / "dangling").symlink_to("nowhere")
    for path, kind, why in (
        ("pipe", NotSupported, "neither a file nor a directory"),
        ("dangling", NoSuchEntry, "leads nowhere"),
        ("nothing", NoSuchEntry, "no such file"),
        ("single/", NoSuchEntry, "leave out the slash"),
        ("", ArgumentError, "leave it out"),
    ):
        with pytest.raises(kind, match=why):
            sources([path])
