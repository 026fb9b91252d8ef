"""Directories of mounts: locked before they are named, taken over only from the dead."""

from __future__ import annotations

import os
import re

import pytest

from arvfuse.backend import mountdirs
from arvfuse.errors import NotPermitted, ReadOnly
from tests.support.opened import leave_changes, memory_parts


def test_a_new_directory_is_locked_and_has_a_short_name(tmp_path):
    made = mountdirs.create(tmp_path)
    assert isinstance(made, mountdirs.MountDirectory)
    assert re.fullmatch("[a-z0-9]{8}", made.mount)
    assert made.path == tmp_path / mountdirs.MOUNTS / made.mount
    assert (made.path / mountdirs.LOCK).exists()
    assert mountdirs.is_alive(made.path)
    assert mountdirs.take_over(made.path) is None
    assert os.get_inheritable(made.lock) is False
    made.unlock()
    assert not mountdirs.is_alive(made.path)


def test_a_dead_mount_is_taken_over_once(tmp_path):
    mountdirs.create(tmp_path).unlock()
    (path,) = mountdirs.mounts_of(tmp_path)
    dead = mountdirs.take_over(path)
    assert dead is not None
    assert mountdirs.take_over(path) is None
    dead.remove()
    assert list(mountdirs.mounts_of(tmp_path)) == []
    dead.unlock()
    assert mountdirs.take_over(path) is None
    assert not mountdirs.is_alive(path)


def test_changes_of_the_dead_are_seen_without_taking_anything(tmp_path):
    parts = memory_parts(tmp_path)
    assert mountdirs.waiting(tmp_path) == []
    alive = leave_changes(parts, parts.catalog.create(name="one"), b"file", b"foo")
    empty = mountdirs.create(tmp_path)
    empty.unlock()
    assert mountdirs.has_changes(alive.path)
    assert not mountdirs.has_changes(empty.path)
    assert mountdirs.waiting(tmp_path) == []
    alive.unlock()
    assert mountdirs.waiting(tmp_path) == [alive.mount]


def test_what_a_crash_left_half_made_is_no_mount(tmp_path):
    (tmp_path / "mounts" / ".abcdefgh").mkdir(parents=True)
    assert list(mountdirs.mounts_of(tmp_path)) == []


@pytest.mark.parametrize(("number", "kind"), [(13, NotPermitted), (30, ReadOnly)])
def test_a_store_that_cannot_be_written_is_named(tmp_path, monkeypatch, number, kind):
    def refuse(*_args, **_named):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    with pytest.raises(kind, match="mounts"):
        mountdirs.create(tmp_path)


def test_names_below_a_mount_are_a_contract():
    assert (mountdirs.CONTROL, mountdirs.MESSAGES, mountdirs.DRAINING) == ("control", "messages", "draining")
