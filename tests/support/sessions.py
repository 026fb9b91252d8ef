"""A workspace and its committer on one directory, put together as a session or an engine with its backend does it.

`Session` is one life of a mount: what it leaves when it is not closed is what a killed process leaves, and `recover`
is what the next one does with it. No threads of its own but the put threads, which close() joins.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

from arvfuse.clock import SystemClock
from arvfuse.model.collections import CollectionRecord, MountId
from arvfuse.model.manifests import Manifest
from arvfuse.ports import BlockStore, Catalog, Clock
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.hashahead import HashingAhead
from arvfuse.sdk.live import LiveTree
from arvfuse.sdk.nodes import DirNode, FileNode, Node
from arvfuse.sdk.outcome import Outcome
from arvfuse.sdk.putpool import Pool, PutPool
from arvfuse.sdk.workspace import DEFAULT_SPOOL_BYTES, Workspace

MOUNT = MountId("m1")
Path_ = tuple[bytes, ...]
Contents = dict[Path_, bytes | None]
"""What is in a tree: content by path, None for a directory."""


class Session:
    """One life of a mount with *directory* for its log and spool. *pool*: a stepper where a test chooses the order."""

    def __init__(
        self,
        directory: Path,
        *,
        store: BlockStore,
        catalog: Catalog,
        clock: Clock | None = None,
        pool: Pool | None = None,
        mount: MountId = MOUNT,
        spool_bytes: int = DEFAULT_SPOOL_BYTES,
        stall_bound_s: float = 60.0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.store = store
        self.catalog = catalog
        self.clock = clock or SystemClock()
        self.pool = pool or PutPool()
        self.workspace = Workspace(
            directory, mount=mount, store=store, clock=self.clock, spool_bytes=spool_bytes, stall_bound_s=stall_bound_s
        )
        self.committer = Committer(
            directory=directory, mount=mount, store=store, catalog=catalog, clock=self.clock, pool=self.pool,
            on_stored=self.workspace.stored, ahead=HashingAhead(directory, self.pool),
        )  # fmt: skip

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def open(self, record: CollectionRecord, *, writable: bool = True) -> LiveTree:
        """The collection as it is now, live."""
        manifest = Manifest(self.catalog.manifest(record.pdh))
        return self.workspace.open_tree(self.catalog.get(record.uuid), manifest, writable=writable)

    def commit(self, *trees: LiveTree) -> list[Outcome]:
        """One commit of *trees* (all that are open if none are named), taken by the live side."""
        chosen, seq = self.workspace.commit_point(trees or self.workspace.trees)
        outcomes = self.committer.commit([tree.no for tree in chosen], seq)
        self.report_failed_puts()
        self.workspace.take(outcomes)
        return outcomes

    def committed(self, *trees: LiveTree) -> list[Outcome]:
        """As commit(), which must succeed."""
        outcomes = self.commit(*trees)
        assert [outcome.error or outcome.quarantined for outcome in outcomes] == [None] * len(outcomes)
        return outcomes

    def report_failed_puts(self) -> None:
        """Tell the live side of puts that failed, as a backend does."""
        for block, error in self.committer.failed_puts().items():
            assert isinstance(error, Exception)
            self.workspace.failed(block, error)

    def close(self) -> None:
        """End without a last commit: what is not committed stays for recovery."""
        self.committer.close()
        self.workspace.close()
        self.pool.close()


def recover(directory: Path, *, store: BlockStore, catalog: Catalog, mount: MountId = MOUNT) -> list[Outcome]:
    """Commit what a dead session left in *directory*."""
    pool = PutPool()
    committer = Committer(
        directory=directory, mount=mount, store=store, catalog=catalog, clock=SystemClock(), pool=pool
    )
    try:
        return committer.recover()
    finally:
        committer.close()
        pool.close()


def recovered(directory: Path, *, store: BlockStore, catalog: Catalog) -> None:
    """As recover(), which must succeed."""
    outcomes = recover(directory, store=store, catalog=catalog)
    assert [outcome.error or outcome.quarantined for outcome in outcomes] == [None] * len(outcomes)


def contents(tree: LiveTree) -> Contents:
    """All that is in a live tree, read through it."""
    found: Contents = {}
    stack: list[tuple[Path_, DirNode]] = [((), tree.root)]
    while stack:
        path, directory = stack.pop()
        for name, node in tree.entries(directory):
            if isinstance(node, FileNode):
                found[*path, name] = bytes(tree.read(node, 0, node.size))
            else:
                found[*path, name] = None
                stack.append(((*path, name), node))
    return found


def saved_contents(catalog: Catalog, store: BlockStore, uuid: str) -> Contents:
    """All that the saved record says, read from the store."""
    manifest = Manifest(catalog.manifest(catalog.get(uuid).pdh))
    found: Contents = {}
    stack: list[Path_] = [()]
    while stack:
        path = stack.pop()
        listing = manifest.listing(path)
        for name, spec in listing.files.items():
            parts = [
                bytes(store.fetch_range(ref, offset, length)) if isinstance(ref, str) else bytes(length)
                for length, ref, offset in spec.segments()
            ]
            found[*path, name] = b"".join(parts)
        for name in listing.dirs:
            found[*path, name] = None
            stack.append((*path, name))
    return found


def locators(text: bytes) -> set[str]:
    """The locators that a manifest names."""
    words = (word for line in text.decode().splitlines() for word in line.split(" ")[1:])
    return {word for word in words if "+" in word and ":" not in word}


def put_file(tree: LiveTree, name: bytes, data: bytes, parent: DirNode | None = None) -> FileNode:
    """A file of that content."""
    file = tree.create(parent or tree.root, name)
    tree.truncate(file, 0)
    if data:
        tree.write(file, 0, data)
    return file


def node_at(tree: LiveTree, path: Path_) -> Node:
    """The node at *path*; NoSuchEntry."""
    node: Node = tree.root
    for name in path:
        assert isinstance(node, DirNode)
        node = tree.lookup(node, name)
    return node
