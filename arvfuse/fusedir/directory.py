"""What operations ask of any directory, and the refusals that most directories share.

Answers are values or Pendings. Threading: any thread. Failure: classes of ``arvfuse.errors``; an outage is never
NoSuchEntry (C4).
"""

from __future__ import annotations

from arvfuse.errors import NoSuchEntry, NotPermitted
from arvfuse.fresh.node import Attr, VirtualNode
from arvfuse.fresh.pending import Pending
from arvfuse.fusedir.host import Child, Host, Names
from arvfuse.model.escapes import show
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.tree import Tree


class Directory:
    """A directory, as requests use it. The base refuses every change: NotPermitted.

    Not an abc.ABC, whose isinstance() is many times slower: every request asks what its node is."""

    __slots__ = ()

    host: Host

    @property
    def entry_keep_s(self) -> float:
        """How long the kernel may keep a name of this directory."""
        return self.host.settings.refresh_s

    def attr(self) -> Attr:
        """stat(2) of the directory."""
        raise NotImplementedError

    def above(self) -> int:
        """The number of the directory that holds this one; its own at the root."""
        raise NotImplementedError

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        """The node under *name*. NoSuchEntry."""
        raise NotImplementedError

    def listing(self) -> Names | Pending[Names]:
        """A snapshot of all names, without ``.`` and ``..``."""
        raise NotImplementedError

    def create(self, name: bytes, *, mode: int, exclusive: bool) -> FileNode | Pending[FileNode]:
        """The file under *name*, made if missing."""
        raise NotPermitted(show(name), "this directory is not changed by hand")

    def mkdir(self, name: bytes) -> Child | Pending[Child]:
        raise NotPermitted(show(name), "this directory is not changed by hand")

    def unlink(self, name: bytes) -> Pending[None] | None:
        raise NotPermitted(show(name), "this directory is not changed by hand")

    def rmdir(self, name: bytes) -> Pending[None] | None:
        raise NotPermitted(show(name), "this directory is not changed by hand")

    def in_tree(self) -> tuple[Tree, DirNode] | Pending[tuple[Tree, DirNode]] | None:
        """The collection directory behind this one; None where there is none."""
        return None


class VirtualDir(VirtualNode, Directory):
    """A directory that is no part of a collection's tree, with a number of its own."""

    __slots__ = ("host", "parent")

    def __init__(self, host: Host, no: int, parent: VirtualDir | None) -> None:
        super().__init__(no)
        self.host = host
        self.parent = parent

    def above(self) -> int:
        return self.host.inodes.number(self.parent if self.parent is not None else self)

    def trashed(self, uuid: str) -> None:
        """A record that is shown here was put into the trash by this mount."""


def missing(name: bytes) -> NoSuchEntry:
    """The error for a name that is not there."""
    return NoSuchEntry(show(name))
