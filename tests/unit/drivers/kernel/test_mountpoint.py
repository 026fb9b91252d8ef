"""Mounting: the connection, what the mount table shows, and how refusals are said. Served mounts: tests/mounted."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from arvfuse.drivers.kernel import wire
from arvfuse.drivers.kernel.mountpoint import (
    DEVICE,
    DIRTY_BYTES,
    MountOptions,
    mount,
    mount_by_helper,
    tune,
    unmount,
)
from arvfuse.errors import ArvfuseError, NotPermitted, NotSupported, UsageError
from arvfuse.supervisor.mountinfo import mounted_at
from tests.support import mounts

HELPER = """#!{python}
import array, os, socket, sys
print(sys.argv[1:], file=open({said!r}, "w"))
if {code}:
    sys.exit("fusermount3: user has no write access to mountpoint")
if {gives}:
    connection = socket.socket(fileno=int(os.environ["_FUSE_COMMFD"]))
    null = os.open("/dev/null", os.O_RDWR)
    connection.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [null]))])
"""


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    mounts.record(path)
    yield path
    mounts.detach(path)
    mounts.forget(path)


@pytest.mark.mounted
@pytest.mark.parametrize("read_only", [False, True])
def test_a_mount_is_there_before_anybody_answers(place: Path, read_only: bool) -> None:
    device = mount(place, MountOptions(source="arvfuse:x,y", read_only=read_only))
    assert os.readlink(f"/proc/self/fd/{device}") == DEVICE
    assert not os.get_blocking(device)
    assert not os.get_inheritable(device)
    entry = mounted_at(place)
    assert entry is not None
    assert (entry.kind, entry.source, entry.mount) == ("fuse.arvfuse", "arvfuse:x,y", "x,y")
    assert {"nosuid", "nodev", "ro" if read_only else "rw"} <= set(entry.options.split(","))
    tune(device)
    read_ahead = Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").read_text()
    assert os.geteuid() != 0 or int(read_ahead) == wire.READ_AHEAD_BYTES >> 10
    if os.geteuid() == 0:
        unmount(place)
    mounts.detach(place)
    assert mounted_at(place) is None
    unmount(place, lazy=True)  # not mounted: no failure
    os.close(device)


def test_what_the_kernel_is_asked_for() -> None:
    assert wire.READ_AHEAD_BYTES == 2 * wire.MAX_WRITE_BYTES
    assert DIRTY_BYTES == wire.MAX_BACKGROUND * wire.MAX_WRITE_BYTES // 4
    tune(-1)
    options = MountOptions(source="s")
    assert (options.read_only, options.allow_other, options.subtype) == (True, False, "arvfuse")


@pytest.mark.mounted
def test_where_nothing_can_be_mounted(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        with pytest.raises(UsageError, match="No such file"):
            mount(tmp_path / "none", MountOptions(source="s"))
    else:
        with pytest.raises(NotPermitted):
            mount(tmp_path / "none", MountOptions(source="s"))


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path / "fusermount3"


def write_helper(path: Path, *, code: int = 0, gives: bool = True) -> None:
    python = os.path.realpath("/proc/self/exe")
    path.write_text(HELPER.format(python=python, said=str(path.with_name("said")), code=code, gives=gives))
    path.chmod(0o755)


def test_the_helper_gives_a_descriptor(helper: Path) -> None:
    write_helper(helper)
    device = mount_by_helper(Path("/m"), MountOptions(source="a,b", allow_other=True, subtype="x"))
    assert not os.get_inheritable(device)
    os.close(device)
    said = helper.with_name("said").read_text()
    for word in ("nosuid,nodev,ro", r"fsname=a\\,b", "subtype=x", "allow_other", "max_read=1048576", "'--', '/m'"):
        assert word in said, word


def test_the_helper_refuses(helper: Path) -> None:
    write_helper(helper, code=1)
    with pytest.raises(NotPermitted, match="no write access"):
        mount_by_helper(Path("/m"), MountOptions(source="s", read_only=False))
    write_helper(helper, gives=False)
    with pytest.raises(ArvfuseError, match="no descriptor"):
        mount_by_helper(Path("/m"), MountOptions(source="s"))
    helper.unlink()
    with pytest.raises(NotSupported, match="fuse3"):
        mount_by_helper(Path("/m"), MountOptions(source="s"))
