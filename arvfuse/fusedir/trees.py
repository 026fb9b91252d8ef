"""Directories inside a collection, and the directory at which a collection's root is shown.

Names, content and times come from the live tree. A collection's root also has ``.arvados#collection``: the record as
JSON, not listed; looking it up commits what is pending, so what is read there is what the catalog has. Its content is
fixed for a node number, so a changed record is another node and the kernel's cache of the old one cannot be wrong.

Threading: any thread; the tree has its own lock, a collection directory's few fields are guarded by a leaf lock.
Failure: a removed record is NoSuchEntry, an outage StoreUnavailable.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Final

from arvfuse.errors import NotPermitted, ReadOnly, StoreUnavailable
from arvfuse.fresh.node import Attr
from arvfuse.fresh.pending import Pending, then
from arvfuse.fusedir.directory import Directory, VirtualDir
from arvfuse.fusedir.host import Alias, Child, Host, Names, Position, RecordInfo
from arvfuse.fusedir.names import RECORD_FILE, check_new_name
from arvfuse.fusefile import GeneratedFile, live_tree
from arvfuse.model.escapes import show
from arvfuse.sdk.entries import NeedsIndex
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode, Node
from arvfuse.sync import Rank, RankedLock

_SMALL_RECORD_BYTES: Final = 64 << 10


class TreeDir(Directory):
    """A directory of a live tree for one request: made when the request comes, kept by nobody.

    *no* is the number by which the kernel asked, *position* the place below which it did (None: the tree's first).
    """

    __slots__ = ("host", "no", "node", "position")

    def __init__(self, host: Host, node: DirNode, position: Position | None, no: int) -> None:
        self.host = host
        self.node: Final = node
        self.position: Final = position
        self.no: Final = no

    @property
    def live(self) -> LiveTree:
        return live_tree(self.node)

    @property
    def entry_keep_s(self) -> float:
        """Not kept at further positions: what is changed through the first would show late there."""
        return self.host.settings.keep_s if self.host.is_first(self.node, self.position) else 0.0

    def attr(self) -> Attr:
        node = self.node
        return self.host.directory_attr(
            self.no, writable=self.live.writable, mtime_ns=node.mtime_ns, mode=node.mode,
            keep_s=self.host.settings.keep_s,
        )  # fmt: skip

    def above(self) -> int:
        parent = self.node.parent
        if parent is None:
            return self.no
        if parent is not parent.tree.root:
            return self.host.face(parent, self.position).no
        if self.position is not None:
            return self.host.inodes.number(self.position)
        return next(iter(self.host.numbers_of(parent)), self.no)

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        return self.host.reading(lambda: self._face(self.live.lookup(self.node, name)))

    def listing(self) -> Names | Pending[Names]:
        return self.host.reading(lambda: self.live.names(self.node))

    def create(self, name: bytes, *, mode: int, exclusive: bool) -> FileNode | Pending[FileNode]:
        live = self.live
        check_tree_change(live, self.node, check_new_name(name))
        try:
            file = live.create(self.node, name, mode=mode, exclusive=exclusive)
        except NeedsIndex as needed:
            return self.host.read_first(needed, lambda: self.create(name, mode=mode, exclusive=exclusive))
        self._changed(name)
        return file

    def mkdir(self, name: bytes) -> Child | Pending[Child]:
        self._check_change(check_new_name(name))

        def mkdir() -> Child:
            made = self.live.mkdir(self.node, name)
            self._changed(name)
            return self._face(made)

        return self.host.reading(mkdir)

    def unlink(self, name: bytes) -> Pending[None] | None:
        self._check_change(name)

        def unlink() -> None:
            self._remove(self.live.unlink, name)

        lingering, inodes = self.host.lingering, self.host.inodes
        return self.host.reading(lambda: lingering.around(self.live, self.node, name, inodes, unlink))

    def rmdir(self, name: bytes) -> Pending[None] | None:
        self._check_change(name)
        return self.host.reading(lambda: self._remove(self.live.rmdir, name))

    def in_tree(self) -> tuple[LiveTree, DirNode]:
        return self.live, self.node

    def _remove(self, remove: Callable[[DirNode, bytes], Node], name: bytes) -> None:
        remove(self.node, name)
        self._changed(name)

    def _face(self, node: Node) -> Child:
        return self.host.face(node, self.position) if isinstance(node, DirNode) else node

    def _check_change(self, name: bytes) -> None:
        check_tree_change(self.live, self.node, name)

    def _changed(self, name: bytes) -> None:
        self.host.name_changed(self.node, name, told=self.no)


class CollectionDir(VirtualDir):
    """The place where a collection is shown. Its tree is opened when something inside is asked for.

    *identity*: uuid or portable data hash; "" for content that has no record (then *live* is given).
    """

    __slots__ = ("_lock", "_record_file", "identity", "info", "live")

    def __init__(
        self, host: Host, no: int, parent: VirtualDir | None, *, identity: str, info: RecordInfo | None = None,
        live: LiveTree | None = None,
    ) -> None:  # fmt: skip
        super().__init__(host, no, parent)
        self.identity: Final = identity
        self._lock: Final = RankedLock(Rank.LEAF)
        self.info = info  # guarded by: _lock (replaced as a whole)
        self.live = live  # None while the tree is not open
        # Weak: it lives for as long as the kernel or a handle knows it. guarded by: _lock
        self._record_file: weakref.ref[GeneratedFile] | None = None
        if live is not None:
            host.shown_at(live, self)

    def __repr__(self) -> str:
        return f"<CollectionDir {self.no} {self.identity} {self.live!r}>"

    @property
    def entry_keep_s(self) -> float:
        live = self.live
        return self.host.settings.keep_s if live is None or self.host.is_first(live.root, self) else 0.0

    def attr(self) -> Attr:
        live = self.live
        if live is not None:
            writable, mtime_ns = live.writable, live.root.mtime_ns
        else:
            writable, mtime_ns = "+" not in self.identity, self.info.modified_at_ns if self.info else 0
        number = self.host.inodes.number(self)
        keep_s = self.host.settings.refresh_s
        mode = live.root.mode if live is not None else -1
        return self.host.directory_attr(number, writable=writable, mtime_ns=mtime_ns, keep_s=keep_s, mode=mode)

    def open(self) -> TreeDir | Pending[TreeDir]:
        """The root of the collection's tree. NoSuchRecord, StoreUnavailable."""
        live = self.live
        if live is not None and not live.retired:
            return self._top(live)
        return then(self.host.engine.open_collection(self.identity), self._opened)

    def root_node(self) -> DirNode | None:
        """The root of the tree, if it is open."""
        live = self.live
        return live.root if live is not None and not live.retired else None

    def lookup(self, name: bytes) -> Child | Pending[Child]:
        if name == RECORD_FILE:
            return self._look_at_record()
        return then(self.open(), lambda top: top.lookup(name))

    def listing(self) -> Names | Pending[Names]:
        return then(self.open(), lambda top: top.listing())

    def create(self, name: bytes, *, mode: int, exclusive: bool) -> FileNode | Pending[FileNode]:
        return then(self.open(), lambda top: top.create(name, mode=mode, exclusive=exclusive))

    def mkdir(self, name: bytes) -> Child | Pending[Child]:
        return then(self.open(), lambda top: top.mkdir(name))

    def unlink(self, name: bytes) -> Pending[None] | None:
        return then(self.open(), lambda top: top.unlink(name))

    def rmdir(self, name: bytes) -> Pending[None] | None:
        return then(self.open(), lambda top: top.rmdir(name))

    def in_tree(self) -> Any:
        return then(self.open(), lambda top: top.in_tree())

    def tree_closed(self, live: LiveTree) -> None:
        if self.live is live:
            if self.info is not None:
                self.info = self.info._replace(modified_at_ns=live.root.mtime_ns)
            self.live = None

    def _opened(self, live: LiveTree) -> TreeDir:
        self.live = live
        self.host.shown_at(live, self)
        return self._top(live)

    def _top(self, live: LiveTree) -> TreeDir:
        return TreeDir(self.host, live.root, self, self.host.inodes.number(self))

    def _look_at_record(self) -> Child | Pending[Child]:
        """Commit what is pending, then show the record."""
        live = self.live
        if live is not None and live.dirty and not self.host.settings.read_only:
            return then(self.host.engine.commit([live]), lambda _: self._fetch_record())
        return self._fetch_record()

    def _fetch_record(self) -> Child | Pending[Child]:
        if not self.identity:
            assert self.live is not None
            shown = {"uuid": None, "portable_data_hash": self.live.pdh}
            content = json.dumps(shown, indent=4, sort_keys=True).encode() + b"\n"
            return self._show(content, self.live.pdh)
        return then(self.host.engine.link.request("record", uuid=self.identity), self._show_text)

    def _show_text(self, answer: Mapping[str, Any]) -> GeneratedFile:
        """The backend rendered the record into a file: it is mapped, not parsed, and has no name from then on."""
        known = self._known_record()
        if known is not None and known.digest == answer["digest"]:
            Path(answer["text"]).unlink(missing_ok=True)
            return known
        try:
            with open(answer["text"], "rb") as file:
                content = _content(file)
            os.unlink(answer["text"])
        except OSError as error:
            raise StoreUnavailable(f"{answer['text']}: {error.strerror}") from error
        return self._show(content, answer["digest"])

    def _show(self, content: bytes | mmap.mmap, digest: str) -> GeneratedFile:
        made = GeneratedFile(self.host.number(), content, self.attr().mtime_ns, digest)
        with self._lock:
            known = self._record_file() if self._record_file is not None else None
            if known is not None and known.digest == digest:
                return known
            self._record_file = weakref.ref(made)
        return made

    def _known_record(self) -> GeneratedFile | None:
        with self._lock:
            return self._record_file() if self._record_file is not None else None


def _content(file: BinaryIO) -> bytes | mmap.mmap:
    """What is in the file. A map costs a descriptor for as long as the kernel remembers the node: not for little."""
    if os.fstat(file.fileno()).st_size <= _SMALL_RECORD_BYTES:
        return file.read()
    return mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ)


