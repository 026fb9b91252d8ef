"""Bad input to mount and unmount: one line that says what and what to do, nothing left behind."""

from __future__ import annotations

import json
import os
from types import SimpleNamespace

import pytest

from arvfuse.backend import mountdirs
from arvfuse.backend.parts import open_parts
from arvfuse.cli.main import main
from arvfuse.cli.mounting import describe, mount, status, unmount, wait
from arvfuse.cli.parser import build
from arvfuse.clock import SystemClock
from arvfuse.errors import ArvfuseError, Busy, NoSuchEntry, NotADirectory, NotCommitted, UsageError
from arvfuse.supervisor import control, launch
from tests.support.opened import leave_changes


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("ARVFUSE_STORE", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "mnt").mkdir()
    return tmp_path


def asked(*arguments):
    return build().parse_args([str(argument) for argument in arguments])


def test_mounting_where_nothing_can_be_mounted(place):
    with pytest.raises(NoSuchEntry, match="make it with mkdir"):
        mount(asked("mount", "--read-write", place / "nothing"))
    (place / "file").touch()
    with pytest.raises(NotADirectory, match="choose one to mount on"):
        mount(asked("mount", "--read-write", place / "file"))
    (place / "mnt" / "file").touch()
    with pytest.raises(Busy, match="not empty"):
        mount(asked("mount", "--read-write", place / "mnt"))
    assert not (place / "store").exists()


def test_mounting_with_both_modes(place, capsys):
    assert main(["mount", "--read-only", "--read-write", str(place / "mnt")]) == 2
    assert capsys.readouterr().err == "arvfuse: --read-only and --read-write: cannot be both; choose one\n"


def test_mounting_a_store_that_is_not_there(place):
    with pytest.raises(NoSuchEntry, match="no store here"):
        mount(asked("mount", place / "mnt"))
    (place / "store").touch()
    with pytest.raises(NotADirectory, match="not a store"):
        mount(asked("mount", "--read-write", place / "mnt"))


def test_a_file_system_that_cannot_be_trusted(place):
    if not os.path.isdir("/dev/shm"):
        pytest.fail("no tmpfs at /dev/shm to try")
    with pytest.raises(ArvfuseError, match=r"/proc"):
        mount(asked("mount", "--read-write", "--store", "/proc/store", place / "mnt"))


def test_unmounting_what_is_not_mounted_or_not_ours(place):
    with pytest.raises(NoSuchEntry, match="nothing is mounted there"):
        unmount(asked("unmount", place / "mnt"))
    with pytest.raises(UsageError, match="not one of arvfuse; use umount"):
        unmount(asked("unmount", "/proc"))
    with pytest.raises(UsageError, match="negative"):
        unmount(asked("unmount", "--deadline=-1", place / "mnt"))


def test_waiting_outside_a_mount(place):
    with pytest.raises(NoSuchEntry, match="not in a mount"):
        wait(asked("wait", place / "mnt"))


def test_status_names_what_waits_for_recovery(place, capsys):
    parts = open_parts(place / "store", clock=SystemClock(), create=True)
    dead = leave_changes(parts, parts.catalog.create(name="one"), b"file", b"foo")
    dead.unlock()
    parts.close()
    assert status(asked("status")) == 0
    assert "arvfuse recover" in capsys.readouterr().out
    assert status(asked("status", "--json")) == 0
    assert json.loads(capsys.readouterr().out) == {"schema": 1, "mounts": [], "waiting_for_recovery": [dead.mount]}


def told(**engine):
    return {
        "mountpoint": "/m", "mount": "abcd", "state": "serving", "read_write": True, "recovery": {"waiting": ["dead"]},
        "engine": {
            "pending": [], "spool_bytes": 0, "spool_limit_bytes": 1 << 30, "spool_waiting": 0, "blocks": {}, **engine
        },
    }  # fmt: skip


def test_a_mount_is_described_for_people():
    driver = {
        "driver": "kernel", "protocol": "7.45", "features": ["max_pages", "writeback_cache"], "requests": 12345,
        "parked": 2, "latency": "auto",
    }  # fmt: skip
    lines = describe(
        told(driver=driver, pending=["uuid"], spool_bytes=3 << 19, blocks={"writable": 2, "error": 1}, mounts=3,
             spool_waiting=4, troubles=["uuid: quota"])
    )  # fmt: skip
    assert lines == [
        "/m abcd serving read-write pending=1",
        "  driver    kernel, protocol 7.45",
        "  features  max_pages, writeback_cache",
        "  requests  12,345 answered, 2 waiting, latency auto",
        "  mounts    3 in this engine",
        "  spool     1.5 MiB of 1.0 GiB wait to be stored, 4 writers held back",
        "  blocks    1 error, 2 writable",
        "  pending   uuid",
        "  trouble   uuid: quota",
        "  recovery  changes of mount dead wait for `arvfuse recover`",
    ]


def test_a_mount_that_says_little_is_described_too():
    silent = {**told(), "engine": {}, "recovery": {}}
    assert describe(silent)[1:] == ["  engine    too busy to answer, or gone"]
    llfuse = told(driver={"driver": "llfuse", "protocol": "", "features": []})
    assert describe(llfuse)[1:4] == [
        "  driver    llfuse",
        "  spool     0 B of 1.0 GiB wait to be stored, 0 writers held back",
        "  blocks    none",
    ]
    llfuse["read_write"] = False
    assert len(describe(llfuse)) == 3


@pytest.mark.parametrize("further", [False, True])
@pytest.mark.parametrize("changes", [False, True])
def test_a_mount_whose_supervisor_was_killed_just_now_is_released_when_the_others_have_ended(
    place, monkeypatch, further, changes
):
    alive, released = [True, True, False], []
    entry = SimpleNamespace(mount="mount001", mountpoint=place / "mnt", is_further=further)

    def ended(directory, *_args, **_options):
        raise control.Ended(directory.name, "the mount has ended")

    monkeypatch.setattr("arvfuse.cli.mounting._mounted", lambda _mountpoint: entry)
    monkeypatch.setattr(launch, "release_dead", lambda *_args: released.append(list(alive)))  # None: some live
    monkeypatch.setattr(control, "find", lambda *_args: place)
    monkeypatch.setattr(control, "ask", ended)
    monkeypatch.setattr(mountdirs, "is_alive", lambda _directory: alive.pop(0))
    monkeypatch.setattr(mountdirs, "has_changes", lambda _directory: changes)
    if changes:
        with pytest.raises(NotCommitted, match="arvfuse recover"):
            unmount(asked("unmount", place / "mnt"))
    else:
        assert unmount(asked("unmount", place / "mnt")) == 0
    assert released == [[True, True, False], []]
