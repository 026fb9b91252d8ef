"""One method per file system operation. Nodes and handles come as numbers, answers go as values or Pendings.

Knows no errno and no FUSE type: drivers translate. A read-only mount refuses every change here, truncation and
O_TRUNC included, whatever the kernel was told (B3). A Pending is settled by the thread that brings the backend's
answer; nobody waits for it while holding a lock (B2).

Threading: any method from any number of threads. Failure: classes of ``arvfuse.errors``; a change that fails leaves
the tree as it was. Numbers that are handed out (entries) count as known to the kernel: if a reply cannot be
delivered, ``undo`` it.
"""

from __future__ import annotations

import itertools
import os
import stat
from collections.abc import Iterator
from typing import Any, Final

from arvfuse.errors import (
    InvalidPath,
    IsADirectory,
    NameTooLong,
    NoSuchEntry,
    NotPermitted,
    NotSupported,
    ReadOnly,
    StaleNode,
)
from arvfuse.fresh.node import Attr, Created, Entry, Listed, Opened, Space
from arvfuse.fresh.pending import Pending, rescue, then
from arvfuse.fusedir.directory import Directory
from arvfuse.fusedir.expiry import Expiry
from arvfuse.fusedir.handles import DirectoryHandles
from arvfuse.fusedir.host import Alias, Child, Engine, Host, Settings
from arvfuse.fusedir.known import Known
from arvfuse.fusedir.listings import Keeping, Listings
from arvfuse.fusedir.names import NAME_MAX_BYTES, check_new_name
from arvfuse.fusedir.projects import ProjectDir
from arvfuse.fusedir.roots import RootDir
from arvfuse.fusedir.trees import CollectionDir, TreeDir, rename_in_trees, tree_behind
from arvfuse.fusefile import FileHandle, GeneratedFile, GeneratedHandle, live_tree
from arvfuse.model.collections import Change
from arvfuse.model.escapes import show
from arvfuse.notify import Notifier
from arvfuse.ports import Clock
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode

RENAME_NOREPLACE: Final = 1
_DOTS: Final = (b".", b"..")
_PERMISSION_BITS: Final = 0o7777
"""Snapshots of directories that are kept for readers that did not open them."""