def check_tree_change(live: LiveTree, directory: DirNode, name: bytes) -> None:
    """May entry *name* of *directory* be changed? ReadOnly, NotPermitted."""
    if not live.writable:
        raise ReadOnly(show(name))
    if name == RECORD_FILE and directory is live.root:
        raise NotPermitted(show(name), "the name of the collection's record")


def rename_in_trees(
    host: Host, source: TreeDir, name: bytes, target: TreeDir, new_name: bytes, replace: bool
) -> Pending[None] | None:
    """Move an entry within or between collections; the new name shows the moved content for good."""
    check_tree_change(source.live, source.node, name)
    check_tree_change(target.live, target.node, check_new_name(new_name))

    def rename() -> None:
        source.live.rename(source.node, name, target.node, new_name, replace=replace)
        host.name_changed(source.node, name, told=source.no)
        host.name_changed(target.node, new_name, told=target.no)

    return host.reading(lambda: host.lingering.around(target.live, target.node, new_name, host.inodes, rename))


def tree_directory(host: Host, node: DirNode | Alias) -> TreeDir:
    """The directory behind a number that the kernel has of a tree's directory."""
    if isinstance(node, Alias):
        return TreeDir(host, node.node, node.position, node.no)
    return TreeDir(host, node, None, node.no)


def tree_behind(node: Any) -> LiveTree | None:
    """The tree behind what the kernel knows or has open; None where there is none."""
    if isinstance(node, CollectionDir):
        return node.live
    if isinstance(node, Alias | TreeDir):
        return live_tree(node.node)
    return live_tree(node) if isinstance(node, FileNode | DirNode) else None
