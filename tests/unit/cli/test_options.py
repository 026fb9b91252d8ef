"""Options become settings."""

from __future__ import annotations

import pytest

from arvfuse.cli.options import settings_of
from arvfuse.cli.parser import build
from arvfuse.errors import UsageError


@pytest.fixture(autouse=True)
def environment(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("XDG_CONFIG_HOME", "XDG_DATA_HOME", "ARVFUSE_STORE"):
        monkeypatch.delenv(name, raising=False)


def settings(*arguments):
    return settings_of(build().parse_args(["mount", "/m", *arguments]))


def test_read_only_is_the_default_and_can_be_said(monkeypatch):
    assert not settings().read_write
    assert settings("--read-write").read_write
    monkeypatch.setenv("ARVFUSE_READ_WRITE", "yes")
    assert settings().read_write
    assert not settings("--read-only").read_write


def test_both_modes_are_refused():
    with pytest.raises(UsageError, match="cannot be both"):
        settings("--read-only", "--read-write")


def test_values_are_checked_where_they_stand():
    assert settings("--memory", "1GiB").memory == 1 << 30
    with pytest.raises(UsageError, match="--commit-quiet: 'soon'"):
        settings("--commit-quiet", "soon")
    with pytest.raises(UsageError, match="--driver"):
        settings("--driver", "windows")
    assert (settings("--driver", "kernel").driver, settings("--latency", "poll").latency) == ("kernel", "poll")
    assert settings("--no-writeback").no_writeback


def test_commands_without_mount_options_have_settings_too():
    assert settings_of(build().parse_args(["collections", "--store", "/s"])).store.name == "s"