class Operations(Known):
    """One mount as its drivers see it.

    *root*: None for a store (``home`` and ``by_id``), a uuid or portable data hash, or a tree that has no record.
    """

    def __init__(
        self,
        engine: Engine,
        notices: Notifier,
        clock: Clock,
        *,
        settings: Settings | None = None,
        root: str | LiveTree | None = None,
    ) -> None:
        super().__init__(Host(engine, notices, clock, settings if settings is not None else Settings()), root)
        self.uid: Final = os.getuid()
        self.gid: Final = os.getgid()
        self._numbers: Final = itertools.count(1)
        # Tables of which each use is one dict operation, which the interpreter makes atomic:
        self._files: Final[dict[int, FileHandle | GeneratedHandle]] = {}
        self._shortened: Final[set[int]] = set()  # files of which a write was lost, while they are open
        self._directories: Final = DirectoryHandles(self._numbers, Listings(self.host.settings.keep_s), clock)
        self._expiry: Final = Expiry(self.host)

    def __repr__(self) -> str:
        mode = "read-only" if self.read_only else "read-write"
        return f"<Operations {mode} {self.host.inodes!r} files={len(self._files)} dirs={len(self._directories)}>"

    @property
    def read_only(self) -> bool:
        return self.host.settings.read_only

    # names

    def lookup(self, parent: int, name: bytes) -> Entry | Pending[Entry]:
        directory = self._directory(parent)
        if name == b".":
            return self._entry(directory, self._node(parent))
        if name == b"..":
            return self._entry(directory, self._node(directory.above()))
        found = rescue(self._lookup(directory, name), NoSuchEntry, lambda error: self._too_long(name, error))
        return then(found, lambda child: self._found(parent, name, directory, child))

    def find(self, parent: int, name: bytes) -> Entry | float | None:
        """What lookup() says, where that takes no more than a look into a table: the entry of a file, or for how many
        seconds the kernel may remember that there is none; None: ask lookup()."""
        directory = self._node(parent)
        node = self._in_tree(directory)
        if not isinstance(node, DirNode) or name.startswith(b"."):  # the names that have a meaning of their own
            return None
        file = live_tree(node).peek(node, name)
        if file is None and len(name) <= NAME_MAX_BYTES:
            return self.missing_keep_s(parent)
        if not isinstance(file, FileNode):
            return None
        if not self.host.tell_of(file):
            return None
        return self._entry_of(self._attr(file), self._file_keep_s(node, directory))

    def missing_keep_s(self, parent: int) -> float:
        """How long the kernel may remember that a name is not in a directory: only where all changes are ours."""
        directory = self._directory(parent)
        return self.host.timeout(directory.entry_keep_s) if isinstance(directory, CollectionDir | TreeDir) else 0.0

    def mkdir(self, parent: int, name: bytes, mode: int) -> Entry | Pending[Entry]:
        directory = self._changing(parent)
        return then(directory.mkdir(name), lambda child: self._entry(directory, child))

    def mknod(self, parent: int, name: bytes, mode: int) -> Entry | Pending[Entry]:
        """Regular files only."""
        directory = self._changing(parent)
        if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
            raise NotSupported(show(name), "only regular files and directories")
        made = directory.create(name, mode=mode & _PERMISSION_BITS, exclusive=True)
        return then(made, lambda file: self._entry(directory, file))

    def unlink(self, parent: int, name: bytes) -> Pending[None] | None:
        return self._changing(parent).unlink(name)

    def rmdir(self, parent: int, name: bytes) -> Pending[None] | None:
        return self._changing(parent).rmdir(name)

    def rename(
        self, parent: int, name: bytes, new_parent: int, new_name: bytes, flags: int = 0
    ) -> Pending[None] | None:
        source, target = self._changing(parent), self._changing(new_parent)
        check_new_name(new_name)
        if flags & ~RENAME_NOREPLACE:
            raise InvalidPath(show(name), "exchange and whiteout are not supported")
        replace = not flags & RENAME_NOREPLACE
        if isinstance(source, ProjectDir) and isinstance(target, ProjectDir):
            return source.rename(name, target, new_name)
        old, new = source.in_tree(), target.in_tree()
        if old is None or new is None:
            raise NotPermitted(show(name), "only between directories of one kind")
        number, new_number = self._number(source), self._number(target)

        def move(from_dir: DirNode, to_dir: DirNode) -> Pending[None] | None:
            old_dir = TreeDir(self.host, from_dir, None, number)
            new_dir = TreeDir(self.host, to_dir, None, new_number)
            return rename_in_trees(self.host, old_dir, name, new_dir, new_name, replace)

        return then(old, lambda one: then(new, lambda other: move(one[1], other[1])))

    def trees_in_use(self) -> set[int]:
        """The trees of which the kernel knows a node, or has one open, by number."""
        nodes: list[Any] = [*self.host.inodes.known(), *(opened.node for opened in list(self._files.values()))]
        nodes.extend(opened.directory for opened in self._directories.all())
        return {tree.no for node in nodes if (tree := tree_behind(node)) is not None}

    def tree_closed(self, live: LiveTree) -> None:
        """A tree that was not in use was closed."""
        self.host.tree_closed(live)

    # attributes

    def getattr(self, number: int) -> Attr:
        """StaleNode for a file that has lost its name and is not open: the kernel looks the name up again."""
        return self._attr(self._living(number))

    def setattr(
        self,
        number: int,
        *,
        size: int | None = None,
        mtime_ns: int | None = None,
        atime_ns: int | None = None,
        mode: int | None = None,
        handle: int | None = None,
    ) -> Attr | Pending[Attr]:
        """Set what is given. *handle*: the open file through which it was asked (ftruncate)."""
        if self.read_only:
            raise ReadOnly()
        node = self._living(number)
        if isinstance(node, CollectionDir):
            return then(node.open(), lambda top: self._set(number, top.node, size, mtime_ns, atime_ns, mode))
        if isinstance(node, Alias):
            return self._set(number, node.node, size, mtime_ns, atime_ns, mode)
        if not isinstance(node, FileNode | DirNode):
            raise NotPermitted("", "attributes of records are not changed by hand")
        if size is not None and handle is not None and not self._file(handle).writable:
            raise InvalidPath("", "not open for writing")
        if size is not None and node.parent is None:
            self.host.lingering.keep(number)  # times and mode are the node's alone: the kernel sets times of each file
        return self._set(number, node, size, mtime_ns, atime_ns, mode)

    def drop_privileges(self, number: int) -> None:
        """A file was written or cut: set-user-ID and set-group-ID go, as the kernel asks of who keeps modes."""
        node = self._node(number)
        if isinstance(node, FileNode) and node.mode >= 0 and node.mode & (stat.S_ISUID | stat.S_ISGID):
            gone = stat.S_ISUID | (stat.S_ISGID if node.mode & stat.S_IXGRP else 0)
            live_tree(node).set_attrs(node, mode=node.mode & ~gone)

    def access(self, number: int, mask: int) -> bool:
        """True; asking to write where nothing can be written is ReadOnly."""
        node = self._node(number)
        if mask & os.W_OK and isinstance(node, FileNode) and not self.host.may_write(live_tree(node)):
            raise ReadOnly(show(node.name))
        return True

    def statfs(self) -> Space | Pending[Space]:
        return self.host.engine.statfs()

    # files

    def create(self, parent: int, name: bytes, mode: int, flags: int) -> Created | Pending[Created]:
        """Make a file and open it."""
        directory = self._changing(parent)
        made = directory.create(name, mode=mode & _PERMISSION_BITS, exclusive=bool(flags & os.O_EXCL))

        def opened(file: FileNode) -> Created:
            handle = self._open_file(file, flags)
            return Created(self._entry(directory, file), Opened(handle))

        return then(made, opened)

    def open(self, number: int, flags: int) -> Opened:
        """Open a file; O_TRUNC empties it. ReadOnly, IsADirectory, StaleNode."""
        node = self._living(number)
        writing = flags & os.O_ACCMODE != os.O_RDONLY
        if isinstance(node, GeneratedFile):
            if writing or flags & os.O_TRUNC:
                raise ReadOnly("", "a generated file") if self.read_only else NotPermitted("", "a generated file")
            return Opened(self._keep(GeneratedHandle(node)), direct=True)
        if not isinstance(node, FileNode):
            raise IsADirectory()
        if (writing or flags & os.O_TRUNC) and not self.host.may_write(live_tree(node)):
            raise ReadOnly(show(node.name))
        if node.parent is None:
            self.host.lingering.keep(number)
        return Opened(self._open_file(node, flags))

    def read(self, handle: int, offset: int, size: int) -> list[bytes | memoryview]:
        """Up to *size* bytes, in pieces; short only at the end of the file."""
        return self._file(handle).read(offset, size)

    def read_node(self, number: int, offset: int, size: int) -> list[bytes | memoryview]:
        """As read(), of a file that was not opened: a read-only mount may say that it need not be."""
        node = self._node(number)
        if isinstance(node, GeneratedFile):
            return [node.content[offset : offset + size]]
        if not isinstance(node, FileNode):
            raise IsADirectory()
        return live_tree(node).read_parts(node, offset, size)

    def write(self, handle: int, offset: int, data: bytes | memoryview, *, taken: bool = False) -> int | Pending[int]:
        """Write all of *data*, which is copied; a Pending while the spool is full: the writer is to wait. *taken*: its
        writer was told that it is written (D4)."""
        if self.read_only:
            raise ReadOnly()
        written = self._file(handle).write(offset, data, taken=taken)
        room = self.host.engine.room()
        return written if room is None else then(room, lambda _: written)

    def copy_range(self, handle: int, start: int, target: int, at: int, length: int) -> int:
        """copy_file_range(2): what was written is shared, nothing is copied; how many bytes. NotSupported for generated
        files: those are read and written."""
        if self.read_only:
            raise ReadOnly()
        source, into = self._file(handle), self._file(target)
        if not isinstance(source, FileHandle) or not isinstance(into, FileHandle):
            raise NotSupported("", "only between files of collections")
        return source.copy_range(start, into, at, length)

    def lost(self, handle: int, failure: Exception) -> None:
        """Pages that the kernel had taken from a writer could not be written: all handles of the file are told, and
        the kernel that it has to ask for the file's bytes again; when nobody has it open, for the file, as a kernel
        that writes back believes no size but its own."""
        opened = self._file(handle)
        opened.failed(failure)
        self._shortened.add(opened.node.no)
        self.host.notices.node(opened.node.no)

    def seek(self, handle: int, offset: int, *, data: bool) -> int:
        """lseek(2) for data or for a hole. NoSuchOffset."""
        return self._file(handle).seek(offset, data=data)

    def is_written(self, handle: int) -> bool:
        """True while the handle's file is open for writing, by whichever handle."""
        node = self._file(handle).node
        return isinstance(node, FileNode) and node.writers > 0

    def allocate(self, handle: int, offset: int, length: int, *, keep_size: bool) -> None:
        """fallocate(2): nothing is set aside, but the size grows."""
        if self.read_only:
            raise ReadOnly()
        self._file(handle).allocate(offset, length, keep_size=keep_size)

    def flush(self, handle: int) -> None:
        """A descriptor was closed: raises a background failure that this handle has not been told of (D4)."""
        self._file(handle).flush()

    def fsync(self, handle: int, datasync: bool = False) -> Pending[None] | None:
        """Content survives a power cut of this machine when it returns (D2)."""
        self._file(handle).fsync()
        return None

    def release(self, handle: int) -> None:
        """The last descriptor was closed."""
        opened = self._files.pop(handle, None)
        if opened is None:
            raise StaleNode(f"handle {handle}")
        opened.release()
        node = opened.node
        if self._shortened and node.no in self._shortened and isinstance(node, FileNode) and not node.handles:
            self._shortened.discard(node.no)
            self._begin_anew(node)

    # directory handles

    def opendir(self, number: int) -> int | Pending[int]:
        """A handle with a snapshot of the names."""
        directory = self._directory(number)
        return self._directories.open(directory, number)

    def keeping(self, handle: int) -> Keeping:
        """What the kernel may do with the listing that it reads by a handle of opendir()."""
        return self._directories.find(handle).keeping

    def readdir(self, handle: int, cookie: int, number: int = 0) -> Iterator[Listed] | Pending[Iterator[Listed]]:
        """Names from *cookie* on, to be taken as far as they fit. From 0 again: a new snapshot.

        *handle* 0: of directory *number*, which was not opened. Its names must never change."""
        if handle:
            return self._directories.find(handle).read(cookie)
        return then(self._directories.unopened(self._directory(number), number), lambda opened: opened.read(cookie))

    def listed_entries(self, handle: int, listed: list[Listed], number: int = 0) -> list[Entry | None]:
        """What look-up would say of names that readdir() listed, if it can be said at once; they count as known then.

        Many at a time: a lock, and what all files of a directory have in common, for each name is half of the work."""
        opened = self._directories.find(handle) if handle else None
        if opened is not None:
            number = opened.no
        directory = opened.directory if opened is not None else self._directory(number)
        at_once = self._entries_of_files(self._node(number), listed)
        try:
            return [
                self._listed_entry(directory, each) if entry is None else entry
                for each, entry in zip(listed, at_once, strict=True)
            ]
        except BaseException:  # nothing of it is told
            self.forget((entry.attr.no, 1) for entry in at_once if entry is not None)
            raise

    def _listed_entry(self, directory: Directory, listed: Listed) -> Entry | None:
        if listed.name in _DOTS:
            return None
        try:
            found = directory.lookup(listed.name)
        except NoSuchEntry:
            return None  # removed since
        return None if isinstance(found, Pending) else self._told(directory, found)

    def releasedir(self, handle: int) -> None:
        self._directories.release(handle)

    def fsyncdir(self, handle: int, datasync: bool = False) -> Pending[None] | None:
        """The directory's names are safe from a power cut: all of its collection's records are."""
        inside = self._directories.find(handle).directory.in_tree()
        if inside is None:
            return None  # records of projects are made by the catalog, which is durable
        return then(inside, lambda found: live_tree(found[1]).fsync(None))

    # what comes from elsewhere

    def record_changed(self, change: Change) -> None:
        """The catalog told of a change that is not our own: what is shown of the record is out of date."""
        for owner in {change.owner, change.old_owner}:
            for directory in self.host.shown.at(owner):
                if isinstance(directory, ProjectDir):
                    directory.changed(change)
        if isinstance(self.root, RootDir):
            self.root.by_id.changed(change)

    def name_changed(self, directory: DirNode, name: bytes) -> None:
        """A merge put another node, or none, under *name*."""
        self.host.name_changed(directory, name)

    def expire(self) -> bool:
        """After lost notices: one step of making the kernel forget what it may have wrong; True when that is done.

        The housekeeper calls it, nobody else."""
        return self._expiry.step()

    def undo(self, answer: object) -> None:
        """An answer that could not be delivered: the kernel knows nothing of it."""
        if isinstance(answer, Entry):
            self.forget([(answer.attr.no, 1)])
        elif isinstance(answer, Created):
            self.forget([(answer.entry.attr.no, 1)])
            self.release(answer.opened.handle)
        elif isinstance(answer, Opened):
            self.release(answer.handle)
        elif isinstance(answer, int) and answer in self._directories:
            self.releasedir(answer)

    def check_invariants(self) -> None:
        self.host.inodes.check_invariants()
        assert not any(handle in self._directories for handle in self._files)

    # helpers

    def _changing(self, number: int) -> Directory:
        if self.read_only:
            raise ReadOnly()
        return self._directory(number)

    def _lookup(self, directory: Directory, name: bytes) -> Child | Pending[Child]:
        try:
            return directory.lookup(name)
        except NoSuchEntry as error:
            return self._too_long(name, error)

    def _too_long(self, name: bytes, error: Exception) -> Child:
        if len(name) > NAME_MAX_BYTES:
            raise NameTooLong(show(name)) from error
        raise error

    def _found(self, parent: int, name: bytes, directory: Directory, child: Any) -> Entry | Pending[Entry]:
        return self._told(directory, child) or self.lookup(parent, name)  # else it was replaced between

    def _told(self, directory: Directory, child: Any) -> Entry | None:
        """The entry of what a look-up found; None, and nothing is remembered, for a file that lost its name between."""
        if not isinstance(child, FileNode):
            return self._entry(directory, child)
        if not self.host.tell_of(child):
            return None
        return self._entry_of(self._attr(child), self.host.timeout(directory.entry_keep_s))

    def _set(
        self, number: int, node: FileNode | DirNode, size: int | None, mtime_ns: int | None, atime_ns: int | None,
        mode: int | None,
    ) -> Attr:  # fmt: skip
        live = live_tree(node)
        if not live.writable:
            raise ReadOnly(show(node.name))
        if size is not None:
            if not isinstance(node, FileNode):
                raise IsADirectory(show(node.name))
            live.truncate(node, size)
        if mtime_ns is not None or mode is not None:
            live.set_attrs(node, mtime_ns=mtime_ns, mode=None if mode is None else mode & _PERMISSION_BITS)
        if atime_ns is not None:
            self._atimes[number] = atime_ns
        return self.getattr(number)

    def _open_file(self, node: FileNode, flags: int) -> int:
        access = flags & os.O_ACCMODE
        opened = FileHandle(node, readable=access != os.O_WRONLY, writable=access != os.O_RDONLY)
        try:
            if flags & os.O_TRUNC and node.size:
                live_tree(node).truncate(node, 0)
        except BaseException:
            opened.release()
            raise
        return self._keep(opened)

    def _keep(self, opened: FileHandle | GeneratedHandle) -> int:
        number = next(self._numbers)
        self._files[number] = opened
        return number

    def _file(self, handle: int) -> FileHandle | GeneratedHandle:
        try:
            return self._files[handle]
        except KeyError:
            raise StaleNode(f"handle {handle}") from None
