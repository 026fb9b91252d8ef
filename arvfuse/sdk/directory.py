"""A directory of a collection as the library's users hold it: paths, names, opening, copying, moving.

`CollectionBase` is what a whole collection and a `Subcollection` have in common. Everything goes to the live tree,
which has the locks; a call that changes names is one step, a copy of a directory is a step per entry. Threading: any
thread. Errors of paths are the builtin OSError kinds (``arvfuse.errors``); the table is in doc/compatibility.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final

from arvfuse.errors import (
    ArgumentError,
    DirectoryNotEmpty,
    EntryExists,
    InvalidPath,
    IsADirectory,
    NoSuchEntry,
    NotADirectory,
    ReadOnly,
)
from arvfuse.sdk import events
from arvfuse.sdk.changes import Change, apply_changes, find_changes
from arvfuse.sdk.file import ArvadosFileReader, ArvadosFileWriter, open_text
from arvfuse.sdk.fileitem import ArvadosFile
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.modes import parse_mode
from arvfuse.sdk.nodes import DirNode, FileNode, Node, Path
from arvfuse.sdk.paths import decode, encode, from_stream, split

if TYPE_CHECKING:
    from arvfuse.sdk.collection import Collection

Callback = Callable[[str, "CollectionBase", str, Any], None]


class CollectionBase:
    """A directory. Equal directories have equal names with equal content."""

    __hash__ = None  # type: ignore[assignment] # equality is by content, which changes

    def __init__(self, node: DirNode) -> None:
        self.node: Final = node

    def root_collection(self) -> Collection:
        """The collection that the directory is in."""
        raise NotImplementedError

    @property
    def name(self) -> str:
        """The name in the directory above; empty for a whole collection."""
        return decode(self.node.name)

    @property
    def parent(self) -> CollectionBase | None:
        """The directory above; None for a whole collection and for what was removed."""
        above = self.node.parent
        return self.root_collection().directory_of(above) if above is not None else None

    def stream_name(self) -> str:
        """``.`` or ``./a/b``."""
        return from_stream(self.node.path)

    def writable(self) -> bool:
        return self.root_collection().writable()

    def committed(self) -> bool:
        """Whether nothing changed since the collection was loaded or saved."""
        return self.root_collection().committed()

    def modified(self) -> bool:
        """Whether something is not saved."""
        return not self.committed()

    # entries

    def keys(self) -> list[str]:
        """The names in this directory, sorted."""
        return [decode(name) for name, _ in self._entries()]

    def values(self) -> list[Any]:
        return [self._item(node) for _, node in self._entries()]

    def items(self) -> list[tuple[str, Any]]:
        return [(decode(name), self._item(node)) for name, node in self._entries()]

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self._entries())

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._look(encode(name)) is not None

    def __getitem__(self, name: str) -> Any:
        """The entry of this directory; KeyError."""
        node = self._look(encode(name))
        if node is None:
            raise KeyError(name)
        return self._item(node)

    def __delitem__(self, name: str) -> None:
        """Remove the entry, with all below it; KeyError."""
        if self._look(encode(name)) is None:
            raise KeyError(name)
        self._remove(encode(name), None)

    def __eq__(self, other: object) -> bool:
        if other is self:
            return True
        if not isinstance(other, CollectionBase):
            return NotImplemented
        mine, theirs = dict(self.items()), dict(other.items())
        return mine.keys() == theirs.keys() and all(mine[name] == theirs[name] for name in mine)

    def __ne__(self, other: object) -> bool:
        return not self == other

    # paths

    def find(self, path: str) -> Any:
        """The file or directory at *path*; None if there is none. ArgumentError, NotADirectory."""
        names, slash = split(self._relative(path))
        node = self._walk(names)
        if node is None:
            return None
        if slash and not isinstance(node, DirNode):
            raise NotADirectory(path)
        return self._item(node)

    def exists(self, path: str) -> bool:
        """Whether find() finds something."""
        return self.find(path) is not None

    def find_or_create(self, path: str, create_type: str) -> Any:
        """What is at *path*, of whatever kind; else a new FILE or COLLECTION there, and the directories above it."""
        if not path:
            return self
        names, slash = split(self._relative(path))
        above = self.node
        for name in names if slash else names[:-1]:
            above = self._directory(above, name)
        if slash:
            return self._item(above)
        node = self._look(names[-1], above)
        if node is not None:
            return self._item(node)
        if create_type == events.COLLECTION:
            return self._item(self._directory(above, names[-1]))
        if create_type != events.FILE:
            raise ArgumentError(f"{create_type!r}: neither {events.FILE!r} nor {events.COLLECTION!r}")
        return self._create(above, names[-1], exclusive=False)

    def mkdirs(self, path: str) -> Any:
        """A new directory, with those above it; EntryExists if there is something."""
        if self.find(path) is not None:
            raise EntryExists(path)
        return self.find_or_create(path, events.COLLECTION)

    def remove(self, path: str, recursive: bool = False) -> None:
        """Remove what is at *path*. NoSuchEntry, NotADirectory; DirectoryNotEmpty without *recursive*."""
        names, slash = split(self._relative(path))
        above = self._walk(names[:-1])
        if above is None:
            raise NoSuchEntry(path)
        if not isinstance(above, DirNode):
            raise NotADirectory(path)
        node = self._look(names[-1], above)
        if node is None:
            raise NoSuchEntry(path)
        if isinstance(node, FileNode) and slash:
            raise NotADirectory(path)
        if isinstance(node, DirNode) and not recursive and self._tree.entries(node):
            raise DirectoryNotEmpty(path)
        self.root_collection().directory_of(above)._remove(names[-1], node)

    def open(self, path: str, mode: str = "r", encoding: str | None = None) -> Any:
        """Open a file with one of Python's modes. Binary handles read and write bytes; text is UTF-8 unless said.

        Modes w, a and x make the file and the directories above it; r+ does not. ReadOnly, NoSuchEntry,
        IsADirectory, EntryExists (x)."""
        parsed = parse_mode(mode)
        if parsed.write and not self.writable():
            raise ReadOnly(path)
        item = self._open_item(path, create=parsed.create, exclusive=parsed.exclusive)
        if parsed.truncate:
            item.truncate(0)
        handle = (ArvadosFileWriter if parsed.write else ArvadosFileReader)(item, parsed)
        return handle if parsed.binary else open_text(handle, encoding)

    # copying and moving

    def copy(
        self, source: Any, target_path: str, source_collection: CollectionBase | None = None, overwrite: bool = False
    ) -> None:
        """Copy an entry (a path, in *source_collection* if given, or an item); both share their blocks."""
        item, above, name = self._source_and_target(source, target_path, source_collection, create=True)
        above.add(item, name, overwrite, False)

    def rename(
        self, source: Any, target_path: str, source_collection: CollectionBase | None = None, overwrite: bool = False
    ) -> None:
        """Move an entry; the target's directory must exist. InvalidPath if a directory would move into itself."""
        item, above, name = self._source_and_target(source, target_path, source_collection, create=False)
        if not item.writable():
            raise ReadOnly(item.name)
        above.add(item, name, overwrite, True)

    def add(self, source_obj: Any, target_name: str, overwrite: bool = False, reparent: bool = False) -> None:
        """Put *source_obj* into this directory: a copy, or with *reparent* itself. EntryExists without *overwrite*."""
        root = self.root_collection()
        name = self._new_name(target_name)
        old = self._look(name)
        if old is not None and not overwrite:
            raise EntryExists(target_name)
        if not root.writable():
            raise ReadOnly(target_name)
        if old is source_obj.node:
            return
        if isinstance(source_obj, CollectionBase) and _is_below(self.node, source_obj.node):
            raise InvalidPath(target_name, "a directory cannot go into itself")
        if isinstance(old, DirNode) and _is_below(source_obj.node.parent, old):
            raise InvalidPath(target_name, "a directory cannot be replaced by what is in it")
        if reparent and source_obj.node.tree is self.node.tree:
            self._move_here(source_obj, name, old)
            return
        fresh = root.make_copy(source_obj, self.node, name, replace=old is not None)
        if old is None:
            root.emit(events.ADD, fresh, root.item_of(fresh))
        else:
            root.emit(events.MOD, fresh, (root.item_of(old), root.item_of(fresh)))
        if reparent:
            source_obj.parent._remove(source_obj.node.name, source_obj.node)

    # comparing

    def diff(self, end_collection: CollectionBase, prefix: str = ".", holding_collection: Any = None) -> list[Change]:
        """What turns this directory into *end_collection*: ("add", path, new), ("del", path, old), ("mod", path, old,
        new), ("tok", path, old, new). Contents are compared, not how they are cut."""
        self.root_collection().flush()
        end_collection.root_collection().flush()
        return find_changes(self, end_collection, prefix)

    def apply(self, changes: list[Change]) -> None:
        """Make *changes*; what was changed here too is kept, and the other content goes to a conflict name."""
        apply_changes(self, changes, self.root_collection().host.clock.time_ns())

    # notifications

    def subscribe(self, callback: Callback) -> None:
        """Have ``callback(event, collection, name, item)`` called after changes in this directory; for a whole
        collection, in all of it. One at a time: ArgumentError."""
        self.root_collection().subscribe_node(self.node, callback)

    def unsubscribe(self) -> None:
        self.root_collection().unsubscribe_node(self.node)

    # the tree

    @property
    def _tree(self) -> LiveTree:
        tree = self.node.tree
        assert isinstance(tree, LiveTree)
        return tree

    def _item(self, node: Node) -> Any:
        return self.root_collection().item_of(node)

    def _entries(self) -> list[tuple[bytes, Node]]:
        return self._tree.entries(self.node)

    def _look(self, name: bytes, above: DirNode | None = None) -> Node | None:
        try:
            return self._tree.lookup(above if above is not None else self.node, name)
        except NoSuchEntry:
            return None

    def _walk(self, names: Path) -> Node | None:
        node: Node = self.node
        for name in names:
            if not isinstance(node, DirNode):
                raise NotADirectory(decode(node.name))
            found = self._look(name, node)
            if found is None:
                return None
            node = found
        return node

    def _directory(self, above: DirNode, name: bytes) -> DirNode:
        """The directory *name*, made if it is missing. NotADirectory."""
        while True:
            node = self._look(name, above)
            if isinstance(node, DirNode):
                return node
            if node is not None:
                raise NotADirectory(decode(name))
            try:
                made = self._tree.mkdir(above, name)
            except EntryExists:
                continue  # another thread was faster
            self.root_collection().emit(events.ADD, made, self._item(made))
            return made

    def _create(self, above: DirNode, name: bytes, *, exclusive: bool) -> ArvadosFile:
        is_new = self._look(name, above) is None
        node = self._tree.create(above, name, exclusive=exclusive)
        item = self._item(node)
        assert isinstance(item, ArvadosFile)
        if is_new:
            self.root_collection().emit(events.ADD, node, item)
        return item

    def _open_item(self, path: str, *, create: bool, exclusive: bool) -> ArvadosFile:
        if not create:
            found = self.find(path)
            if found is None:
                raise NoSuchEntry(path)
            if not isinstance(found, ArvadosFile):
                raise IsADirectory(path)
            return found
        names, slash = split(self._relative(path))
        if slash:
            raise IsADirectory(path)
        above = self.node
        for name in names[:-1]:
            above = self._directory(above, name)
        return self._create(above, names[-1], exclusive=exclusive)

    def _remove(self, name: bytes, node: Node | None) -> None:
        root = self.root_collection()
        item = self._item(node) if node is not None else None
        self._tree.remove_tree(self.node, name)
        root.emit(events.DEL, None, item, at=(self.node, name))

    def _move_here(self, item: Any, name: bytes, old: Node | None) -> None:
        """Rename within one tree. What is replaced may be anything: the caller said overwrite."""
        root = self.root_collection()
        above, old_name = item.node.parent, item.node.name
        if above is None:
            raise NoSuchEntry(item.name)
        if isinstance(old, DirNode) or (old is not None and isinstance(item.node, DirNode)):
            self._tree.remove_tree(self.node, name)
        self._tree.rename(above, old_name, self.node, name)
        root.emit(events.DEL, None, item, at=(above, old_name))
        if old is None:
            root.emit(events.ADD, item.node, item)
        else:
            root.emit(events.MOD, item.node, (root.item_of(old), item))

    def _relative(self, path: str) -> str:
        """*path* as the paths of this directory are written."""
        return path

    def _new_name(self, name: str) -> bytes:
        if not name or name == "." or "/" in name:
            raise ArgumentError(f"{name!r}: not a name")
        return encode(name)

    def _source_and_target(
        self, source: Any, target_path: str, source_collection: CollectionBase | None, *, create: bool
    ) -> tuple[Any, CollectionBase, str]:
        basename = ""
        if isinstance(source, str):
            item = (source_collection or self).find(source)
            if item is None:
                raise NoSuchEntry(source)
            basename = source.rstrip("/").rpartition("/")[2]
        else:
            item = source
        head, _, name = target_path.rpartition("/")
        name = name or basename
        if not name or name == ".":
            raise ArgumentError("the target has no name")
        if target_path.startswith("/"):
            raise NotADirectory(target_path)
        above: Any
        if not head or head == ".":
            above = self
        elif create:
            above = self.find_or_create(head, events.COLLECTION)
        else:
            above = self.find(head)
        if above is None:
            raise NoSuchEntry(head, "Target directory not found")
        if not isinstance(above, CollectionBase):
            raise NotADirectory(head)
        inside = above._look(encode(name))
        if basename and isinstance(inside, DirNode):
            return item, above._item(inside), basename
        return item, above, name


def _is_below(node: DirNode | None, above: DirNode) -> bool:
    while node is not None:
        if node is above:
            return True
        node = node.parent
    return False


class Subcollection(CollectionBase):
    """A directory inside a collection."""

    def __init__(self, root: Collection, node: DirNode) -> None:
        super().__init__(node)
        self._root: Final = root

    def __repr__(self) -> str:
        return f"<Subcollection {self.stream_name()}>"

    def root_collection(self) -> Collection:
        return self._root

    def manifest_text(
        self, stream_name: str = ".", strip: bool = False, normalize: bool = False, only_committed: bool = False
    ) -> str:
        """The text of this directory alone, as that of a collection."""
        return self._root.text_of(
            self.node.path, stream_name, strip=strip, normalize=normalize, only_committed=only_committed
        )

    def portable_manifest_text(self, stream_name: str = ".") -> str:
        """The same without hints, in normal form."""
        return self.manifest_text(stream_name, strip=True, normalize=True)

    def portable_data_hash(self) -> str:
        """The hash that a collection with this directory's content has."""
        return self._root.pdh_of_directory(self.node.path)

    def flush(self, sync: bool = True) -> None:
        """Store what was written to the collection so far, without saving a record."""
        self._root.flush()
