"""The table of mounts: parsed as the kernel writes it, and paths found without touching what is mounted."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import InvalidPath
from arvfuse.supervisor.mountinfo import (
    FURTHER,
    SOURCE_PREFIX,
    MountEntry,
    mounted_as,
    mounted_at,
    parse,
    read,
    real_path,
)

TABLE = b"""\
22 1 254:0 / / rw,relatime - ext4 /dev/root rw,discard
42 22 0:39 / /tmp/with\\040space rw,nosuid,nodev shared:1 master:2 - fuse.arvfuse arvfuse:abcd1234 rw,user_id=0
nonsense
43 22 0:40 / /mnt ro - fuse.sshfs user@host: ro
"""


def test_entries_as_the_kernel_writes_them():
    root, ours, other = parse(TABLE)
    assert ours == MountEntry(
        Path("/tmp/with space"), "0:39", "fuse.arvfuse", SOURCE_PREFIX + "abcd1234", "rw,nosuid,nodev"
    )
    assert ours.mount == "abcd1234"
    assert (root.mount, other.mount) == (None, None)


def test_further_mounts_of_an_engine_are_known_by_its_id():
    line = TABLE.splitlines()[1].replace(b"arvfuse:abcd1234", f"arvfuse:abcd1234{FURTHER}7".encode())
    (entry,) = parse(line)
    assert (entry.mount, entry.is_further) == ("abcd1234", True)
    assert not next(each for each in parse(TABLE) if each.mount).is_further


def test_the_real_table_has_the_root():
    assert "/" in [str(entry.mountpoint) for entry in read()]
    assert mounted_at(Path("/")) is not None
    assert mounted_at(Path("/nothing/is/here")) is None
    assert mounted_as("nosuchid") is None


def test_links_are_followed_as_the_kernel_would(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "relative").symlink_to("a/./b")
    (tmp_path / "absolute").symlink_to(tmp_path / "relative" / "..")
    monkeypatch.chdir(tmp_path)
    for text in ("relative", "absolute", "a/../a/b", "relative/missing/deeper", ".", "absolute/b/"):
        assert real_path(Path(text)) == Path(text).resolve()
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(InvalidPath, match="circle"):
        real_path(Path("circle"))
