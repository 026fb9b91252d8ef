"""Hosts and committers for tests: no threads, a fake clock, everything in memory but log and spool."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from arvfuse.catalogs.memory import MemoryCatalog
from arvfuse.model.collections import MountId
from arvfuse.model.manifests import Manifest
from arvfuse.model.ranges import HOLE
from arvfuse.ports import BlockStore, Catalog
from arvfuse.sdk.commit import Committer
from arvfuse.sdk.entries import Entries, NeedsIndex
from arvfuse.sdk.host import Host
from arvfuse.sdk.nodes import DirNode, FileNode
from arvfuse.sdk.replica import ReplicaTree
from arvfuse.sdk.taking import read_here
from arvfuse.stores.memory import MemoryStore
from tests.support.clock import FakeClock

MOUNT = MountId("mount")


class InlinePool:
    """Runs what is submitted at once, in the thread that submits."""

    def __init__(self) -> None:
        self.closed = False

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        try:
            future.set_result(fn(*args))
        except Exception as exc:
            future.set_exception(exc)
        return future

    def close(self) -> None:
        self.closed = True


def make_host(
    directory: Path, store: BlockStore | None = None, catalog: Catalog | None = None, clock: FakeClock | None = None,
    **options: Any,
) -> Host:  # fmt: skip
    """A host with no threads on *directory*."""
    options.setdefault("pool", InlinePool())
    return Host(
        directory, MOUNT, store if store is not None else MemoryStore(), catalog, clock or FakeClock(), **options
    )


def make_catalog(clock: FakeClock | None = None) -> MemoryCatalog:
    return MemoryCatalog(clock=clock or FakeClock())


def make_committer(
    directory: Path, store: BlockStore, catalog: Catalog | None, clock: FakeClock | None = None
) -> Committer:
    """A committer over the log in *directory*, as a recovery or a restarted backend makes one."""
    return Committer(
        directory=directory, mount=MOUNT, store=store, catalog=catalog, clock=clock or FakeClock(), pool=InlinePool()
    )


def content_of(fetch: Callable[[Any, int, int], bytes | memoryview], file: FileNode) -> bytes:
    """The bytes of *file*, as its segments give them."""
    return b"".join(
        bytes(length) if ref == HOLE else bytes(fetch(ref, offset, length)) for length, ref, offset in file.parts()
    )


class BigManifest(Manifest):
    """One whose directories all count as big: their names have to be fetched."""

    __slots__ = ()

    def is_big(self, path: tuple[bytes, ...]) -> bool:
        found = self.listing(path)
        return bool(found.files or found.dirs)


def table_of(directory: DirNode) -> Entries:
    """The names of a directory, fetched if that is needed."""
    try:
        return directory.tree.table(directory)
    except NeedsIndex as needed:
        read_here(needed.directory)
        return table_of(directory)


def dump(fetch: Callable[[Any, int, int], bytes | memoryview], root: DirNode) -> dict[str, Any]:
    """A tree as nested dictionaries of bytes."""
    found: dict[str, Any] = {}
    for name, node in table_of(root).items():
        key = name.decode("utf-8", "surrogateescape")
        found[key] = content_of(fetch, node) if isinstance(node, FileNode) else dump(fetch, node)
    return found


def replica_dump(committer: Committer, tree: ReplicaTree) -> dict[str, Any]:
    """The content of a replica's tree, read from log, spool and store."""
    return dump(committer._fetch, tree.root)
