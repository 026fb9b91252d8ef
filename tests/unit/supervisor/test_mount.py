"""The Mount object where nothing is mounted; what it does when something is, is in tests/mounted/test_life.py."""

from __future__ import annotations

import pytest

import arvfuse
from arvfuse.errors import ArgumentError, NoSuchEntry
from arvfuse.supervisor.mount import Mount


def test_it_is_handed_out_by_the_package():
    assert arvfuse.Mount is Mount
    with pytest.raises(AttributeError, match="Mountain"):
        arvfuse.Mountain  # noqa: B018 # the look-up is the test


def test_what_cannot_be_mounted_raises_what_the_command_would_say(tmp_path):
    mount = Mount(store=tmp_path / "store", mountpoint=tmp_path / "nothing", read_write=True)
    with pytest.raises(NoSuchEntry, match="make it with mkdir"):
        mount.start()
    assert repr(mount).startswith("<Mount not mounted")
    with pytest.raises(ArgumentError, match="not mounted"):
        mount.path  # noqa: B018 # the look-up is the test
    mount.close()


def test_bad_options_are_named(tmp_path):
    (tmp_path / "mnt").mkdir()
    mount = Mount(store=tmp_path / "s", mountpoint=tmp_path / "mnt", options={"memory": "lots", "quiet": False})
    with pytest.raises(arvfuse.errors.ArvfuseError, match="--memory: 'lots'"):
        mount.start()
