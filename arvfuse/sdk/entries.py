"""The names of one directory: an immutable index, and above it what is known of some of its names.

An index says what a clean directory holds without an object for each name. Nodes are made when somebody asks for a
name, and a node that comes from the index has the number *first* + its position, so a listing can give every name its
number without making nodes. What is new, changed or came from elsewhere stands for itself; what is gone is noted.

Threading: guarded by the lock of the tree, as nodes are; a `Snapshot` is free of it. Failure: an index whose text is
bad is InvalidManifest when it is made, not here.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final

from arvfuse.model.dirindex import EMPTY, DirectoryIndex

if TYPE_CHECKING:
    from arvfuse.sdk.nodes import DirNode, Node

ListedName = tuple[bytes, int, bool, int]
"""Of a listing: name, number, whether it is a directory, where to go on."""


_versions: Final = itertools.count(1)


class NeedsIndex(LookupError):
    """The names of *directory* have to be fetched first (``sdk.indexfiles``): nothing was changed; try again then."""

    def __init__(self, directory: DirNode) -> None:
        super().__init__(repr(directory))
        self.directory: Final = directory


class Entries:
    """Names -> nodes.

    *nodes*: those that exist. Invariants: ``gone`` are names of the index that it does not speak for any more (removed,
    or their node stands for itself); ``own`` counts the nodes that stand for themselves, all others are the index's.
    ``version`` is another whenever a listing would be: other names, numbers or order; no two entries ever share one.
    """

    __slots__ = ("_gone", "_owner", "first", "index", "mtime_ns", "nodes", "own", "source", "version")

    def __init__(
        self, owner: DirNode, index: DirectoryIndex = EMPTY, *, first: int = 0, mtime_ns: int = 0
    ) -> None:  # fmt: skip
        """*first*: number of the entry at position 0; 0: what comes from the index has no number."""
        self._owner: Final = owner
        self._gone: set[bytes] | None = None
        self.source = owner.source  # what the index was made from
        self.index = index
        self.first = first
        self.mtime_ns = mtime_ns  # of what comes from the index
        self.nodes: dict[bytes, Node] = {}
        self.own = 0
        self.version = next(_versions)

    def __repr__(self) -> str:
        return f"<Entries {len(self)}, {len(self.nodes)} as nodes, {self.own} their own>"

    def __len__(self) -> int:
        return len(self.index) - len(self._gone or ()) + self.own

    def __contains__(self, name: object) -> bool:
        return isinstance(name, bytes) and (name in self.nodes or self._position(name) >= 0)

    def __getitem__(self, name: bytes) -> Node:
        found = self.get(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[bytes]:
        """The names in order."""
        return (name for name, _, _ in self.walk())

    def get(self, name: bytes) -> Node | None:
        """The node under *name*, made if only the index knows it."""
        node = self.nodes.get(name)
        if node is None:
            at = self._position(name)
            if at < 0:
                return None
            node = self.nodes[name] = self._owner.make(self, name, at)
        return node

    def listed(self, batch: Iterable[ListedName]) -> list[Node | None]:
        """As get() of each name, quicker: a listing has told where it stands. None too for names that begin with a
        dot, which may mean something else where they are looked up."""
        nodes = self.nodes
        found: list[Node | None] = []
        for name, number, _, _ in batch:
            if name.startswith(b"."):
                found.append(None)
                continue
            node = nodes.get(name)
            if node is None:
                at = self._listed_at(name, number)
                if at < 0:
                    at = self._position(name)
                if at >= 0:
                    node = nodes[name] = self._owner.make(self, name, at)
            found.append(node)
        return found

    def items(self) -> Iterator[tuple[bytes, Node]]:
        """(name, node) in order; makes every node, so not for what may be big."""
        return ((name, self[name]) for name in list(self))

    def changed_ns(self, name: bytes) -> int:
        """When what is under *name* was changed, 0 if there is nothing; makes no node."""
        node = self.nodes.get(name)
        if node is not None:
            return node.mtime_ns
        return self.mtime_ns if self._position(name) >= 0 else 0

    def walk(self) -> Iterator[tuple[bytes, Node | None, int]]:
        """(name, node if there is one, position in the index or -1) in order of the names; makes no nodes."""
        nodes, gone = self.nodes, self._gone or ()
        own = iter(sorted(self._own_names()))
        mine = next(own, None)
        for at, (name, _) in enumerate(self.index.walk()):
            while mine is not None and mine <= name:
                yield mine, nodes[mine], -1
                mine = next(own, None)
            if name not in gone:
                yield name, nodes.get(name), at
        while mine is not None:
            yield mine, nodes[mine], -1
            mine = next(own, None)

    def add(self, name: bytes, node: Node) -> None:
        """Put *node* under *name*, which is free."""
        self.nodes[name] = node
        self.own += 1
        self.version = next(_versions)

    def remove(self, name: bytes) -> None:
        """Take *name*, which is there, out."""
        self.nodes.pop(name, None)
        if self._position(name) >= 0:
            self._note_gone(name)
        else:
            self.own -= 1
        self.version = next(_versions)

    def detach(self, name: bytes) -> None:
        """The node under *name* is not what the index says any more."""
        if self._position(name) >= 0:
            self._note_gone(name)
            self.own += 1
            self.version = next(_versions)

    def moved(self) -> None:
        """The directory has another one above it now, which a listing tells too."""
        self.version = next(_versions)

    def is_own(self, name: bytes) -> bool:
        """Whether the node under *name* is more than what the index says."""
        return self._position(name) < 0

    def forget(self, name: bytes) -> None:
        """Drop a node that is the index's: it is made again, with its number, when somebody asks."""
        del self.nodes[name]

    def rebase(self, index: DirectoryIndex, *, first: int, mtime_ns: int) -> None:
        """*index*, of the owner's source, says all that is here now. Nodes that exist stand for themselves at first."""
        self._gone = set(self.nodes)
        self.own = len(self.nodes)
        self.source = self._owner.source
        self.index, self.first, self.mtime_ns = index, first, mtime_ns
        self.version = next(_versions)

    def give_back(self, name: bytes) -> None:
        """Drop a node that stands for itself, of which the index says the same; with another number from now on."""
        assert self._gone is not None
        del self.nodes[name]
        self._gone.remove(name)
        self.own -= 1
        self.version = next(_versions)

    def snapshot(self) -> Snapshot:
        """What is there now. Costs as much as there are nodes and removed names, not names."""
        return Snapshot(
            self.index, self.first, set(self._gone or ()), dict(self.nodes) if self.own else {}, self.version
        )

    def check_invariants(self) -> None:
        """O(n), for tests."""
        gone = self._gone or set()
        assert all(self.index.find(name) >= 0 for name in gone)
        assert self.own == sum(1 for _ in self._own_names())
        for name, node in self.nodes.items():
            assert (node.parent, node.name) == (self._owner, name)
            at = self._position(name)
            assert at < 0 or not self.first or node.no == self.first + at
        names = list(self)
        assert names == sorted(set(names))
        assert len(names) == len(self)

    def _own_names(self) -> Iterator[bytes]:
        return (name for name in self.nodes if self._position(name) < 0) if self.own else iter(())

    def _listed_at(self, name: bytes, number: int) -> int:
        """Where the index speaks for *name*, if it gave it that number; -1 if that is to be found out."""
        at = number - self.first
        if not self.first or not 0 <= at < len(self.index) or self.index.name(at) != name:
            return -1
        return -1 if self._gone is not None and name in self._gone else at

    def _position(self, name: bytes) -> int:
        """Where the index speaks for *name*, -1 if it does not."""
        if self._gone is not None and name in self._gone:
            return -1
        node = self.nodes.get(name)  # the number of a node that the index gave says where
        at = self._listed_at(name, node.no) if node is not None else -1
        return at if at >= 0 else self.index.find(name)

    def _note_gone(self, name: bytes) -> None:
        if self._gone is None:
            self._gone = set()
        self._gone.add(name)


