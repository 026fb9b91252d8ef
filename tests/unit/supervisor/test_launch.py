"""What is checked before anything is started: each refusal says what to do."""

from __future__ import annotations

import json
import os

import pytest

from arvfuse.errors import Busy, NoSuchEntry, NotADirectory, NotPermitted, NotSupported
from arvfuse.settings import Settings
from arvfuse.supervisor.launch import check_fuse, check_mountpoint, launch, prepare_store, release_dead


def test_a_mount_point_is_an_empty_directory(tmp_path):
    (tmp_path / "mnt").mkdir()
    (tmp_path / "link").symlink_to("mnt")
    assert check_mountpoint(tmp_path / "link") == tmp_path / "mnt"
    (tmp_path / "mnt" / "file").touch()
    for path, kind, why in (
        ("mnt", Busy, "not empty"),
        ("mnt/file", NotADirectory, "choose one"),
        ("nothing", NoSuchEntry, "mkdir"),
    ):
        with pytest.raises(kind, match=why):
            check_mountpoint(tmp_path / path)


def test_the_device_must_be_there_and_ours_to_open(tmp_path, monkeypatch):
    with pytest.raises(NotSupported, match="modprobe fuse"):
        check_fuse(tmp_path / "fuse")
    with pytest.raises(NotPermitted, match="cannot be opened"):
        check_fuse(tmp_path)  # a directory cannot be opened for writing
    (tmp_path / "fuse").touch()
    for driver in ("auto", "kernel", "llfuse"):
        check_fuse(tmp_path / "fuse", driver=driver)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for driver in ("auto", "kernel"):  # need no library
        check_fuse(tmp_path / "fuse", driver=driver)
    with pytest.raises(NotSupported, match="pip install"):
        check_fuse(tmp_path / "fuse", driver="llfuse")


def test_what_is_no_dead_mount_of_ours_is_left_alone(tmp_path):
    assert release_dead(tmp_path, {}, tmp_path) is None


def test_a_read_write_store_is_made_a_read_only_one_has_to_be_there(tmp_path):
    with pytest.raises(NoSuchEntry, match="--read-write makes one"):
        prepare_store(Settings(store=tmp_path / "store"))
    prepare_store(Settings(store=tmp_path / "a" / "store", read_write=True))
    assert (tmp_path / "a" / "store").is_dir()
    (tmp_path / "file").touch()
    for store in ("file", "file/store"):
        with pytest.raises(NotADirectory, match="choose another --store"):
            prepare_store(Settings(store=tmp_path / store, read_write=True))


def test_a_store_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda *_args, **_named: False)
    with pytest.raises(NotPermitted, match="mount with --read-only"):
        prepare_store(Settings(store=tmp_path, read_write=True))


def test_a_pipe_that_waits_is_told_why_nothing_was_started(tmp_path):
    reader, writer = os.pipe()
    settings = Settings(store=tmp_path / "store", read_write=True)
    with pytest.raises(NoSuchEntry):
        launch(settings, tmp_path / "nothing", {"HOME": str(tmp_path)}, foreground=True, ready_fd=writer)
    with open(reader, "rb") as pipe:
        assert json.loads(pipe.read())["error"]["class"] == "NoSuchEntry"
    assert not (tmp_path / "store").exists()
