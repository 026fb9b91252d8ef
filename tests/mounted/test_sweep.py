"""A mount that a killed test run left behind is swept by the next run, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.support import mounts

MOUNT_AND_DIE = """
import os, socket, subprocess, sys
from pathlib import Path
from tests.support import mounts
mounts.record(Path(sys.argv[1]))
ours, theirs = socket.socketpair()
command = ["fusermount3", "-o", f"fsname=arvfuse:test,subtype={sys.argv[2]}", "--", sys.argv[1]]
subprocess.run(command, env=os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}, pass_fds=[theirs.fileno()], check=True)
kept = socket.recv_fds(ours, 1, 1)
os._exit(0)
"""

pytestmark = pytest.mark.mounted


@pytest.fixture(autouse=True)
def records_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another test run that starts now must not sweep what this test leaves behind."""
    (tmp_path / "records").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "records"))
    monkeypatch.setattr(tempfile, "tempdir", None)


def left_behind(mountpoint: Path, subtype: str) -> None:
    """A mount whose test run and server are dead."""
    mountpoint.mkdir()
    subprocess.run([sys.executable, "-c", MOUNT_AND_DIE, str(mountpoint), subtype], check=True, timeout=60)


def test_a_mount_of_a_dead_run_is_swept(tmp_path: Path) -> None:
    mountpoint = tmp_path / "a mount"
    left_behind(mountpoint, "arvfuse")
    row = mounts.mounted(mountpoint)
    assert row is not None
    assert row.kind == "fuse.arvfuse"
    assert row.source == "arvfuse:test"
    assert str(mountpoint) in mounts.sweep()
    assert mounts.mounted(mountpoint) is None
    assert mounts.sweep() == []


def test_mounts_of_other_kinds_and_of_living_runs_stay(tmp_path: Path) -> None:
    other, ours = tmp_path / "other", tmp_path / "ours"
    left_behind(other, "stranger")
    left_behind(ours, "arvfuse")
    mounts.record(ours)
    try:
        assert mounts.sweep() == []
        assert mounts.mounted(other) is not None
        assert mounts.mounted(ours) is not None
    finally:
        for mountpoint in (other, ours):
            mounts.detach(mountpoint)
            mounts.forget(mountpoint)
    assert mounts.mounted(ours) is None