class Snapshot:
    """The names of a directory at one moment, in no order that matters but always the same one: first those of the
    index, by position, then the others by name. *version*: of the entries; equal versions list the same. *at_most*:
    so many names there may be."""

    __slots__ = ("_first", "_gone", "_index", "_nodes", "_own", "at_most", "version")

    def __init__(
        self, index: DirectoryIndex, first: int, gone: set[bytes], nodes: dict[bytes, Node], version: int
    ) -> None:
        self._index: Final = index
        self._first: Final = first
        self._gone: Final = gone
        self._nodes: dict[bytes, Node] = nodes
        self._own: list[tuple[bytes, int, bool]] | None = None
        self.version: Final = version
        self.at_most: Final = len(index) + len(nodes)

    def __len__(self) -> int:
        return len(self._index) - len(self._gone) + len(self._others())

    def walk(self, start: int = 0) -> Iterator[tuple[int, bytes, int, bool]]:
        """(where to go on behind it, name, number, is a directory) from *start* on."""
        index, gone, first = self._index, self._gone, self._first
        if start < len(index):
            for at, (name, is_dir) in enumerate(index.walk(start), start + 1):
                if name not in gone:
                    yield at, name, first + at - 1, is_dir
        begin = max(0, start - len(index))
        for at, (name, number, is_dir) in enumerate(self._others()[begin:], len(index) + begin + 1):
            yield at, name, number, is_dir

    def _others(self) -> list[tuple[bytes, int, bool]]:
        if self._own is None:
            index, gone = self._index, self._gone
            self._own = sorted(
                (name, node.no, node.is_dir)
                for name, node in self._nodes.items()
                if name in gone or index.find(name) < 0
            )
            self._nodes = {}
        return self._own
