"""The base of directories refuses every change."""

from __future__ import annotations

from pathlib import Path

import pytest

from arvfuse.errors import NoSuchEntry, NotPermitted
from arvfuse.fresh.node import Attr
from arvfuse.fusedir.directory import Directory, VirtualDir, missing
from arvfuse.fusedir.host import Child, Names
from tests.support.engines import Mounted


class Plain(VirtualDir):
    """The least that a directory is."""

    def attr(self) -> Attr:
        return self.host.directory_attr(self.no, writable=False, mtime_ns=0, keep_s=1)

    def lookup(self, name: bytes) -> Child:
        raise missing(name)

    def listing(self) -> Names:
        return []


def test_what_a_directory_does_not_know_it_refuses(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    outer = Plain(mounted.ops.host, 50, None)
    directory: Directory = Plain(mounted.ops.host, 51, outer)
    assert directory.above() == 50
    assert outer.above() == 50
    assert directory.in_tree() is None
    assert directory.entry_keep_s == 15
    for change in (
        lambda: directory.create(b"x", mode=0, exclusive=False),
        lambda: directory.mkdir(b"x"),
        lambda: directory.unlink(b"x"),
        lambda: directory.rmdir(b"x"),
    ):
        with pytest.raises(NotPermitted):
            change()
    mounted.close()


def test_names_in_messages_survive_any_bytes() -> None:
    assert isinstance(missing(b"a\xff"), NoSuchEntry)
