from __future__ import annotations

import os
from pathlib import Path

import pytest

from arvfuse.errors import NotSupported
from arvfuse.stores.filesystems import filesystem_in, filesystem_of, refuse_kind, refuse_unsafe, unsafe_kind

MOUNTINFO = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
35 22 0:5 / /with\\040space rw,nosuid shared:2 master:3 - fuse.sshfs host: rw
36 22 0:6 / /plain rw - nfs4 host:/x rw
"""


@pytest.mark.parametrize(
    ("filesystem", "kind"),
    [
        ("nfs", "NFS"),
        ("nfs4", "NFS"),
        ("cifs", "SMB"),
        ("smb3", "SMB"),
        ("fuse", "FUSE"),
        ("fuse.sshfs", "FUSE"),
        ("fuseblk", "FUSE"),
        ("overlay", "an overlay"),
        ("9p", "a network file system"),
        ("ext4", None),
        ("xfs", None),
        ("btrfs", None),
        ("tmpfs", None),
        ("", None),
    ],
)
def test_unsafe_kind(filesystem: str, kind: str | None) -> None:
    assert unsafe_kind(filesystem) == kind


def test_filesystem_in() -> None:
    assert filesystem_in(MOUNTINFO, "22") == "ext4"
    assert filesystem_in(MOUNTINFO, "35") == "fuse.sshfs"
    assert filesystem_in(MOUNTINFO, "36") == "nfs4"
    assert filesystem_in(MOUNTINFO, "2") == ""


def test_filesystem_of_takes_the_nearest_parent() -> None:
    assert filesystem_of(Path("/proc/self")) == "proc"
    assert filesystem_of(Path("/proc/no/such/place")) == "proc"


def test_a_refusal_names_the_reason_and_the_way_out() -> None:
    with pytest.raises(NotSupported) as caught:
        refuse_kind(Path("/store"), "nfs4")
    assert "NFS (nfs4)" in str(caught.value)
    assert "--unsafe-filesystem" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert refuse_kind(Path("/store"), "ext4") is None


def test_refuse_unsafe_asks_the_kernel() -> None:
    assert refuse_unsafe(Path("/proc")) is None
    assert os.path.exists("/proc/self/mountinfo")
