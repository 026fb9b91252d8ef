"""What the helper is asked, and what its answers mean."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from arvfuse.drivers.unmounting import command, unmount
from arvfuse.errors import ArvfuseError, Busy

HELPER = """#!/bin/sh
echo "umount: $SAY" >&2
exit $END
"""


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands before the system's helpers; says and ends as the environment tells it."""
    for name in ("umount", "fusermount3"):
        path = tmp_path / name
        path.write_text(HELPER)
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    return tmp_path


@pytest.mark.parametrize(
    ("says", "ends", "kind"),
    [
        ("", 0, None),
        ("/m: not mounted.", 32, None),
        ("/m: target is busy.", 32, Busy),
        ("failed to unmount /m: Device or resource busy", 1, Busy),
        ("must be superuser to unmount.", 32, ArvfuseError),
    ],
)
def test_the_helpers_answer(
    helper: Path, monkeypatch: pytest.MonkeyPatch, says: str, ends: int, kind: type[Exception] | None
) -> None:
    monkeypatch.setenv("SAY", says)
    monkeypatch.setenv("END", str(ends))
    if kind is None:
        unmount(Path("/m"), timeout_s=30)
        return
    with pytest.raises(kind) as raised:
        unmount(Path("/m"), timeout_s=30)
    assert type(raised.value) is kind
    assert "/m" in str(raised.value)


def test_a_helper_that_does_not_end_is_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_long(*args: object, **named: object) -> None:
        raise subprocess.TimeoutExpired("umount", 1)

    monkeypatch.setattr(subprocess, "run", too_long)
    with pytest.raises(Busy, match="more than 1 s"):
        unmount(Path("/m"), timeout_s=1)


@pytest.mark.parametrize("lazy", [False, True])
def test_root_asks_umount_and_others_fusermount(monkeypatch: pytest.MonkeyPatch, lazy: bool) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert command(Path("/m"), lazy=lazy) == ["umount", "--no-canonicalize", *["--lazy"] * lazy, "/m"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    asked = command(Path("/m"), lazy=lazy)
    assert Path(asked[0]).name in ("fusermount3", "fusermount")
    assert asked[1:] == ["-u", *["-z"] * lazy, "--", "/m"]
